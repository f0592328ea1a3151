package identity

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// careless signs what a CA that checks nothing would.
func careless(t testing.TB, ca *Authority, change func(*x509.Certificate)) *x509.Certificate {
	r := request(t)
	template := must[*x509.Certificate](t)(ca.template(r, time.Now()))
	change(template)
	der := must[[]byte](t)(x509.CreateCertificate(rand.Reader, template, ca.Certificate(), r.Key, ca.key()))
	return must[*x509.Certificate](t)(x509.ParseCertificate(der))
}

func withNames(t testing.TB, all ...generalName) func(*x509.Certificate) {
	return func(c *x509.Certificate) {
		c.URIs = nil
		e := sanExtension(t, all...)
		e.Critical = true
		c.ExtraExtensions = append(c.ExtraExtensions, e)
	}
}

func TestAPeerIsRefusedWhateverACarelessCAHasSigned(t *testing.T) {
	ca := root(t)
	for name, c := range map[string]struct {
		change func(*x509.Certificate)
		want   Code
	}{
		"another trust domain":     {withNames(t, uriName("spiffe://elsewhere.example/ns/shop/sa/web")), CodeTrustDomain},
		"two IDs":                  {withNames(t, uriName(web(t).String()), uriName(web(t).String())), CodeSAN},
		"no ID":                    {withNames(t, generalName{2, []byte("web.shop.svc")}), CodeSAN},
		"a dot at the end":         {withNames(t, uriName(web(t).String()+".")), CodeIDShape},
		"an encoded NUL":           {withNames(t, uriName(web(t).String()+"%00")), CodeSAN},
		"an encoded dot":           {withNames(t, uriName("spiffe://cluster.local/ns/shop/%2e%2e/sa/web")), CodeSAN},
		"a step up":                {withNames(t, uriName("spiffe://cluster.local/ns/x/../shop/sa/web")), CodeSAN},
		"an empty segment":         {withNames(t, uriName("spiffe://cluster.local/ns//shop/sa/web")), CodeSAN},
		"a slash at the end":       {withNames(t, uriName(web(t).String()+"/")), CodeSAN},
		"scheme in capitals":       {withNames(t, uriName("SPIFFE://cluster.local/ns/shop/sa/web")), CodeSAN},
		"host in capitals":         {withNames(t, uriName("spiffe://Cluster.local/ns/shop/sa/web")), CodeSAN},
		"a port":                   {withNames(t, uriName("spiffe://cluster.local:443/ns/shop/sa/web")), CodeSAN},
		"a user":                   {withNames(t, uriName("spiffe://a@cluster.local/ns/shop/sa/web")), CodeSAN},
		"a query":                  {withNames(t, uriName(web(t).String()+"?a")), CodeSAN},
		"an empty query":           {withNames(t, uriName(web(t).String()+"?")), CodeSAN},
		"an empty fragment":        {withNames(t, uriName(web(t).String()+"#")), CodeSAN},
		"no digitalSignature":      {func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyAgreement }, CodeLeafUsage},
		"no key usage":             {func(c *x509.Certificate) { c.KeyUsage = 0 }, CodeLeafUsage},
		"keyCertSign":              {func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageCertSign }, CodeLeafUsage},
		"cRLSign":                  {func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageCRLSign }, CodeLeafUsage},
		"a CA":                     {func(c *x509.Certificate) { c.IsCA = true }, CodeLeafUsage},
		"expired":                  {func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Second) }, CodeExpired},
		"not valid yet":            {func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Minute) }, CodeExpired},
		"an unknown critical wish": {func(c *x509.Certificate) { c.ExtraExtensions[0].Critical = true }, CodeChain},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := VerifyLeaf([]*x509.Certificate{careless(t, ca, c.change)}, ca.Bundle(), time.Now())
			wantCode(t, err, c.want)
		})
	}
	for _, id := range notOurs() {
		_, err := VerifyLeaf([]*x509.Certificate{careless(t, ca, withNames(t, uriName(id)))}, ca.Bundle(), time.Now())
		wantCode(t, err, CodeIDShape)
	}
}

