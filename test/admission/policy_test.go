package admission

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/heddle-mesh/heddle/kube"
	"github.com/heddle-mesh/heddle/test/certs"
)

const (
	good   = "kind: Traffic\nservice: catalog\ntimeout: 2s\n"
	broken = "kind: Traffic\nservice: catalog\ntimeuot: 3s\n"
)

// judged is a control plane that the API server asks about policies.
func judged(t testing.TB, client kubernetes.Interface, change ...func(*admissionregistrationv1.ValidatingWebhook)) (*replica, *hooks) {
	t.Helper()
	grant(t, client, rights(t)...)
	home(t, client)
	ca := certs.New(t)
	r := run(t, "replica-1", api.Namespace(t))
	s := listen(t, ca, r.Handler())
	judging(t, client, s, ca.PEM(), change...)
	probe := api.Namespace(t)
	eventually(t, "the API server asks the webhook", func() bool {
		return put(t.Context(), client, probe, aPolicy("probe", broken), metav1.DryRunAll) != nil
	})
	return r, s
}

// knowsService waits until a control plane has heard of a Service.
func knowsService(t testing.TB, r *replica, namespace, name string) {
	t.Helper()
	c := aPolicy("probe", "kind: Traffic\nservice: "+name+"\n")
	c.Namespace = namespace
	eventually(t, "the Service is known", func() bool {
		problems, err := r.Try(t.Context(), kube.PolicyOf(c))
		return err == nil && len(problems["traffic.yaml"]) == 0
	})
}

func TestABrokenPolicyIsRefusedWithItsPlaceAndChangesNothing(t *testing.T) {
	client, told := clientOf(t, "")
	r, _ := judged(t, client)
	ns := api.Namespace(t)
	service(t, client, ns, "catalog")
	knowsService(t, r, ns, "catalog")
	const want = "\n  traffic.yaml:3:1: HDL1102: unknown field \"timeuot\"; did you mean timeout?"

	err := put(t.Context(), client, ns, aPolicy("catalog", broken))
	if !apierrors.IsBadRequest(err) || !strings.HasSuffix(err.Error(), "policy "+ns+"/catalog is refused, and nothing changes:"+want) {
		t.Errorf("a new one that is broken: %v", err)
	}
	if _, err := client.CoreV1().ConfigMaps(ns).Get(t.Context(), "catalog", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("it is there: %v", err)
	}
	if err := put(t.Context(), client, ns, aPolicy("catalog", good)); err != nil {
		t.Fatal(err)
	}
	if warned := told.take(); warned != "" {
		t.Errorf("the good one is warned of: %s", warned)
	}
	before := stored(t, client, ns, "catalog").Data
	if err := put(t.Context(), client, ns, aPolicy("catalog", broken)); err == nil || !strings.HasSuffix(err.Error(), want) {
		t.Errorf("a broken edit: %v", err)
	}
	if diff := cmp.Diff(before, stored(t, client, ns, "catalog").Data); diff != "" {
		t.Errorf("the broken edit changed (-before +after):\n%s", diff)
	}
}

func TestADryRunSaysTheSameAndChangesNothing(t *testing.T) {
	client, told := clientOf(t, "")
	judged(t, client)
	ns := api.Namespace(t)
	if err := put(t.Context(), client, ns, aPolicy("catalog", broken), metav1.DryRunAll); err == nil || !strings.Contains(err.Error(), "traffic.yaml:3:1: HDL1102") {
		t.Errorf("a broken one: %v", err)
	}
	if err := put(t.Context(), client, ns, aPolicy("catalog", good), metav1.DryRunAll); err != nil {
		t.Errorf("a good one: %v", err)
	}
	if warned := told.take(); !strings.Contains(warned, "traffic.yaml:2:10: HDL1611") {
		t.Errorf("the good one, whose Service is missing, is warned of by %q", warned)
	}
	if _, err := client.CoreV1().ConfigMaps(ns).Get(t.Context(), "catalog", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("it is there: %v", err)
	}
}

func TestWhatAPolicyMeetsInTheClusterIsWarnedOf(t *testing.T) {
	client, told := clientOf(t, "")
	r, _ := judged(t, client)
	ns, other := api.Namespace(t), api.Namespace(t)
	service(t, client, ns, "catalog")
	service(t, client, other, "pay")
	knowsService(t, r, ns, "catalog")
	knowsService(t, r, other, "pay")
	if err := put(t.Context(), client, ns, aPolicy("older", good)); err != nil {
		t.Fatal(err)
	}
	told.take()
	for what, c := range map[string]struct{ text, warning string }{
		"an unknown Service": {"kind: Traffic\nservice: catalgo\ntimeout: 2s\n", "traffic.yaml:2:10: HDL1611: service: "},
		"an unknown target":  {"kind: Traffic\nservice: catalog\nroutes:\n- {name: a, to: [{service: nobody}]}\n", "traffic.yaml:4:28: HDL1611: routes[0].to[0].service: "},
		"another's target without that port": {"kind: Traffic\nservice: catalog\nroutes:\n- {name: a, to: [{service: " + other + "/pay, port: 81}]}\n",
			"HDL1612: routes[0].to[0]: Service " + other + "/pay has no port 81"},
		"a subset without pods": {"kind: Traffic\nservice: catalog\nroutes:\n- {name: a, to: [{service: catalog, subset: {v: x}}]}\n", "HDL1613: routes"},
		"some weights":          {"kind: Traffic\nservice: catalog\nroutes:\n- {name: a, to: [{service: catalog, weight: 1}, {service: catalog}]}\n", "HDL1510: routes"},
		"a rule that never matches": {"kind: Traffic\nservice: catalog\nroutes:\n- {name: a, to: [{service: catalog}]}\n- {name: b, to: [{service: catalog}]}\n",
			"traffic.yaml:5:3: HDL1506: routes"},
		"another policy's field": {good, "HDL1601: timeout: "},
	} {
		t.Run(what, func(t *testing.T) {
			eventually(t, "the warning is told", func() bool { // the policy older may not have been heard of
				if err := put(t.Context(), client, ns, aPolicy("newer", c.text), metav1.DryRunAll); err != nil {
					t.Fatal(err)
				}
				return strings.Contains(told.take(), c.warning)
			})
		})
	}
}

