package identity

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

const (
	// DefaultLifetime is that of a leaf. With renewal at half of it, traffic outlives twelve hours without a CA.
	DefaultLifetime = 24 * time.Hour
	// MaxLifetime is the longest that a leaf may have. There is no revocation: expiry stands for it.
	MaxLifetime = 7 * 24 * time.Hour
	// MinLifetime is the shortest: certificates count in seconds.
	MinLifetime = time.Second

	minIssuerLeft = time.Minute
	maxDNSNames   = 16
)

// Request is what an [Issuer] is asked for. Who fills it in answers for it: the ID and the pod are as attested, the key
// as [CheckCSR] gave it.
type Request struct {
	ID       spiffeid.ID
	Key      crypto.PublicKey // ECDSA on P-256
	Pod      string           // empty for the control plane's own
	PodUID   string           // empty without a cluster
	Lifetime time.Duration    // default DefaultLifetime; a leaf never outlives its issuer, and so may get less
	DNSNames []string         // serving certificates of the control plane only: not together with Pod
}

// Issuer signs leaves. The first certificate of the answer is the leaf, then come the intermediates; an anchor is never
// among them. The package's documentation says what an issuer of another kind must do.
type Issuer interface {
	Issue(ctx context.Context, r Request) ([]*x509.Certificate, error)
}

// Issue signs a leaf, now. The certificate is checked before it is signed: a template that breaks a rule never meets
// the CA's key. All refusals have a [Code].
func (a *Authority) Issue(ctx context.Context, r Request) ([]*x509.Certificate, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("issue a certificate to %s: %w", r.ID, err)
	}
	return a.issue(r, time.Now())
}

func (a *Authority) issue(r Request, now time.Time) ([]*x509.Certificate, error) {
	template, err := a.template(r, now)
	if err != nil {
		return nil, err
	}
	// Signed first with a key that is worth nothing, then looked at as a verifier sees it (what was asked of the encoder
	// and what came out of it are two things), and only then signed with the CA's.
	draft, err := sign(template, a.issuerWith(a.lintKey()), r.Key, a.lintKey())
	if err != nil {
		return nil, refuse(CodeLint, "issue a certificate to %s: draft it: %w", r.ID, err)
	}
	if err := lint(draft, r, now); err != nil {
		return nil, refuse(CodeLint, "issue a certificate to %s: %w", r.ID, err)
	}
	leaf, err := sign(template, a.chain[0], r.Key, a.key())
	if err != nil {
		return nil, fmt.Errorf("issue a certificate to %s: sign it: %w", r.ID, err)
	}
	if !slices.Equal(leaf.RawTBSCertificate, draft.RawTBSCertificate) {
		return nil, refuse(CodeLint, "issue a certificate to %s: what was signed is not what was checked", r.ID)
	}
	if len(r.DNSNames) > 0 { // the trust domain and the usages were tried when the CA was loaded; these were not
		if err := a.accepts(leaf, r, now); err != nil {
			return nil, err
		}
	}
	if a.selfSigned() {
		return []*x509.Certificate{leaf}, nil
	}
	return append([]*x509.Certificate{leaf}, a.chain...), nil
}

// accepts verifies the leaf as its peers will, for both roles: above it, constraints may exclude it.
func (a *Authority) accepts(leaf *x509.Certificate, r Request, now time.Time) error {
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	for _, c := range a.anchors {
		roots.AddCert(c)
	}
	for _, c := range a.chain {
		between.AddCert(c)
	}
	for _, usage := range []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} {
		_, err := leaf.Verify(x509.VerifyOptions{
			Roots: roots, Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{usage},
		})
		if err != nil {
			return refuse(CodeChain, "issue a certificate to %s: it would not be accepted: %w; see what the certificates above it exclude", r.ID, err)
		}
	}
	return nil
}

