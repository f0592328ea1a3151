package controlplane

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/heddle-mesh/heddle/identity"
	"github.com/heddle-mesh/heddle/identity/client"
	"github.com/heddle-mesh/heddle/model"
	"github.com/heddle-mesh/heddle/test/certs"
	"github.com/heddle-mesh/heddle/test/upstream"
)

func TestUnderAnUpstreamSidecarsAreCertifiedAndRenewedAndTrustItsRoot(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	up, pod := upstream.New(t, time.Hour), benchPod(0, 0)
	s, err := NewFilesSigner(SignerOptions{
		TrustDomain: spiffeid.RequireTrustDomainFromString("cluster.local"), Listener: l, Upstream: up, Log: zerolog.Nop(),
	}, filepath.Join(t.TempDir(), "ca"), func(context.Context, model.Key) (*model.Pod, error) { return pod, nil })
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	wait(t, "there is a CA", func() bool { return s.Keeper().Ready() == nil })

	var own *tls.Certificate
	ask := client.New(client.Options{
		Address: s.Address(), Signer: s.ID(), Bundle: s.bundle, Certificate: func() *tls.Certificate { return own },
	})
	certify := func(token string) client.SVID {
		t.Helper()
		key, csr := certs.Request(t)
		got, err := ask.SVID(ctx, token, csr)
		if err != nil {
			t.Fatal(err)
		}
		own = identity.Pair(key, got.Chain)
		return got
	}
	token, err := s.Join(pod)
	if err != nil {
		t.Fatal(err)
	}
	first := certify(token)
	root, _ := up.Root()
	wantBelow(t, root, first)
	if name, uid, err := identity.PodOf(first.Chain[0]); err != nil || name != pod.Key.Name || uid != pod.UID {
		t.Errorf("the certificate is for pod %s with UID %q (%v), want %s with %q", name, uid, err, pod.Key.Name, pod.UID)
	}
	wantBelow(t, root, certify("")) // by the certificate that it has

	up.Replace()
	if err := s.Keeper().Rotate(ctx, nil); err != nil {
		t.Fatal(err)
	}
	next, signed := up.Root()
	both, err := ask.Bundle(ctx, identity.Fingerprint(first.Bundle), client.Uses{})
	if err != nil || both == nil || !both.HasX509Authority(root) || !both.HasX509Authority(next) || signed != 2 {
		t.Errorf("after %d CAs that were signed the bundle is %v, %v; want the old root and the next one in it", signed, both, err)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// wantBelow wants a certificate to lead to a root, by the standard library's word, and the bundle to be that root.
func wantBelow(t *testing.T, root *x509.Certificate, got client.SVID) {
	t.Helper()
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(root)
	for _, c := range got.Chain[1:] {
		between.AddCert(c)
	}
	if _, err := got.Chain[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
		t.Errorf("a certificate does not lead to the upstream's root: %v", err)
	}
	if all := got.Bundle.X509Authorities(); len(all) != 1 || !all[0].Equal(root) {
		t.Errorf("%d roots are trusted, want the upstream's alone", len(all))
	}
}
