package writeback

import (
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/heddle-mesh/heddle/mesh"
	"github.com/heddle-mesh/heddle/policy"
)

func problem(code policy.Code, message string) policy.Problem {
	return policy.Problem{Code: code, Severity: code.Severity(), Line: 3, Column: 1, Message: message, Hint: "mend it"}
}

func good(item string) mesh.PolicyStatus {
	return mesh.PolicyStatus{Item: item, Hash: "1", Serving: "1", Accepted: true}
}

func broken(item, serving string, problems ...policy.Problem) mesh.PolicyStatus {
	return mesh.PolicyStatus{Item: item, Hash: "2", Serving: serving, Problems: problems}
}

func TestAStatusSaysWhatBecameOfEachDocument(t *testing.T) {
	warned := good("b.yaml")
	warned.Problems = []policy.Problem{problem(policy.CodeNoService, "there is no Service shop/x")}
	for name, c := range map[string]struct {
		documents []mesh.PolicyStatus
		accepted  bool
		reason    Reason
		message   string
	}{
		"good": {[]mesh.PolicyStatus{good("a.yaml")}, true, Accepted, "in force"},
		"a warning": {[]mesh.PolicyStatus{good("a.yaml"), warned}, true, Accepted,
			"b.yaml:3:1: HDL1611: warning: there is no Service shop/x; mend it"},
		"one of two is broken": {[]mesh.PolicyStatus{good("a.yaml"), broken("b.yaml", "1", problem(policy.CodeUnknown, "unknown"))}, false, Refused,
			"b.yaml is refused: its last good version (1) stays in force\nb.yaml:3:1: HDL1102: unknown; mend it"},
		"never good": {[]mesh.PolicyStatus{broken("b.yaml", "", problem(policy.CodeUnknown, "unknown"))}, false, Refused,
			"b.yaml is refused and has no effect, since no version of it was ever good\nb.yaml:3:1: HDL1102: unknown; mend it"},
		"never good and denying": {[]mesh.PolicyStatus{broken("b.yaml", "", problem(policy.CodeDenying, "denies"))}, false, Refused,
			"b.yaml is refused, and denies what it covers, since no version of it was ever good\nb.yaml:3:1: HDL1618: denies; mend it"},
		"refused by proxies": {[]mesh.PolicyStatus{
			broken("b.yaml", "1", problem(policy.CodeRefused, "proxies refused this version: a\n\x0bb")), broken("c.yaml", "1"),
		}, false, RefusedByProxies,
			"b.yaml is refused: its last good version (1) stays in force\nc.yaml is refused: its last good version (1) stays in force\n" +
				"b.yaml:3:1: HDL1616: proxies refused this version: a b; mend it"},
	} {
		t.Run(name, func(t *testing.T) {
			s := Of(c.documents)
			want := Status{Accepted: c.accepted, Reason: c.reason, Message: c.message, Hash: s.Hash}
			if diff := cmp.Diff(want, s); diff != "" {
				t.Errorf("status (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAConfigMapWithoutDocumentsIsToldSo(t *testing.T) {
	if s := Of(nil); s.Accepted || !strings.Contains(s.Message, "HDL1010") || s.Hash == "" {
		t.Errorf("the status is %+v", s)
	}
}

func TestTheHashIsThatOfAllDocumentsInWhateverOrder(t *testing.T) {
	a, b := good("a.yaml"), good("b.yaml")
	other := b
	other.Hash = "3"
	hash := Of([]mesh.PolicyStatus{a, b}).Hash
	if Of([]mesh.PolicyStatus{b, a}).Hash != hash {
		t.Error("the order of documents shows in the hash")
	}
	if Of([]mesh.PolicyStatus{a}).Hash == hash || Of([]mesh.PolicyStatus{a, other}).Hash == hash {
		t.Error("other documents have the same hash")
	}
}

func TestAMessageHasItsBounds(t *testing.T) {
	many := broken("a.yaml", "1")
	for i := range 100 {
		many.Problems = append(many.Problems, problem(policy.CodeUnknown, fmt.Sprint("unknown ", i)))
	}
	if m := Of([]mesh.PolicyStatus{many}).Message; strings.Count(m, "\n") != maxLines || !strings.HasSuffix(m, "and 81 more: heddle policy validate tells all") {
		t.Errorf("the message of 101 lines is\n%s", m)
	}
	long := broken("a.yaml", "1", problem(policy.CodeRefused, strings.Repeat("é", 1<<20)), problem(policy.CodeUnknown, "unknown"))
	if m := Of([]mesh.PolicyStatus{long}).Message; len(m) > maxBytes || !utf8.ValidString(m) || !strings.Contains(m, "more") {
		t.Errorf("the message of a megabyte has %d bytes", len(m))
	}
}
