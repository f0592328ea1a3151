package admission

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heddle-mesh/heddle/model"
	"github.com/heddle-mesh/heddle/policy"
)

const (
	goodText   = "kind: Traffic\nservice: catalog\ntimeout: 2s\n"
	brokenText = "kind: Traffic\nservice: catalog\ntimeuot: 2s\n"
	warnedText = "kind: Traffic\nservice: catalog\ntimeout: 2s\nretries: {attempts: 2, perTryTimeout: 2s}\n"
)

// aPolicy is a labelled ConfigMap with one document.
func aPolicy(text string, change ...func(*corev1.ConfigMap)) *corev1.ConfigMap {
	c := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: "catalog", Labels: map[string]string{policy.Label: "true"}},
		Data:       map[string]string{"traffic.yaml": text},
	}
	for _, f := range change {
		f(c)
	}
	return c
}

func labelled(value string) func(*corev1.ConfigMap) {
	return func(c *corev1.ConfigMap) { c.Labels[policy.Label] = value }
}

func unlabelled(c *corev1.ConfigMap) { c.Labels = nil }

func TestAPolicyIsRefusedWithThePlaceAndTheNearestName(t *testing.T) {
	r := answer(t, Options{}, PolicyPath, review(t, "configmaps", "ConfigMap", aPolicy(brokenText)))
	want := "policy shop/catalog is refused, and nothing changes:\n" +
		`  traffic.yaml:3:1: HDL1102: unknown field "timeuot"; did you mean timeout?`
	if r.Allowed || r.Result.Code != 400 || r.Result.Message != want {
		t.Errorf("the answer is %+v, want the message\n%s", r.Result, want)
	}
}

func TestWhatAReviewOfAConfigMapComesTo(t *testing.T) {
	deleting := func(c *corev1.ConfigMap) {
		c.DeletionTimestamp, c.Finalizers = &metav1.Time{Time: time.Unix(1e9, 0)}, []string{"a/b"}
	}
	empty := func(c *corev1.ConfigMap) { c.Data = nil }
	other := func(key, text string) func(*corev1.ConfigMap) {
		return func(c *corev1.ConfigMap) { c.Data[key] = text }
	}
	binary := func(c *corev1.ConfigMap) { c.Data, c.BinaryData = nil, map[string][]byte{"a.yaml": {0xff}} }
	annotated := func(c *corev1.ConfigMap) { c.Annotations = map[string]string{"a": "b"} }
	for name, c := range map[string]struct {
		before, now *corev1.ConfigMap
		refused     string // empty: allowed
		warnings    string
	}{
		"good":                            {nil, aPolicy(goodText), "", ""},
		"broken":                          {nil, aPolicy(brokenText), "HDL1102", ""},
		"a broken edit":                   {aPolicy(goodText), aPolicy(brokenText), "HDL1102", ""},
		"a mended edit":                   {aPolicy(brokenText), aPolicy(goodText), "", ""},
		"status of a broken one":          {aPolicy(brokenText), aPolicy(brokenText, annotated), "", ""},
		"another broken edit":             {aPolicy(brokenText), aPolicy(brokenText + "\n#"), "HDL1102", ""},
		"a warning":                       {nil, aPolicy(warnedText), "", "traffic.yaml:4:39: HDL1503: retries"},
		"no warning again":                {aPolicy(warnedText), aPolicy(warnedText, annotated), "", ""},
		"a Mesh document elsewhere":       {nil, aPolicy("kind: Mesh\n"), "HDL1108", ""},
		"an ignored key":                  {nil, aPolicy(goodText, other("notes.txt", "x")), "", `HDL1507: data["notes.txt"]`},
		"empty":                           {nil, aPolicy("", empty), "HDL1010: the ConfigMap has no data", ""},
		"emptied":                         {aPolicy(goodText), aPolicy("", empty), "HDL1010", ""},
		"an empty document":               {nil, aPolicy(""), "HDL1005", ""},
		"a document under binaryData":     {nil, aPolicy("", binary), `HDL1001: binaryData["a.yaml"]`, ""},
		"one of two broken":               {nil, aPolicy(goodText, other("b.yaml", brokenText)), "b.yaml:3:1", ""},
		"on its way out":                  {aPolicy(brokenText, deleting), aPolicy(brokenText+" ", deleting), "", ""},
		"loses its label":                 {aPolicy(goodText), aPolicy(goodText, unlabelled), "", "HDL1511: the ConfigMap loses the label"},
		"loses its label, broken":         {aPolicy(brokenText), aPolicy(brokenText, unlabelled), "", "HDL1511"},
		"gets the label":                  {aPolicy(brokenText, unlabelled), aPolicy(brokenText), "HDL1102", ""},
		"has another label":               {nil, aPolicy(brokenText, labelled("yes")), "", `HDL1511: the label heddle.dev/policy is "yes"`},
		"loses another label":             {aPolicy(brokenText, labelled("yes")), aPolicy(brokenText, unlabelled), "", ""},
		"gets the right label from wrong": {aPolicy(brokenText, labelled("yes")), aPolicy(brokenText), "HDL1102", ""},
	} {
		t.Run(name, func(t *testing.T) {
			var how []func(*admissionv1.AdmissionReview)
			if c.before != nil {
				how = append(how, update(t, c.before))
			}
			r := answer(t, Options{}, PolicyPath, review(t, "configmaps", "ConfigMap", c.now, how...))
			switch {
			case c.refused == "" && !r.Allowed:
				t.Errorf("it is refused: %s", r.Result.Message)
			case c.refused != "" && (r.Allowed || !strings.Contains(r.Result.Message, c.refused)):
				t.Errorf("the answer is %+v, want a refusal with %q", r, c.refused)
			}
			got := strings.Join(r.Warnings, "\n")
			if (c.warnings == "") != (got == "") || !strings.Contains(got, c.warnings) {
				t.Errorf("the warnings are %q, want %q", got, c.warnings)
			}
		})
	}
}

