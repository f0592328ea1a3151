package deploy_test

import (
	"maps"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
)

// revision is one as the control plane makes it.
func revision(name string) *appsv1.ControllerRevision {
	return &appsv1.ControllerRevision{
		ObjectMeta: metav1.ObjectMeta{
			Name: name, Labels: map[string]string{"heddle.dev/last-good": "true", "heddle.dev/configmap-uid": "1"},
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: "ConfigMap", Name: "policy", UID: "1"}},
		},
		Data: runtime.RawExtension{Raw: []byte(`{}`)}, Revision: 1,
	}
}

// history is a revision of a StatefulSet, which is its pods' template.
func history(name string) *appsv1.ControllerRevision {
	r := revision(name)
	r.Labels = map[string]string{"app": "db"}
	r.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "StatefulSet", Name: "db", UID: "2", Controller: new(true)}}
	return r
}

func TestTheServerKeepsLastGoodPoliciesAndTouchesNobodysHistory(t *testing.T) {
	c := installed(t, "")
	ctx, namespace := t.Context(), api.Namespace(t)
	server := access(t, "heddle-system", "heddle").AppsV1().ControllerRevisions(namespace)
	if _, err := c.client.AppsV1().ControllerRevisions(namespace).Create(ctx, history("db-1"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	create := func(r *appsv1.ControllerRevision, dry ...string) error {
		_, err := server.Create(ctx, r, metav1.CreateOptions{DryRun: dry})
		return err
	}
	eventually(t, "the admission policy is in force", func() bool { return create(history("db-2"), metav1.DryRunAll) != nil })

	if err := create(revision("good")); err != nil {
		t.Fatalf("the server cannot keep a last good policy: %v", err)
	}
	adoptable, controlled, unowned := revision("adoptable"), revision("controlled"), revision("unowned")
	maps.Copy(adoptable.Labels, history("").Labels)
	controlled.OwnerReferences[0].Controller = new(true)
	unowned.OwnerReferences = nil
	for _, r := range []*appsv1.ControllerRevision{history("db-2"), adoptable, controlled, unowned} {
		if err := create(r); err == nil {
			t.Errorf("the server may make ControllerRevision %s", r.Name)
		}
	}
	for name, change := range map[string]func(*appsv1.ControllerRevision){
		"db-1": func(r *appsv1.ControllerRevision) { r.Revision = 9 },
		"good": func(r *appsv1.ControllerRevision) { r.Labels = history("").Labels },
	} {
		r, err := server.Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		change(r)
		if _, err := server.Update(ctx, r, metav1.UpdateOptions{}); err == nil {
			t.Errorf("the server may change ControllerRevision %s to %v", name, r.ObjectMeta)
		}
	}
	if err := server.Delete(ctx, "db-1", metav1.DeleteOptions{}); err == nil {
		t.Error("the server may delete the history of a StatefulSet")
	}
	good, err := server.Get(ctx, "good", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	good.Revision = 2
	if _, err := server.Update(ctx, good, metav1.UpdateOptions{}); err != nil {
		t.Errorf("the server cannot count a last good policy on: %v", err)
	}
	if err := server.Delete(ctx, "good", metav1.DeleteOptions{}); err != nil {
		t.Errorf("the server cannot remove a last good policy: %v", err)
	}
}

func TestTheServerWritesTheCAOfItsWebhooksAndNothingElseOfThem(t *testing.T) {
	installed(t, "")
	ctx, client, ca := t.Context(), access(t, "heddle-system", "heddle"), caBundle(t)
	mutating := func(patch string, kind types.PatchType, dry ...string) error {
		_, err := client.AdmissionregistrationV1().MutatingWebhookConfigurations().Patch(ctx, "heddle-injector", kind, []byte(patch), metav1.PatchOptions{DryRun: dry})
		return err
	}
	validating := func(patch string, kind types.PatchType, dry ...string) error {
		_, err := client.AdmissionregistrationV1().ValidatingWebhookConfigurations().Patch(ctx, "heddle-policy", kind, []byte(patch), metav1.PatchOptions{DryRun: dry})
		return err
	}
	label := `{"metadata":{"labels":{"a":"b"}}}`
	eventually(t, "the admission policies are in force", func() bool {
		return mutating(label, types.MergePatchType, metav1.DryRunAll) != nil && validating(label, types.MergePatchType, metav1.DryRunAll) != nil
	})
	for _, c := range []struct {
		send    func(string, types.PatchType, ...string) error
		kind    types.PatchType
		patch   string
		allowed bool
	}{
		{mutating, types.StrategicMergePatchType, `{"webhooks":[{"name":"pod.inject.heddle.dev","clientConfig":{"caBundle":"` + ca + `"}}]}`, true},
		{validating, types.StrategicMergePatchType, `{"webhooks":[{"name":"policy.heddle.dev","clientConfig":{"caBundle":"` + ca + `"}}]}`, true},
		{mutating, types.JSONPatchType, `[{"op":"replace","path":"/webhooks/0/rules/0/resources","value":["*"]}]`, false},
		{mutating, types.JSONPatchType, `[{"op":"remove","path":"/webhooks/0/namespaceSelector"}]`, false},
		{mutating, types.JSONPatchType, `[{"op":"add","path":"/webhooks/0/objectSelector","value":{"matchLabels":{"a":"b"}}}]`, false},
		{mutating, types.JSONPatchType, `[{"op":"remove","path":"/webhooks/1/matchConditions"}]`, false},
		{mutating, types.JSONPatchType, `[{"op":"replace","path":"/webhooks/0/failurePolicy","value":"Ignore"}]`, false},
		{mutating, types.JSONPatchType, `[{"op":"replace","path":"/webhooks/0/clientConfig/service/name","value":"other"}]`, false},
		{mutating, types.JSONPatchType, `[{"op":"replace","path":"/webhooks/0/reinvocationPolicy","value":"IfNeeded"}]`, false},
		{mutating, types.JSONPatchType, `[{"op":"copy","from":"/webhooks/0","path":"/webhooks/-"},{"op":"replace","path":"/webhooks/2/name","value":"a.b.c"}]`, false},
		{mutating, types.JSONPatchType, `[{"op":"remove","path":"/webhooks"}]`, false},
		{validating, types.JSONPatchType, `[{"op":"replace","path":"/webhooks/0/rules/0/resources","value":["secrets"]}]`, false},
		{validating, types.JSONPatchType, `[{"op":"replace","path":"/webhooks/0/timeoutSeconds","value":30}]`, false},
	} {
		if err := c.send(c.patch, c.kind); (err == nil) != c.allowed {
			t.Errorf("patch %s: allowed %v, not %v; %v", c.patch, err == nil, c.allowed, err)
		}
	}
}
