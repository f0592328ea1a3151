package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/heddle-mesh/heddle/identity"
)

const (
	// maxAnswer bounds what is read of an answer: a bundle of 100 roots has about 150 KiB.
	maxAnswer = 1 << 20
	// maxFacts bounds them: 400 bytes for each sidecar.
	maxFacts = 64 << 20
	// pollTimeout is longer than the signer waits for a new bundle (45 s).
	pollTimeout = time.Minute
	// attempts of a call, each over a connection of its own, while replicas answer that another one signs. Which replica a
	// connection comes to is chance; of three, eight miss the one that signs in one case of 25.
	attempts = 8
	// attemptPace is between them.
	attemptPace = 50 * time.Millisecond
	// notLeader is the code of a replica that does not sign. It says so before it looks at who asks, and closes the connection.
	notLeader = "not-leader"
)

// Options say whom to ask. Address, Signer and Bundle are required.
type Options struct {
	Address string        // host:port of the signer
	Signer  spiffeid.ID   // the only one to trust
	Timeout time.Duration // of a call, waiting for a new bundle excepted; default 10 s
	// Bundle gives the trust bundle. It is asked at every dial, because it may have rotated.
	Bundle func() (*spiffebundle.Bundle, error)
	// Certificate gives what the caller has by now, with its chain, or nil. It is asked at every call, and connections
	// that were made with an earlier one are left. May be nil if only SVID with a token is called.
	Certificate func() *tls.Certificate
}

// Client asks the signer. It is safe for concurrent use.
type Client struct {
	options Options

	mu        sync.Mutex
	transport *http.Transport
	shown     []byte // the leaf that transport's connections were made with
}

// SVID is an issued certificate with the bundle that was current then.
type SVID struct {
	Chain  []*x509.Certificate // the leaf first, then intermediates
	Bundle *spiffebundle.Bundle
	// Lifetime is that of certificates as the signer is set, in whole seconds; 0 if it does not say.
	Lifetime time.Duration
}

// New makes a client. It connects when it is first asked for something.
func New(o Options) *Client {
	if o.Timeout == 0 {
		o.Timeout = 10 * time.Second
	}
	return &Client{options: o}
}

// SVID asks for a certificate for the key of a CSR (DER, PKCS #10), by a token, or with "" by the certificate that the
// caller has. What comes is checked: the chain leads to the bundle, and the leaf is for the CSR's key.
func (c *Client) SVID(ctx context.Context, token string, csr []byte) (SVID, error) {
	ask := struct {
		CSR    []byte `json:"csr"`
		Renews bool   `json:"renews,omitempty"`
	}{csr, c.holds()}
	return c.certify(ctx, "/v1/svid", token, ask, csr)
}

// holds says whether the caller has a certificate, so that something of it is in use.
func (c *Client) holds() bool { return c.options.Certificate != nil && c.options.Certificate() != nil }

// Serving asks for a certificate by which a server is known by DNS names, as SVID does. It is for the control plane, and
// names no pod.
func (c *Client) Serving(ctx context.Context, token string, csr []byte, names []string) (SVID, error) {
	ask := struct {
		CSR   []byte   `json:"csr"`
		Names []string `json:"names"`
	}{csr, names}
	return c.certify(ctx, "/v1/serving", token, ask, csr)
}

func (c *Client) certify(ctx context.Context, path, token string, ask any, csr []byte) (SVID, error) {
	var answer struct {
		Chain    [][]byte        `json:"chain"`
		Bundle   json.RawMessage `json:"bundle"`
		Lifetime int64           `json:"lifetime"`
	}
	if _, err := c.call(ctx, call{http.MethodPost, path, token, ask, &answer, c.options.Timeout, maxAnswer}); err != nil {
		return SVID{}, fmt.Errorf("ask %s for a certificate: %w", c.options.Address, err)
	}
	svid, err := c.svidOf(answer.Chain, answer.Bundle, csr)
	if err != nil {
		return SVID{}, fmt.Errorf("read the certificate that %s issued: %w", c.options.Address, err)
	}
	svid.Lifetime = time.Duration(answer.Lifetime) * time.Second
	return svid, nil
}

