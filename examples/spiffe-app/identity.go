package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
)

// identity is this pod's, always the current one.
type identity struct{ *workloadapi.X509Source }

// openIdentity asks the socket that SPIFFE_ENDPOINT_SOCKET names.
func openIdentity(ctx context.Context, options ...workloadapi.ClientOption) (*identity, error) {
	source, err := workloadapi.NewX509Source(ctx, workloadapi.WithClientOptions(options...))
	if err != nil {
		return nil, fmt.Errorf("get an identity from the Workload API: %w", err)
	}
	return &identity{source}, nil
}

// server proves who we are, and lets in one ID. Sessions are not resumed: then a peer would be believed by a certificate
// that may have expired since.
func (i *identity) server(allowed spiffeid.ID) *tls.Config {
	c := tlsconfig.MTLSServerConfig(i, i, tlsconfig.AuthorizeID(allowed))
	c.MinVersion, c.SessionTicketsDisabled = tls.VersionTLS13, true
	return c
}

// client proves who we are, and talks to one ID alone: another application that has its identity itself.
func (i *identity) client(expected spiffeid.ID) *http.Client {
	c := tlsconfig.MTLSClientConfig(i, i, tlsconfig.AuthorizeID(expected))
	c.MinVersion = tls.VersionTLS13
	return &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{TLSClientConfig: c}}
}

// meshClient is a client of pods with a sidecar. A sidecar takes the mesh's own TLS from whoever offers the protocol
// heddle-http, and speaks HTTP/2 then; it selects none of what is offered, so that HTTP/2 is not agreed on but known. The
// URLs are http://, as if the sidecar were on this side: all of it goes over TLS.
func (i *identity) meshClient(expected spiffeid.ID) *http.Client {
	c := tlsconfig.MTLSClientConfig(i, i, tlsconfig.AuthorizeID(expected))
	c.MinVersion, c.NextProtos = tls.VersionTLS13, []string{"heddle-http"}
	t := &http.Transport{Protocols: new(http.Protocols)}
	t.Protocols.SetUnencryptedHTTP2(true) // the encryption is below
	t.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		return (&tls.Dialer{Config: c}).DialContext(ctx, network, address)
	}
	return &http.Client{Timeout: 10 * time.Second, Transport: meshTransport{t}}
}

// meshTransport says that the application behind the sidecar is to be spoken to in HTTP/1.1, as this one would have; the
// sidecar speaks to it as it was spoken to itself otherwise.
type meshTransport struct{ *http.Transport }

func (t meshTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context()) // a RoundTripper must not change the request that it was given
	r.Header.Set("x-heddle-protocol", "HTTP/1.1")
	return t.Transport.RoundTrip(r)
}
