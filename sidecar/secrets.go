package sidecar

import (
	"fmt"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/heddle-mesh/heddle/identity"
	"github.com/heddle-mesh/heddle/identity/hold"
	"github.com/heddle-mesh/heddle/injector/bootstrap"
)

func secretNames() []string { return []string{bootstrap.CertificateSecret, bootstrap.BundleSecret} }

type versioned struct {
	version string
	secret  *tlsv3.Secret
}

// envoySecrets renders what there is. The bundle comes first: a certificate by a new CA is of no use to an Envoy that
// does not trust that CA yet. Its version is its fingerprint, by which the signer knows it.
func envoySecrets(c *hold.Certificate, b *spiffebundle.Bundle) ([]versioned, error) {
	var out []versioned
	if b != nil {
		context, err := validation(b)
		if err != nil {
			return nil, err
		}
		out = append(out, versioned{identity.Fingerprint(b), &tlsv3.Secret{
			Name: bootstrap.BundleSecret,
			Type: &tlsv3.Secret_ValidationContext{ValidationContext: context},
		}})
	}
	if c != nil {
		private, err := c.KeyPEM()
		if err != nil {
			return nil, err
		}
		out = append(out, versioned{c.Version(), &tlsv3.Secret{
			Name: bootstrap.CertificateSecret,
			Type: &tlsv3.Secret_TlsCertificate{TlsCertificate: &tlsv3.TlsCertificate{
				CertificateChain: inline(identity.CertificatesPEM(c.Chain())),
				PrivateKey:       inline(private), // Envoy's dumps redact it
			}},
		}})
	}
	return out, nil
}

// validation trusts the authorities of the bundle by Envoy's SPIFFE validator. The usual one, trusted_ca, was seen to let in
// leaves of other trust domains, without any SPIFFE ID, and those of CAs; this one refuses them, whoever refers to the
// secret. Who the peer must be is said where the secret is referred to: two IDs in one leaf, a leaf for servers only and
// the ID spiffe://domain/ pass here, and it is the CA that signs none of them.
func validation(b *spiffebundle.Bundle) (*tlsv3.CertificateValidationContext, error) {
	config, err := anypb.New(&tlsv3.SPIFFECertValidatorConfig{
		TrustDomains: []*tlsv3.SPIFFECertValidatorConfig_TrustDomain{{
			Name: b.TrustDomain().Name(), TrustBundle: inline(identity.AnchorsPEM(b)),
		}},
	})
	if err != nil {
		return nil, fmt.Errorf("write the trust bundle for Envoy: %w", err)
	}
	return &tlsv3.CertificateValidationContext{CustomValidatorConfig: &corev3.TypedExtensionConfig{
		Name: "envoy.tls.cert_validator.spiffe", TypedConfig: config,
	}}, nil
}

func inline(pem []byte) *corev3.DataSource {
	return &corev3.DataSource{Specifier: &corev3.DataSource_InlineBytes{InlineBytes: pem}}
}
