package identity

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"net/url"
	"syscall"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
)

func TestALeafHasWhatSPIFFEAndEnvoyAskForAndNoMore(t *testing.T) {
	ca, r := root(t), request(t)
	chain := must[[]*x509.Certificate](t)(ca.Issue(t.Context(), r))

	if len(chain) != 1 {
		t.Fatalf("%d certificates: the root must not be among them", len(chain))
	}
	leaf := chain[0]
	if id := must[spiffeid.ID](t)(VerifyLeaf(chain, ca.Bundle(), time.Now())); id != r.ID {
		t.Errorf("it is of %s", id)
	}
	got := must[Workload](t)(VerifyPod(chain, ca.Bundle(), time.Now()))
	if want := (Workload{Namespace: "shop", Account: "web", Pod: r.Pod, PodUID: r.PodUID}); got != want {
		t.Errorf("it is for %+v, want %+v", got, want)
	}
	if life := leaf.NotAfter.Sub(leaf.NotBefore); life < DefaultLifetime+BackDate || life > DefaultLifetime+BackDate+2*time.Second {
		t.Errorf("it is valid for %s", life)
	}
	if leaf.SerialNumber.BitLen() != serialBits {
		t.Errorf("its serial number has %d bits", leaf.SerialNumber.BitLen())
	}
	if len(leaf.URIs) != 1 || len(leaf.DNSNames) != 0 || leaf.KeyUsage != x509.KeyUsageDigitalSignature || leaf.IsCA {
		t.Errorf("URIs %v, DNS names %v, usage %b, CA %t", leaf.URIs, leaf.DNSNames, leaf.KeyUsage, leaf.IsCA)
	}
}

func TestALeafIsOneThatGoSPIFFEParsesStrictly(t *testing.T) {
	ca, key := root(t), newKey(t)
	chain := must[[]*x509.Certificate](t)(ca.Issue(t.Context(), Request{ID: web(t), Key: key.Public()}))
	der := must[[]byte](t)(x509.MarshalPKCS8PrivateKey(key))
	svid := must[*x509svid.SVID](t)(x509svid.ParseRaw(chain[0].Raw, der))
	if svid.ID != web(t) {
		t.Errorf("it is of %s", svid.ID)
	}
}

func TestServingCertificatesHaveDNSNamesAndNoPod(t *testing.T) {
	ca := root(t)
	r := Request{ID: web(t), Key: newKey(t).Public(), DNSNames: []string{"heddle.heddle-system.svc", "heddle"}}
	chain := must[[]*x509.Certificate](t)(ca.Issue(t.Context(), r))

	if err := chain[0].VerifyHostname("heddle.heddle-system.svc"); err != nil {
		t.Error(err)
	}
	if _, err := VerifyLeaf(chain, ca.Bundle(), time.Now()); err != nil {
		t.Error(err)
	}
	_, err := VerifyPod(chain, ca.Bundle(), time.Now())
	wantCode(t, err, CodePodMissing)
}

func TestALeafNeverOutlivesItsIssuer(t *testing.T) {
	ca := must[*Authority](t)(NewRoot(domain(t), time.Now(), time.Hour))
	chain := must[[]*x509.Certificate](t)(ca.Issue(t.Context(), request(t)))
	if !chain[0].NotAfter.Equal(ca.Certificate().NotAfter) || chain[0].NotBefore.Before(ca.Certificate().NotBefore) {
		t.Errorf("valid from %s to %s, its issuer from %s to %s", chain[0].NotBefore, chain[0].NotAfter,
			ca.Certificate().NotBefore, ca.Certificate().NotAfter)
	}

	_, err := ca.issue(request(t), ca.Certificate().NotAfter.Add(-59*time.Second))
	wantCode(t, err, CodeIssuerExpiring)
	_, err = ca.issue(request(t), ca.Certificate().NotAfter.Add(time.Hour))
	wantCode(t, err, CodeIssuerExpiring)
	if _, err := ca.issue(request(t), ca.Certificate().NotAfter.Add(-61*time.Second)); err != nil {
		t.Errorf("with a minute left: %v", err)
	}
}

func TestLeavesMayLiveForSeconds(t *testing.T) {
	ca, r := root(t), request(t)
	r.Lifetime = 10 * time.Second
	now := time.Now()
	chain := must[[]*x509.Certificate](t)(ca.issue(r, now))
	if left := chain[0].NotAfter.Sub(now); left < 10*time.Second || left > 11*time.Second {
		t.Errorf("it lives for %s", left)
	}
}

