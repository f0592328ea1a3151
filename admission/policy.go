package admission

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heddle-mesh/heddle/kube"
	"github.com/heddle-mesh/heddle/model"
	"github.com/heddle-mesh/heddle/policy"
)

// Policies knows what a policy meets where it is applied.
type Policies interface {
	// Try gives all problems that a ConfigMap would have, by the key in its data, and changes nothing. An error means that
	// nobody knows now.
	Try(ctx context.Context, text *model.PolicyText) (map[string][]policy.Problem, error)
}

// policy answers for a ConfigMap that has the label of policies, or had it.
func (h handler) policy(ctx context.Context, r *admissionv1.AdmissionRequest) (*verdict, error) {
	now, refused := decode[corev1.ConfigMap](r.Object.Raw, "ConfigMap")
	if refused != nil {
		return refused, nil
	}
	before := &corev1.ConfigMap{}
	if r.Operation == admissionv1.Update {
		if before, refused = decode[corev1.ConfigMap](r.OldObject.Raw, "ConfigMap as it was"); refused != nil {
			return refused, nil
		}
	}
	now.Namespace, now.Name = r.Namespace, cmp.Or(r.Name, now.Name, now.GenerateName)
	value, labelled := now.Labels[policy.Label]
	switch was := before.Labels[policy.Label] == "true"; {
	case now.DeletionTimestamp != nil:
		return &verdict{}, nil // whoever still holds it back must be able to let go
	case value != "true" && was:
		return warned(policy.Problem{Code: policy.CodeUnlabelled, Message: "the ConfigMap loses the label that makes its documents count: they have no effect any more",
			Hint: fmt.Sprintf("label it %s=true again if that is not meant", policy.Label)}), nil
	case value != "true" && labelled:
		return warned(policy.Problem{Code: policy.CodeUnlabelled, Message: fmt.Sprintf("the label %s is %q, so that the ConfigMap is no policy", policy.Label, value),
			Hint: `write "true"`}), nil
	case value != "true":
		return &verdict{}, nil
	case was && sameContent(before, now):
		return &verdict{}, nil // so that labels, owners and status can be written on one that is broken
	}
	return h.judge(ctx, now), nil
}

func sameContent(a, b *corev1.ConfigMap) bool {
	return maps.Equal(a.Data, b.Data) && maps.EqualFunc(a.BinaryData, b.BinaryData, slices.Equal)
}

// warned allows with a warning about a ConfigMap as a whole.
func warned(p policy.Problem) *verdict {
	return &verdict{warnings: []string{p.Code.String() + ": " + p.Message + "; " + p.Hint}}
}

// judge looks at the content of a policy: at each document by itself, as heddle policy validate does, and if all are good
// at what they meet.
func (h handler) judge(ctx context.Context, c *corev1.ConfigMap) *verdict {
	_, problems := policy.ParseObject(policy.Object{
		Namespace: c.Namespace, Name: c.Name, Data: c.Data, Binary: slices.Collect(maps.Keys(c.BinaryData)), System: h.System,
	})
	if !policy.Failed(problems) {
		problems = h.beside(ctx, c, problems)
	}
	if policy.Failed(problems) {
		return refusal(c, problems)
	}
	v := &verdict{}
	for _, p := range problems {
		p.Severity = "" // whoever shows it says that it is a warning
		v.warnings = append(v.warnings, told(p))
	}
	return v
}

// beside adds what shows only beside Services, pods and other policies. If nobody can say, the policy is judged by itself:
// the control plane judges again before it counts, and tells in its status.
func (h handler) beside(ctx context.Context, c *corev1.ConfigMap, problems []policy.Problem) []policy.Problem {
	if h.Policies == nil {
		return problems
	}
	if c.CreationTimestamp.IsZero() {
		c.CreationTimestamp = metav1.NewTime(time.Now())
	}
	found, err := h.Policies.Try(ctx, kube.PolicyOf(c))
	if err != nil {
		h.Log.Warn().Err(err).Str("policy", c.Namespace+"/"+c.Name).Msg("judged a policy by itself alone")
		return problems
	}
	return together(found, problems)
}

// together puts all problems in the order of their places, each once.
func together(found map[string][]policy.Problem, problems []policy.Problem) []policy.Problem {
	for _, item := range slices.Sorted(maps.Keys(found)) {
		for _, p := range found[item] {
			p.File = item
			if !slices.Contains(problems, p) {
				problems = append(problems, p)
			}
		}
	}
	slices.SortStableFunc(problems, func(a, b policy.Problem) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return problems
}

// maxTold is how many errors one refusal tells.
const maxTold = 20

// refusal tells the errors, each on a line of its own.
func refusal(c *corev1.ConfigMap, problems []policy.Problem) *verdict {
	errors := slices.DeleteFunc(slices.Clone(problems), func(p policy.Problem) bool { return p.Severity != policy.Error })
	lines := []string{fmt.Sprintf("policy %s/%s is refused, and nothing changes:", c.Namespace, c.Name)}
	for _, p := range errors[:min(len(errors), maxTold)] {
		lines = append(lines, "  "+told(p))
	}
	if more := len(errors) - maxTold; more > 0 {
		lines = append(lines, fmt.Sprintf("  and %d more: heddle policy validate tells all", more))
	}
	return refuse(http.StatusBadRequest, "%s", strings.Join(lines, "\n"))
}

// told is a problem in one line; one of the ConfigMap itself has no place.
func told(p policy.Problem) string {
	text := p.String()
	if p.File == "" {
		text = strings.TrimPrefix(text, fmt.Sprintf("-:%d:%d: ", p.Line, p.Column))
	}
	return strings.Join(strings.Fields(text), " ") // a header holds no lines
}
