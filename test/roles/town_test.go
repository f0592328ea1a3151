package roles

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/heddle-mesh/heddle/controlplane"
	"github.com/heddle-mesh/heddle/controlplane/operator"
	"github.com/heddle-mesh/heddle/identity"
	"github.com/heddle-mesh/heddle/identity/client"
	"github.com/heddle-mesh/heddle/identity/hold"
	"github.com/heddle-mesh/heddle/identity/service"
	"github.com/heddle-mesh/heddle/kube"
	"github.com/heddle-mesh/heddle/model"
	"github.com/heddle-mesh/heddle/test/certs"
	kubetest "github.com/heddle-mesh/heddle/test/kubernetes"
	"github.com/heddle-mesh/heddle/test/loopback"
	"github.com/heddle-mesh/heddle/test/secrets"
	"github.com/heddle-mesh/heddle/test/wait"
	"github.com/heddle-mesh/heddle/xds"
)

var api = kubetest.New()

func TestMain(m *testing.M) {
	if text := os.Getenv(childVariable); text != "" {
		if err := child(text); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(api.Main(m))
}

// patience is ample: a test that succeeds waits for seconds.
const patience = 3 * time.Minute

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	wait.Until(t, patience, what, ok)
}

// town is a cluster with a control plane of two accounts. Tests share the API server, so there is one at a time.
type town struct {
	t         *testing.T
	client    kubernetes.Interface // an administrator's
	system    string               // the control plane's namespace
	network   netip.Prefix
	dir       string
	scan      *secrets.Scan
	signer    *rest.Config
	server    *rest.Config
	serverPod *corev1.Pod
}

func newTown(t *testing.T) *town {
	t.Helper()
	dir, err := os.MkdirTemp("", "roles-") // its sockets need a short path
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	w := &town{t: t, client: api.Client(t), system: api.Namespace(t), network: loopback.Reserve(t), dir: dir, scan: secrets.New(t)}
	w.signer = w.account(controlplane.SignerAccount, Signer())
	w.server = w.account(controlplane.ServerAccount, Server())
	w.serverPod = w.pod(w.system, "heddle-1", controlplane.ServerAccount, nil)
	w.configureWebhooks()
	w.mount()
	return w
}

func (w *town) address(port uint16) string {
	return netip.AddrPortFrom(w.network.Addr().Next(), port).String()
}

func (w *town) id(namespace, account string) spiffeid.ID {
	w.t.Helper()
	id, err := identity.ID(trustDomain(), namespace, account)
	if err != nil {
		w.t.Fatal(err)
	}
	return id
}

func trustDomain() spiffeid.TrustDomain {
	return spiffeid.RequireTrustDomainFromString(controlplane.DefaultTrustDomain)
}

// brief has everything end soon, so that a rotation does too. A life of zero is the default one.
type brief struct{ leaf, token, skew time.Duration }

// serveSigner runs a signer in this process.
func (w *town) serveSigner(b brief) (stop func()) {
	w.t.Helper()
	c := clientOf(w.t, w.signer)
	return wait.Background(w.t, "signer", controlplane.SignerRole{
		Signer: controlplane.SignerOptions{
			TrustDomain: trustDomain(), Namespace: w.system, Lifetime: b.leaf, TokenLife: b.token, Skew: b.skew, Log: w.scan.Log("signer"),
		},
		Cluster: controlplane.ClusterOptions{Client: c, Identity: "signer-1"},
		Address: w.address(15012), Operator: filepath.Join(w.dir, "signer.sock"), Listen: w.address(15013),
	}.Run)
}

// serveServer runs a server in this process.
func (w *town) serveServer(name string, port uint16, p *corev1.Pod, change ...func(*controlplane.ServerOptions)) (stop func()) {
	w.t.Helper()
	cluster, err := kube.NewCluster(kube.ClusterOptions{Config: w.server, Log: w.scan.Log(name)})
	if err != nil {
		w.t.Fatal(err)
	}
	o := controlplane.ServerOptions{
		Plane: controlplane.Options{
			Source: cluster, LastGood: cluster.Revisions(), Listen: w.address(port + 4), Namespace: w.system, TrustDomain: trustDomain(),
			Status: cluster.Status, Log: w.scan.Log(name),
		},
		Client: clientOf(w.t, w.server), Identity: name, Sidecars: w.address(port), Signer: w.address(15012),
		TokenFile: w.token(p), BundleFile: w.bundleFile(), Webhooks: w.address(port + 7),
	}
	for _, c := range change {
		c(&o)
	}
	s, err := controlplane.NewServer(o)
	if err != nil {
		w.t.Fatal(err)
	}
	echo := http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { fmt.Fprint(rw, name) })
	return wait.Background(w.t, name, func(ctx context.Context) error { return s.Run(ctx, controlplane.Additions{Webhooks: echo}) })
}

