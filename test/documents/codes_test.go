package documents

import (
	"regexp"
	"strings"
	"testing"
)

// Whoever is refused is told a code; the document has the cause and the remedy of each, and of none that does not exist.
func TestEveryCodeOfARefusedIdentityIsExplained(t *testing.T) {
	text := read(t, "docs/identity.md")
	_, tables, found := strings.Cut(text, "## Codes of refusals")
	if !found {
		t.Fatal("docs/identity.md has no chapter on codes")
	}
	constant := regexp.MustCompile(`(?m)^\t(?:[A-Za-z]+)(?: +(?:Code|Reason))? += "([a-z0-9-]+)" +//`)
	exists := map[string]bool{}
	for _, file := range []string{"identity/refusal.go", "identity/attest/refusal.go", "identity/keep/fault.go", "identity/service/answer.go"} {
		before := len(exists)
		for _, m := range constant.FindAllStringSubmatch(read(t, file), -1) {
			exists[m[1]] = true
			if !strings.Contains(tables, "`"+m[1]+"`") {
				t.Errorf("docs/identity.md does not explain %s, which %s has", m[1], file)
			}
		}
		if len(exists) == before {
			t.Errorf("found no code in %s", file)
		}
	}
	row := regexp.MustCompile("(?m)^\\| (`[a-z0-9-]+`(?:, `[a-z0-9-]+`)*) \\|")
	for _, m := range row.FindAllStringSubmatch(tables, -1) {
		for code := range strings.SplitSeq(m[1], ", ") {
			if code = strings.Trim(code, "`"); !exists[code] {
				t.Errorf("docs/identity.md explains %s, which is no code", code)
			}
		}
	}
}

// Alerts are built on these names.
func TestEveryMetricOfIdentitiesIsListed(t *testing.T) {
	text := read(t, "docs/identity.md")
	name := regexp.MustCompile(`"(heddle_identity_[a-z_]+)"`)
	found := 0
	for _, file := range []string{"identity/service/metrics.go", "controlplane/signer.go", "controlplane/signer_metrics.go"} {
		for _, m := range name.FindAllStringSubmatch(read(t, file), -1) {
			found++
			if !strings.Contains(text, "`"+m[1]) {
				t.Errorf("docs/identity.md does not list %s", m[1])
			}
		}
	}
	if found < 9 {
		t.Errorf("found only %d metrics", found)
	}
}
