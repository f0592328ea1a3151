package identity

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"
)

const (
	renewAt     = 0.5 // of the life that is left when the certificate comes
	renewSpread = 0.1 // and so much earlier or later: a thousand sidecars that started at once must not renew at once

	firstRetry = 250 * time.Millisecond
	startRetry = 5 * time.Second // the longest pause before the first certificate: nothing works without it
	shortRetry = time.Second     // the longest pause after it is a tenth of its life, between these two
	longRetry  = 30 * time.Second
)

// ErrNoCertificate is what [Current] answers a handshake before the first certificate has come.
var ErrNoCertificate = errors.New("there is no certificate yet; the CA has not answered")

// Current holds the certificate in use. Its zero value holds none. Handshakes read it as they come, so a renewal needs
// no restart and touches no connection. It is safe for concurrent use; a certificate that it holds is never changed.
type Current struct {
	held atomic.Pointer[tls.Certificate]
}

// Certificate is the one in use, or nil.
func (c *Current) Certificate() *tls.Certificate { return c.held.Load() }

// Set puts a certificate in use; its Leaf must be set.
func (c *Current) Set(cert *tls.Certificate) { c.held.Store(cert) }

// GetCertificate is for tls.Config's field of that name: a server's certificate.
func (c *Current) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.get() }

// GetClientCertificate is for tls.Config's field of that name: a client's certificate.
func (c *Current) GetClientCertificate(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	return c.get()
}

func (c *Current) get() (*tls.Certificate, error) {
	if cert := c.held.Load(); cert != nil {
		return cert, nil
	}
	return nil, ErrNoCertificate
}

// Renewer keeps a certificate fresh.
type Renewer struct {
	o     RenewerOptions
	asked chan struct{}
}

// RenewerOptions say where certificates come from and go to.
type RenewerOptions struct {
	// Fetch makes a key and has it certified; the Leaf of the answer must be set. It is called by one goroutine, at
	// the beginning, at 50 % +- 10 % of the life that was left when the last one came, and again after failures.
	Fetch func(context.Context) (*tls.Certificate, error)
	// Use is told each certificate, before the next is fetched. [Current.Set] is one.
	Use func(*tls.Certificate)
	// Failed is told each failure and when the next try comes; nil: nobody is. Until then the last certificate stays.
	Failed func(err error, retry time.Duration)
	// Timeout is that of one Fetch; default 10 s.
	Timeout time.Duration
}

// NewRenewer makes a renewer; [Renewer.Run] runs it.
func NewRenewer(o RenewerOptions) *Renewer {
	if o.Failed == nil {
		o.Failed = func(error, time.Duration) {}
	}
	if o.Timeout == 0 {
		o.Timeout = 10 * time.Second
	}
	return &Renewer{o: o, asked: make(chan struct{}, 1)}
}

// Renew asks for a new certificate soon, whatever is left of this one. It does not wait.
func (r *Renewer) Renew() {
	select {
	case r.asked <- struct{}{}:
	default: // asked already
	}
}

// Run renews until ctx ends, and then returns nil. It never gives up: a CA that comes back after the certificate has
// expired heals everything.
func (r *Renewer) Run(ctx context.Context) error {
	retry, longest := firstRetry, startRetry
	for {
		wait := time.Duration(0)
		cert, err := r.fetch(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil:
			r.o.Use(cert)
			left := time.Until(cert.Leaf.NotAfter)
			wait = max(renewAfter(left), firstRetry)
			retry, longest = firstRetry, min(max(left/10, shortRetry), longRetry)
		default:
			// Half to all of it, by chance: those who failed together do not come back together.
			wait = retry/2 + rand.N(retry/2)
			retry = min(2*retry, longest)
			r.o.Failed(err, wait)
		}
		if !r.sleep(ctx, wait, err == nil) {
			return nil
		}
	}
}

func (r *Renewer) fetch(ctx context.Context) (*tls.Certificate, error) {
	ctx, cancel := context.WithTimeout(ctx, r.o.Timeout)
	defer cancel()
	cert, err := r.o.Fetch(ctx)
	if err != nil {
		return nil, err
	}
	if cert == nil || cert.Leaf == nil {
		return nil, errors.New("fetch a certificate: the answer has no leaf")
	}
	if left := time.Until(cert.Leaf.NotAfter); left <= 0 {
		return nil, fmt.Errorf("fetch a certificate: the one that came expired %s ago; compare this clock with the CA's", -left)
	}
	return cert, nil
}

// sleep waits; after a failure nothing shortens it, lest who asks often wears the CA out. It says whether to go on.
func (r *Renewer) sleep(ctx context.Context, wait time.Duration, mayShorten bool) bool {
	asked := r.asked
	if !mayShorten {
		asked = nil
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
	case <-asked:
	}
	return true
}

// renewAfter goes by what is left, not by the whole validity: that began before the certificate came.
func renewAfter(left time.Duration) time.Duration {
	return time.Duration(float64(left) * (renewAt - renewSpread + 2*renewSpread*rand.Float64()))
}
