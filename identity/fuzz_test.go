package identity

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"net/url"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

func FuzzCheckCSR(f *testing.F) {
	own := web(f)
	key := newKey(f)
	f.Add(csr(f, &x509.CertificateRequest{}, key))
	f.Add(csr(f, &x509.CertificateRequest{URIs: []*url.URL{own.URL()}}, key))
	f.Add(csr(f, &x509.CertificateRequest{URIs: []*url.URL{own.URL(), own.URL()}, DNSNames: []string{"a"}}, key))
	f.Add(csr(f, &x509.CertificateRequest{ExtraExtensions: []pkix.Extension{sanExtension(f, uriName("SPIFFE://a"))}}, key))
	f.Fuzz(func(t *testing.T, der []byte) {
		got, err := CheckCSR(der, own)
		if err != nil {
			if CodeOf(err) == "" {
				t.Errorf("a refusal without a code: %v", err)
			}
			return
		}
		// What is accepted says nothing else, as another reader sees it.
		again := must[*x509.CertificateRequest](t)(x509.ParseCertificateRequest(der))
		if key, ok := again.PublicKey.(*ecdsa.PublicKey); !ok || !key.Equal(got) || key.Curve.Params().BitSize != 256 {
			t.Errorf("key %v", again.PublicKey)
		}
		if len(again.DNSNames)+len(again.EmailAddresses)+len(again.IPAddresses) > 0 || len(again.URIs) > 1 ||
			len(again.URIs) == 1 && again.URIs[0].String() != own.String() {
			t.Errorf("names %v %v %v %v", again.DNSNames, again.EmailAddresses, again.IPAddresses, again.URIs)
		}
	})
}

func FuzzSplit(f *testing.F) {
	f.Add(web(f).String())
	for _, s := range notOurs() {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		id, err := spiffeid.FromString(text)
		if err != nil {
			return
		}
		namespace, account, err := Split(id)
		if err != nil {
			wantCode(t, err, CodeIDShape)
			return
		}
		if again := must[spiffeid.ID](t)(ID(id.TrustDomain(), namespace, account)); again != id || again.String() != text {
			t.Errorf("%q became %s", text, again)
		}
	})
}

func FuzzPodOf(f *testing.F) {
	f.Add([]byte{}, true)
	f.Add(must[pkix.Extension](f)(podExtension("web-1", "u-1")).Value, true)
	f.Add(must[pkix.Extension](f)(podExtension("web-1", "")).Value, false)
	f.Fuzz(func(t *testing.T, value []byte, ours bool) {
		e := pkix.Extension{Id: oidPod(), Value: value}
		if !ours {
			e.Id = oidSAN()
		}
		pod, uid, err := PodOf(&x509.Certificate{Extensions: []pkix.Extension{e}})
		if err != nil {
			wantCode(t, err, CodePodMissing)
			return
		}
		if again := must[pkix.Extension](t)(podExtension(pod, uid)); !ours || !bytes.Equal(again.Value, value) {
			t.Errorf("%x was read as %q and %q, which is %x", value, pod, uid, again.Value)
		}
	})
}

// FuzzNames compares our reader of alternative names with Go's: what Go takes for URIs, we find among ours.
func FuzzNames(f *testing.F) {
	f.Add(sanExtension(f, uriName(web(f).String())).Value)
	f.Add(sanExtension(f, uriName("a"), uriName("b"), generalName{2, []byte("c")}).Value)
	f.Fuzz(func(t *testing.T, value []byte) {
		all, err := names([]pkix.Extension{{Id: oidSAN(), Value: value}})
		if err != nil {
			return
		}
		id, err := uri(all)
		if err == nil && !bytes.Contains(value, []byte(id.String())) {
			t.Errorf("%s is not in %q", id, value)
		}
	})
}

func FuzzParseBundle(f *testing.F) {
	f.Add(must[[]byte](f)(MarshalBundle(root(f).Bundle())))
	f.Add([]byte(`{"keys":[],"spiffe_sequence":1}`))
	f.Add([]byte(`{"keys":[{"use":"jwt-svid","kid":"a","kty":"oct","k":"AA"}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		bundle, err := ParseBundle(domain(t), data)
		if err != nil {
			wantCode(t, err, CodeBundle)
			return
		}
		again, err := ParseBundle(domain(t), must[[]byte](t)(MarshalBundle(bundle)))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(Fingerprint(bundle), Fingerprint(again)); diff != "" {
			t.Error(diff)
		}
		if len(AnchorsPEM(bundle)) == 0 {
			t.Error("a bundle without anchors")
		}
	})
}

func FuzzLoadAuthority(f *testing.F) {
	m, _ := newGiven(f, nil)
	f.Add(m.Certificates, m.Key, m.Anchors, m.JWTKey)
	own := must[Material](f)(root(f).Material())
	f.Add(own.Certificates, own.Key, own.Anchors, own.JWTKey)
	f.Add([]byte("-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n"), []byte{}, []byte{}, []byte{})
	f.Fuzz(func(t *testing.T, certificates, key, anchors, jwtKey []byte) {
		a, err := LoadAuthority(domain(t), Material{Certificates: certificates, Key: key, Anchors: anchors, JWTKey: jwtKey}, time.Now())
		if err != nil {
			wantCode(t, err, CodeAuthority)
			return
		}
		// What loads, signs what verifies.
		chain := must[[]*x509.Certificate](t)(a.Issue(t.Context(), request(t)))
		must[spiffeid.ID](t)(VerifyLeaf(chain, a.Bundle(), time.Now()))
	})
}
