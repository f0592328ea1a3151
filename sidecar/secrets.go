package sidecar

import (
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"

	"github.com/heddle-mesh/heddle/identity"
)

// Names of the secrets, the same beside every Envoy. They are those of injector/bootstrap.
const (
	certificateSecret = "default"
	bundleSecret      = "bundle"
)

func secretNames() []string { return []string{certificateSecret, bundleSecret} }

type versioned struct {
	version string
	secret  *tlsv3.Secret
}

// envoySecrets renders what there is. The bundle comes first: a certificate by a new CA is of no use to an Envoy that
// does not trust that CA yet. Its version is its fingerprint, by which the signer knows it.
func envoySecrets(c *certificate, b *spiffebundle.Bundle) ([]versioned, error) {
	var out []versioned
	if b != nil {
		out = append(out, versioned{identity.Fingerprint(b), &tlsv3.Secret{
			Name: bundleSecret,
			Type: &tlsv3.Secret_ValidationContext{ValidationContext: validation(b)},
		}})
	}
	if c != nil {
		private, err := c.key.pem()
		if err != nil {
			return nil, err
		}
		out = append(out, versioned{c.version(), &tlsv3.Secret{
			Name: certificateSecret,
			Type: &tlsv3.Secret_TlsCertificate{TlsCertificate: &tlsv3.TlsCertificate{
				CertificateChain: inline(identity.CertificatesPEM(c.chain)),
				PrivateKey:       inline(private), // Envoy's dumps redact it
			}},
		}})
	}
	return out, nil
}

// validation trusts the authorities of the bundle. Who the peer must be is said where the secret is referred to.
func validation(b *spiffebundle.Bundle) *tlsv3.CertificateValidationContext {
	return &tlsv3.CertificateValidationContext{TrustedCa: inline(identity.AnchorsPEM(b))}
}

func inline(pem []byte) *corev3.DataSource {
	return &corev3.DataSource{Specifier: &corev3.DataSource_InlineBytes{InlineBytes: pem}}
}
