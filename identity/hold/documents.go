package hold

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

// documents are the certificate and the trust bundle that are held.
type documents struct {
	id      spiffeid.ID
	file    string
	publish func(*Certificate, *spiffebundle.Bundle) error // called in order, one at a time

	mu      sync.Mutex
	cert    *Certificate
	bundle  *spiffebundle.Bundle
	signed  bool                 // the bundle is from the signer, no more from the file
	mounted *spiffebundle.Bundle // what the file has come to hold since then; nil: nothing new
	read    []byte               // of the file, last
	changed chan struct{}        // closed and replaced at each change
}

var _ Trust = (*documents)(nil)

func newDocuments(id spiffeid.ID, file string, publish func(*Certificate, *spiffebundle.Bundle) error) *documents {
	return &documents{id: id, file: file, publish: publish, changed: make(chan struct{})}
}

// current gives what there is, nil for what there is not, and a channel that is closed when that changes.
func (d *documents) current() (*Certificate, *spiffebundle.Bundle, <-chan struct{}) {
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
func (d *documents) takeCertificate(c *Certificate, b *spiffebundle.Bundle) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.signed && older(b, d.bundle) {
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
	d.cert = c
	d.believe(b)
	return d.changedLocked()
}

// takeBundle replaces the bundle by one that the signer sent, if it is another one and not an older one, and says whether
// it did.
func (d *documents) takeBundle(b *spiffebundle.Bundle) (bool, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.signed && older(b, d.bundle) || !d.believe(b) {
		return false, nil
	}
	return true, d.changedLocked()
}

// believe makes a bundle of the signer's the one that counts, and says whether it trusts others than the one before. What
// the file said is then of the past: an authority that was withdrawn must not stay in it.
func (d *documents) believe(b *spiffebundle.Bundle) bool {
	another := d.bundle == nil || identity.Fingerprint(b) != identity.Fingerprint(d.bundle)
	if another {
		d.mounted = nil
	}
	d.bundle, d.signed = b, true
	return another
}

func (d *documents) changedLocked() error {
	close(d.changed)
	d.changed = make(chan struct{})
	return d.publish(d.cert, d.bundle)
}

// older compares sequence numbers, where both have one. The signer answers two requests at a time, of which the one that
// was answered first may arrive last.
func older(a, b *spiffebundle.Bundle) bool {
	numberA, okA := a.SequenceNumber()
	numberB, okB := b.SequenceNumber()
	return okA && okB && numberA < numberB
}

// readFile reads the file if that is not as it was read last, and says whether its bundle is now the one that counts.
// Once the signer has sent one it never is: others than the signer may be able to write the file. It may still say whom
// to dial, which the signer cannot when its own certificate is by a CA that came while it was out of reach.
func (d *documents) readFile() (bool, error) {
	text, err := readSmall(d.file, identity.MaxBundle)
	if err != nil {
		return false, fmt.Errorf("read the trust bundle: %w", err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if bytes.Equal(text, d.read) {
		return false, nil
	}
	b, err := identity.ParseBundle(d.id.TrustDomain(), text)
	if err != nil {
		return false, fmt.Errorf("read the trust bundle in %s: %w", d.file, err)
	}
	d.read = text
	if d.signed {
		d.mounted = b
		return false, nil
	}
	another := d.bundle == nil || identity.Fingerprint(b) != identity.Fingerprint(d.bundle)
	d.bundle = b
	if !another {
		return false, nil
	}
	return true, d.changedLocked()
}

// Bundle is what the signer is verified by, and nobody else: what it sent, and what the file has come to hold since. If
// the file cannot be read, what is held counts.
func (d *documents) Bundle() (*spiffebundle.Bundle, error) {
	_, err := d.readFile()
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.bundle == nil:
		return nil, err
	case d.mounted == nil:
		return d.bundle, nil
	}
	return identity.Merge(d.bundle, d.mounted)
}

// held is what everybody but the signer is verified by. Before the signer has sent one it is the file's.
func (d *documents) held() (*spiffebundle.Bundle, error) {
	if _, b, _ := d.current(); b != nil {
		return b, nil
	}
	return d.Bundle()
}

// Certificate is what the agent shows.
func (d *documents) Certificate() *tls.Certificate {
	c, _, _ := d.current()
	if c == nil {
		return nil
	}
	return c.TLS()
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
			return nil, errors.New("this pod has no certificate yet; /readyz says why")
		},
		VerifyConnection: func(s tls.ConnectionState) error {
			b, err := d.held()
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
