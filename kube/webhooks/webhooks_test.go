package webhooks

import (
	"bytes"
	"context"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	kubetest "github.com/heddle-mesh/heddle/test/kubernetes"
	"github.com/heddle-mesh/heddle/test/wait"
)

var api = kubetest.New()

func TestMain(m *testing.M) { os.Exit(api.Main(m)) }

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	wait.Until(t, 2*time.Minute, what, ok)
}

// ca is what the API server is to trust.
type ca struct {
	mu      sync.Mutex
	pem     []byte
	changed chan struct{}
}

func (c *ca) get() ([]byte, <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.pem, c.changed
}

func (c *ca) set(pem []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pem = pem
	close(c.changed)
	c.changed = make(chan struct{})
}

// certificates are real ones: the API server looks.
func certificates(t *testing.T) (first, second []byte) {
	t.Helper()
	text, err := os.ReadFile(api.Config(t).CAFile)
	if err != nil {
		t.Fatal(err)
	}
	return text, append(bytes.Clone(text), text...)
}

func background(t *testing.T, f func(context.Context) error) {
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- f(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func run(t *testing.T, name string) (*Trust, *ca, kubernetes.Interface) {
	t.Helper()
	current := &ca{changed: make(chan struct{})}
	trust := New(Options{Client: api.Client(t), CA: current.get, Injector: name, Policy: name, Log: zerolog.New(zerolog.NewTestWriter(t))})
	if trust.Carries(nil) {
		t.Error("before anything was seen, it says what the API server trusts")
	}
	background(t, trust.Run)
	background(t, func(ctx context.Context) error { trust.Write(ctx); return nil })
	return trust, current, api.Client(t)
}

// mutatingConfiguration has an entry that asks us, one that has its caBundle already, and one that asks somebody else.
func mutatingConfiguration(name string, has []byte) *admissionv1.MutatingWebhookConfiguration {
	none, nobody := admissionv1.SideEffectClassNone, &metav1.LabelSelector{MatchLabels: map[string]string{"nobody": "here"}}
	url, ignore := "https://example.com/", admissionv1.Ignore
	entry := func(name string, to admissionv1.WebhookClientConfig) admissionv1.MutatingWebhook {
		return admissionv1.MutatingWebhook{Name: name, ClientConfig: to, ObjectSelector: nobody, SideEffects: &none, FailurePolicy: &ignore, AdmissionReviewVersions: []string{"v1"}}
	}
	ours := func(has []byte) admissionv1.WebhookClientConfig {
		return admissionv1.WebhookClientConfig{Service: &admissionv1.ServiceReference{Namespace: "heddle-system", Name: "heddle"}, CABundle: has}
	}
	return &admissionv1.MutatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: name}, Webhooks: []admissionv1.MutatingWebhook{
		entry("empty.heddle.dev", ours(nil)), entry("full.heddle.dev", ours(has)), entry("other.example.com", admissionv1.WebhookClientConfig{URL: &url}),
	}}
}

func bundles(t *testing.T, c kubernetes.Interface, name string) (version string, all map[string]string) {
	t.Helper()
	m, err := c.AdmissionregistrationV1().MutatingWebhookConfigurations().Get(t.Context(), name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	all = map[string]string{}
	for _, w := range m.Webhooks {
		all[w.Name] = string(w.ClientConfig.CABundle)
	}
	return m.ResourceVersion, all
}

func create(t *testing.T, c kubernetes.Interface, m *admissionv1.MutatingWebhookConfiguration) {
	t.Helper()
	if _, err := c.AdmissionregistrationV1().MutatingWebhookConfigurations().Create(t.Context(), m, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.AdmissionregistrationV1().MutatingWebhookConfigurations().Delete(context.Background(), m.Name, metav1.DeleteOptions{}); err != nil {
			t.Error(err)
		}
	})
}

func TestWhatTheAPIServerTrustsFollowsTheCAAndNobodyElsesEntryIsTouched(t *testing.T) {
	first, both := certificates(t)
	trust, current, c := run(t, "follows")
	create(t, c, mutatingConfiguration("follows", first))
	eventually(t, "what there is was seen", func() bool { return !trust.Carries(first) && len(seen(trust)) == 2 })
	current.set(first)
	eventually(t, "the API server is told", func() bool { return trust.Carries(first) })
	before, got := bundles(t, c, "follows")
	if got["empty.heddle.dev"] != string(first) || got["full.heddle.dev"] != string(first) || got["other.example.com"] != "" {
		t.Errorf("%q", got)
	}

	// Nothing is written that is there already.
	current.set(bytes.Clone(first))
	current.set(both)
	eventually(t, "the API server is told of both", func() bool { return trust.Carries(both) })
	after, _ := bundles(t, c, "follows")
	if before == after || trust.Carries(first) {
		t.Errorf("versions %s and %s", before, after)
	}
	current.set(bytes.Clone(both))
	current.set(bytes.Clone(both))

	// Whoever changes it is put right.
	m := mutatingConfiguration("follows", nil)
	m.ResourceVersion = after
	if _, err := c.AdmissionregistrationV1().MutatingWebhookConfigurations().Update(t.Context(), m, metav1.UpdateOptions{}); err != nil {
		t.Fatalf("something was written that was there already: %v", err)
	}
	eventually(t, "it is put right", func() bool {
		_, got := bundles(t, c, "follows")
		return got["empty.heddle.dev"] == string(both) && got["full.heddle.dev"] == string(both)
	})
}

func TestAConfigurationThatDoesNotExistHoldsNothingUpAndIsWrittenWhenItComes(t *testing.T) {
	first, _ := certificates(t)
	trust, current, c := run(t, "comes")
	current.set(first)
	eventually(t, "nothing is missing", func() bool { return trust.Carries(first) })
	create(t, c, mutatingConfiguration("comes", nil))
	eventually(t, "it is written", func() bool {
		_, got := bundles(t, c, "comes")
		return got["empty.heddle.dev"] == string(first)
	})
	eventually(t, "that is seen", func() bool { return trust.Carries(first) })
}

func seen(t *Trust) map[string][]byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.seen[mutating].bundles
}
