package identity

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"strings"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// wantCode holds that err is a refusal with a code, and says something.
func wantCode(t testing.TB, err error, want Code) {
	t.Helper()
	if err == nil {
		t.Fatalf("accepted; want a refusal with code %s", want)
	}
	if CodeOf(err) != want {
		t.Errorf("code %q, want %q: %v", CodeOf(err), want, err)
	}
}

func domain(t testing.TB) spiffeid.TrustDomain {
	return must[spiffeid.TrustDomain](t)(ParseTrustDomain("cluster.local"))
}

func web(t testing.TB) spiffeid.ID {
	return must[spiffeid.ID](t)(ID(domain(t), "shop", "web"))
}

func root(t testing.TB) *Authority {
	return must[*Authority](t)(NewRoot(domain(t), time.Now(), 0))
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	return must[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
}

func request(t testing.TB) Request {
	return Request{ID: web(t), Key: newKey(t).Public(), Pod: "web-1", PodUID: "0f5b2b0e-8d1e-4c1a-9b3a-0a2f6d8c1e11"}
}

func csr(t testing.TB, template *x509.CertificateRequest, key crypto.Signer) []byte {
	return must[[]byte](t)(x509.CreateCertificateRequest(rand.Reader, template, key))
}

func contains(t testing.TB, err error, part string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), part) {
		t.Errorf("got %v, want an error that says %q", err, part)
	}
}

func otherDomain() (spiffeid.TrustDomain, error) { return ParseTrustDomain("elsewhere.example") }
