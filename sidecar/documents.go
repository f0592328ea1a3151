package sidecar

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/heddle-mesh/heddle/identity"
)

// Trust is what a connection of the agent is made with. Both rotate, so they are asked for each time.
type Trust interface {
	Bundle() (*spiffebundle.Bundle, error)
	Certificate() *tls.Certificate // nil: none yet
}

// documents are the certificate and the trust bundle that the agent holds.
type documents struct {
	id      spiffeid.ID
	file    string
	publish func(*certificate, *spiffebundle.Bundle) error // called in order, one at a time

	mu      sync.Mutex
	cert    *certificate
	bundle  *spiffebundle.Bundle
	read    []byte        // of the file, last
	fresh   bool          // the signer has answered, and nothing has gone wrong since
	changed chan struct{} // closed and replaced at each change
}

var _ Trust = (*documents)(nil)

func newDocuments(id spiffeid.ID, file string, publish func(*certificate, *spiffebundle.Bundle) error) *documents {
	return &documents{id: id, file: file, publish: publish, changed: make(chan struct{})}
}

// current gives what there is, nil for what there is not, and a channel that is closed when that changes.
func (d *documents) current() (*certificate, *spiffebundle.Bundle, <-chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.cert, d.bundle, d.changed
}

// wait waits for both; false: ctx was done before.
func (d *documents) wait(ctx context.Context) bool {
	for {
		c, b, changed := d.current()
		if c != nil && b != nil {
			return true
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return false
		}
	}
}

// takeCertificate replaces the certificate, and the bundle by the one that came with it, unless there is a newer one. What
// does not fit together is refused before anybody sees it: Envoy would refuse it as well, and every bundle after it.
func (d *documents) takeCertificate(c *certificate, b *spiffebundle.Bundle) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.bundle != nil && older(b, d.bundle) {
		b = d.bundle
	}
	id, err := identity.VerifyLeaf(c.chain, b, time.Now())
	switch {
	case err != nil:
		return fmt.Errorf("check the certificate that the signer issued: %w", err)
	case id != d.id:
		return fmt.Errorf("check the certificate that the signer issued: it is for %s, and this is %s", id, d.id)
	case !c.key.private().PublicKey.Equal(c.chain[0].PublicKey):
		return errors.New("check the certificate that the signer issued: it is for another key")
	}
	d.cert, d.bundle, d.fresh = c, b, true
	return d.changedLocked()
}

// takeBundle replaces the bundle if it is another one and not an older one, and says whether it did.
func (d *documents) takeBundle(b *spiffebundle.Bundle) (bool, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.takeBundleLocked(b)
}

func (d *documents) takeBundleLocked(b *spiffebundle.Bundle) (bool, error) {
	if d.bundle != nil && (older(b, d.bundle) || identity.Fingerprint(b) == identity.Fingerprint(d.bundle)) {
		return false, nil
	}
	d.bundle = b
	return true, d.changedLocked()
}

func (d *documents) changedLocked() error {
	close(d.changed)
	d.changed = make(chan struct{})
	return d.publish(d.cert, d.bundle)
}

// older compares sequence numbers, where both have one. The mounted file may lag a minute behind what the signer has said.
func older(a, b *spiffebundle.Bundle) bool {
	numberA, okA := a.SequenceNumber()
	numberB, okB := b.SequenceNumber()
	return okA && okB && numberA < numberB
}

// heard says whether the signer has just answered or failed to.
func (d *documents) heard(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fresh = err == nil
}

// readFile takes the bundle from the file if that is not as it was read last, and says whether it is a new one. It waits
// with that as long as the signer answers, which is never behind the file. Then the file may hold what the signer cannot
// tell: that its own certificate is by a new CA.
func (d *documents) readFile() (bool, error) {
	text, err := readSmall(d.file, identity.MaxBundle)
	if err != nil {
		return false, fmt.Errorf("read the trust bundle: %w", err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fresh || bytes.Equal(text, d.read) {
		return false, nil
	}
	b, err := identity.ParseBundle(d.id.TrustDomain(), text)
	if err != nil {
		return false, fmt.Errorf("read the trust bundle in %s: %w", d.file, err)
	}
	d.read = text
	return d.takeBundleLocked(b)
}

// Bundle is what peers are verified by. The file is read again: after a rotation of the root it may be the only way to
// learn whom to trust. If it cannot be read, what is held counts.
func (d *documents) Bundle() (*spiffebundle.Bundle, error) {
	_, err := d.readFile()
	if _, b, _ := d.current(); b != nil {
		return b, nil
	}
	return nil, err
}

// Certificate is what the agent shows.
func (d *documents) Certificate() *tls.Certificate {
	c, _, _ := d.current()
	if c == nil {
		return nil
	}
	return c.tls()
}

// tls is mutual TLS with one peer and nobody else. Every connection is verified, because none is resumed.
func (d *documents) tls(peer spiffeid.ID) *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		SessionTicketsDisabled: true,
		InsecureSkipVerify:     true, // of names; VerifyConnection asks for the SPIFFE ID
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			if c := d.Certificate(); c != nil {
				return c, nil
			}
			return nil, errors.New("this pod has no certificate yet; /readyz of the agent says why")
		},
		VerifyConnection: func(s tls.ConnectionState) error {
			b, err := d.Bundle()
			if err != nil {
				return err
			}
			id, err := identity.VerifyLeaf(s.PeerCertificates, b, time.Now())
			if err != nil {
				return fmt.Errorf("verify the control plane: %w", err)
			}
			if id != peer {
				return fmt.Errorf("verify the control plane: it is %s; it must be %s", id, peer)
			}
			return nil
		},
	}
}

// readSmall reads a file of at most so many bytes.
func readSmall(path string, most int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, most+1))
	switch {
	case err != nil:
		return nil, err
	case int64(len(text)) > most:
		return nil, fmt.Errorf("%s has more than %d bytes", path, most)
	}
	return text, nil
}
