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

// Sidecar is what the signer knows of one: all of it from certificates, but for Taken and Uses, which are the sidecar's
// word. One that lies harms itself: its peers go on without it.
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
	Uses      string    `json:"uses,omitempty"`   // the name of who signed the leaf that it has in use; empty if it did not say since it was issued another
	Reported  time.Time `json:"reported"`         // when it said so
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
	name, serial, authority string
	notAfter                time.Time
}

// uses is what a sidecar says that it has in use: the fingerprint of the bundle and the name of the leaf. Empty: it does
// not know.
type uses struct{ bundle, leaf string }

func leafOf(chain []*x509.Certificate, bundle *spiffebundle.Bundle) leaf {
	return leaf{
		name: identity.CertificateName(chain[0]), serial: hex.EncodeToString(chain[0].SerialNumber.Bytes()),
		authority: AuthorityOf(chain, bundle), notAfter: chain[0].NotAfter.UTC(),
	}
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

// began notes the leaf of a sidecar that had none, and the bundle that it came with: it has nothing else in use.
func (c *Connected) began(w identity.Workload, l leaf, bundle string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.issue(w, l)
	r.Serial, r.Authority = l.serial, l.authority
	r.Taken, r.Uses, r.Reported = bundle, l.authority, r.seen
}

// renewed notes another leaf. From now on nobody knows which one is in use, until the sidecar says so.
func (c *Connected) renewed(w identity.Workload, l leaf) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.issue(w, l)
	r.Uses = ""
	if r.Serial == "" { // it is not known what it shows
		r.Serial, r.Authority = l.serial, l.authority
	}
}

func (c *Connected) issue(w identity.Workload, l leaf) *record {
	r := c.record(w, l)
	r.Issued = l.authority
	close(r.renewed)
	r.renewed = make(chan struct{})
	return r
}

// alsoIssued notes a leaf that goes with the sidecar's own. That one is asked for first and this one after it, so whoever
// shows a leaf of a new authority has no other of an old one.
func (c *Connected) alsoIssued(w identity.Workload, l leaf) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.record(w, l).Issued = l.authority
}

// poll notes that a sidecar waits for a bundle, until the function that it gives is called; nil if it waits too often
// already. renewed is closed when it is issued a leaf meanwhile.
func (c *Connected) poll(w identity.Workload, l leaf, u uses) (end func(), renewed <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.record(w, l)
	if r.polls >= maxPolls {
		return nil, nil
	}
	r.Serial, r.Authority, r.Taken, r.Uses, r.Reported = l.serial, l.authority, u.bundle, "", r.seen
	if u.leaf == l.name {
		r.Uses = l.authority
	}
	r.polls++
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		r.polls--
		r.seen = c.now()
	}, r.renewed
}

func (c *Connected) record(w identity.Workload, l leaf) *record {
	key := sidecarKey{w.Namespace, w.Pod, w.PodUID}
	r := c.known[key]
	if r == nil {
		r = &record{renewed: make(chan struct{})}
		c.known[key] = r
	}
	r.seen = c.now()
	r.Namespace, r.Account, r.Pod, r.PodUID = w.Namespace, w.Account, w.Pod, w.PodUID
	if l.notAfter.After(r.NotAfter) {
		r.NotAfter = l.notAfter
	}
	return r
}