func TestMeshWidePolicyIsGoodInTheControlPlanesNamespace(t *testing.T) {
	home := func(r *admissionv1.AdmissionReview) { r.Request.Namespace = "control" }
	body := review(t, "configmaps", "ConfigMap", aPolicy("kind: Mesh\naccess: deny\n"), home)
	if r := answer(t, Options{System: "control"}, PolicyPath, body); !r.Allowed {
		t.Errorf("it is refused: %s", r.Result.Message)
	}
}

func TestWhatAPolicyMeetsIsToldToo(t *testing.T) {
	var tried *model.PolicyText
	found := func(code policy.Code) tries {
		return func(text *model.PolicyText) (map[string][]policy.Problem, error) {
			tried = text
			_, own := policy.Parse(policy.Source{Text: text.Documents[0].Text, Namespace: text.Key.Namespace})
			return map[string][]policy.Problem{"traffic.yaml": append(own,
				policy.Problem{Code: code, Severity: code.Severity(), Line: 2, Column: 10, Path: "service", Message: "not there", Hint: "make it"})}, nil
		}
	}
	body := review(t, "configmaps", "ConfigMap", aPolicy(warnedText))
	r := answer(t, Options{Policies: found(policy.CodeNoService)}, PolicyPath, body)
	if len(r.Warnings) != 2 || r.Warnings[0] != "traffic.yaml:2:10: HDL1611: service: not there; make it" || !strings.Contains(r.Warnings[1], "HDL1503") {
		t.Errorf("the warnings are %q", r.Warnings)
	}
	if diff := cmp.Diff(model.Key{Namespace: "shop", Name: "catalog"}, tried.Key); diff != "" || tried.Created.IsZero() {
		t.Errorf("it was tried as %+v", tried)
	}
	r = answer(t, Options{Policies: found(policy.CodeRefused)}, PolicyPath, body)
	if r.Allowed || !strings.Contains(r.Result.Message, "traffic.yaml:2:10: HDL1616") {
		t.Errorf("what proxies refused before is answered %+v", r)
	}
	away := tries(func(*model.PolicyText) (map[string][]policy.Problem, error) { return nil, errors.New("not ready") })
	r = answer(t, Options{Policies: away}, PolicyPath, body)
	if !r.Allowed || len(r.Warnings) != 1 {
		t.Errorf("while the mesh is not known the answer is %+v", r)
	}
}

func TestARefusalTellsABoundedNumberOfErrors(t *testing.T) {
	text := "kind: Traffic\nservice: catalog\n"
	for i := range 50 {
		text += fmt.Sprintf("timeuot%d: 2s\n", i)
	}
	r := answer(t, Options{}, PolicyPath, review(t, "configmaps", "ConfigMap", aPolicy(text)))
	if n := strings.Count(r.Result.Message, "HDL1102"); n != maxTold || !strings.HasSuffix(r.Result.Message, "and 30 more: heddle policy validate tells all") {
		t.Errorf("it tells %d of 50 errors:\n%s", n, r.Result.Message)
	}
}
