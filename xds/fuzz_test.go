package xds

import (
	"fmt"
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"golang.org/x/time/rate"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
)

// FuzzNoConversationBreaksTheStore lets a proxy say anything in any order, while the store changes, and looks at
// what it is sent: never a name twice in one response, and never two responses of a type at once.
func FuzzNoConversationBreaksTheStore(f *testing.F) {
	f.Add([]byte{0, 0, 0, 0, 1, 0, 1, 2, 4, 0, 0, 0, 8, 1, 9, 3}, false)
	f.Add([]byte{3, 0, 7, 7, 1, 1, 1, 255, 16, 32, 64, 128, 5, 5, 5, 5, 2, 2, 2, 2, 90, 80, 70, 60}, true)
	f.Fuzz(survives)
}

func survives(t *testing.T, moves []byte, stateOfTheWorld bool) {
	store := NewStore()
	c := &client{proxy: "p", push: func() {}, rules: &rules{
		warming: 5 * time.Second, grace: 5 * time.Second, quorum: 2, names: 100, nonce: func(n uint64) string { return fmt.Sprint(n % 8) },
		empty: rate.NewLimiter(1000, 1000), returned: rate.NewLimiter(1000, 1000),
	}}
	if stateOfTheWorld {
		c.dialect = sotw
	}
	store.attach(c, []Layer{"pod", "mesh"})
	now := time.Unix(0, 0)
	for len(moves) >= 4 {
		move(t, store, c, [4]byte(moves[:4]))
		now = now.Add(time.Duration(moves[3]) * 100 * time.Millisecond)
		moves = moves[4:]
		take(t, c, now)
	}
	store.detach(c)
}

// move publishes, asks or answers, as four bytes say.
func move(t *testing.T, store *Store, c *client, b [4]byte) {
	ty := Type(b[1] % byte(typeCount))
	names := []string{"", "*", "a", "b", "c", "a", "d", "e"}
	pick := func(mask byte) (out []string) {
		for i, name := range names {
			if mask>>i&1 != 0 {
				out = append(out, name)
			}
		}
		return out
	}
	if b[0]%4 == 0 {
		u := Update{Layer: []Layer{"mesh", "pod"}[b[2]%2]}
		for _, name := range pick(b[3] &^ 3) {
			ref := Ref{ty, name}
			if b[0]%8 == 0 {
				u.Remove = append(u.Remove, ref)
				continue
			}
			r, err := NewResource(name, sample(ty, name, fmt.Sprint(b[2]%4)))
			if err != nil {
				t.Fatal(err)
			}
			u.Set = append(u.Set, r)
		}
		store.Publish(u)
		return
	}
	nonce, reason := "", (*statuspb.Status)(nil)
	if b[0]&16 != 0 {
		nonce = fmt.Sprint(b[0] >> 5)
	}
	if sub := c.subs[ty]; b[0]&32 != 0 && sub != nil {
		nonce = sub.nonce
	}
	if b[0]&64 != 0 {
		reason = &statuspb.Status{Message: "a: bad"}
	}
	var err error
	if c.dialect == sotw {
		err = c.onSotw(ty, &discoveryv3.DiscoveryRequest{ResourceNames: pick(b[2]), ResponseNonce: nonce, ErrorDetail: reason})
	} else {
		known := map[string]string{}
		for _, name := range pick(b[3]) {
			known[name] = "1"
		}
		err = c.onDelta(ty, &discoveryv3.DeltaDiscoveryRequest{
			ResourceNamesSubscribe: pick(b[2]), ResourceNamesUnsubscribe: pick(b[3]), InitialResourceVersions: known,
			ResponseNonce: nonce, ErrorDetail: reason,
		})
	}
	if err != nil {
		t.Fatalf("refused: %v", err)
	}
}

// take takes what is to be sent and checks it.
func take(t *testing.T, c *client, now time.Time) {
	for {
		before := c.subs
		busy := [typeCount]bool{}
		for ty, sub := range before {
			busy[ty] = sub != nil && sub.flight != nil
		}
		f, _ := c.next(now)
		if f == nil {
			return
		}
		if busy[f.typ] {
			t.Fatalf("a second response of type %v under way", f.typ)
		}
		seen := map[string]bool{}
		for _, v := range f.items {
			if seen[v.Name] {
				t.Fatalf("%v %s twice in one response", f.typ, v.Name)
			}
			seen[v.Name] = true
		}
		for _, sl := range f.removed {
			if seen[sl.name] {
				t.Fatalf("%v %s twice in one response", f.typ, sl.name)
			}
			seen[sl.name] = true
		}
	}
}
