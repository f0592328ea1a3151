package service

import (
	"cmp"
	"crypto/x509"
	"encoding/hex"
	"slices"
	"sync"
	"time"

	"github.com/heddle-mesh/heddle/identity"
)

// lull is how long a sidecar that does not wait for a bundle still counts as connected: it dials again, after an
// answer or a fault, within less.
const lull = 90 * time.Second

// maxPolls is how many requests of one sidecar wait at once: one of its present process and of the one before.
const maxPolls = 4

// Sidecar is what the signer knows of one: all of it from certificates, but for Taken, which is the sidecar's word.
type Sidecar struct {
	Namespace string    `json:"namespace"`
	Account   string    `json:"account"`
	Pod       string    `json:"pod"`
	PodUID    string    `json:"podUID,omitempty"`
	Serial    string    `json:"serial"`   // of its leaf, in hex
	Issuer    string    `json:"issuer"`   // the key identifier of who signed that, in hex
	NotAfter  time.Time `json:"notAfter"` // of its leaf
	Taken     string    `json:"taken"`    // the fingerprint of the bundle that it has in use; empty if it did not say
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
	polls int // that wait now
	seen  time.Time
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
		if !r.Connected && now.After(r.NotAfter) {
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

// issued notes a new leaf. It counts at once: whoever got it will show it.
func (c *Connected) issued(w identity.Workload, leaf *x509.Certificate) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.note(w, leaf)
}

// poll notes that a sidecar waits for a bundle, until the function that it gives is called; nil if it waits too often
// already.
func (c *Connected) poll(w identity.Workload, leaf *x509.Certificate, taken string) (end func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.note(w, leaf)
	if r.polls >= maxPolls {
		return nil
	}
	r.Taken = taken
	r.polls++
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		r.polls--
		r.seen = c.now()
	}
}

func (c *Connected) note(w identity.Workload, leaf *x509.Certificate) *record {
	key := sidecarKey{w.Namespace, w.Pod, w.PodUID}
	r := c.known[key]
	if r == nil {
		r = &record{}
		c.known[key] = r
	}
	r.seen = c.now()
	// A connection may still show the leaf before the present one.
	if !leaf.NotAfter.Before(r.NotAfter) {
		r.Sidecar = Sidecar{
			Namespace: w.Namespace, Account: w.Account, Pod: w.Pod, PodUID: w.PodUID, Taken: r.Taken,
			Serial: hex.EncodeToString(leaf.SerialNumber.Bytes()), Issuer: hex.EncodeToString(leaf.AuthorityKeyId), NotAfter: leaf.NotAfter.UTC(),
		}
	}
	return r
}
