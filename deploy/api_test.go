package deploy_test

import (
	"context"
	"encoding/base64"
	"os"
	"strings"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"sigs.k8s.io/yaml"

	"github.com/heddle-mesh/heddle/deploy"
	kubetest "github.com/heddle-mesh/heddle/test/kubernetes"
	"github.com/heddle-mesh/heddle/test/wait"
)

var api = kubetest.New()

func TestMain(m *testing.M) { os.Exit(api.Main(m)) }

// cluster applies objects as `kubectl apply --server-side` does.
type cluster struct {
	client kubernetes.Interface
	any    dynamic.Interface
	mapper meta.RESTMapper
}

func newCluster(t *testing.T) cluster {
	t.Helper()
	config := api.Config(t)
	config.WarningHandler = rest.NewWarningWriter(failing{t}, rest.WarningWriterOptions{})
	client := api.Client(t)
	dynamics, err := dynamic.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return cluster{client, dynamics, restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(client.Discovery()))}
}

// failing makes a test fail by what is written.
type failing struct{ t *testing.T }

func (f failing) Write(warning []byte) (int, error) {
	f.t.Errorf("the API server warns: %s", warning)
	return len(warning), nil
}

// apply gives the objects as they are afterwards, by name.
func (c cluster) apply(t *testing.T, rendered string, dryRun ...string) map[string]*unstructured.Unstructured {
	t.Helper()
	after := map[string]*unstructured.Unstructured{}
	for _, d := range documents(rendered) {
		o := &unstructured.Unstructured{}
		text, err := yaml.YAMLToJSON([]byte(d))
		if err != nil {
			t.Fatal(err)
		}
		if err := o.UnmarshalJSON(text); err != nil {
			t.Fatal(err)
		}
		name := o.GetKind() + " " + o.GetNamespace() + "/" + o.GetName()
		got, err := c.resource(t, o).Patch(t.Context(), o.GetName(), "application/apply-patch+yaml", []byte(d), metav1.PatchOptions{
			FieldManager: "kubectl", FieldValidation: "Strict", DryRun: dryRun,
		})
		if err != nil {
			t.Fatalf("apply %s: %v", name, err)
		}
		after[name] = got
	}
	return after
}

func (c cluster) resource(t *testing.T, o *unstructured.Unstructured) dynamic.ResourceInterface {
	t.Helper()
	gvk := o.GroupVersionKind()
	mapping, err := c.mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
	if err != nil {
		t.Fatal(err)
	}
	if mapping.Scope.Name() == meta.RESTScopeNameNamespace {
		return c.any.Resource(mapping.Resource).Namespace(o.GetNamespace())
	}
	return c.any.Resource(mapping.Resource)
}

// remove deletes what a text names, in its order.
func (c cluster) remove(t *testing.T, text string) {
	t.Helper()
	for _, d := range documents(text) {
		o := &unstructured.Unstructured{}
		if err := yaml.Unmarshal([]byte(d), &o.Object); err != nil {
			t.Fatal(err)
		}
		err := c.resource(t, o).Delete(context.WithoutCancel(t.Context()), o.GetName(), metav1.DeleteOptions{})
		if err != nil && !strings.Contains(err.Error(), "not found") {
			t.Errorf("delete %s %s: %v", o.GetKind(), o.GetName(), err)
		}
	}
}

// installed is a cluster with the chart in it.
func installed(t *testing.T, values string) cluster {
	t.Helper()
	c := newCluster(t)
	c.apply(t, render(t, values))
	t.Cleanup(func() {
		text, err := deploy.Removal(deploy.RemovalOptions{})
		if err != nil {
			t.Error(err)
		}
		c.remove(t, text)
	})
	return c
}

func TestAPIServerTakesEveryObject(t *testing.T) {
	c := newCluster(t)
	// Without the namespace nothing goes into it, even for a dry run.
	namespace, _, _ := strings.Cut(strings.TrimPrefix(render(t, ""), "---"), "\n---")
	c.apply(t, namespace)
	ha, err := os.ReadFile("heddle/values-ha.yaml")
	if err != nil {
		t.Fatal(err)
	}
	everything, err := os.ReadFile("testdata/everything.txtar")
	if err != nil {
		t.Fatal(err)
	}
	_, values, _ := strings.Cut(string(everything), "-- values.yaml --\n")
	values, _, _ = strings.Cut(values, "-- rendered.yaml --\n")
	for _, v := range []string{"", string(ha), values} {
		c.apply(t, render(t, v), metav1.DryRunAll)
	}
}