func TestWhatIsNoPolicyNeverReachesTheWebhook(t *testing.T) {
	client, told := clientOf(t, "")
	_, s := judged(t, client)
	ns := api.Namespace(t)
	before := s.asked.Load()
	plain := aPolicy("plain", broken)
	plain.Labels = nil
	if err := put(t.Context(), client, ns, plain); err != nil || s.asked.Load() != before {
		t.Errorf("a ConfigMap without the label: %v, asked %d times", err, s.asked.Load()-before)
	}
	wrong := aPolicy("wrong", broken)
	wrong.Labels["heddle.dev/policy"] = "yes"
	if err := put(t.Context(), client, ns, wrong); err != nil || !strings.Contains(told.take(), `HDL1511: the label heddle.dev/policy is "yes"`) {
		t.Errorf("a ConfigMap with another label: %v", err)
	}
	if err := put(t.Context(), client, ns, aPolicy("plain", broken)); err == nil {
		t.Error("a broken ConfigMap gets the label")
	}
	if err := put(t.Context(), client, ns, aPolicy("catalog", good)); err != nil {
		t.Fatal(err)
	}
	told.take()
	lost := aPolicy("catalog", good)
	lost.Labels = nil
	if err := put(t.Context(), client, ns, lost); err != nil || !strings.Contains(told.take(), "HDL1511: the ConfigMap loses the label") {
		t.Errorf("a policy that loses its label: %v", err)
	}
}

func TestAPolicyThatCannotBeMendedCanBeDeleted(t *testing.T) {
	client, _ := clientOf(t, "")
	ns := api.Namespace(t)
	c := aPolicy("catalog", broken)
	c.Immutable, c.Finalizers = new(true), []string{"example.com/hold"}
	if err := put(t.Context(), client, ns, c); err != nil {
		t.Fatal(err)
	}
	judged(t, client)
	maps := client.CoreV1().ConfigMaps(ns)
	patch := func(p string) error {
		_, err := maps.Patch(t.Context(), "catalog", "application/merge-patch+json", []byte(p), metav1.PatchOptions{})
		return err
	}
	if err := patch(`{"metadata":{"annotations":{"note":"x"}}}`); err != nil {
		t.Errorf("a note on it: %v", err)
	}
	eventually(t, "it has a status", func() bool {
		return stored(t, client, ns, "catalog").Annotations["status.heddle.dev/accepted"] == "false"
	})
	err := errors.Join(maps.Delete(t.Context(), "catalog", metav1.DeleteOptions{}), patch(`{"metadata":{"finalizers":null}}`))
	if err != nil {
		t.Errorf("deleting it: %v", err)
	}
	if _, err := maps.Get(t.Context(), "catalog", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("it is there: %v", err)
	}
}

func TestWithTheWebhookDownABrokenPolicyIsTakenAndItsStatusSaysSo(t *testing.T) {
	client, _ := clientOf(t, "")
	_, s := judged(t, client)
	ns := api.Namespace(t)
	if err := put(t.Context(), client, ns, aPolicy("catalog", good)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the good version has its status", func() bool {
		return stored(t, client, ns, "catalog").Annotations["status.heddle.dev/accepted"] == "true"
	})
	s.stop()
	if err := put(t.Context(), client, ns, aPolicy("catalog", broken)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the status tells", func() bool {
		c := stored(t, client, ns, "catalog")
		message := c.Annotations["status.heddle.dev/message"]
		return c.Annotations["status.heddle.dev/accepted"] == "false" && strings.Contains(message, "its last good version") &&
			strings.Contains(message, "traffic.yaml:3:1: HDL1102")
	})
}

func TestWithFailurePolicyFailNoPolicyIsTakenWhileTheWebhookIsDown(t *testing.T) {
	client, _ := clientOf(t, "")
	fail := admissionregistrationv1.Fail
	_, s := judged(t, client, func(w *admissionregistrationv1.ValidatingWebhook) { w.FailurePolicy = &fail })
	ns := api.Namespace(t)
	s.stop()
	if err := put(t.Context(), client, ns, aPolicy("catalog", good)); err == nil || !strings.Contains(err.Error(), `failed calling webhook "policy.heddle.dev"`) {
		t.Errorf("a policy: %v", err)
	}
	plain := aPolicy("plain", broken)
	plain.Labels = nil
	if err := put(t.Context(), client, ns, plain); err != nil {
		t.Errorf("any other ConfigMap: %v", err)
	}
}