func (c *Client) svidOf(chain [][]byte, bundle, csr []byte) (s SVID, err error) {
	if s.Bundle, err = identity.ParseBundle(c.options.Signer.TrustDomain(), bundle); err != nil {
		return SVID{}, err
	}
	for _, der := range chain {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return SVID{}, err
		}
		s.Chain = append(s.Chain, cert)
	}
	if _, err := identity.VerifyLeaf(s.Chain, s.Bundle, time.Now()); err != nil {
		return SVID{}, err
	}
	request, err := x509.ParseCertificateRequest(csr)
	if err != nil {
		return SVID{}, err
	}
	if !bytes.Equal(request.RawSubjectPublicKeyInfo, s.Chain[0].RawSubjectPublicKeyInfo) {
		return SVID{}, errors.New("it is for another key than the one that was sent")
	}
	return s, nil
}

// Uses is what a sidecar's Envoy has in use, each "" if that is not known.
type Uses struct {
	Bundle string // its fingerprint
	Leaf   string // [identity.CertificateName] of its certificate
}

// Bundle waits until the bundle is another one than that with the fingerprint after, and gives it; nil if none came
// within the signer's patience of 45 s. The signer hears what is in use. It needs a certificate.
func (c *Client) Bundle(ctx context.Context, after string, uses Uses) (*spiffebundle.Bundle, error) {
	query := url.Values{"after": {after}, "taken": {uses.Bundle}, "leaf": {uses.Leaf}}
	var answer struct {
		Bundle json.RawMessage `json:"bundle"`
	}
	status, err := c.call(ctx, call{http.MethodGet, "/v1/bundle?" + query.Encode(), "", nil, &answer, pollTimeout, maxAnswer})
	if err != nil {
		return nil, fmt.Errorf("ask %s for the trust bundle: %w", c.options.Address, err)
	}
	if status == http.StatusNoContent {
		return nil, nil
	}
	b, err := identity.ParseBundle(c.options.Signer.TrustDomain(), answer.Bundle)
	if err != nil {
		return nil, fmt.Errorf("read the trust bundle that %s sent: %w", c.options.Address, err)
	}
	return b, nil
}

// JWT asks for a JWT-SVID of the caller's own ID. It needs a certificate.
func (c *Client) JWT(ctx context.Context, audience []string) (string, error) {
	var answer struct {
		Token string `json:"token"`
	}
	ask := map[string][]string{"audience": audience}
	if _, err := c.call(ctx, call{http.MethodPost, "/v1/jwt", "", ask, &answer, c.options.Timeout, maxAnswer}); err != nil {
		return "", fmt.Errorf("ask %s for a JWT: %w", c.options.Address, err)
	}
	return answer.Token, nil
}

// Facts asks for what people may know of identities, as JSON. It is for the control plane, and needs its certificate.
func (c *Client) Facts(ctx context.Context) (json.RawMessage, error) {
	var answer json.RawMessage
	if _, err := c.call(ctx, call{http.MethodGet, "/v1/facts", "", nil, &answer, c.options.Timeout, maxFacts}); err != nil {
		return nil, fmt.Errorf("ask %s for the facts of identities: %w", c.options.Address, err)
	}
	return answer, nil
}

// Close leaves all connections that nobody uses.
func (c *Client) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.transport != nil {
		c.transport.CloseIdleConnections()
	}
}

type call struct {
	method, path, token string
	ask, answer         any // JSON; ask may be nil
	timeout             time.Duration
	most                int64 // bytes of the answer
}

// call gives the status of a good answer, which is read into call.answer unless it is empty by its status.
func (c *Client) call(ctx context.Context, o call) (status int, err error) {
	ctx, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	var text []byte
	if o.ask != nil {
		if text, err = json.Marshal(o.ask); err != nil {
			return 0, err
		}
	}
	for range attempts - 1 {
		status, err = c.attempt(ctx, o, text)
		if e, ok := errors.AsType[*Error](err); !ok || e.Code != notLeader {
			return status, err
		}
		select {
		case <-time.After(attemptPace):
		case <-ctx.Done():
			return 0, err
		}
	}
	return c.attempt(ctx, o, text)
}