func TestInstallingTwiceChangesNothing(t *testing.T) {
	c := installed(t, "")
	// What the control plane writes into its webhooks must stay.
	ctx, hooks := t.Context(), c.client.AdmissionregistrationV1().MutatingWebhookConfigurations()
	bundle := []byte(`{"webhooks":[{"name":"pod.inject.heddle.dev","clientConfig":{"caBundle":"` + caBundle(t) + `"}}]}`)
	if _, err := hooks.Patch(ctx, "heddle-injector", types.StrategicMergePatchType, bundle, metav1.PatchOptions{FieldManager: "heddle"}); err != nil {
		t.Fatal(err)
	}
	before := c.apply(t, render(t, ""))
	for name, o := range c.apply(t, render(t, "")) {
		if was := before[name].GetResourceVersion(); o.GetResourceVersion() != was {
			t.Errorf("%s was changed", name)
		}
	}
	after, err := hooks.Get(ctx, "heddle-injector", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if !hasBundle(after) {
		t.Error("installing again took the CA out of the webhook: no pod that is to have a sidecar would start")
	}
}

// caBundle gives any certificate, in base 64: the cluster's own.
func caBundle(t *testing.T) string {
	t.Helper()
	pem, err := os.ReadFile(api.Config(t).CAFile)
	if err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(pem)
}

func hasBundle(c *admissionv1.MutatingWebhookConfiguration) bool {
	for _, w := range c.Webhooks {
		if w.Name == "pod.inject.heddle.dev" {
			return len(w.ClientConfig.CABundle) > 0
		}
	}
	return false
}

func TestAccountsMayDoWhatTheyMustAndNothingElse(t *testing.T) {
	installed(t, "")
	server, signer := access(t, "heddle-system", "heddle"), access(t, "heddle-system", "heddle-signer")
	for _, c := range []struct {
		client kubernetes.Interface
		who    string
		may    bool
		verb   string
		what   string // resource.group[/subresource]
		where  string // namespace/name
	}{
		{server, "server", true, "watch", "pods", "shop/"},
		{server, "server", true, "list", "configmaps", "/"},
		{server, "server", true, "watch", "endpointslices.discovery.k8s.io", "/"},
		{server, "server", true, "patch", "configmaps", "shop/policy"},
		{server, "server", true, "create", "events", "shop/"},
		{server, "server", true, "update", "leases.coordination.k8s.io", "heddle-system/heddle-writer"},
		{server, "server", true, "patch", "mutatingwebhookconfigurations.admissionregistration.k8s.io", "/heddle-injector"},
		{server, "server", true, "update", "controllerrevisions.apps", "shop/"},
		{server, "server", false, "patch", "controllerrevisions.apps", "shop/"},
		{server, "server", false, "deletecollection", "controllerrevisions.apps", "shop/"},
		{server, "server", true, "create", "tokenreviews.authentication.k8s.io", "/"},
		{server, "server", false, "get", "secrets", "heddle-system/heddle-ca"},
		{server, "server", false, "list", "secrets", "heddle-system/"},
		{server, "server", false, "list", "secrets", "/"},
		{server, "server", false, "update", "leases.coordination.k8s.io", "heddle-system/heddle-signer"},
		{server, "server", false, "create", "configmaps", "shop/"},
		{server, "server", false, "delete", "configmaps", "shop/policy"},
		{server, "server", false, "patch", "mutatingwebhookconfigurations.admissionregistration.k8s.io", "/another"},
		{server, "server", false, "delete", "mutatingwebhookconfigurations.admissionregistration.k8s.io", "/heddle-injector"},
		{server, "server", false, "create", "serviceaccounts/token", "heddle-system/heddle-signer"},
		{server, "server", false, "create", "pods", "heddle-system/"},
		{server, "server", false, "create", "pods/exec", "heddle-system/heddle-signer-0"},
		{server, "server", false, "patch", "deployments.apps", "heddle-system/heddle"},
		{server, "server", false, "create", "clusterrolebindings.rbac.authorization.k8s.io", "/"},
		{signer, "signer", true, "get", "secrets", "heddle-system/heddle-ca"},
		{signer, "signer", true, "watch", "pods", "/"},
		{signer, "signer", true, "patch", "configmaps", "shop/heddle-trust"},
		{signer, "signer", true, "create", "tokenreviews.authentication.k8s.io", "/"},
		{signer, "signer", true, "update", "leases.coordination.k8s.io", "heddle-system/heddle-signer"},
		{signer, "signer", false, "get", "secrets", "heddle-system/another"},
		{signer, "signer", false, "list", "secrets", "heddle-system/"},
		{signer, "signer", false, "get", "secrets", "shop/heddle-ca"},
		{signer, "signer", false, "delete", "secrets", "heddle-system/heddle-ca"},
		{signer, "signer", false, "patch", "configmaps", "shop/policy"},
		{signer, "signer", false, "get", "configmaps", "shop/heddle-trust"},
		{signer, "signer", false, "list", "configmaps", "heddle-system/"},
		{signer, "signer", false, "list", "services", "/"},
		{signer, "signer", false, "update", "leases.coordination.k8s.io", "heddle-system/heddle-writer"},
		{signer, "signer", false, "create", "serviceaccounts/token", "heddle-system/heddle"},
	} {
		if got := may(t, c.client, c.verb, c.what, c.where); got != c.may {
			t.Errorf("the %s may %s %s %s: %v, not %v", c.who, c.verb, c.what, c.where, got, c.may)
		}
	}
}

// access is a client with the token of a ServiceAccount.
func access(t *testing.T, namespace, name string) kubernetes.Interface {
	t.Helper()
	token, err := api.Client(t).CoreV1().ServiceAccounts(namespace).CreateToken(
		t.Context(), name, &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	config := rest.AnonymousClientConfig(api.Config(t))
	config.BearerToken = token.Status.Token
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// may asks the API server what a client may do, as kubectl auth can-i does.
func may(t *testing.T, client kubernetes.Interface, verb, what, where string) bool {
	t.Helper()
	what, subresource, _ := strings.Cut(what, "/")
	resource, group, _ := strings.Cut(what, ".")
	namespace, name, _ := strings.Cut(where, "/")
	answer, err := client.AuthorizationV1().SelfSubjectAccessReviews().Create(t.Context(), &authorizationv1.SelfSubjectAccessReview{
		Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &authorizationv1.ResourceAttributes{
			Namespace: namespace, Name: name, Verb: verb, Group: group, Resource: resource, Subresource: subresource,
		}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return answer.Status.Allowed
}

func TestTheServerIsRefusedTheCAAndTheSignerIsNot(t *testing.T) {
	c := installed(t, "")
	ctx, secrets := t.Context(), c.client.CoreV1().Secrets("heddle-system")
	if _, err := secrets.Create(ctx, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "heddle-ca"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := secrets.Delete(context.WithoutCancel(ctx), "heddle-ca", metav1.DeleteOptions{}); err != nil {
			t.Error(err)
		}
	})
	for name, want := range map[string]bool{"heddle": false, "heddle-signer": true, "heddle-view": false, "heddle-tap": false} {
		_, err := access(t, "heddle-system", name).CoreV1().Secrets("heddle-system").Get(ctx, "heddle-ca", metav1.GetOptions{})
		if got := err == nil; got != want || err != nil && !apierrors.IsForbidden(err) {
			t.Errorf("ServiceAccount %s reads the CA: %v, not %v; %v", name, got, want, err)
		}
	}
}

func TestTheServerWritesStatusIntoPoliciesAndNothingElse(t *testing.T) {
	c := installed(t, "")
	ctx, namespace := t.Context(), api.Namespace(t)
	maps := c.client.CoreV1().ConfigMaps(namespace)
	for name, label := range map[string]string{"policy": "true", "other": "false"} {
		m := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"heddle.dev/policy": label}}}
		if _, err := maps.Create(ctx, m, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	server := access(t, "heddle-system", "heddle").CoreV1().ConfigMaps(namespace)
	eventually(t, "the admission policy is in force", func() bool {
		all := metav1.PatchOptions{DryRun: []string{metav1.DryRunAll}}
		_, err := server.Patch(ctx, "policy", types.MergePatchType, []byte(`{"data":{"a":"b"}}`), all)
		return err != nil
	})
	for _, change := range []struct {
		name, patch string
		allowed     bool
	}{
		{"policy", `{"metadata":{"annotations":{"status.heddle.dev/accepted":"true"}}}`, true},
		{"policy", `{"metadata":{"annotations":{"other":"x"}}}`, false},
		{"policy", `{"data":{"a.yaml":"kind: Access"}}`, false},
		{"policy", `{"metadata":{"labels":{"heddle.dev/policy":"false"}}}`, false},
		{"other", `{"metadata":{"annotations":{"status.heddle.dev/accepted":"true"}}}`, false},
	} {
		_, err := server.Patch(ctx, change.name, types.MergePatchType, []byte(change.patch), metav1.PatchOptions{})
		if got := err == nil; got != change.allowed {
			t.Errorf("patch of ConfigMap %s with %s: allowed %v, not %v; %v", change.name, change.patch, got, change.allowed, err)
		}
	}
}

// The API server judges pods by the label of their namespace, and here webhooks answer nobody.
func TestPodsOfTheControlPlaneStartUnderPodSecurityWhileItsWebhooksDoNotAnswer(t *testing.T) {
	c := installed(t, "")
	namespace, err := c.client.CoreV1().Namespaces().Get(t.Context(), "heddle-system", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if level := namespace.Labels["pod-security.kubernetes.io/enforce"]; level != "restricted" {
		t.Fatalf("the namespace is held to Pod Security %q, not restricted", level)
	}
	deployments, err := c.client.AppsV1().Deployments("heddle-system").List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if len(deployments.Items) != 2 {
		t.Fatalf("%d Deployments, not 2", len(deployments.Items))
	}
	for _, d := range deployments.Items {
		if err := c.start(t, podOf(d)); err != nil {
			t.Errorf("a pod of Deployment %s is refused: %v", d.Name, err)
		}
		loose := podOf(d)
		loose.Spec.Containers[0].SecurityContext.Capabilities = nil
		if err := c.start(t, loose); !apierrors.IsForbidden(err) {
			t.Errorf("a pod that keeps its capabilities is not refused in the namespace: %v", err)
		}
	}
}

func podOf(d appsv1.Deployment) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			GenerateName: d.Name + "-", Namespace: d.Namespace, Labels: d.Spec.Template.Labels, Annotations: d.Spec.Template.Annotations,
		},
		Spec: *d.Spec.Template.Spec.DeepCopy(),
	}
}

// start makes a pod, which is taken away again.
func (c cluster) start(t *testing.T, pod *corev1.Pod) error {
	t.Helper()
	pods := c.client.CoreV1().Pods(pod.Namespace)
	made, err := pods.Create(t.Context(), pod, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	t.Cleanup(func() {
		err := pods.Delete(context.WithoutCancel(t.Context()), made.Name, metav1.DeleteOptions{GracePeriodSeconds: new(int64)})
		if err != nil {
			t.Error(err)
		}
	})
	return nil
}

// app is a pod of somebody; annotation is what it says of injection, empty for nothing.
func app(namespace, annotation string) *corev1.Pod {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "app-", Namespace: namespace},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "app"}}},
	}
	if annotation != "" {
		pod.Annotations = map[string]string{"heddle.dev/inject": annotation}
	}
	return pod
}

