package identity

import (
	"crypto/x509"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
)

// VerifyLeaf says whose certificate a peer has shown, leaf first. It is stricter than go-spiffe's x509svid.Verify,
// which takes a trust domain alone for an identity, a leaf whose key may not sign a handshake, and IDs of any shape:
// here the ID must be one that [ID] makes, of the bundle's own trust domain, byte by byte.
//
// Call it from tls.Config.VerifyConnection, and not from VerifyPeerCertificate, which a resumed session does not call.
func VerifyLeaf(chain []*x509.Certificate, bundle *spiffebundle.Bundle, now time.Time) (spiffeid.ID, error) {
	if len(chain) == 0 {
		return spiffeid.ID{}, refuse(CodeChain, "verify a peer of trust domain %s: it showed no certificate", bundle.TrustDomain())
	}
	leaf := chain[0]
	all, err := names(leaf.Extensions)
	if err != nil {
		return spiffeid.ID{}, refuse(CodeSAN, "verify a peer of trust domain %s: its certificate: %w", bundle.TrustDomain(), err)
	}
	id, err := uri(all)
	if err != nil {
		return spiffeid.ID{}, refuse(CodeSAN, "verify a peer of trust domain %s: its certificate: %w", bundle.TrustDomain(), err)
	}
	if id.TrustDomain() != bundle.TrustDomain() {
		return spiffeid.ID{}, refuse(CodeTrustDomain, "verify peer %s: it is of another trust domain than %s", id, bundle.TrustDomain())
	}
	if _, _, err := Split(id); err != nil {
		return spiffeid.ID{}, err
	}
	if leaf.IsCA || leaf.KeyUsage&(x509.KeyUsageCertSign|x509.KeyUsageCRLSign) != 0 {
		return spiffeid.ID{}, refuse(CodeLeafUsage, "verify peer %s: its certificate is a CA's", id)
	}
	if leaf.KeyUsage&x509.KeyUsageDigitalSignature == 0 {
		return spiffeid.ID{}, refuse(CodeLeafUsage, "verify peer %s: its certificate's key may not sign a handshake (no digitalSignature)", id)
	}
	if _, _, err := x509svid.Verify(chain, bundle, x509svid.WithTime(now)); err != nil {
		code := CodeChain
		if outOfTime(err) {
			code = CodeExpired
		}
		return spiffeid.ID{}, refuse(code, "verify peer %s: %w", id, err)
	}
	return id, nil
}

// VerifyPod is [VerifyLeaf] for a peer that must be a pod's sidecar. It gives all of the workload but the node.
func VerifyPod(chain []*x509.Certificate, bundle *spiffebundle.Bundle, now time.Time) (Workload, error) {
	id, err := VerifyLeaf(chain, bundle, now)
	if err != nil {
		return Workload{}, err
	}
	namespace, account, err := Split(id)
	if err != nil {
		return Workload{}, err
	}
	pod, uid, err := PodOf(chain[0])
	if err != nil {
		return Workload{}, err
	}
	return Workload{Namespace: namespace, Account: account, Pod: pod, PodUID: uid}, nil
}