// attempt is call, once. What is asked is given as text, which is empty if nothing is sent.
func (c *Client) attempt(ctx context.Context, o call, ask []byte) (status int, err error) {
	var body io.Reader
	if len(ask) > 0 {
		body = bytes.NewReader(ask)
	}
	request, err := http.NewRequestWithContext(ctx, o.method, "https://"+c.options.Address+o.path, body)
	if err != nil {
		return 0, err
	}
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	if o.token != "" {
		request.Header.Set("Authorization", "Bearer "+o.token)
	}
	response, err := c.transportFor(o.token).RoundTrip(request) // not http.Client: a redirect is not followed, with the token least of all
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, o.most+1))
	switch {
	case err != nil:
		return 0, fmt.Errorf("read the answer: %w", err)
	case int64(len(text)) > o.most:
		return 0, fmt.Errorf("the answer has more than %d bytes", o.most)
	case response.StatusCode == http.StatusNoContent:
		return response.StatusCode, nil
	case response.StatusCode != http.StatusOK:
		return 0, errorOf(response.StatusCode, text)
	}
	if err := json.Unmarshal(text, o.answer); err != nil {
		return 0, fmt.Errorf("read the answer: %w", err)
	}
	return response.StatusCode, nil
}

func errorOf(status int, text []byte) error {
	var said struct{ Code, Message string }
	if err := json.Unmarshal(text, &said); err != nil {
		return &Error{Status: status} // somebody else's answer, a proxy's for example
	}
	return &Error{Status: status, Code: said.Code, Message: said.Message}
}

// transportFor gives connections for a call. One with a token shows no certificate: the token is enough, and an expired
// certificate would spoil it. The others show the certificate that the caller has now: the signer looks at it for every
// request, so a connection that shows an old one is of no use once that has expired.
func (c *Client) transportFor(token string) *http.Transport {
	if token != "" || c.options.Certificate == nil {
		t := c.newTransport(nil)
		t.DisableKeepAlives = true // it is seldom asked for; no memory is kept for it
		return t
	}
	cert := c.options.Certificate()
	var leaf []byte
	if cert != nil && len(cert.Certificate) > 0 {
		leaf = cert.Certificate[0]
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.transport == nil || !bytes.Equal(leaf, c.shown) {
		if c.transport != nil {
			c.transport.CloseIdleConnections() // what is in use ends by itself
		}
		c.transport, c.shown = c.newTransport(cert), leaf
	}
	return c.transport
}

func (c *Client) newTransport(cert *tls.Certificate) *http.Transport {
	var protocols http.Protocols
	protocols.SetHTTP2(true)
	config := &tls.Config{
		MinVersion:             tls.VersionTLS13,
		InsecureSkipVerify:     true, // of names; verify below asks for the SPIFFE ID
		VerifyConnection:       c.verify,
		SessionTicketsDisabled: true, // and no ClientSessionCache: every connection is verified
	}
	if cert != nil {
		// Not Certificates: those are left out if the server names authorities that it does not match.
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cert, nil }
	}
	return &http.Transport{
		DialContext:         (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
		TLSClientConfig:     config,
		TLSHandshakeTimeout: c.options.Timeout,
		Protocols:           &protocols,
		IdleConnTimeout:     90 * time.Second,
		MaxConnsPerHost:     2,
	}
}

// verify accepts the signer and nobody else.
func (c *Client) verify(s tls.ConnectionState) error {
	bundle, err := c.options.Bundle()
	if err != nil {
		return fmt.Errorf("read the trust bundle: %w", err)
	}
	id, err := identity.VerifyLeaf(s.PeerCertificates, bundle, time.Now())
	if identity.CodeOf(err) == identity.CodeTrustDomain {
		return fmt.Errorf("verify the signer: %w; both must have the same --trust-domain", err)
	}
	if err != nil {
		return fmt.Errorf("verify the signer: %w", err)
	}
	if id != c.options.Signer {
		return fmt.Errorf("verify the signer: it is %s; it must be %s", id, c.options.Signer)
	}
	return nil
}
