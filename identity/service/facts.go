package service

import (
	"context"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"net/http"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"

	"github.com/heddle-mesh/heddle/identity"
)

// Facts is what people are told.
type Facts struct {
	TrustDomain  string    `json:"trustDomain"`
	Fingerprint  string    `json:"fingerprint"` // of the bundle
	Anchors      []Anchor  `json:"anchors"`
	Issuers      []Issuer  `json:"issuers"`      // the one that signs first
	ControlPlane []Leaf    `json:"controlPlane"` // the control plane's own certificates
	Sidecars     []Sidecar `json:"sidecars"`
	Rotation     any       `json:"rotation,omitempty"`
}

// Anchor is a root that sidecars trust.
type Anchor struct {
	Name      string    `json:"name"` // identity.CertificateName, by which sidecars' leaves name who signed them
	Subject   string    `json:"subject"`
	Serial    string    `json:"serial"`
	Algorithm string    `json:"algorithm"` // of its key
	NotBefore time.Time `json:"notBefore"`
	NotAfter  time.Time `json:"notAfter"`
}

// Issuer is an authority of ours; those of a rotation are two.
type Issuer struct {
	Anchor
	Signs   bool      `json:"signs"`   // leaves, now
	Given   bool      `json:"given"`   // below a root whose key is elsewhere
	Expires time.Time `json:"expires"` // when it, or the first thing above that it needs, does
	Anchors []string  `json:"anchors"` // the names of those that it leads to
}

// Leaf is a certificate of the control plane itself.
type Leaf struct {
	ID        string    `json:"id"`
	Serial    string    `json:"serial"`
	Authority string    `json:"authority"` // the name of who signed it
	NotBefore time.Time `json:"notBefore"`
	NotAfter  time.Time `json:"notAfter"`
}

// LeafOf tells of a certificate by its chain.
func LeafOf(id string, chain []*x509.Certificate, bundle *spiffebundle.Bundle) Leaf {
	return Leaf{
		id, hex.EncodeToString(chain[0].SerialNumber.Bytes()), AuthorityOf(chain, bundle), chain[0].NotBefore.UTC(), chain[0].NotAfter.UTC(),
	}
}

// Facts tells what there is now.
func (s *Server) Facts() (Facts, error) {
	bundle, _, err := s.options.Authorities.Bundle()
	if err != nil {
		return Facts{}, err
	}
	f := Facts{
		TrustDomain: bundle.TrustDomain().Name(), Fingerprint: identity.Fingerprint(bundle),
		ControlPlane: s.ownLeaf(bundle), Sidecars: s.connected.Sidecars(),
	}
	for _, root := range bundle.X509Authorities() {
		f.Anchors = append(f.Anchors, anchorOf(root))
	}
	if s.options.Issuers != nil {
		f.Issuers = issuersOf(s.options.Issuers())
	}
	for i, c := range f.Sidecars {
		id, err := identity.ID(bundle.TrustDomain(), c.Namespace, c.Account)
		if err != nil {
			return Facts{}, fmt.Errorf("tell of the sidecar of %s/%s: %w", c.Namespace, c.Pod, err)
		}
		f.Sidecars[i].ID = id.String()
	}
	if s.options.Progress != nil {
		f.Rotation = s.options.Progress()
	}
	return f, nil
}

func anchorOf(c *x509.Certificate) Anchor {
	return Anchor{
		identity.CertificateName(c), c.Subject.String(), hex.EncodeToString(c.SerialNumber.Bytes()), algorithmOf(c),
		c.NotBefore.UTC(), c.NotAfter.UTC(),
	}
}

func algorithmOf(c *x509.Certificate) string {
	switch key := c.PublicKey.(type) {
	case *ecdsa.PublicKey:
		return "ECDSA " + key.Curve.Params().Name
	case *rsa.PublicKey:
		return fmt.Sprintf("RSA %d", key.N.BitLen())
	}
	return c.PublicKeyAlgorithm.String()
}

// issuersOf tells of authorities, of which the first signs.
func issuersOf(all []*identity.Authority) []Issuer {
	var issuers []Issuer
	for i, a := range all {
		issuer := Issuer{Anchor: anchorOf(a.Certificate()), Signs: i == 0, Given: a.Given(), Expires: a.Expires().UTC()}
		for _, root := range a.Bundle().X509Authorities() {
			issuer.Anchors = append(issuer.Anchors, identity.CertificateName(root))
		}
		issuers = append(issuers, issuer)
	}
	return issuers
}

// ownLeaf is the certificate that the signer shows who calls now; none if it cannot make one, which the progress explains.
func (s *Server) ownLeaf(bundle *spiffebundle.Bundle) []Leaf {
	_ = s.Certified(context.Background()) // it signs in memory
	s.own.mu.Lock()
	defer s.own.mu.Unlock()
	if s.own.chain == nil {
		return nil
	}
	return []Leaf{LeafOf(s.options.ID.String(), s.own.chain, bundle)}
}

// facts answers GET /v1/facts.
func (s *Server) facts(w http.ResponseWriter, r *http.Request) error {
	if s.options.People == nil {
		return &problem{http.StatusForbidden, codeForbidden, "nobody may read the facts here", nil}
	}
	if err := s.options.People(r); err != nil {
		return &problem{http.StatusForbidden, codeForbidden, "you may not read the facts of identities", err}
	}
	f, err := s.Facts()
	if err != nil {
		return err
	}
	write(w, s.options.Log, http.StatusOK, f)
	return nil
}
