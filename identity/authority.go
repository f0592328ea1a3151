package identity

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"fmt"
	"math/big"
	"net/url"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

const (
	// DefaultRootLifetime is that of a root of our own.
	DefaultRootLifetime = 10 * 365 * 24 * time.Hour
	// BackDate is how long before now a certificate is valid already, for peers whose clocks are late.
	BackDate = 5 * time.Minute

	serialBits = 128 // random; the CA/Browser Forum asks for 64 at least (Baseline Requirements, 7.1)
)

// Authority is a CA of one trust domain: a certificate that may sign, what leads from it to the anchors, its key, and a
// key for tokens. It is what a rotation replaces, as one. It is immutable and safe for concurrent use, and implements
// [Issuer] and [JWTSigner].
//
// Nothing prints its keys: they are behind functions, which no printer and no encoder looks into. [Authority.Material]
// alone gives them away.
type Authority struct {
	td      spiffeid.TrustDomain
	chain   []*x509.Certificate // its own first, then towards the anchors; no anchor, unless it is its own
	anchors []*x509.Certificate
	key     func() *ecdsa.PrivateKey
	lintKey func() *ecdsa.PrivateKey // of the same curve, and worth nothing
	jwtKey  func() *ecdsa.PrivateKey // nil: it signs no tokens
}

// NewRoot makes a CA that is its own anchor, valid for lifetime (default [DefaultRootLifetime]), with new keys. It may
// sign leaves and no other CA.
func NewRoot(td spiffeid.TrustDomain, now time.Time, lifetime time.Duration) (*Authority, error) {
	if lifetime == 0 {
		lifetime = DefaultRootLifetime
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a root for %s: %w", td, err)
	}
	jwtKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a root for %s: %w", td, err)
	}
	template, err := rootTemplate(td, key.Public(), now, lifetime)
	if err != nil {
		return nil, fmt.Errorf("make a root for %s: %w", td, err)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("make a root for %s: %w", td, err)
	}
	root, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("make a root for %s: %w", td, err)
	}
	a, err := unchecked(authorityParts{td: td, chain: []*x509.Certificate{root}, anchors: []*x509.Certificate{root}, key: key, jwtKey: jwtKey})
	if err != nil {
		return nil, err
	}
	if err := a.Check(now); err != nil {
		return nil, err
	}
	return a, nil
}

// rootTemplate follows X509-SVID, 2 to 4: a signing certificate's SPIFFE ID has no path, and it has keyCertSign.
func rootTemplate(td spiffeid.TrustDomain, key crypto.PublicKey, now time.Time, lifetime time.Duration) (*x509.Certificate, error) {
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(der)
	return &x509.Certificate{
		SerialNumber: serial,
		// Two roots are never of one name: a verifier that looks for an issuer by name must find the right one.
		Subject:               pkix.Name{CommonName: "heddle-ca-" + hex.EncodeToString(sum[:8])},
		NotBefore:             now.Add(-BackDate),
		NotAfter:              now.Add(lifetime),
		URIs:                  []*url.URL{td.ID().URL()},
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
	}, nil
}

type authorityParts struct {
	td             spiffeid.TrustDomain
	chain, anchors []*x509.Certificate
	key, jwtKey    *ecdsa.PrivateKey
}

// unchecked makes a CA that nobody may rely on before [Authority.Check] has passed once.
func unchecked(p authorityParts) (*Authority, error) {
	lintKey, err := ecdsa.GenerateKey(p.key.Curve, rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("load the CA of %s: %w", p.td, err)
	}
	a := &Authority{
		td: p.td, chain: p.chain, anchors: p.anchors,
		key:     func() *ecdsa.PrivateKey { return p.key },
		lintKey: func() *ecdsa.PrivateKey { return lintKey },
	}
	if p.jwtKey != nil {
		a.jwtKey = func() *ecdsa.PrivateKey { return p.jwtKey }
	}
	return a, nil
}

// Check tries the CA out before anybody relies on it: it must be valid now, and a leaf of it must be accepted by all the
// rules that verifiers have, name constraints and path lengths of every certificate above it included.
func (a *Authority) Check(now time.Time) error {
	if err := a.valid(now); err != nil {
		return refuse(CodeAuthority, "load the CA of %s: %w", a.td, err)
	}
	probe, err := ID(a.td, "probe", "probe")
	if err != nil {
		return err
	}
	leafKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("load the CA of %s: %w", a.td, err)
	}
	r := Request{ID: probe, Key: leafKey.Public()}
	leaf, err := a.issue(r, now)
	if err == nil {
		err = a.accepts(leaf[0], r, now)
	}
	if err != nil {
		return refuse(CodeAuthority, "load the CA of %s: what it signs would be refused: %w", a.td, err)
	}
	return nil
}

