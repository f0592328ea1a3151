package kube

import (
	"os"
	"regexp"
	"testing"

	"github.com/heddle-mesh/heddle/policy"
)

func TestEveryCodeIsDocumentedWithItsCauseAndRemedy(t *testing.T) {
	text, err := os.ReadFile("../docs/manifests.md")
	do(t, err)
	var documented, declared []string
	for _, m := range regexp.MustCompile(`(?m)^### (HDL\d+): .+\n\*\*Cause\.\*\* (?:.+\n)+\*\*Remedy\.\*\* .+\n`).FindAllStringSubmatch(string(text), -1) {
		documented = append(documented, m[1])
	}
	for _, c := range []policy.Code{codeObject, codeTwice, codeEmptied, codeUnreadable, codeNoAddress, codeStray} {
		declared = append(declared, c.String())
	}
	diff(t, declared, documented)
}
