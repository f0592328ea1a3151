package service

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/heddle-mesh/heddle/bounded"
	"github.com/heddle-mesh/heddle/identity"
	"github.com/heddle-mesh/heddle/identity/attest"
)

// maxConnections bounds what a flood of connections costs: some 50 KB each.
const maxConnections = 20_000

// patience is how long GET /v1/bundle waits.
const patience = 45 * time.Second

// Authorities say which authority signs now and what sidecars are to trust. They must be safe for concurrent use. An
// error that has a method ErrorCode() string is told to callers as it is.
type Authorities interface {
	// Ready fails while this process should not serve: it is not the one writer, or the CA is gone or corrupt.
	Ready() error
	// Issuer gives who signs certificates.
	Issuer() (identity.Issuer, error)
	// Tokens gives who signs JWT-SVIDs.
	Tokens() (identity.JWTSigner, error)
	// Bundle gives the trust bundle, with a channel that is closed when it, or who signs, is no longer the current one.
	Bundle() (*spiffebundle.Bundle, <-chan struct{}, error)
}

// attestor says who shows a token.
type attestor interface {
	Attest(ctx context.Context, token string) (identity.Workload, error)
}

// renewer says whose certificate it is, where that is enough for a new one.
type renewer interface {
	Renew(ctx context.Context, leaf *x509.Certificate) (identity.Workload, error)
}

// presence says whether the pod of a certificate is there still. An error is a *attest.Refusal.
type presence interface {
	Present(w identity.Workload) error
}

// Options say what a signer signs with. ID and Authorities are required.
type Options struct {
	ID          spiffeid.ID // the signer's own, by which clients know it
	Authorities Authorities
	Connected   *Connected    // default: a new one
	Lifetime    time.Duration // of leaves; default identity.DefaultLifetime
	TokenLife   time.Duration // of JWT-SVIDs; default identity.DefaultTokenLifetime
	Serving     Serving       // who gets certificates with DNS names
	// People decides who reads /v1/facts; nil for nobody.
	People func(*http.Request) error
	// Issuers are all authorities that there are, for the facts; the one that signs first. May be nil.
	Issuers func() []*identity.Authority
	// Progress is told with the facts as "rotation"; may be nil.
	Progress func() any
	Registry prometheus.Registerer // nil: nobody reads the metrics
	Log      zerolog.Logger
	Now      func() time.Time // default time.Now
}

// Server is the signer.
type Server struct {
	options   Options
	attestor  attestor
	renewer   renewer  // nil: certificates are not enough
	present   presence // nil: nobody knows which pods there are
	loopback  bool     // only
	connected *Connected
	limits    *attest.Limits // of what sidecars ask with a certificate
	addresses *addresses
	metrics   *metrics
	own       own
	mux       *http.ServeMux
}

// ForCluster makes a signer for a cluster, where a pod's token says who asks and nothing else does.
func ForCluster(o Options, a *attest.Reviewer) *Server {
	s := newServer(o, a, nil)
	s.present = a
	return s
}

// ForFiles makes a signer for sidecars that this process starts itself, by join tokens. It is no signer for a cluster:
// there is nobody to vouch for a pod, and it serves on loopback addresses only.
func ForFiles(o Options, a *attest.JoinTokens) *Server {
	s := newServer(o, a, a)
	s.loopback = true
	return s
}

func newServer(o Options, a attestor, r renewer) *Server {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Connected == nil {
		o.Connected = NewConnected(o.Now)
	}
	s := &Server{
		options: o, attestor: a, renewer: r, connected: o.Connected,
		limits: attest.NewLimits(200*time.Millisecond, 50), mux: http.NewServeMux(),
		addresses: newAddresses(),
	}
	s.metrics = newMetrics(o.Registry, s)
	s.handle("POST /v1/svid", s.svid)
	s.handle("POST /v1/serving", s.serving)
	s.handle("POST /v1/jwt", s.jwt)
	s.handle("GET /v1/bundle", s.bundle)
	s.answer("GET /v1/facts", s.tells, s.facts)
	const paths = "POST /v1/svid, POST /v1/serving, POST /v1/jwt, GET /v1/bundle and GET /v1/facts"
	s.handle("/", func(http.ResponseWriter, *http.Request) error {
		return &problem{http.StatusNotFound, codeNotFound, "there is " + paths, nil}
	})
	for _, path := range []string{"/v1/svid", "/v1/serving", "/v1/jwt", "/v1/bundle", "/v1/facts"} {
		s.handle(path, func(http.ResponseWriter, *http.Request) error {
			return &problem{http.StatusMethodNotAllowed, codeMethod, "it is " + paths, nil}
		})
	}
	return s
}