func TestARequestThatCannotBeIsRefused(t *testing.T) {
	ca := root(t)
	elsewhere := must[spiffeid.TrustDomain](t)(ParseTrustDomain("elsewhere.example"))
	for name, c := range map[string]struct {
		change func(*Request)
		want   Code
	}{
		"another trust domain": {func(r *Request) { r.ID = must[spiffeid.ID](t)(ID(elsewhere, "shop", "web")) }, CodeTrustDomain},
		"the trust domain":     {func(r *Request) { r.ID = domain(t).ID() }, CodeIDShape},
		"no ID":                {func(r *Request) { r.ID = spiffeid.ID{} }, CodeIDShape},
		"no key":               {func(r *Request) { r.Key = nil }, CodeKeyType},
		"a key on P-384": {func(r *Request) {
			r.Key = must[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P384(), rand.Reader)).Public()
		}, CodeKeyType},
		"too long a life":      {func(r *Request) { r.Lifetime = MaxLifetime + 1 }, CodeLifetime},
		"too short a life":     {func(r *Request) { r.Lifetime = MinLifetime - 1 }, CodeLifetime},
		"a life that is past":  {func(r *Request) { r.Lifetime = -time.Hour }, CodeLifetime},
		"a pod and a DNS name": {func(r *Request) { r.DNSNames = []string{"heddle"} }, CodeRequest},
		"a UID without a pod":  {func(r *Request) { r.Pod = "" }, CodeRequest},
		"no name of a pod":     {func(r *Request) { r.Pod = "a/b" }, CodeRequest},
		"no UID":               {func(r *Request) { r.PodUID = "a/b" }, CodeRequest},
		"a wildcard":           {func(r *Request) { r.Pod, r.PodUID, r.DNSNames = "", "", []string{"*.svc"} }, CodeRequest},
		"an empty DNS name":    {func(r *Request) { r.Pod, r.PodUID, r.DNSNames = "", "", []string{""} }, CodeRequest},
		"many DNS names":       {func(r *Request) { r.Pod, r.PodUID, r.DNSNames = "", "", make([]string, maxDNSNames+1) }, CodeRequest},
	} {
		t.Run(name, func(t *testing.T) {
			r := request(t)
			c.change(&r)
			_, err := ca.Issue(t.Context(), r)
			wantCode(t, err, c.want)
		})
	}
}

func TestNothingIsSignedForWhoHasGone(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := root(t).Issue(ctx, request(t)); err == nil {
		t.Error("a certificate was issued")
	}
	if _, err := root(t).Mint(ctx, web(t), []string{"a"}, 0); err == nil {
		t.Error("a token was signed")
	}
}

// Each rule of lint is broken in turn, in a template that is else the one of Issue.
func TestLintFindsEachRuleThatATemplateBreaks(t *testing.T) {
	ca, r, now := root(t), request(t), time.Now()
	own := r.ID.URL()
	for name, change := range map[string]func(*x509.Certificate){
		"its ID is":                 func(c *x509.Certificate) { c.URIs = []*url.URL{must[*url.URL](t)(url.Parse("spiffe://a/ns/b/sa/c"))} },
		"2 URIs":                    func(c *x509.Certificate) { c.URIs = []*url.URL{own, own} },
		"0 URIs":                    func(c *x509.Certificate) { c.URIs = nil },
		"2 alternative names":       func(c *x509.Certificate) { c.DNSNames = []string{"web"} },
		"it has a subject":          func(c *x509.Certificate) { c.Subject.CommonName = "web" },
		"its key usage is":          func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageCertSign },
		"its extended key usage is": func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageAny} },
		"it is a CA":                func(c *x509.Certificate) { c.IsCA = true },
		"or does not say":           func(c *x509.Certificate) { c.BasicConstraintsValid = false },
		"its serial number":         func(c *x509.Certificate) { c.SerialNumber = big.NewInt(1) },
		"it is valid from":          func(c *x509.Certificate) { c.NotBefore = now.Add(time.Hour) },
		"valid from":                func(c *x509.Certificate) { c.NotBefore = now.Add(-time.Hour) },
		"it is valid until":         func(c *x509.Certificate) { c.NotAfter = now.Add(DefaultLifetime + 2*time.Second) },
		"valid until":               func(c *x509.Certificate) { c.NotAfter = now.Add(-time.Second) },
		"does not say which pod":    func(c *x509.Certificate) { c.ExtraExtensions = nil },
		"it is for pod web-2": func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{must[pkix.Extension](t)(podExtension("web-2", r.PodUID))}
		},
		"nobody asked for": func(c *x509.Certificate) {
			c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 54}, Value: []byte{2, 1, 0}})
		},
		"is marked critical": func(c *x509.Certificate) { c.ExtraExtensions[0].Critical = true },
	} {
		t.Run(name, func(t *testing.T) {
			template := must[*x509.Certificate](t)(ca.template(r, now))
			change(template)
			c := must[*x509.Certificate](t)(sign(template, ca.issuerWith(ca.lintKey()), r.Key, ca.lintKey()))
			contains(t, lint(c, r, now), name)
		})
	}
	template := must[*x509.Certificate](t)(ca.template(r, now))
	c := must[*x509.Certificate](t)(sign(template, ca.issuerWith(ca.lintKey()), newKey(t).Public(), ca.lintKey()))
	contains(t, lint(c, r, now), "another key")

	withoutPod := r
	withoutPod.Pod, withoutPod.PodUID = "", ""
	c = must[*x509.Certificate](t)(sign(template, ca.issuerWith(ca.lintKey()), r.Key, ca.lintKey()))
	contains(t, lint(c, withoutPod, now), "names a pod")
}

func TestSerialNumbersDoNotRepeat(t *testing.T) {
	seen := map[string]bool{}
	for range 1000 {
		n := must[*big.Int](t)(newSerial())
		if n.Sign() <= 0 || n.BitLen() != serialBits || seen[n.String()] {
			t.Fatalf("serial number %x: of %d bits, seen before: %t", n, n.BitLen(), seen[n.String()])
		}
		seen[n.String()] = true
	}
}

func BenchmarkIssue(b *testing.B) {
	ca, key := root(b), newKey(b)
	request := csr(b, &x509.CertificateRequest{}, key)
	id := web(b)
	before := processCPU(b)
	for b.Loop() {
		certified, err := CheckCSR(request, id)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := ca.Issue(b.Context(), Request{ID: id, Key: certified, Pod: "web-1", PodUID: "u"}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)/(processCPU(b)-before).Seconds(), "csr/s/core")
}

// processCPU is what this process has used of all processors, garbage collection included.
func processCPU(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
