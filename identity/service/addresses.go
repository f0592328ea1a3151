package service

import (
	"time"

	"github.com/heddle-mesh/heddle/bounded"
	"github.com/heddle-mesh/heddle/identity/attest"
)

// What one remote address may take before anybody knows who it is. A node may hide its pods behind one address, and all of
// them may start at once.
const (
	maxPerAddress = 512                   // connections at once
	addressEvery  = 50 * time.Millisecond // one request with a token
	addressBurst  = 250                   // of them at once
)

// addresses bound what strangers cost: a token must be shown to the API server before anybody knows that it is forged, and
// all sidecars share what may be asked there.
type addresses struct{ requests *attest.Limits }

func newAddresses() *addresses { return &addresses{attest.NewLimits(addressEvery, addressBurst)} }

// allow takes one request with a token from what its address has.
func (a *addresses) allow(address string, now time.Time) bool {
	h, bounds := bounded.Host(address)
	return !bounds || a.requests.Allow(h.String(), now)
}
