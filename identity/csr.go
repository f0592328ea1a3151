package identity

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"slices"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// MaxCSR is the size of the largest certificate request that is read, in bytes. One for a P-256 key has about 300.
const MaxCSR = 4 << 10

// oidBasicConstraints is id-ce-basicConstraints (RFC 5280, 4.2.1.9).
func oidBasicConstraints() asn1.ObjectIdentifier { return asn1.ObjectIdentifier{2, 5, 29, 19} }

// CheckCSR reads a PKCS #10 request (DER) of a workload whose identity is known to be want, and gives the key to
// certify. Nothing else is taken from the request; but a name other than want, a wish to be a CA, a key that is not
// P-256, or a signature by another key is refused and not passed over: whoever asks for it is mistaken, or an attacker.
// All errors have a [Code].
func CheckCSR(der []byte, want spiffeid.ID) (crypto.PublicKey, error) {
	if len(der) > MaxCSR {
		return nil, refuse(CodeCSRSize, "read the certificate request of %s: it has %d bytes, and at most %d are read", want, len(der), MaxCSR)
	}
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil, refuse(CodeCSRSyntax, "read the certificate request of %s: %w; send one PKCS #10 request in DER", want, err)
	}
	key, err := p256(csr.PublicKey)
	if err != nil {
		return nil, refuse(CodeKeyType, "certificate request of %s: %w", want, err)
	}
	if err := checkCSRSignature(csr); err != nil {
		return nil, refuse(CodeCSRSignature, "certificate request of %s: %w; sign it with the key that it holds", want, err)
	}
	for _, e := range csr.Extensions {
		if e.Id.Equal(oidBasicConstraints()) && asksForCA(e) {
			return nil, refuse(CodeCSRCA, "certificate request of %s: it asks for a CA certificate", want)
		}
	}
	if err := checkCSRNames(csr, want); err != nil {
		return nil, err
	}
	return key, nil
}

func checkCSRNames(csr *x509.CertificateRequest, want spiffeid.ID) error {
	all, err := names(csr.Extensions)
	if err != nil {
		return refuse(CodeSAN, "certificate request of %s: %w", want, err)
	}
	if len(all) == 0 {
		return nil
	}
	id, err := uri(all)
	if err != nil {
		return refuse(CodeSAN, "certificate request of %s: %w", want, err)
	}
	if len(all) > 1 || id != want {
		return refuse(CodeSAN, "certificate request of %s: it asks for %d names, of them %s; leave names out, or ask for your own ID alone",
			want, len(all), id)
	}
	return nil
}

func checkCSRSignature(csr *x509.CertificateRequest) error {
	allowed := []x509.SignatureAlgorithm{x509.ECDSAWithSHA256, x509.ECDSAWithSHA384, x509.ECDSAWithSHA512}
	if !slices.Contains(allowed, csr.SignatureAlgorithm) {
		return x509.ErrUnsupportedAlgorithm
	}
	return csr.CheckSignature()
}

// asksForCA holds constraints that cannot be read for a wish to be a CA.
func asksForCA(e pkix.Extension) bool {
	var constraints struct {
		IsCA       bool `asn1:"optional"`
		MaxPathLen int  `asn1:"optional,default:-1"`
	}
	rest, err := asn1.Unmarshal(e.Value, &constraints)
	return err != nil || len(rest) > 0 || constraints.IsCA
}

// p256 accepts the one kind of key that sidecars have: Envoy's SDS, BoringSSL's FIPS mode and every client know it.
func p256(key crypto.PublicKey) (*ecdsa.PublicKey, error) {
	ec, ok := key.(*ecdsa.PublicKey)
	if !ok {
		return nil, refuse(CodeKeyType, "its key is %T; only ECDSA on P-256 is certified", key)
	}
	if ec.Curve != elliptic.P256() {
		return nil, refuse(CodeKeyType, "its key is on %s; only ECDSA on P-256 is certified", ec.Curve.Params().Name)
	}
	return ec, nil
}
