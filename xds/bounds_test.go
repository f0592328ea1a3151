package xds

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// bounded is a server with a store of three clusters. Names are too few here for it to be swept of those not in use.
func bounded(t *testing.T, seen Observer) (*Server, *Store) {
	t.Helper()
	store := NewStore()
	for _, name := range []string{"a", "b", "c"} {
		r, err := NewResource(name, sample(Cluster, name, "1"))
		if err != nil {
			t.Fatal(err)
		}
		store.Publish(Update{Layer: "mesh", Set: []*Resource{r}})
	}
	store.MarkSynced()
	connect := func(context.Context, *corev3.Node) (Session, error) { return Session{Layers: []Layer{"mesh"}}, nil }
	return NewServer(Options{Store: store, Connect: connect, Observer: seen, MaxNames: 100}), store
}

func TestARequestWithTooManyOrTooLongNamesLeavesNothingInTheStore(t *testing.T) {
	many, versions := make([]string, 101), map[string]string{}
	for i := range many {
		many[i] = fmt.Sprint("cluster-", i)
		versions[many[i]] = "1"
	}
	long := strings.Repeat("x", longestName+1)
	for name, r := range map[string]proto.Message{
		"delta, many asked for":    &discoveryv3.DeltaDiscoveryRequest{ResourceNamesSubscribe: many},
		"delta, many given up":     &discoveryv3.DeltaDiscoveryRequest{ResourceNamesUnsubscribe: many},
		"delta, many known":        &discoveryv3.DeltaDiscoveryRequest{InitialResourceVersions: versions},
		"delta, a long asked for":  &discoveryv3.DeltaDiscoveryRequest{ResourceNamesSubscribe: []string{"d", long}},
		"delta, a long given up":   &discoveryv3.DeltaDiscoveryRequest{ResourceNamesUnsubscribe: []string{"d", long}},
		"delta, a long known":      &discoveryv3.DeltaDiscoveryRequest{InitialResourceVersions: map[string]string{long: "1"}},
		"whole, many asked for":    &discoveryv3.DiscoveryRequest{ResourceNames: many},
		"whole, a long asked for":  &discoveryv3.DiscoveryRequest{ResourceNames: []string{"d", long}},
		"whole, many of one thing": &discoveryv3.DiscoveryRequest{ResourceNames: make([]string, 101)},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server, store := bounded(t, nil)
				kind := delta
				switch r := r.(type) {
				case *discoveryv3.DeltaDiscoveryRequest:
					r.Node, r.TypeUrl = &corev3.Node{Id: "p"}, Cluster.URL()
				case *discoveryv3.DiscoveryRequest:
					r.Node, r.TypeUrl, kind = &corev3.Node{Id: "p"}, Cluster.URL(), sotw
				}
				p := dial(server, "p", kind)
				defer p.hangUp()
				p.requests <- r
				synctest.Wait()
				if !p.ended || status.Code(p.err) != codes.ResourceExhausted {
					t.Errorf("ended %v with %v; want ResourceExhausted", p.ended, p.err)
				}
				if n := len(store.tables[Cluster].slots); n != 3 {
					t.Errorf("the store has %d names; want the 3 that are published", n)
				}
			})
		})
	}
}

func TestNothingIsPublishedUnderANameThatCannotBeAskedFor(t *testing.T) {
	name := strings.Repeat("x", longestName)
	if _, err := NewAssignment(name, nil); err != nil {
		t.Error(err)
	}
	if _, err := NewAssignment(name+"x", nil); err == nil {
		t.Error("endpoints are made under a name that is too long")
	}
	if _, err := NewResource(name+"x", sample(Cluster, name+"x", "1")); err == nil {
		t.Error("a cluster is made under a name that is too long")
	}
}

// told keeps every event.
type told struct{ all []Event }

func (o *told) Observe(e Event) { o.all = append(o.all, e) }

func TestALongReasonIsReadForNamesAndKeptInShort(t *testing.T) {
	for _, kind := range []dialect{delta, sotw} {
		synctest.Test(t, func(t *testing.T) {
			var seen told
			server, store := bounded(t, &seen)
			p := dial(server, "p", kind)
			defer p.hangUp()
			ask := func(detail *statuspb.Status, nonce string) {
				if kind == delta {
					p.requests <- &discoveryv3.DeltaDiscoveryRequest{Node: &corev3.Node{Id: "p"}, TypeUrl: Cluster.URL(), ErrorDetail: detail, ResponseNonce: nonce}
				} else {
					p.requests <- &discoveryv3.DiscoveryRequest{Node: &corev3.Node{Id: "p"}, TypeUrl: Cluster.URL(), ErrorDetail: detail, ResponseNonce: nonce}
				}
				synctest.Wait()
			}
			ask(nil, "")
			p.next(func(v string) string { return v })
			// Of what Envoy writes, b is blamed past what is kept, and c past all that an Envoy would say.
			reason := "Error adding/updating cluster(s) a: " + strings.Repeat("é", 1000) + ", b: bad" + strings.Repeat("é", 1<<20) + ", c: bad"
			ask(&statuspb.Status{Code: 13, Message: reason}, p.nonces[Cluster.URL()])

			blamed := 0
			for _, e := range seen.all {
				if e.Kind == Condemned {
					blamed++
				}
				if len(e.Reason) > 1<<10 || !utf8.ValidString(e.Reason) {
					t.Errorf("%v is told with a reason of %d bytes", e.Kind, len(e.Reason))
				}
			}
			if blamed != 2 {
				t.Errorf("%d clusters are blamed; want a and b", blamed)
			}
			refusals := 0
			for _, sl := range store.tables[Cluster].slots {
				for _, why := range sl.entries[0].wanted.refused {
					refusals++
					if len(why) > 1<<10 || len(why) < 1000 || !utf8.ValidString(why) {
						t.Errorf("a reason of %d bytes is kept of %s", len(why), sl.name)
					}
				}
			}
			if refusals != 2 {
				t.Errorf("%d refusals are kept; want those of a and b", refusals)
			}
		})
	}
}

func TestALongRequestDoesNotHoldTheStoreUp(t *testing.T) {
	server, store := bounded(t, nil)
	server.rules.names = 50_000
	names := make([]string, 1_000_000)
	for i := range names {
		names[i] = fmt.Sprintf("%x", i)
	}
	store.mu.Lock() // as another stream would for a moment
	defer store.mu.Unlock()
	refused := make(chan error, 1)
	go func() {
		c := &stream{client: &client{rules: &server.rules, store: store}, server: server}
		refused <- c.handle(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: Cluster.URL(), ResourceNamesSubscribe: names})
	}()
	select {
	case err := <-refused:
		if status.Code(err) != codes.ResourceExhausted {
			t.Errorf("a million names: %v; want ResourceExhausted", err)
		}
	case <-time.After(10 * time.Second):
		t.Error("a million names are looked at under the store's lock")
	}
}
