package identity

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

const (
	pemCertificate = "CERTIFICATE"
	pemKey         = "PRIVATE KEY"    // PKCS #8
	pemECKey       = "EC PRIVATE KEY" // SEC 1, as openssl ecparam writes it

	maxMaterial = 256 << 10 // bytes of one PEM text
	maxChain    = 8         // certificates
)

// Material is an [Authority] as it is stored: PEM texts. It prints as nothing.
type Material struct {
	Certificates []byte // the CA's own first, then those above it; without the anchor, unless it is its own
	Key          []byte // ECDSA on P-256 or P-384; PKCS #8 or SEC 1
	Anchors      []byte // what verifiers trust; empty if the one certificate is self-signed
	JWTKey       []byte // ECDSA on P-256; empty: no tokens
}

// Format writes no key, whatever the verb.
func (m Material) Format(f fmt.State, _ rune) { _, _ = fmt.Fprint(f, m.String()) }

// String says only that there is something.
func (m Material) String() string { return "a CA's material" }

// GoString is String.
func (m Material) GoString() string { return m.String() }

// MarshalText is String: who stores material takes its fields one by one.
func (m Material) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// NewJWTKey makes a key for tokens, for a given CA that has none.
func NewJWTKey() ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a key for tokens: %w", err)
	}
	return keyPEM(key)
}

// LoadAuthority makes a CA from what is stored, or was given: a root of ours, or an intermediate below an offline
// root. It is an error, and never leads to another CA, if a text cannot be read, if certificate and key do not belong
// together, if the chain does not lead to an anchor or is not valid now, or if anything above excludes leaves of td
// (name constraints, path lengths, usages). No error contains any of a key.
func LoadAuthority(td spiffeid.TrustDomain, m Material, now time.Time) (*Authority, error) {
	a, err := load(td, m)
	if err != nil {
		return nil, err
	}
	if err := a.Check(now); err != nil {
		return nil, err
	}
	return a, nil
}

// LoadKept is LoadAuthority for one that was accepted before and is kept since: it may have expired. Verifiers may have
// to know of it still, or another one signs already; what it is to sign after that is refused when it is asked for.
func LoadKept(td spiffeid.TrustDomain, m Material, now time.Time) (*Authority, error) {
	a, err := load(td, m)
	if err != nil {
		return nil, err
	}
	if err := a.Check(now); err != nil && !outOfTime(err) && a.maySign(now) == nil {
		return nil, err
	}
	return a, nil
}

// outOfTime says whether a certificate was refused for nothing but the time: an anchor may expire first.
func outOfTime(err error) bool {
	invalid, ok := errors.AsType[x509.CertificateInvalidError](err)
	return ok && invalid.Reason == x509.Expired
}

// load makes an authority of what is sound in itself, whatever the time.
func load(td spiffeid.TrustDomain, m Material) (*Authority, error) {
	p := authorityParts{td: td}
	var err error
	if p.chain, err = parseCertificates(m.Certificates); err != nil {
		return nil, refuse(CodeAuthority, "load the CA of %s: its certificates: %w", td, err)
	}
	p.anchors = p.chain
	if len(m.Anchors) > 0 {
		if p.anchors, err = parseCertificates(m.Anchors); err != nil {
			return nil, refuse(CodeAuthority, "load the CA of %s: its anchors: %w", td, err)
		}
	} else if len(p.chain) != 1 || !isSelfSigned(p.chain[0]) {
		return nil, refuse(CodeAuthority, "load the CA of %s: its certificate is not self-signed; give the anchors that it leads to", td)
	}
	if p.key, err = parseKey(m.Key); err != nil {
		return nil, refuse(CodeAuthority, "load the CA of %s: its key: %w", td, err)
	}
	if len(m.JWTKey) > 0 {
		if p.jwtKey, err = parseKey(m.JWTKey); err == nil && p.jwtKey.Curve != elliptic.P256() {
			err = errors.New("it is not on P-256")
		}
		if err != nil {
			return nil, refuse(CodeAuthority, "load the CA of %s: its key for tokens: %w", td, err)
		}
	}
	if err := checkParts(p); err != nil {
		return nil, refuse(CodeAuthority, "load the CA of %s: %w", td, err)
	}
	return unchecked(p)
}

