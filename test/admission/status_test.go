package admission

import (
	"context"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/heddle-mesh/heddle/mesh"
	"github.com/heddle-mesh/heddle/model"
	"github.com/heddle-mesh/heddle/policy"
	"github.com/heddle-mesh/heddle/writeback"
)

func accepted(c *corev1.ConfigMap) string { return c.Annotations[writeback.AcceptedKey] }

// events are those about a ConfigMap, by reason.
func events(t testing.TB, client kubernetes.Interface, namespace, name string) map[string]string {
	t.Helper()
	list, err := client.CoreV1().Events(namespace).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for _, e := range list.Items {
		if e.InvolvedObject.Kind == "ConfigMap" && e.InvolvedObject.Name == name {
			found[e.Reason] = e.Type + ": " + e.Message
		}
	}
	return found
}

func TestAPolicyIsToldWhatBecameOfIt(t *testing.T) {
	client := api.Client(t)
	home(t, client)
	grant(t, client, rights(t)...)
	held(t, client)
	run(t, "replica-1", api.Namespace(t))
	ns := api.Namespace(t)
	if err := put(t.Context(), client, ns, aPolicy("catalog", good)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the good version has its status", func() bool { return accepted(stored(t, client, ns, "catalog")) == "true" })
	first := stored(t, client, ns, "catalog")
	if m := first.Annotations[writeback.MessageKey]; !strings.Contains(m, "HDL1611: warning") {
		t.Errorf("the message is %q, which does not tell that the Service is missing", m)
	}
	service(t, client, ns, "catalog")
	eventually(t, "the Service is there", func() bool {
		return stored(t, client, ns, "catalog").Annotations[writeback.MessageKey] == "in force"
	})
	if err := put(t.Context(), client, ns, aPolicy("catalog", broken)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the broken version has its status", func() bool { return accepted(stored(t, client, ns, "catalog")) == "false" })
	second := stored(t, client, ns, "catalog")
	if first.Annotations[writeback.HashKey] == second.Annotations[writeback.HashKey] {
		t.Errorf("both versions have the hash %s", first.Annotations[writeback.HashKey])
	}
	managed := false
	for _, m := range second.ManagedFields {
		managed = managed || m.Manager == writeback.Manager && m.Operation == metav1.ManagedFieldsOperationApply
	}
	if !managed {
		t.Errorf("the managed fields are %v", second.ManagedFields)
	}
	eventually(t, "Events tell", func() bool {
		e := events(t, client, ns, "catalog")
		return strings.HasPrefix(e["PolicyAccepted"], "Normal: ") && strings.HasPrefix(e["PolicyRefused"], "Warning: traffic.yaml is refused: its last good version")
	})

	empty := aPolicy("empty", "")
	empty.Data = nil
	if err := put(t.Context(), client, ns, empty); err != nil {
		t.Fatal(err)
	}
	eventually(t, "an empty one is told so", func() bool {
		return strings.Contains(stored(t, client, ns, "empty").Annotations[writeback.MessageKey], "HDL1010")
	})
}

func TestWhenTheLeaderIsGoneAnotherReplicaWritesStatus(t *testing.T) {
	for how, end := range map[string]func(*replica){
		"it ends":       func(r *replica) { r.stop() },
		"it is cut off": func(r *replica) { r.away.Store(true) },
	} {
		t.Run(how, func(t *testing.T) {
			client := api.Client(t)
			home(t, client)
			grant(t, client, rights(t)...)
			leases, ns := api.Namespace(t), api.Namespace(t)
			a, b := run(t, "replica-a", leases), run(t, "replica-b", leases)
			eventually(t, "one leads", func() bool { return a.elector.Holds() != b.elector.Holds() })
			first, second := a, b
			if b.elector.Holds() {
				first, second = b, a
			}
			if err := put(t.Context(), client, ns, aPolicy("catalog", broken)); err != nil {
				t.Fatal(err)
			}
			eventually(t, "it has a status", func() bool { return accepted(stored(t, client, ns, "catalog")) == "false" })
			before := stored(t, client, ns, "catalog").ResourceVersion
			end(first)
			eventually(t, "the other leads", second.elector.Holds)
			if first.elector.Holds() {
				t.Error("both lead")
			}
			if err := put(t.Context(), client, ns, aPolicy("other", good)); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the other writes", func() bool { return accepted(stored(t, client, ns, "other")) == "true" })
			if now := stored(t, client, ns, "catalog").ResourceVersion; now != before {
				t.Errorf("what was right already is written again: version %s became %s", before, now)
			}
		})
	}
}

// counted gives a client that counts what it writes into ConfigMaps.
func counted(t testing.TB) (kubernetes.Interface, *atomic.Int64) {
	t.Helper()
	n, config := &atomic.Int64{}, api.Config(t)
	config.Wrap(func(next http.RoundTripper) http.RoundTripper {
		return roundTrip(func(r *http.Request) (*http.Response, error) {
			if r.Method != http.MethodGet && strings.Contains(r.URL.Path, "/configmaps/") {
				n.Add(1)
			}
			return next.RoundTrip(r)
		})
	})
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return client, n
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// writing runs a status writer by itself.
func writing(t testing.TB, w *writeback.Writer) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); w.Run(ctx) }()
	stop = func() { cancel(); <-done }
	t.Cleanup(stop)
	return stop
}