// eventually waits for what the API server does some time after it was told: it watches its own admission configuration.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	wait.Until(t, time.Minute, what, holds)
}

func TestOnlyPodsThatAreToHaveASidecarWaitForTheControlPlane(t *testing.T) {
	c := installed(t, "injector: {timeoutSeconds: 1, excludedNamespaces: [excluded]}\n")
	meshed, plain := api.Namespace(t), api.Namespace(t)
	for name, text := range map[string]string{"excluded": "enabled", meshed: "enabled"} {
		o := &unstructured.Unstructured{}
		o.SetAPIVersion("v1")
		o.SetKind("Namespace")
		o.SetName(name)
		o.SetLabels(map[string]string{"heddle.dev/inject": text})
		if _, err := c.resource(t, o).Apply(t.Context(), name, o, metav1.ApplyOptions{FieldManager: "test", Force: true}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.client.CoreV1().ServiceAccounts("excluded").Create(t.Context(),
		&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the webhooks are in force", func() bool { return c.start(t, app(meshed, "")) != nil })
	for _, p := range []struct {
		namespace, annotation string
		starts                bool
	}{
		{meshed, "", false},
		{meshed, "disabled", true},
		{plain, "", true},
		{plain, "enabled", false},
		{"excluded", "", true},
		{"excluded", "enabled", true},
	} {
		if err := c.start(t, app(p.namespace, p.annotation)); (err == nil) != p.starts {
			t.Errorf("a pod in %s with annotation %q starts: %v, not %v; %v", p.namespace, p.annotation, err == nil, p.starts, err)
		}
	}
}

func TestRemovalLeavesNothingThatPodsWaitFor(t *testing.T) {
	c := installed(t, "server: {replicas: 3}\n")
	namespace := api.Namespace(t)
	eventually(t, "the webhooks are in force", func() bool { return c.start(t, app(namespace, "enabled")) != nil })
	text, err := deploy.Removal(deploy.RemovalOptions{})
	if err != nil {
		t.Fatal(err)
	}
	c.remove(t, text)
	eventually(t, "a pod starts after Heddle is gone", func() bool { return c.start(t, app(namespace, "enabled")) == nil })
	budgets, err := c.client.PolicyV1().PodDisruptionBudgets("heddle-system").List(t.Context(), metav1.ListOptions{})
	if err != nil || len(budgets.Items) > 0 {
		t.Errorf("PodDisruptionBudgets are left: %v %v", budgets, err)
	}
}