func checkParts(p authorityParts) error {
	if !p.key.PublicKey.Equal(p.chain[0].PublicKey) {
		return errors.New("certificate and key do not belong together")
	}
	for i, c := range p.chain {
		if err := checkAnchor(c, p.td); err != nil {
			return err
		}
		if c.KeyUsage&x509.KeyUsageCertSign == 0 {
			return fmt.Errorf("certificate %q may not sign certificates (no keyCertSign)", c.Subject)
		}
		if i > 0 {
			if err := p.chain[i-1].CheckSignatureFrom(c); err != nil {
				return fmt.Errorf("certificate %q is not signed by the next one, %q: %w", p.chain[i-1].Subject, c.Subject, err)
			}
		}
	}
	for _, c := range p.anchors {
		if err := checkAnchor(c, p.td); err != nil {
			return fmt.Errorf("anchor: %w", err)
		}
	}
	return nil
}

// Material gives what [LoadAuthority] needs, keys and all.
func (a *Authority) Material() (Material, error) {
	m := Material{Certificates: CertificatesPEM(a.chain)}
	if !a.selfSigned() {
		m.Anchors = CertificatesPEM(a.anchors)
	}
	var err error
	if m.Key, err = keyPEM(a.key()); err != nil {
		return Material{}, fmt.Errorf("write the key of %s: %w", a, err)
	}
	if a.jwtKey != nil {
		if m.JWTKey, err = keyPEM(a.jwtKey()); err != nil {
			return Material{}, fmt.Errorf("write the key for tokens of %s: %w", a, err)
		}
	}
	return m, nil
}

func isSelfSigned(c *x509.Certificate) bool {
	return bytes.Equal(c.RawIssuer, c.RawSubject) && c.CheckSignatureFrom(c) == nil
}

// parseCertificates reads certificates and nothing else: what a PEM reader passes over may be what somebody meant.
func parseCertificates(text []byte) ([]*x509.Certificate, error) {
	if len(text) > maxMaterial {
		return nil, fmt.Errorf("%d bytes, and at most %d are read", len(text), maxMaterial)
	}
	var all []*x509.Certificate
	for rest := bytes.TrimSpace(text); len(rest) > 0; rest = bytes.TrimSpace(rest) {
		block, next, err := pemBlock(rest)
		if err != nil {
			return nil, err
		}
		if block.Type != pemCertificate {
			return nil, fmt.Errorf("there is a PEM block %q among them", block.Type)
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		if all, rest = append(all, c), next; len(all) > maxChain {
			return nil, fmt.Errorf("more than %d", maxChain)
		}
	}
	if len(all) == 0 {
		return nil, errors.New("there are none")
	}
	return all, nil
}

func parseKey(text []byte) (*ecdsa.PrivateKey, error) {
	if len(text) > maxMaterial {
		return nil, fmt.Errorf("%d bytes, and at most %d are read", len(text), maxMaterial)
	}
	block, rest, err := pemBlock(bytes.TrimSpace(text))
	if err != nil {
		return nil, err
	}
	if len(bytes.TrimSpace(rest)) > 0 {
		return nil, errors.New("there is more than one PEM block")
	}
	var key any
	switch block.Type {
	case pemKey:
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case pemECKey:
		key, err = x509.ParseECPrivateKey(block.Bytes)
	default:
		return nil, fmt.Errorf("a PEM block %q; write a %q that is not encrypted", block.Type, pemKey)
	}
	if err != nil {
		return nil, errors.New("it cannot be read") // not err: it may quote what it read
	}
	ec, ok := key.(*ecdsa.PrivateKey)
	if !ok || ec.Curve != elliptic.P256() && ec.Curve != elliptic.P384() {
		return nil, errors.New("it is not ECDSA on P-256 or P-384")
	}
	return ec, nil
}

// pemBlock reads the block at the very start of text.
func pemBlock(text []byte) (*pem.Block, []byte, error) {
	if !bytes.HasPrefix(text, []byte("-----BEGIN ")) {
		return nil, nil, errors.New("no PEM block where one must begin")
	}
	block, rest := pem.Decode(text)
	if block == nil {
		return nil, nil, errors.New("a PEM block that cannot be read")
	}
	return block, rest, nil
}

func keyPEM(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: pemKey, Bytes: der}), nil
}
