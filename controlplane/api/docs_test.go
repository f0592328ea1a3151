package api

import (
	"os"
	"strings"
	"testing"
)

func TestEveryCodeIsInTheDocument(t *testing.T) {
	text, err := os.ReadFile("../../docs/cli.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, code := range []string{
		NoToken, TokenMalformed, TokenExpired, WrongAudience, TokenRefused, NotAViewer, OtherNamespace, TooMany, ReviewUnavailable,
		NoSuchPath, NoPod, NoFacts, Unavailable,
	} {
		if !strings.Contains(string(text), "`"+code+"`") {
			t.Errorf("docs/cli.md does not explain %s", code)
		}
	}
}