func TestStatusIsWrittenOnceAndOnlyWhenTheMeshIsKnown(t *testing.T) {
	client := api.Client(t)
	own, writes := counted(t)
	ns := api.Namespace(t)
	w := writeback.New(writeback.Options{Client: own, Again: time.Second, Log: zerolog.Nop()})
	for _, name := range []string{"a", "b"} {
		if err := put(t.Context(), client, ns, aPolicy(name, good)); err != nil {
			t.Fatal(err)
		}
	}
	says := func(name, hash string, problems ...policy.Problem) mesh.PolicyStatus {
		return mesh.PolicyStatus{
			ConfigMap: model.Key{Namespace: ns, Name: name}, Item: "traffic.yaml", Hash: hash,
			Accepted: len(problems) == 0, Serving: "1", Problems: problems,
		}
	}
	stop := writing(t, w)
	w.Judged([]mesh.PolicyStatus{says("a", "0"), says("b", "0")}) // before all was listed, so perhaps wrong
	w.Judged([]mesh.PolicyStatus{says("a", "1"), says("b", "1")})
	if n := writes.Load(); n != 0 {
		t.Errorf("%d writes before the mesh is known", n)
	}
	w.Complete()
	eventually(t, "both are written", func() bool {
		return accepted(stored(t, client, ns, "a")) == "true" && accepted(stored(t, client, ns, "b")) == "true"
	})
	for range 5 {
		w.Judged([]mesh.PolicyStatus{says("a", "1")})
	}
	refused := policy.Problem{Code: policy.CodeRefused, Severity: policy.Error, Line: 1, Column: 1, Message: "proxies refused this version: odd"}
	w.Judged([]mesh.PolicyStatus{says("b", "2", refused)})
	eventually(t, "the refusal is written", func() bool { return accepted(stored(t, client, ns, "b")) == "false" })
	eventually(t, "an Event tells of the proxies", func() bool {
		return strings.Contains(events(t, client, ns, "b")["PolicyRefusedByProxies"], "odd")
	})
	if n := writes.Load(); n != 3 {
		t.Errorf("%d writes, want 3", n)
	}

	undone := `{"metadata":{"annotations":{"status.heddle.dev/accepted":"true"}}}`
	if _, err := client.CoreV1().ConfigMaps(ns).Patch(t.Context(), "b", "application/merge-patch+json", []byte(undone), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "what others wrote in its place is written over", func() bool { return accepted(stored(t, client, ns, "b")) == "false" })
	stop()
	n := writes.Load()
	w.Judged([]mesh.PolicyStatus{says("a", "3")})
	writing(t, w)
	eventually(t, "what was judged meanwhile is written when it runs again", func() bool { return writes.Load() == n+1 })
	w.Judged([]mesh.PolicyStatus{says("a", "4")})
	eventually(t, "and what is judged then", func() bool { return writes.Load() == n+2 })
}
