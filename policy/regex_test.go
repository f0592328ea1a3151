package policy

import (
	"fmt"
	"strings"
	"testing"
)

// codeOf gives the code of the one problem that a Traffic document of this text has, 0 for none.
func codeOf(t *testing.T, text string) Code {
	t.Helper()
	_, problems := Parse(Source{Text: "kind: Traffic\nservice: catalog\n" + text})
	if len(problems) == 0 {
		return 0
	}
	if len(problems) > 1 {
		t.Errorf("%s: %v; want one problem", text, problems)
	}
	return problems[0].Code
}

func TestExpressionsThatOnlyGoTakesAreRefused(t *testing.T) {
	for re, want := range map[string]Code{
		`\p{Letter}`: CodeRegex, `\p{greek}`: CodeRegex, `\P{^ASCII}`: CodeRegex, `[a\p{Cn}]`: CodeRegex, `\p{LC}`: CodeRegex, `\p{Assigned}`: CodeRegex,
		`\x{100}`: CodeRegex, `[^\x00-\x{10FFFF}]`: CodeRegex, `[\x{e9}-é]`: CodeRegex, `\Q\x{100}\E\x{100}`: CodeRegex,
		`\pL`: 0, `\p{Greek}`: 0, `\P{^Lu}`: 0, `\p{Any}`: 0, `\x{ff}`: 0, `\xe9`: 0, `é{2}`: 0, `[à-日]`: 0,
		`\Q\x{100}\p{Letter}\E`: 0, `\Q\x{100}`: 0, `\\x{100}`: 0, `\\p{2}`: 0,
	} {
		if got := codeOf(t, fmt.Sprintf("routes: [{name: r, match: [{path: {regex: '%s'}}]}]\n", re)); got != want {
			t.Errorf("%s: %v; want %v", re, got, want)
		}
	}
}

func TestAHealthCheckAsksForWhatARequestCanAskFor(t *testing.T) {
	for path, want := range map[string]Code{
		"/a?b=%20&c": 0, "/a?": 0, "/a?b?c": 0,
		`/a?b\nc: d`: CodePath, `/a?\u0001`: CodePath, "/a?b c": CodePath, "/a?é": CodePath, "/a?b#c": CodePath,
		"/a?" + strings.Repeat("x", maxQuery+1): CodePath,
	} {
		if got := codeOf(t, `healthCheck: {path: "`+path+`"}`+"\n"); got != want {
			t.Errorf("%.40q: %v; want %v", path, got, want)
		}
	}
}

func TestHeadersOfTheMeshAreNotForPoliciesToChange(t *testing.T) {
	for _, name := range []string{"x-heddle-failure", "X-Heddle-Protocol", "x-envoy-retry-on", "x-forwarded-client-cert"} {
		if got := codeOf(t, "routes: [{name: r, responseHeaders: {set: {"+name+": a}}}]\n"); got != CodeReserved {
			t.Errorf("%s: %v; want %v", name, got, CodeReserved)
		}
	}
}