// valid holds each certificate of the chain against the time.
func (a *Authority) valid(now time.Time) error {
	for _, c := range a.chain {
		if now.Before(c.NotBefore) || now.After(c.NotAfter) {
			return fmt.Errorf("certificate %q is valid from %s to %s, and it is %s", c.Subject,
				c.NotBefore.Format(time.RFC3339), c.NotAfter.Format(time.RFC3339), now.UTC().Format(time.RFC3339))
		}
	}
	return nil
}

// TrustDomain is the one that the authority signs for.
func (a *Authority) TrustDomain() spiffeid.TrustDomain { return a.td }

// Certificate is the one whose key signs.
func (a *Authority) Certificate() *x509.Certificate { return a.chain[0] }

// Name tells this authority from all others: the SHA-256 of its certificate, in hex.
func (a *Authority) Name() string { return CertificateName(a.chain[0]) }

// CertificateName is the SHA-256 of a certificate, in hex.
func CertificateName(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return hex.EncodeToString(sum[:])
}

// Expires is when the first of the certificates does that a leaf depends on.
func (a *Authority) Expires() time.Time {
	first := a.chain[0].NotAfter
	for _, c := range a.chain[1:] {
		if c.NotAfter.Before(first) {
			first = c.NotAfter
		}
	}
	// One anchor is enough for a verifier, so the last one of them counts.
	last := a.anchors[0].NotAfter
	for _, c := range a.anchors[1:] {
		if c.NotAfter.After(last) {
			last = c.NotAfter
		}
	}
	if last.Before(first) {
		return last
	}
	return first
}

// Bundle is what verifiers of this authority's leaves and tokens must trust.
func (a *Authority) Bundle() *spiffebundle.Bundle {
	b := spiffebundle.FromX509Authorities(a.td, a.anchors)
	if a.jwtKey != nil {
		b.SetJWTAuthorities(map[string]crypto.PublicKey{a.KeyID(): a.jwtKey().Public()})
	}
	return b
}

// Given says that the authority is below a root whose key is elsewhere. Whoever gave it must give the next one in time.
func (a *Authority) Given() bool { return !a.selfSigned() }

// selfSigned says whether the authority is its own anchor, whose certificate is then never sent.
func (a *Authority) selfSigned() bool {
	return len(a.chain) == 1 && len(a.anchors) == 1 && a.chain[0].Equal(a.anchors[0])
}

// Format writes the authority for people, whatever the verb: fmt would print the fields otherwise.
func (a Authority) Format(f fmt.State, _ rune) { _, _ = fmt.Fprint(f, a.String()) }

// String names the authority and its trust domain.
func (a Authority) String() string {
	if len(a.chain) == 0 {
		return "no authority"
	}
	return fmt.Sprintf("authority %.16s of %s", CertificateName(a.chain[0]), a.td)
}

// GoString is String.
func (a Authority) GoString() string { return a.String() }

// MarshalText is String, so that JSON and YAML have no more of it either.
func (a Authority) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

func newSerial() (*big.Int, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), serialBits))
	if err != nil {
		return nil, fmt.Errorf("draw a serial number: %w", err)
	}
	// RFC 5280, 4.1.2.2: positive. The top bit is set so that every serial number has all its bytes.
	return serial.SetBit(serial, serialBits-1, 1), nil
}

// checkAnchor says whether a certificate may stand in a bundle of td.
func checkAnchor(c *x509.Certificate, td spiffeid.TrustDomain) error {
	if !c.BasicConstraintsValid || !c.IsCA {
		return fmt.Errorf("certificate %q is no CA", c.Subject)
	}
	if c.KeyUsage != 0 && c.KeyUsage&x509.KeyUsageCertSign == 0 {
		return fmt.Errorf("certificate %q may not sign certificates (no keyCertSign)", c.Subject)
	}
	all, err := names(c.Extensions)
	if err != nil {
		return fmt.Errorf("certificate %q: %w", c.Subject, err)
	}
	for _, n := range all {
		if n.tag != tagURI {
			continue
		}
		id, err := uri(all)
		if err != nil {
			return fmt.Errorf("certificate %q: %w", c.Subject, err)
		}
		// X509-SVID, 3.2: the ID of a signing certificate has no path.
		if id != td.ID() {
			return fmt.Errorf("certificate %q is of %s; it must be of %s, without a path; all of the mesh must have the same --trust-domain", c.Subject, id, td.ID())
		}
	}
	return nil
}
