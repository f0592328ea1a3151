package identity

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"net"
	"net/url"
	"testing"
)

// sanExtension encodes names of any kind, well formed or not: tag and bytes of each.
func sanExtension(t testing.TB, all ...generalName) pkix.Extension {
	var raw []asn1.RawValue
	for _, n := range all {
		raw = append(raw, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: n.tag, Bytes: n.bytes})
	}
	return pkix.Extension{Id: oidSAN(), Value: must[[]byte](t)(asn1.Marshal(raw))}
}

func uriName(s string) generalName { return generalName{tagURI, []byte(s)} }

func TestARequestWithoutNamesOrWithItsOwnIDGetsItsKeyCertified(t *testing.T) {
	key := newKey(t)
	for name, template := range map[string]*x509.CertificateRequest{
		"no names":             {},
		"its own ID":           {URIs: []*url.URL{web(t).URL()}},
		"a subject":            {Subject: pkix.Name{CommonName: "anything"}},
		"no CA, as it says":    {ExtraExtensions: []pkix.Extension{{Id: oidBasicConstraints(), Value: []byte{0x30, 0x00}}}},
		"SHA-512":              {SignatureAlgorithm: x509.ECDSAWithSHA512},
		"an empty name list":   {ExtraExtensions: []pkix.Extension{sanExtension(t)}},
		"its own ID, by bytes": {ExtraExtensions: []pkix.Extension{sanExtension(t, uriName(web(t).String()))}},
	} {
		got, err := CheckCSR(csr(t, template, key), web(t))
		if err != nil || !key.PublicKey.Equal(got) {
			t.Errorf("%s: %v %v", name, got, err)
		}
	}
}

func TestARequestWithAnotherKindOfKeyIsRefused(t *testing.T) {
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, key := range map[string]crypto.Signer{
		"RSA 1024": must[*rsa.PrivateKey](t)(rsa.GenerateKey(rand.Reader, 1024)),
		"RSA 2048": must[*rsa.PrivateKey](t)(rsa.GenerateKey(rand.Reader, 2048)),
		"P-224":    must[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P224(), rand.Reader)),
		"P-384":    must[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P384(), rand.Reader)),
		"P-521":    must[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P521(), rand.Reader)),
		"Ed25519":  ed,
	} {
		t.Run(name, func(t *testing.T) {
			_, err := CheckCSR(csr(t, &x509.CertificateRequest{}, key), web(t))
			wantCode(t, err, CodeKeyType)
		})
	}
}

func TestARequestForAnyOtherNameIsRefused(t *testing.T) {
	own := web(t)
	other := must[*url.URL](t)(url.Parse("spiffe://cluster.local/ns/shop/sa/admin"))
	for name, template := range map[string]*x509.CertificateRequest{
		"another ID":              {URIs: []*url.URL{other}},
		"two URIs, its own first": {URIs: []*url.URL{own.URL(), other}},
		"its own ID twice":        {URIs: []*url.URL{own.URL(), own.URL()}},
		"its own ID and a host":   {URIs: []*url.URL{own.URL()}, DNSNames: []string{"web.shop.svc"}},
		"a host":                  {DNSNames: []string{"web.shop.svc"}},
		"an address":              {IPAddresses: []net.IP{net.IPv4(10, 0, 0, 1)}},
		"a mail address":          {EmailAddresses: []string{"a@example.com"}},
		"a web page":              {URIs: []*url.URL{must[*url.URL](t)(url.Parse("https://example.com"))}},
		"otherName":               {ExtraExtensions: []pkix.Extension{sanExtension(t, generalName{0, []byte{6, 1, 42}})}},
		"own ID and registeredID": {ExtraExtensions: []pkix.Extension{sanExtension(t, uriName(own.String()), generalName{8, []byte{42}})}},
		"scheme in capitals":      {ExtraExtensions: []pkix.Extension{sanExtension(t, uriName("SPIFFE://cluster.local/ns/shop/sa/web"))}},
		"an empty fragment":       {ExtraExtensions: []pkix.Extension{sanExtension(t, uriName(own.String()+"#"))}},
		"a slash at the end":      {ExtraExtensions: []pkix.Extension{sanExtension(t, uriName(own.String()+"/"))}},
		"a dot at the end":        {ExtraExtensions: []pkix.Extension{sanExtension(t, uriName(own.String()+"."))}},
		"an encoded letter":       {ExtraExtensions: []pkix.Extension{sanExtension(t, uriName("spiffe://cluster.local/ns/shop/sa/w%65b"))}},
		"an encoded NUL":          {ExtraExtensions: []pkix.Extension{sanExtension(t, uriName(own.String()+"%00"))}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := CheckCSR(csr(t, template, newKey(t)), own)
			wantCode(t, err, CodeSAN)
		})
	}
}

func TestARequestThatIsForgedBrokenOrTooLargeIsRefused(t *testing.T) {
	own := web(t)
	good := csr(t, &x509.CertificateRequest{}, newKey(t))
	// A valid signature, made by another key: the tail of one request behind the head of another.
	var forged, other struct{ TBS, Algorithm, Signature asn1.RawValue }
	must[[]byte](t)(asn1.Unmarshal(good, &forged))
	must[[]byte](t)(asn1.Unmarshal(csr(t, &x509.CertificateRequest{}, newKey(t)), &other))
	forged.Signature = other.Signature
	otherKey := must[[]byte](t)(asn1.Marshal(forged))

	ca := pkix.Extension{Id: oidBasicConstraints(), Value: []byte{0x30, 0x03, 0x01, 0x01, 0xff}}
	for name, c := range map[string]struct {
		der  []byte
		want Code
	}{
		"a CA":                     {csr(t, &x509.CertificateRequest{ExtraExtensions: []pkix.Extension{ca}}, newKey(t)), CodeCSRCA},
		"constraints, unreadable":  {csr(t, &x509.CertificateRequest{ExtraExtensions: []pkix.Extension{{Id: oidBasicConstraints(), Value: []byte{1}}}}, newKey(t)), CodeCSRCA},
		"signed by another key":    {otherKey, CodeCSRSignature},
		"a byte after it":          {append(bytes.Clone(good), 0), CodeCSRSyntax},
		"two of them":              {append(bytes.Clone(good), good...), CodeCSRSyntax},
		"cut short":                {good[:len(good)-1], CodeCSRSyntax},
		"nothing":                  {nil, CodeCSRSyntax},
		"a certificate":            {root(t).Certificate().Raw, CodeCSRSyntax},
		"more than there ever is":  {make([]byte, MaxCSR+1), CodeCSRSize},
		"oversize and well formed": {csr(t, &x509.CertificateRequest{Subject: pkix.Name{CommonName: string(make([]byte, MaxCSR))}}, newKey(t)), CodeCSRSize},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := CheckCSR(c.der, own)
			wantCode(t, err, c.want)
		})
	}
}
