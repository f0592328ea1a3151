package admission

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"

	"github.com/heddle-mesh/heddle/deploy"
	"github.com/heddle-mesh/heddle/test/certs"
	kubetest "github.com/heddle-mesh/heddle/test/kubernetes"
	"github.com/heddle-mesh/heddle/test/wait"
)

// api is shared by all tests. Webhook configurations hold for all of it, so no two tests run at once.
var api = kubetest.New()

func TestMain(m *testing.M) { os.Exit(api.Main(m)) }

// patience is how long a test waits for what should take a moment. Only a test that fails waits as long.
const patience = time.Minute

// eventually waits for ok to hold, asking it again and again.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	wait.Until(t, patience, what, ok)
}

// hooks are webhooks on a listener of this process.
type hooks struct {
	address string
	asked   atomic.Int64 // requests so far
	current atomic.Pointer[tls.Certificate]
	server  *http.Server
	ended   chan error
}

// listen serves webhooks by TLS, with a certificate for localhost. Each answer ends its connection, so that whatever is
// trusted is asked for each time.
func listen(t testing.TB, ca *certs.CA, h http.Handler) *hooks {
	t.Helper()
	s := &hooks{ended: make(chan error, 1)}
	s.current.Store(ca.Named("localhost"))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.address = fmt.Sprintf("https://localhost:%d", l.Addr().(*net.TCPAddr).Port)
	s.server = &http.Server{
		TLSConfig: &tls.Config{
			MinVersion: tls.VersionTLS13, NextProtos: []string{"http/1.1"},
			GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return s.current.Load(), nil },
		},
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			s.asked.Add(1)
			w.Header().Set("Connection", "close")
			h.ServeHTTP(w, r)
		}),
	}
	go func() { s.ended <- s.server.ServeTLS(l, "", "") }()
	t.Cleanup(s.stop)
	return s
}

// stop ends the webhooks, as a control plane that is down.
func (s *hooks) stop() {
	_ = s.server.Close() // says what its connections said
	<-s.ended
	s.ended <- nil
}

// installed reads an object of the chart, as heddle install prints it: the only one of its kind with that name.
func installed(t testing.TB, kind, name string, into any) {
	t.Helper()
	text, err := deploy.Render(deploy.Release{})
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for part := range strings.SplitSeq(text, "\n---\n") {
		var o metav1.PartialObjectMetadata
		if err := yaml.Unmarshal([]byte(part), &o); err != nil {
			t.Fatal(err)
		}
		if o.Kind != kind || o.Name != name {
			continue
		}
		if err := yaml.UnmarshalStrict([]byte(part), into); err != nil {
			t.Fatalf("%s %s: %v", kind, name, err)
		}
		found++
	}
	if found != 1 {
		t.Fatalf("the chart has %d objects of kind %s with the name %s", found, kind, name)
	}
}

// at has the API server find a webhook by URL instead of by the Service.
func at(address string, c *admissionregistrationv1.WebhookClientConfig, bundle []byte) {
	url := address + *c.Service.Path
	c.URL, c.Service, c.CABundle = &url, nil, bundle
}

// injection installs the mutating webhooks.
func injection(t testing.TB, client kubernetes.Interface, s *hooks, bundle []byte, change ...func(*admissionregistrationv1.MutatingWebhook)) {
	t.Helper()
	c := &admissionregistrationv1.MutatingWebhookConfiguration{}
	installed(t, "MutatingWebhookConfiguration", "heddle-injector", c)
	for i := range c.Webhooks {
		at(s.address, &c.Webhooks[i].ClientConfig, bundle)
		for _, f := range change {
			f(&c.Webhooks[i])
		}
	}
	all := client.AdmissionregistrationV1().MutatingWebhookConfigurations()
	if _, err := all.Create(t.Context(), c, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := all.Delete(context.Background(), c.Name, metav1.DeleteOptions{}); err != nil {
			t.Error(err)
		}
	})
}

// judging installs the validating webhook.
func judging(t testing.TB, client kubernetes.Interface, s *hooks, bundle []byte, change ...func(*admissionregistrationv1.ValidatingWebhook)) {
	t.Helper()
	c := &admissionregistrationv1.ValidatingWebhookConfiguration{}
	installed(t, "ValidatingWebhookConfiguration", "heddle-policy", c)
	for i := range c.Webhooks {
		at(s.address, &c.Webhooks[i].ClientConfig, bundle)
		for _, f := range change {
			f(&c.Webhooks[i])
		}
	}
	all := client.AdmissionregistrationV1().ValidatingWebhookConfigurations()
	if _, err := all.Create(t.Context(), c, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := all.Delete(context.Background(), c.Name, metav1.DeleteOptions{}); err != nil {
			t.Error(err)
		}
	})
}

// home makes the control plane's namespace, once.
func home(t testing.TB, client kubernetes.Interface) string {
	t.Helper()
	const name = "heddle-system"
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
	_, err := client.CoreV1().Namespaces().Create(t.Context(), ns, metav1.CreateOptions{})
	switch {
	case err == nil:
		api.Account(t, name, "default")
	case !apierrors.IsAlreadyExists(err):
		t.Fatal(err)
	}
	return name
}

// labelled makes a namespace with the label that puts its pods into the mesh, or another value of it.
func labelled(t testing.TB, client kubernetes.Interface, value string) string {
	t.Helper()
	name := api.Namespace(t)
	relabel(t, client, name, value)
	return name
}

// relabel sets a namespace's label, and takes it away at the test's end.
func relabel(t testing.TB, client kubernetes.Interface, name, value string) {
	t.Helper()
	set := func(ctx context.Context, value string) error {
		patch := fmt.Sprintf(`{"metadata":{"labels":{"heddle.dev/inject":%s}}}`, value)
		_, err := client.CoreV1().Namespaces().Patch(ctx, name, "application/merge-patch+json", []byte(patch), metav1.PatchOptions{})
		return err
	}
	if err := set(t.Context(), `"`+value+`"`); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := set(context.Background(), "null"); err != nil {
			t.Error(err)
		}
	})
}

// warnings collects what the API server warns of.
type warnings struct {
	mu  sync.Mutex
	all []string
}

func (w *warnings) HandleWarningHeader(_ int, _ string, text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.all = append(w.all, text)
}

// take gives what was warned of since it was last asked.
func (w *warnings) take() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	text := strings.Join(w.all, "\n")
	w.all = nil
	return text
}

// clientOf gives a client that collects warnings, and may act as somebody else.
func clientOf(t testing.TB, as string) (kubernetes.Interface, *warnings) {
	t.Helper()
	w := &warnings{}
	config := api.Config(t)
	config.WarningHandler = w
	config.Impersonate = rest.ImpersonationConfig{UserName: as}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return client, w
}
