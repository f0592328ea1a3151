package controlplane

import (
	"context"
	"crypto/tls"
	"net"

	"github.com/heddle-mesh/heddle/buildinfo"
	"github.com/heddle-mesh/heddle/controlplane/api"
)

// API is where the command line asks, by a port-forward to this pod's loopback. All but Identity are required.
type API struct {
	Listener net.Listener // on a loopback address; closed when the control plane ends
	// Certificate is this process's own, of the server's SPIFFE ID, as the door shows it: for tls.Config.GetCertificate.
	Certificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)
	Reviews     api.TokenReviews
	// Identity gives the facts of identities; nil where this process does not sign.
	Identity func(ctx context.Context) (any, error)
}

// ServeAPI answers the command line until ctx ends: who may create tokens of the ServiceAccounts that api names sees what
// those are for.
func (p *Plane) ServeAPI(ctx context.Context, a API) error {
	config := &tls.Config{MinVersion: tls.VersionTLS13, GetCertificate: a.Certificate, SessionTicketsDisabled: true}
	return api.Serve(ctx, tls.NewListener(a.Listener, config), api.Handler(api.Options{
		Mesh: p, Authenticator: api.NewReviewer(a.Reviews, p.options.Namespace), Version: buildinfo.Get(), Identity: a.Identity,
	}))
}

// API answers the command line with this signer's certificate and facts.
func (s *Signer) API(l net.Listener, reviews api.TokenReviews) *API {
	return &API{Listener: l, Certificate: s.door.certificate, Reviews: reviews, Identity: func(ctx context.Context) (any, error) {
		s.await(ctx)
		return s.Facts()
	}}
}
