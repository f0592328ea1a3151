package live

import (
	"context"
	"crypto/tls"
	"net/http"
	"os"
	"path/filepath"

	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	authenticationv1 "k8s.io/api/authentication/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heddle-mesh/heddle/controlplane"
	"github.com/heddle-mesh/heddle/controlplane/operator"
	"github.com/heddle-mesh/heddle/identity"
	"github.com/heddle-mesh/heddle/identity/attest"
	"github.com/heddle-mesh/heddle/identity/client"
	"github.com/heddle-mesh/heddle/identity/keep"
	"github.com/heddle-mesh/heddle/injector/bootstrap"
	"github.com/heddle-mesh/heddle/sidecar"
	"github.com/heddle-mesh/heddle/test/certs"
)

// papers are what a pod's agent starts with.
type papers struct {
	agent  sidecar.Options
	server bootstrap.Server // the control plane as that pod's Envoy dials it
}

// mounted are the papers that a pod of the cluster finds in its volumes: a token of its own that the API server made,
// and the trust bundle from the ConfigMap in its namespace.
func (w *world) mounted(name string) papers {
	w.t.Helper()
	dir := w.directory()
	token := w.file(filepath.Join(dir, "token"), []byte(w.token(name)))
	return papers{
		sidecar.Options{
			ID: w.spiffeID(w.Namespace, w.account(name)), TokenFile: token, SDS: filepath.Join(dir, "sds.sock"),
			BundleFile: w.file(filepath.Join(dir, keep.BundleItem), w.mountedBundle()),
			Connect:    connect(w.signer(), w.spiffeID(w.System, controlplane.SignerAccount)),
		},
		bootstrap.Server{Address: w.sidecars(), ID: w.spiffeID(w.System, controlplane.ServerAccount).String()},
	}
}

// joined are the papers that an operator gets for a pod of manifests.
func (w *world) joined(socket string) func(name string) papers {
	control := operator.Client{Socket: socket}
	return func(name string) papers {
		w.t.Helper()
		var join operator.Join
		eventually(w.t, "the operator's socket lets "+name+" join", func() bool {
			// An error says that it is not there yet.
			return control.Call(w.t.Context(), http.MethodPost, operator.JoinPath, operator.Ask{Pod: w.Namespace + "/" + name}, &join) == nil
		})
		dir := w.directory()
		return papers{
			sidecar.Options{
				ID: spiffeid.RequireFromString(join.ID), Join: func(context.Context) (sidecar.Token, error) { return sidecar.NewToken(join.Token), nil }, SDS: filepath.Join(dir, "sds.sock"),
				BundleFile: w.file(filepath.Join(dir, keep.BundleItem), join.Bundle),
				Connect:    connect(join.Signer.Address, spiffeid.RequireFromString(join.Signer.ID)),
			},
			bootstrap.Server(join.ControlPlane),
		}
	}
}

func connect(address string, signer spiffeid.ID) func(sidecar.Trust) sidecar.Signer {
	return func(t sidecar.Trust) sidecar.Signer {
		return client.New(client.Options{Address: address, Signer: signer, Bundle: t.Bundle, Certificate: t.Certificate})
	}
}

func (w *world) file(path string, content []byte) string {
	w.t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		w.t.Fatal(err)
	}
	return path
}

func (w *world) spiffeID(namespace, account string) spiffeid.ID {
	w.t.Helper()
	id, err := identity.ID(trustDomain(), namespace, account)
	if err != nil {
		w.t.Fatal(err)
	}
	return id
}

// token asks the API server for what the kubelet projects into a pod.
func (w *world) token(pod string) string {
	w.t.Helper()
	p, err := w.client.CoreV1().Pods(w.Namespace).Get(w.t.Context(), pod, metav1.GetOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
	r := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
		Audiences:      []string{attest.DefaultAudience},
		BoundObjectRef: &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: p.Name, UID: p.UID},
	}}
	r, err = w.client.CoreV1().ServiceAccounts(w.Namespace).CreateToken(w.t.Context(), p.Spec.ServiceAccountName, r, metav1.CreateOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
	return r.Status.Token
}

// mountedBundle waits for the trust bundle, without which the kubelet would not start a pod.
func (w *world) mountedBundle() (text []byte) {
	w.t.Helper()
	eventually(w.t, "the namespace has the trust bundle", func() bool {
		m, err := w.client.CoreV1().ConfigMaps(w.Namespace).Get(w.t.Context(), keep.TrustConfigMap, metav1.GetOptions{})
		if err != nil && !apierrors.IsNotFound(err) {
			w.t.Fatal(err)
		}
		text = []byte(m.Data[keep.BundleItem])
		return len(text) > 0
	})
	return text
}

// learnKeys lets the scan know the CA's keys, unless it is one of manifests.
func (w *world) learnKeys() {
	w.t.Helper()
	if w.client == nil {
		return
	}
	ca, err := w.client.CoreV1().Secrets(w.System).Get(w.t.Context(), keep.CASecret, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return
	}
	if err != nil {
		w.t.Fatal(err)
	}
	keys := 0
	for _, text := range ca.Data {
		keys += w.scan.KnowKeys(text)
	}
	if keys < 2 { // one for certificates and one for tokens
		w.t.Errorf("the Secret of the CA holds %d keys", keys)
	}
}

// proof is a sidecar's side of mutual TLS with the control plane, with a certificate that the pod asks for as its agent
// does.
func (w *world) proof(pod string) *tls.Config {
	w.t.Helper()
	own, bundle := w.identify(pod)
	return tlsconfig.MTLSClientConfig(own, bundle, tlsconfig.AuthorizeID(w.spiffeID(w.System, controlplane.ServerAccount)))
}

// identify gets a certificate with a token of a pod, and what the pod trusts.
func (w *world) identify(pod string) (own *x509svid.SVID, bundle *spiffebundle.Bundle) {
	w.t.Helper()
	bundle = w.parse(w.mountedBundle())
	eventually(w.t, "the signer gives "+pod+" a certificate", func() bool {
		var err error
		own, err = w.certificate(pod, bundle)
		return err == nil
	})
	return own, bundle
}

func (w *world) parse(bundle []byte) *spiffebundle.Bundle {
	w.t.Helper()
	b, err := spiffebundle.Parse(trustDomain(), bundle)
	if err != nil {
		w.t.Fatal(err)
	}
	return b
}

// certificate asks the signer once, with a new token of a pod, trusting a bundle.
func (w *world) certificate(pod string, bundle *spiffebundle.Bundle) (*x509svid.SVID, error) {
	w.t.Helper()
	key, csr := certs.Request(w.t)
	signer := connect(w.signer(), w.spiffeID(w.System, controlplane.SignerAccount))(only{bundle})
	got, err := signer.SVID(w.t.Context(), w.token(pod), csr)
	return &x509svid.SVID{ID: w.spiffeID(w.Namespace, w.account(pod)), Certificates: got.Chain, PrivateKey: key}, err
}

// only is what one trusts who has no certificate.
type only struct{ bundle *spiffebundle.Bundle }

func (o only) Bundle() (*spiffebundle.Bundle, error) { return o.bundle, nil }
func (only) Certificate() *tls.Certificate           { return nil }
