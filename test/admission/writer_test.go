package admission

import (
	"context"
	"strings"
	"testing"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	applycorev1 "k8s.io/client-go/applyconfigurations/core/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/heddle-mesh/heddle/writeback"
)

// writer is the account that the admission policy speaks of.
const writer = "system:serviceaccount:heddle-system:heddle"

// held installs the ValidatingAdmissionPolicy.
func held(t testing.TB, client kubernetes.Interface) {
	t.Helper()
	p, b := &admissionregistrationv1.ValidatingAdmissionPolicy{}, &admissionregistrationv1.ValidatingAdmissionPolicyBinding{}
	installed(t, "ValidatingAdmissionPolicy", "heddle-status-writer", p)
	installed(t, "ValidatingAdmissionPolicyBinding", "heddle-status-writer", b)
	policies, bindings := client.AdmissionregistrationV1().ValidatingAdmissionPolicies(), client.AdmissionregistrationV1().ValidatingAdmissionPolicyBindings()
	if _, err := policies.Create(t.Context(), p, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := bindings.Create(t.Context(), b, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = bindings.Delete(context.Background(), b.Name, metav1.DeleteOptions{})
		_ = policies.Delete(context.Background(), p.Name, metav1.DeleteOptions{})
	})
}

// grant lets the writer's account do what rules say.
func grant(t testing.TB, client kubernetes.Interface, rules ...rbacv1.PolicyRule) {
	t.Helper()
	name := metav1.ObjectMeta{GenerateName: "writer-"}
	role, err := client.RbacV1().ClusterRoles().Create(t.Context(), &rbacv1.ClusterRole{ObjectMeta: name, Rules: rules}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	binding, err := client.RbacV1().ClusterRoleBindings().Create(t.Context(), &rbacv1.ClusterRoleBinding{
		ObjectMeta: name, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role.Name},
		Subjects: []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: writer}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = client.RbacV1().ClusterRoleBindings().Delete(context.Background(), binding.Name, metav1.DeleteOptions{})
		_ = client.RbacV1().ClusterRoles().Delete(context.Background(), role.Name, metav1.DeleteOptions{})
	})
}

