package workloadapi

import (
	"crypto/x509"
	"fmt"
	"slices"

	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
)

// FetchX509SVID gives the certificate, its key and the bundle that verifies peers.
func (s *Server) FetchX509SVID(_ *workload.X509SVIDRequest, g workload.SpiffeWorkloadAPI_FetchX509SVIDServer) error {
	return stream(s, g, x509SVID)
}

func x509SVID(svid *SVID, bundle *spiffebundle.Bundle) (*workload.X509SVIDResponse, error) {
	if svid == nil || bundle == nil {
		return nil, nil
	}
	key, err := svid.PKCS8()
	if err != nil {
		return nil, fmt.Errorf("write the key of %s as PKCS #8: %w", svid.ID, err)
	}
	return &workload.X509SVIDResponse{Svids: []*workload.X509SVID{{
		SpiffeId: svid.ID.String(), X509Svid: concatenate(svid.Chain), X509SvidKey: key,
		Bundle: concatenate(bundle.X509Authorities()),
	}}}, nil
}

// FetchX509Bundles gives the certificates that verify peers.
func (s *Server) FetchX509Bundles(_ *workload.X509BundlesRequest, g workload.SpiffeWorkloadAPI_FetchX509BundlesServer) error {
	return stream(s, g, func(_ *SVID, bundle *spiffebundle.Bundle) (*workload.X509BundlesResponse, error) {
		if bundle == nil {
			return nil, nil
		}
		return &workload.X509BundlesResponse{Bundles: map[string][]byte{
			bundle.TrustDomain().IDString(): concatenate(bundle.X509Authorities()),
		}}, nil
	})
}

// concatenate writes certificates one after the other, as the Workload API has them.
func concatenate(certs []*x509.Certificate) []byte {
	var all []byte
	for _, c := range certs {
		all = slices.Concat(all, c.Raw)
	}
	return all
}