// Sidecars is the registry of who is connected.
func (s *Server) Sidecars() *Connected { return s.connected }

// ServeHTTP answers one request (http.Handler). Its connection must be one of Run's: who calls is read from it.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

// Run serves on l until ctx ends, and closes it. Requests that wait for a bundle end with ctx.
func (s *Server) Run(ctx context.Context, l net.Listener) error {
	if err := s.mayServe(l); err != nil {
		return errors.Join(err, l.Close())
	}
	var protocols http.Protocols
	protocols.SetHTTP2(true)
	server := &http.Server{
		Handler:           s,
		TLSConfig:         s.tlsConfig(),
		Protocols:         &protocols,
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: 32},
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      patience + 15*time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    32 << 10,
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ErrorLog:          newErrorLog(s.options.Log),
	}
	ended := make(chan error, 1)
	go func() { ended <- server.ServeTLS(bounded.Listener(l, maxPerAddress, maxConnections), "", "") }()
	select {
	case err := <-ended:
		return fmt.Errorf("serve the signer's API on %s: %w", l.Addr(), err)
	case <-ctx.Done():
	}
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if err := server.Shutdown(drain); err != nil {
		err = errors.Join(err, server.Close())
		s.options.Log.Warn().Err(err).Msg("ended the requests that were left; their sidecars ask again")
	}
	<-ended
	return nil
}

func (s *Server) mayServe(l net.Listener) error {
	if !s.loopback {
		return nil
	}
	if a, ok := l.Addr().(*net.TCPAddr); ok && a.IP.IsLoopback() {
		return nil
	}
	return fmt.Errorf("serve join tokens on %s: they are for sidecars on this machine alone; listen on a loopback address, or run in a cluster", l.Addr())
}

// tells fails where another process knows more. Why nothing is signed is a fact that people ask for.
func (s *Server) tells() error {
	err := s.options.Authorities.Ready()
	if c, ok := err.(coded); ok && c.ErrorCode() != codeNotLeader {
		return nil
	}
	return err
}

// handle answers a path while this process signs.
func (s *Server) handle(pattern string, h func(http.ResponseWriter, *http.Request) error) {
	s.answer(pattern, s.options.Authorities.Ready, h)
}

// answer answers a path while ready does not fail, and says what went wrong in one way.
func (s *Server) answer(pattern string, ready func() error, h func(http.ResponseWriter, *http.Request) error) {
	s.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		err := ready()
		if err == nil {
			err = h(w, r)
		} else {
			w.Header().Set("Connection", "close") // so that the next try may reach another replica
		}
		if err == nil {
			return
		}
		p := problemOf(err)
		if r.Context().Err() != nil { // we stop, or nobody listens any more: that is no refusal
			p = &problem{http.StatusServiceUnavailable, codeStopping, "this signer stops; ask again", nil}
		} else {
			s.refused(r, p)
		}
		if p.status == http.StatusTooManyRequests || p.status == http.StatusServiceUnavailable {
			w.Header().Set("Retry-After", "1")
		}
		write(w, s.options.Log, p.status, struct {
			Code    string `json:"code"`
			Message string `json:"message"`
		}{p.code, p.message})
	})
}

// refused counts a refusal and writes it down.
func (s *Server) refused(r *http.Request, p *problem) {
	s.metrics.refused(p.code)
	e := s.options.Log.Info()
	if p.status >= http.StatusInternalServerError {
		e = s.options.Log.Warn()
	}
	e.Str("code", p.code).Str("path", r.URL.Path).Str("peer", r.RemoteAddr).AnErr("cause", p).Msg("refused")
}