func clientOf(t testing.TB, config *rest.Config) kubernetes.Interface {
	t.Helper()
	c, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// ready asks a process whether it is, and what it says.
func (w *town) ready(port uint16) (int, string) {
	r, err := http.Get("http://" + w.address(port) + "/readyz")
	if err != nil {
		return 0, err.Error()
	}
	defer r.Body.Close()
	var text bytes.Buffer
	_, err = text.ReadFrom(r.Body)
	return r.StatusCode, text.String() + fmt.Sprint(err)
}

func (w *town) waitReady(port uint16) {
	w.t.Helper()
	last := ""
	defer func() {
		if w.t.Failed() {
			w.t.Log(last)
		}
	}()
	eventually(w.t, "it is ready", func() (ok bool) {
		var code int
		code, last = w.ready(port)
		return code == http.StatusOK
	})
}

// agent holds the identity of a pod with a sidecar, as that sidecar does.
func (w *town) agent(p *corev1.Pod) *hold.Holder {
	w.t.Helper()
	h, err := hold.New(hold.Options{
		ID: w.id(p.Namespace, p.Spec.ServiceAccountName), BundleFile: w.bundleFile(), TokenFile: w.token(p), Log: w.scan.Log(p.Name),
		Connect: func(t hold.Trust) hold.Signer {
			return client.New(client.Options{
				Address: w.address(15012), Signer: w.id(w.system, controlplane.SignerAccount), Bundle: t.Bundle, Certificate: t.Certificate,
			})
		},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	wait.Background(w.t, "agent of "+p.Name, h.Run)
	return h
}

// sidecarPod makes a pod with a sidecar.
func (w *town) sidecarPod() *corev1.Pod {
	w.t.Helper()
	namespace := api.Namespace(w.t)
	return w.pod(namespace, "web-"+strings.ToLower(rand.Text()[:5]), "default", map[string]string{model.SidecarLabel: "true"})
}

// configure asks a server for the clusters of a pod's sidecar, once.
func (w *town) configure(port uint16, h *hold.Holder, p *corev1.Pod) (*discoveryv3.DeltaDiscoveryResponse, error) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	if !h.Wait(ctx) {
		return nil, fmt.Errorf("no identity: %v", h.Faults())
	}
	conn, err := grpc.NewClient("passthrough:///"+w.address(port), grpc.WithTransportCredentials(credentials.NewTLS(h.TLS(w.id(w.system, controlplane.ServerAccount)))))
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx)
	if err != nil {
		return nil, err
	}
	if err := stream.Send(&discoveryv3.DeltaDiscoveryRequest{Node: &corev3.Node{Id: p.Namespace + "/" + p.Name}, TypeUrl: xds.Cluster.URL()}); err != nil {
		return nil, err
	}
	return stream.Recv()
}

// call asks a webhook as the API server does: by its name, trusting what the configuration says now.
func (w *town) call(port uint16, anchors []byte) (string, error) {
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(anchors) {
		return "", errors.New("nobody is trusted")
	}
	c := http.Client{Timeout: patience, Transport: &http.Transport{
		DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: controlplane.ServingNames(w.system)[0]},
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "tcp", w.address(port))
		},
	}}
	r, err := c.Post("https://webhook/inject", "application/json", strings.NewReader("{}"))
	if err != nil {
		return "", err
	}
	defer r.Body.Close()
	var text bytes.Buffer
	_, err = text.ReadFrom(r.Body)
	return text.String(), err
}

// facts asks the signer's operator socket.
func (w *town) facts() (service.Facts, progress) {
	w.t.Helper()
	var f service.Facts
	p := progress{}
	f.Rotation = &p
	eventually(w.t, "the signer tells the facts", func() bool {
		return operator.Client{Socket: filepath.Join(w.dir, "signer.sock")}.Call(w.t.Context(), http.MethodGet, operator.IdentityPath, nil, &f) == nil
	})
	return f, p
}

type progress struct {
	Phase   identity.Phase
	Signer  string
	Waits   []string
	Trusted []string
}

// serving asks the signer for a certificate with DNS names, as a pod.
func (w *town) serving(p *corev1.Pod, names []string) (*x509.Certificate, error) {
	w.t.Helper()
	_, csr := certs.Request(w.t)
	token, err := os.ReadFile(w.token(p))
	if err != nil {
		w.t.Fatal(err)
	}
	var got client.SVID
	eventually(w.t, "the signer knows "+p.Name, func() bool {
		got, err = client.New(client.Options{
			Address: w.address(15012), Signer: w.id(w.system, controlplane.SignerAccount), Bundle: w.bundle,
		}).Serving(w.t.Context(), string(token), csr, names)
		return !client.Retryable(err)
	})
	if err != nil {
		return nil, err
	}
	return got.Chain[0], nil
}

func (w *town) bundle() (*spiffebundle.Bundle, error) {
	text, err := os.ReadFile(w.bundleFile())
	if err != nil {
		return nil, err
	}
	return identity.ParseBundle(trustDomain(), text)
}