func TestTheStatusWriterMayChangeNothingButItsAnnotationsOfPolicies(t *testing.T) {
	admin := api.Client(t)
	home(t, admin)
	grant(t, admin, rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"configmaps"}, Verbs: []string{"*"}}) // more than it has
	held(t, admin)
	ns := api.Namespace(t)
	own, _ := clientOf(t, writer)
	maps := own.CoreV1().ConfigMaps(ns)
	for name, labels := range map[string]map[string]string{"policy": {"heddle.dev/policy": "true", "team": "a"}, "other": {"team": "a"}, "nearly": {"heddle.dev/policy": "yes"}} {
		c := &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels, Annotations: map[string]string{"owner": "a"}},
			Data:       map[string]string{"traffic.yaml": "kind: Traffic\nservice: a\n"},
		}
		if _, err := admin.CoreV1().ConfigMaps(ns).Create(t.Context(), c, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	status := writeback.Status{Message: "m", Hash: "h"}.Annotations()
	apply := func(a *applycorev1.ConfigMapApplyConfiguration) func() error {
		return func() error {
			_, err := maps.Apply(t.Context(), a, metav1.ApplyOptions{FieldManager: writeback.Manager, Force: true})
			return err
		}
	}
	merge := func(name, patch string) func() error {
		return func() error {
			_, err := maps.Patch(t.Context(), name, "application/merge-patch+json", []byte(patch), metav1.PatchOptions{})
			return err
		}
	}
	eventually(t, "the admission policy is in force", func() bool {
		return apierrors.IsForbidden(merge("other", `{"data":{"a":"`+t.Name()+`"}}`)()) && merge("policy", `{"metadata":{"annotations":{"status.heddle.dev/hash":"0"}}}`)() == nil
	})
	for what, c := range map[string]struct {
		do      func() error
		refused string // empty: it may
	}{
		"its annotations":                {apply(applycorev1.ConfigMap("policy", ns).WithAnnotations(status)), ""},
		"one of them":                    {merge("policy", `{"metadata":{"annotations":{"status.heddle.dev/hash":"x"}}}`), ""},
		"one of them away":               {merge("policy", `{"metadata":{"annotations":{"status.heddle.dev/hash":null}}}`), ""},
		"another annotation":             {merge("policy", `{"metadata":{"annotations":{"note":"x"}}}`), "only its own annotations"},
		"another's annotation":           {merge("policy", `{"metadata":{"annotations":{"owner":"b"}}}`), "only its own annotations"},
		"another's annotation away":      {merge("policy", `{"metadata":{"annotations":{"owner":null}}}`), "only its own annotations"},
		"a further one under its prefix": {merge("policy", `{"metadata":{"annotations":{"status.heddle.dev/more":"x"}}}`), "only its own annotations"},
		"data":                           {merge("policy", `{"data":{"traffic.yaml":"kind: Traffic\n"}}`), "what a ConfigMap holds"},
		"further data":                   {merge("policy", `{"data":{"access.yaml":"kind: Access\n"}}`), "what a ConfigMap holds"},
		"data away":                      {merge("policy", `{"data":null}`), "what a ConfigMap holds"},
		"binary data":                    {merge("policy", `{"binaryData":{"a":"AA=="}}`), "what a ConfigMap holds"},
		"immutable":                      {merge("policy", `{"immutable":true}`), "what a ConfigMap holds"},
		"data by apply":                  {apply(applycorev1.ConfigMap("policy", ns).WithAnnotations(status).WithData(map[string]string{"a": "b"})), "what a ConfigMap holds"},
		"a label":                        {merge("policy", `{"metadata":{"labels":{"team":"b"}}}`), "no labels"},
		"the label away":                 {merge("policy", `{"metadata":{"labels":{"heddle.dev/policy":null}}}`), "no labels"},
		"a finalizer":                    {merge("policy", `{"metadata":{"finalizers":["a.b/c"]}}`), "no labels, finalizers"},
		"an owner":                       {merge("policy", `{"metadata":{"ownerReferences":[{"apiVersion":"v1","kind":"Pod","name":"a","uid":"b"}]}}`), "owners"},
		"what is no policy":              {apply(applycorev1.ConfigMap("other", ns).WithAnnotations(status)), "labelled heddle.dev/policy"},
		"what is nearly one":             {apply(applycorev1.ConfigMap("nearly", ns).WithAnnotations(status)), "labelled heddle.dev/policy"},
		"to make it a policy":            {merge("other", `{"metadata":{"labels":{"heddle.dev/policy":"true"},"annotations":{"status.heddle.dev/hash":"x"}}}`), "labelled heddle.dev/policy"},
		"a new one":                      {apply(applycorev1.ConfigMap("new", ns).WithLabels(map[string]string{"heddle.dev/policy": "true"}).WithAnnotations(status)), "neither creates nor deletes"},
		"one away":                       {func() error { return maps.Delete(t.Context(), "policy", metav1.DeleteOptions{}) }, "neither creates nor deletes"},
		"all away": {func() error {
			return maps.DeleteCollection(t.Context(), metav1.DeleteOptions{}, metav1.ListOptions{})
		}, "neither creates nor deletes"},
	} {
		t.Run(what, func(t *testing.T) {
			err := c.do()
			switch {
			case c.refused == "" && err != nil:
				t.Errorf("it may not: %v", err)
			case c.refused != "" && (!apierrors.IsForbidden(err) || !strings.Contains(err.Error(), c.refused)):
				t.Errorf("the answer is %v, want a refusal with %q", err, c.refused)
			}
		})
	}
	if err := admin.CoreV1().ConfigMaps(ns).Delete(t.Context(), "policy", metav1.DeleteOptions{}); err != nil {
		t.Errorf("everybody else may as before: %v", err)
	}
}
