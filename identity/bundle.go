package identity

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// MaxBundle is the size of the largest bundle document that is read, in bytes: some hundred authorities.
const MaxBundle = 256 << 10

// Merge joins bundles of one trust domain. Bundles of two are never joined: the list of authorities that Envoy gets has
// no names on it, so each of them could then speak for the other's workloads. With one argument it is a copy.
//
// There is no opposite. A bundle without an authority is made from those that stay.
func Merge(first *spiffebundle.Bundle, others ...*spiffebundle.Bundle) (*spiffebundle.Bundle, error) {
	all := first.Clone()
	for _, b := range others {
		if b.TrustDomain() != all.TrustDomain() {
			return nil, refuse(CodeTrustDomain, "join trust bundles: one is of trust domain %s, another of %s", all.TrustDomain(), b.TrustDomain())
		}
		for _, c := range b.X509Authorities() {
			all.AddX509Authority(c)
		}
		for id, key := range b.JWTAuthorities() {
			if err := all.AddJWTAuthority(id, key); err != nil {
				return nil, fmt.Errorf("join trust bundles of %s: %w", all.TrustDomain(), err)
			}
		}
	}
	return all, nil
}

// Fingerprint names what a bundle trusts: the SHA-256, in hex, of its trust domain and its authorities in sorted order.
// Sequence number and refresh hint are left out: they do not change what is trusted.
func Fingerprint(b *spiffebundle.Bundle) string {
	var lines []string
	for _, c := range b.X509Authorities() {
		lines = append(lines, fmt.Sprintf("x509 %x", sha256.Sum256(c.Raw)))
	}
	for id, key := range b.JWTAuthorities() {
		der, err := x509.MarshalPKIXPublicKey(key)
		if err != nil { // a kind of key that no bundle of ours holds; it has a name of its own all the same
			der = fmt.Appendf(nil, "%T", key)
		}
		lines = append(lines, fmt.Sprintf("jwt %q %x", id, sha256.Sum256(der)))
	}
	slices.Sort(lines)
	sum := sha256.Sum256([]byte(b.TrustDomain().Name() + "\n" + strings.Join(slices.Compact(lines), "\n")))
	return hex.EncodeToString(sum[:])
}

// MarshalBundle writes a bundle as the SPIFFE standard has it (SPIFFE Trust Domain and Bundle, 4: a JWKS), with its keys
// sorted, so that the same bundle gives the same bytes.
func MarshalBundle(b *spiffebundle.Bundle) ([]byte, error) {
	unsorted, err := b.Marshal()
	if err != nil {
		return nil, fmt.Errorf("write the trust bundle of %s: %w", b.TrustDomain(), err)
	}
	document := map[string]json.RawMessage{}
	var keys []json.RawMessage
	if err := errors.Join(json.Unmarshal(unsorted, &document), json.Unmarshal(document["keys"], &keys)); err != nil {
		return nil, fmt.Errorf("write the trust bundle of %s: %w", b.TrustDomain(), err)
	}
	slices.SortFunc(keys, func(a, b json.RawMessage) int { return bytes.Compare(a, b) })
	if document["keys"], err = json.Marshal(keys); err != nil {
		return nil, fmt.Errorf("write the trust bundle of %s: %w", b.TrustDomain(), err)
	}
	return json.Marshal(document)
}

// ParseBundle reads a bundle of a trust domain from what [MarshalBundle], or another implementation of SPIFFE, wrote.
// One that trusts no CA is refused, and one with a certificate that is none: it is a mistake upstream, and whoever took
// it would refuse everybody.
func ParseBundle(td spiffeid.TrustDomain, data []byte) (*spiffebundle.Bundle, error) {
	if len(data) > MaxBundle {
		return nil, refuse(CodeBundle, "read the trust bundle of %s: it has %d bytes, and at most %d are read", td, len(data), MaxBundle)
	}
	b, err := spiffebundle.Parse(td, data)
	if err != nil {
		return nil, refuse(CodeBundle, "read the trust bundle of %s: %w", td, err)
	}
	if len(b.X509Authorities()) == 0 {
		return nil, refuse(CodeBundle, "read the trust bundle of %s: it has no X.509 authority", td)
	}
	for _, c := range b.X509Authorities() {
		if err := checkAnchor(c, td); err != nil {
			return nil, refuse(CodeBundle, "read the trust bundle of %s: %w", td, err)
		}
	}
	for id, key := range b.JWTAuthorities() {
		if _, err := x509.MarshalPKIXPublicKey(key); err != nil {
			return nil, refuse(CodeBundle, "read the trust bundle of %s: JWT authority %q: %w", td, id, err)
		}
	}
	return b, nil
}

// AnchorsPEM writes the X.509 authorities of a bundle as Envoy's trusted_ca wants them, sorted.
func AnchorsPEM(b *spiffebundle.Bundle) []byte {
	anchors := b.X509Authorities()
	slices.SortFunc(anchors, func(a, b *x509.Certificate) int { return bytes.Compare(a.Raw, b.Raw) })
	return CertificatesPEM(anchors)
}

// CertificatesPEM writes certificates one after the other, as Envoy's certificate_chain wants them.
func CertificatesPEM(chain []*x509.Certificate) []byte {
	var out []byte
	for _, c := range chain {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: pemCertificate, Bytes: c.Raw})...)
	}
	return out
}
