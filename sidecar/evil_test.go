package sidecar

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net/url"
	"testing"
	"time"

	"github.com/heddle-mesh/heddle/identity"
)

// forge signs a leaf that no issuer of ours would: the CA's key with a template of one's own.
func forge(t *testing.T, ca *identity.Authority, k *ecdsa.PrivateKey, uris []string, change func(*x509.Certificate)) tls.Certificate {
	t.Helper()
	block, _ := pem.Decode(must(ca.Material()).Key)
	private := must(x509.ParsePKCS8PrivateKey(block.Bytes)).(*ecdsa.PrivateKey)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "forged"},
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}, BasicConstraintsValid: true,
	}
	for _, u := range uris {
		template.URIs = append(template.URIs, must(url.Parse(u)))
	}
	if change != nil {
		change(template)
	}
	der := must(x509.CreateCertificate(rand.Reader, template, ca.Certificate(), k.Public(), private))
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: k}
}

// letIn says whether a client with the certificate gets through the handshake. With TLS 1.3 the client's end of it is over
// before the server has looked, so it is the first byte that tells: an echo, or the beginning of HTTP/2.
func letIn(t *testing.T, address string, cert tls.Certificate) bool {
	t.Helper()
	// The server is nobody's question here.
	conn, err := tls.Dial("tcp", address, &tls.Config{Certificates: []tls.Certificate{cert}, InsecureSkipVerify: true, MinVersion: tls.VersionTLS13, NextProtos: []string{"h2"}})
	if err != nil {
		return false
	}
	defer conn.Close()
	// HTTP/2's beginning: the preface and an empty SETTINGS frame (RFC 9113, 3.4).
	if _, err := conn.Write([]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00")); err != nil {
		return false
	}
	_, err = io.ReadFull(conn, make([]byte, 1))
	return err == nil
}

func TestTheBundleAloneLetsNoCertificateInThatIsNoSVIDOfTheTrustDomain(t *testing.T) {
	s := newSigner(t, "web", time.Hour)
	_, e := start(t, s)
	k := must(newKey())
	web := []string{"spiffe://cluster.local/ns/shop/sa/web"}
	if !letIn(t, e.any, forge(t, s.CA(), k, web, nil)) {
		t.Fatal("a good certificate is refused, so the rest shows nothing")
	}
	for name, cert := range map[string]tls.Certificate{
		"of another trust domain":            forge(t, s.CA(), k, []string{"spiffe://elsewhere/ns/shop/sa/web"}, nil),
		"of a trust domain that looks alike": forge(t, s.CA(), k, []string{"spiffe://cluster.local.evil/ns/shop/sa/web"}, nil),
		"without an ID":                      forge(t, s.CA(), k, nil, nil),
		"with no SPIFFE ID":                  forge(t, s.CA(), k, []string{"https://cluster.local/ns/shop/sa/web"}, nil),
		"that may sign others": forge(t, s.CA(), k, web, func(c *x509.Certificate) {
			c.KeyUsage |= x509.KeyUsageCertSign
		}),
		"of a CA":                    forge(t, s.CA(), k, web, func(c *x509.Certificate) { c.IsCA = true }),
		"without digitalSignature":   forge(t, s.CA(), k, web, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyAgreement }),
		"expired":                    forge(t, s.CA(), k, web, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Second) }),
		"by another CA":              forge(t, newSigner(t, "web", time.Hour).CA(), k, web, nil),
		"of the trust domain itself": forge(t, s.CA(), k, []string{"spiffe://cluster.local"}, nil),
		"of the domain with a dot":   forge(t, s.CA(), k, []string{"spiffe://cluster.local./ns/shop/sa/web"}, nil),
		"of the domain in capitals":  forge(t, s.CA(), k, []string{"spiffe://CLUSTER.local/ns/shop/sa/web"}, nil),
		"of the domain with a port":  forge(t, s.CA(), k, []string{"spiffe://cluster.local:443/ns/shop/sa/web"}, nil),
	} {
		if letIn(t, e.any, cert) {
			t.Errorf("a certificate %s is let in", name)
		}
	}
}

func TestAnExactIDLetsNobodyElseIn(t *testing.T) {
	s := newSigner(t, "web", time.Hour)
	_, e := start(t, s)
	k := must(newKey())
	for id, want := range map[string]bool{
		"spiffe://cluster.local/ns/shop/sa/web":    true,
		"spiffe://cluster.local/ns/shop/sa/api":    false,
		"spiffe://cluster.local/ns/shop/sa/web2":   false,
		"spiffe://cluster.local/ns/shop/sa/web/":   false,
		"spiffe://cluster.local/ns/shop/sa/Web":    false,
		"spiffe://cluster.local/ns/shop/sa/web%00": false,
		"spiffe://cluster.local":                   false,
		"spiffe://elsewhere/ns/shop/sa/web":        false,
	} {
		if got := letIn(t, e.mtls, forge(t, s.CA(), k, []string{id}, nil)); got != want {
			t.Errorf("%s is let in: %v, want %v", id, got, want)
		}
	}
}
