// Package hold keeps the identity of one workload current: its key and certificate, and the trust bundle.
//
// A [Holder] makes a key, has it certified by the signer, and renews it at half of its life; it follows the bundle, and
// tells the signer which bundle and whose certificate are in use, which is what a rotation of the CA waits for. The agent
// beside an Envoy has one, and so has each server of the control plane.
//
// What holds:
//
//   - A private key exists in the memory of the holder, and of those to whom it gives it, and nowhere else. Each
//     certificate has a new one.
//   - What is given out fits together: a certificate whose key, chain or ID is not right never leaves the holder.
//   - Without the signer the holder waits and says why. What it has goes on until it expires.
//   - Once the signer has sent a bundle, the file serves to dial the signer only: others may be able to write it.
package hold

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"

	"github.com/rs/zerolog"
	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"golang.org/x/sync/errgroup"

	"github.com/heddle-mesh/heddle/identity"
	"github.com/heddle-mesh/heddle/identity/client"
)

// Signer is what a holder asks of the control plane; [client.Client] is the real one.
type Signer interface {
	SVID(ctx context.Context, token string, csr []byte) (client.SVID, error)
	Bundle(ctx context.Context, after string, uses client.Uses) (*spiffebundle.Bundle, error)
}

// Trust is what a connection to the signer is made with. Both rotate, so they are asked for each time.
type Trust interface {
	Bundle() (*spiffebundle.Bundle, error)
	Certificate() *tls.Certificate // nil: none yet
}

// InUse says what is in use of what is held, where that is not at once all of it.
type InUse interface {
	Bundle() string           // its fingerprint; empty: none, or it is not known
	Certificate() string      // its Version; the same
	Changed() <-chan struct{} // closed when either may be another one than at the time of the call
}

// Options describe a holder. ID, BundleFile, Connect and one of the tokens must be set.
type Options struct {
	ID         spiffeid.ID // whose certificate it is; another one is refused
	BundleFile string      // SPIFFE trust bundle to start with

	TokenFile string // with the token that is shown at each attempt; read each time, since it rotates
	// Join gives a join token, at each attempt without a certificate that is valid: for the first one, and when one has
	// expired because nobody renewed it. One that is valid renews itself. It is called by one goroutine.
	Join func(context.Context) (Token, error)

	Connect func(Trust) Signer // gives the signer, to be asked with what the holder trusts and shows

	// Publish is told what is new, in order, one at a time; there may be no certificate yet. nil: nobody is.
	Publish func(*Certificate, *spiffebundle.Bundle) error
	// With gets what goes with each certificate, after that was issued and before it is held: if it fails the certificate
	// is not taken, and all is tried again. token is what the certificate was got by. nil: nothing.
	With  func(ctx context.Context, token string) error
	InUse InUse // nil: what is held is in use

	Log zerolog.Logger
}

// Holder is one. Make it with [New], then call Run once.
type Holder struct {
	o       Options
	docs    *documents
	signer  Signer
	renewer *identity.Renewer
	health  *health
}

// New gives a holder that does nothing yet.
func New(o Options) (*Holder, error) {
	switch {
	case o.ID.IsZero():
		return nil, errors.New("whose identity it is is not given")
	case o.BundleFile == "":
		return nil, errors.New("no file with the trust bundle is given, so nobody could be trusted")
	case (o.TokenFile == "") == (o.Join == nil):
		return nil, errors.New("want either a file with a token or a source of join tokens")
	}
	if o.Publish == nil {
		o.Publish = func(*Certificate, *spiffebundle.Bundle) error { return nil }
	}
	if o.With == nil {
		o.With = func(context.Context, string) error { return nil }
	}
	h := &Holder{o: o, health: newHealth(o.Log)}
	h.docs = newDocuments(o.ID, o.BundleFile, o.Publish)
	if o.InUse == nil {
		h.o.InUse = allOf{h.docs}
	}
	h.signer = o.Connect(h.docs)
	h.renewer = h.newRenewer()
	return h, nil
}

// allOf says that all is in use that is held.
type allOf struct{ *documents }

func (a allOf) Bundle() string {
	_, b, _ := a.current()
	return fingerprintOf(b)
}

func (a allOf) Certificate() string {
	c, _, _ := a.current()
	return versionOf(c)
}

func (a allOf) Changed() <-chan struct{} {
	_, _, changed := a.current()
	return changed
}

// Run keeps the identity current until ctx ends. Then it leaves the connections of a signer that has a method Close.
func (h *Holder) Run(ctx context.Context) error {
	if c, ok := h.signer.(interface{ Close() }); ok {
		defer c.Close() // net/http's server takes a second to end when there is still one to it
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return h.renew(ctx) })
	group.Go(func() error { return h.followBundle(ctx) })
	group.Go(func() error { return h.watchFile(ctx) })
	return group.Wait()
}

// Current gives what there is, nil for what there is not, and a channel that is closed when that changes.
func (h *Holder) Current() (*Certificate, *spiffebundle.Bundle, <-chan struct{}) {
	return h.docs.current()
}

// Wait waits for a certificate and a bundle; false: ctx was done before.
func (h *Holder) Wait(ctx context.Context) bool { return h.docs.wait(ctx) }

// Renew asks for a new certificate soon, whatever is left of this one. It does not wait.
func (h *Holder) Renew() { h.renewer.Renew() }

// Bundle is what everybody but the signer is verified by. Before the signer has sent one it is the file's.
func (h *Holder) Bundle() (*spiffebundle.Bundle, error) { return h.docs.held() }

// TLS is mutual TLS with one peer and nobody else. Every connection is verified, because none is resumed.
func (h *Holder) TLS(peer spiffeid.ID) *tls.Config { return h.docs.tls(peer) }

// Faults say what does not work at the moment and is tried again.
func (h *Holder) Faults() []string {
	var all []string
	for _, e := range []*errand{h.health.certificate, h.health.bundle, h.health.file} {
		if why := e.why(); why != "" {
			all = append(all, fmt.Sprintf("%s: %s", e.what, why))
		}
	}
	return all
}