// Go refuses to parse such a certificate; should it ever not, we do.
func TestANULInAnIDIsRefusedEvenUnparsed(t *testing.T) {
	ca := root(t)
	leaf := careless(t, ca, func(*x509.Certificate) {})
	for i, e := range leaf.Extensions {
		if e.Id.Equal(oidSAN()) {
			leaf.Extensions[i] = sanExtension(t, uriName(web(t).String()+"\x00"))
		}
	}
	_, err := VerifyLeaf([]*x509.Certificate{leaf}, ca.Bundle(), time.Now())
	wantCode(t, err, CodeSAN)

	leaf.Extensions = append(leaf.Extensions, sanExtension(t, uriName(web(t).String())))
	_, err = VerifyLeaf([]*x509.Certificate{leaf}, ca.Bundle(), time.Now())
	wantCode(t, err, CodeSAN)
}

func TestAPeerOfAnotherCAIsRefused(t *testing.T) {
	ours, theirs := root(t), root(t)
	chain := must[[]*x509.Certificate](t)(theirs.Issue(t.Context(), request(t)))
	_, err := VerifyLeaf(chain, ours.Bundle(), time.Now())
	wantCode(t, err, CodeChain)
	// Nor does it help to bring the CA along.
	_, err = VerifyLeaf(append(chain, theirs.Certificate()), ours.Bundle(), time.Now())
	wantCode(t, err, CodeChain)
	_, err = VerifyLeaf(nil, ours.Bundle(), time.Now())
	wantCode(t, err, CodeChain)
	_, err = VerifyLeaf(chain, spiffebundle.New(domain(t)), time.Now())
	wantCode(t, err, CodeChain)

	both := must[*spiffebundle.Bundle](t)(Merge(ours.Bundle(), theirs.Bundle()))
	must[spiffeid.ID](t)(VerifyLeaf(chain, both, time.Now()))
}

func TestALeafCannotSignAnotherLeaf(t *testing.T) {
	ca, key := root(t), newKey(t)
	chain := must[[]*x509.Certificate](t)(ca.Issue(t.Context(), Request{ID: web(t), Key: key.Public()}))
	template := must[*x509.Certificate](t)(ca.template(request(t), time.Now()))
	der := must[[]byte](t)(x509.CreateCertificate(rand.Reader, template, chain[0], newKey(t).Public(), key))
	forged := must[*x509.Certificate](t)(x509.ParseCertificate(der))
	_, err := VerifyLeaf([]*x509.Certificate{forged, chain[0]}, ca.Bundle(), time.Now())
	wantCode(t, err, CodeChain)
}

func TestAPodIsReadOnlyAsOurCAWritesIt(t *testing.T) {
	ca := root(t)
	text := func(s string) []byte { return must[[]byte](t)(asn1.MarshalWithParams(s, "utf8")) }
	for name, value := range map[string][]byte{
		"no slash": text("web-1"), "no pod": text("/uid"), "no name": text("we b/uid"), "two slashes": text("a/b/c"),
		"another type": must[[]byte](t)(asn1.MarshalWithParams("web-1/uid", "printable")), "no ASN.1": []byte("web-1/uid"),
		"bytes after it": append(text("web-1/uid"), 0), "empty": {}, "NUL": text("web-1\x00/uid"),
	} {
		t.Run(name, func(t *testing.T) {
			leaf := careless(t, ca, func(c *x509.Certificate) { c.ExtraExtensions = []pkix.Extension{{Id: oidPod(), Value: value}} })
			_, _, err := PodOf(leaf)
			wantCode(t, err, CodePodMissing)
		})
	}
	leaf := careless(t, ca, func(c *x509.Certificate) { c.ExtraExtensions = []pkix.Extension{{Id: oidPod(), Value: text("web-1/")}} })
	if pod, uid, err := PodOf(leaf); pod != "web-1" || uid != "" || err != nil {
		t.Errorf("without a UID: %q %q %v", pod, uid, err)
	}
}

// Why our extension has a small number: if this fails, Go has learned to read large ones.
func TestGoRefusesCertificatesWithALargeNumberInAnExtensionsName(t *testing.T) {
	ca, r := root(t), request(t)
	template := must[*x509.Certificate](t)(ca.template(r, time.Now()))
	template.ExtraExtensions[0].Id = asn1.ObjectIdentifier{2, 25, 7401356287190}
	der := must[[]byte](t)(x509.CreateCertificate(rand.Reader, template, ca.Certificate(), r.Key, ca.key()))
	_, err := x509.ParseCertificate(der)
	contains(t, err, "OID")
}