func (a *Authority) template(r Request, now time.Time) (*x509.Certificate, error) {
	if _, _, err := Split(r.ID); err != nil {
		return nil, fmt.Errorf("issue a certificate: %w", err)
	}
	if r.ID.TrustDomain() != a.td {
		return nil, refuse(CodeTrustDomain, "issue a certificate to %s: this CA is of trust domain %s", r.ID, a.td)
	}
	if _, err := p256(r.Key); err != nil {
		return nil, fmt.Errorf("issue a certificate to %s: %w", r.ID, err)
	}
	extensions, err := r.extensions()
	if err != nil {
		return nil, refuse(CodeRequest, "issue a certificate to %s: %w", r.ID, err)
	}
	notBefore, notAfter, err := a.validity(r, now)
	if err != nil {
		return nil, err
	}
	serial, err := newSerial()
	if err != nil {
		return nil, fmt.Errorf("issue a certificate to %s: %w", r.ID, err)
	}
	return &x509.Certificate{
		SerialNumber:          serial,
		NotBefore:             notBefore,
		NotAfter:              notAfter,
		URIs:                  []*url.URL{r.ID.URL()},
		DNSNames:              r.DNSNames,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
		ExtraExtensions:       extensions,
	}, nil
}

func (r Request) extensions() ([]pkix.Extension, error) {
	if len(r.DNSNames) > maxDNSNames {
		return nil, fmt.Errorf("it has %d DNS names, and at most %d are allowed", len(r.DNSNames), maxDNSNames)
	}
	for _, name := range r.DNSNames {
		if !isSubdomain(name) {
			return nil, fmt.Errorf("%q is no DNS name (lower case, no wildcard, no dot at the end)", name)
		}
	}
	if r.Pod == "" {
		if r.PodUID != "" {
			return nil, fmt.Errorf("it has a pod's UID without the pod")
		}
		return nil, nil
	}
	if len(r.DNSNames) > 0 {
		return nil, fmt.Errorf("it is for pod %s and for the DNS names %s; only the control plane's own have DNS names",
			r.Pod, strings.Join(r.DNSNames, ", "))
	}
	e, err := podExtension(r.Pod, r.PodUID)
	if err != nil {
		return nil, err
	}
	return []pkix.Extension{e}, nil
}

// validity is from a little before now for as long as asked, within that of the issuer.
func (a *Authority) validity(r Request, now time.Time) (notBefore, notAfter time.Time, err error) {
	lifetime := r.Lifetime
	if lifetime == 0 {
		lifetime = DefaultLifetime
	}
	if lifetime < MinLifetime || lifetime > MaxLifetime {
		return notBefore, notAfter, refuse(CodeLifetime, "issue a certificate to %s: a lifetime of %s; choose between %s and %s",
			r.ID, lifetime, MinLifetime, MaxLifetime)
	}
	if err := a.maySign(now); err != nil {
		return notBefore, notAfter, fmt.Errorf("issue a certificate to %s: %w", r.ID, err)
	}
	expires := a.Expires()
	// Certificates count in whole seconds; rounded so that the validity is never shorter than it should be.
	notAfter = now.Add(lifetime + time.Second - 1).Truncate(time.Second)
	if notAfter.After(expires) {
		notAfter = expires
	}
	notBefore = now.Add(-BackDate).Truncate(time.Second)
	if begin := a.chain[0].NotBefore; notBefore.Before(begin) {
		notBefore = begin
	}
	return notBefore.UTC(), notAfter.UTC(), nil
}

// maySign refuses while the CA is not valid, or hardly any more.
func (a *Authority) maySign(now time.Time) error {
	if expires := a.Expires(); expires.Sub(now) < minIssuerLeft {
		return refuse(CodeIssuerExpiring, "the CA expires at %s, in less than %s; replace it (a rotation needs it while it still lives)",
			expires.UTC().Format(time.RFC3339), minIssuerLeft)
	}
	if err := a.valid(now); err != nil {
		return refuse(CodeAuthority, "the CA may not sign: %w; compare the clocks", err)
	}
	return nil
}

// issuerWith is the CA's certificate as if it held another key: the same in all that goes into a leaf.
func (a *Authority) issuerWith(key *ecdsa.PrivateKey) *x509.Certificate {
	c := *a.chain[0]
	c.PublicKey = key.Public()
	return &c
}

func sign(template, issuer *x509.Certificate, leaf crypto.PublicKey, key *ecdsa.PrivateKey) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, issuer, leaf, key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}
