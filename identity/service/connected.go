package service

import (
	"bytes"
	"cmp"
	"crypto/x509"
	"encoding/hex"
	"slices"
	"sync"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"

	"github.com/heddle-mesh/heddle/identity"
)

// lull is how long a sidecar that does not wait for a bundle still counts as connected: it dials again, after an
// answer or a fault, within less.
const lull = 90 * time.Second

// forget is how long after its leaf a sidecar is remembered: longer than clocks differ.
const forget = 5 * time.Minute

// maxPolls is how many requests of one sidecar wait at once: one of its present process and of the one before.
const maxPolls = 4

// Sidecar is what the signer knows of one: all of it from certificates, but for Taken, which is the sidecar's word.
type Sidecar struct {
	ID        string    `json:"id,omitempty"` // in Facts only
	Namespace string    `json:"namespace"`
	Account   string    `json:"account"`
	Pod       string    `json:"pod"`
	PodUID    string    `json:"podUID,omitempty"`
	Serial    string    `json:"serial"`           // of the leaf that it showed last, or else was issued last, in hex
	Authority string    `json:"authority"`        // the name of who signed that (identity.CertificateName)
	Issued    string    `json:"issued,omitempty"` // the name of who signed the one that was issued last
	NotAfter  time.Time `json:"notAfter"`         // of the one shown or the one issued, whichever is later
	Taken     string    `json:"taken"`            // the fingerprint of the bundle that it has in use; empty if it did not say
	Reported  time.Time `json:"reported"`         // when it said so, and showed its leaf
	Connected bool      `json:"connected"`
}

// Connected knows the sidecars that were seen since this process began, until their leaf expires. It is safe for
// concurrent use.
type Connected struct {
	now func() time.Time

	mu    sync.Mutex
	known map[sidecarKey]*record
}

type sidecarKey struct{ namespace, pod, uid string }

type record struct {
	Sidecar
	polls   int // that wait now
	seen    time.Time
	renewed chan struct{} // closed when it is issued a leaf
}

// NewConnected knows nobody. now may be nil for time.Now.
func NewConnected(now func() time.Time) *Connected {
	if now == nil {
		now = time.Now
	}
	return &Connected{now: now, known: map[sidecarKey]*record{}}
}

// Sidecars lists all that are known, in order.
func (c *Connected) Sidecars() []Sidecar {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	list := make([]Sidecar, 0, len(c.known))
	for key, r := range c.known {
		r.Connected = r.polls > 0 || now.Before(r.seen.Add(lull))
		if !r.Connected && now.After(r.NotAfter.Add(forget)) {
			delete(c.known, key)
			continue
		}
		list = append(list, r.Sidecar)
	}
	slices.SortFunc(list, func(a, b Sidecar) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Pod, b.Pod), cmp.Compare(a.PodUID, b.PodUID))
	})
	return list
}

func (c *Connected) count() (n int) {
	for _, s := range c.Sidecars() {
		if s.Connected {
			n++
		}
	}
	return n
}

// leaf is a certificate that was shown or issued.
type leaf struct {
	serial, authority string
	notAfter          time.Time
}

func leafOf(chain []*x509.Certificate, bundle *spiffebundle.Bundle) leaf {
	return leaf{hex.EncodeToString(chain[0].SerialNumber.Bytes()), AuthorityOf(chain, bundle), chain[0].NotAfter.UTC()}
}

// AuthorityOf names who signed a leaf: the next certificate of its chain, or a root, which is never sent.
func AuthorityOf(chain []*x509.Certificate, bundle *spiffebundle.Bundle) string {
	if len(chain) > 1 {
		return identity.CertificateName(chain[1])
	}
	for _, root := range bundle.X509Authorities() {
		if bytes.Equal(root.SubjectKeyId, chain[0].AuthorityKeyId) && bytes.Equal(root.RawSubject, chain[0].RawIssuer) {
			return identity.CertificateName(root)
		}
	}
	return ""
}

// issued notes a new leaf, and the bundle that it came with. Who had none before has nothing else in use.
func (c *Connected) issued(w identity.Workload, l leaf, bundle string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r, isNew := c.record(w, l)
	r.Issued = l.authority
	close(r.renewed)
	r.renewed = make(chan struct{})
	if isNew {
		r.Serial, r.Authority, r.Taken, r.Reported = l.serial, l.authority, bundle, r.seen
	}
}

// alsoIssued notes a leaf that goes with the sidecar's own. That one is asked for first and this one after it, so whoever
// shows a leaf of a new authority has no other of an old one.
func (c *Connected) alsoIssued(w identity.Workload, l leaf) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r, _ := c.record(w, l)
	r.Issued = l.authority
}

// poll notes that a sidecar waits for a bundle, until the function that it gives is called; nil if it waits too often
// already. renewed is closed when it is issued a leaf meanwhile.
func (c *Connected) poll(w identity.Workload, l leaf, taken string) (end func(), renewed <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r, _ := c.record(w, l)
	if r.polls >= maxPolls {
		return nil, nil
	}
	r.Serial, r.Authority, r.Taken, r.Reported = l.serial, l.authority, taken, r.seen
	r.polls++
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		r.polls--
		r.seen = c.now()
	}, r.renewed
}

func (c *Connected) record(w identity.Workload, l leaf) (r *record, isNew bool) {
	key := sidecarKey{w.Namespace, w.Pod, w.PodUID}
	r = c.known[key]
	if isNew = r == nil; isNew {
		r = &record{renewed: make(chan struct{})}
		c.known[key] = r
	}
	r.seen = c.now()
	r.Namespace, r.Account, r.Pod, r.PodUID = w.Namespace, w.Account, w.Pod, w.PodUID
	if l.notAfter.After(r.NotAfter) {
		r.NotAfter = l.notAfter
	}
	return r, isNew
}
