package xds

import (
	"cmp"
	"strings"
	"unicode/utf8"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"
)

// onDelta takes one request of the delta protocol.
func (c *client) onDelta(t Type, r *discoveryv3.DeltaDiscoveryRequest) error {
	known := r.GetInitialResourceVersions()
	subscribe := r.GetResourceNamesSubscribe()
	first := c.subs[t] == nil
	if first {
		c.open(t)
		c.know(t, known)
		if len(subscribe) == 0 {
			c.subscribeAll(t) // the older way to ask for everything
		}
	}
	c.answer(t, r.GetResponseNonce(), reasonOf(r.GetErrorDetail()))
	if err := c.subscribe(t, subscribe, known); err != nil {
		return err
	}
	c.unsubscribe(t, r.GetResourceNamesUnsubscribe())
	if first && !c.subs[t].wildcard {
		c.subs[t].prune()
	}
	return nil
}

// encodeDelta concatenates f into a DeltaDiscoveryResponse. The resources are shared bytes; only names, type and
// nonce are written anew.
func encodeDelta(f *flight) *message {
	const (
		urlField     = 4
		nonceField   = 5
		removedField = 6
	)
	url := f.typ.URL()
	size := sizeOf(urlField, len(url)) + sizeOf(nonceField, len(f.nonce))
	for _, sl := range f.removed {
		size += sizeOf(removedField, len(sl.name))
	}
	head := make([]byte, 0, size)
	head = append(appendHead(head, urlField, len(url)), url...)
	head = append(appendHead(head, nonceField, len(f.nonce)), f.nonce...)
	for _, sl := range f.removed {
		head = append(appendHead(head, removedField, len(sl.name)), sl.name...)
	}
	m := &message{data: make(mem.BufferSlice, 0, len(f.items)+1)}
	m.data = append(m.data, mem.SliceBuffer(head))
	for _, v := range f.items {
		m.data = append(m.data, v.delta)
	}
	return m
}

// denyDelta says of everything asked for that it does not exist, so that nobody waits for it.
func denyDelta(r request) proto.Message {
	d := r.(*discoveryv3.DeltaDiscoveryRequest)
	if d.GetResponseNonce() != "" {
		return nil
	}
	return &discoveryv3.DeltaDiscoveryResponse{TypeUrl: d.GetTypeUrl(), Nonce: "0", RemovedResources: d.GetResourceNamesSubscribe()}
}

// reasonOf gives the reason of a refusal, and nothing for an acknowledgement. The presence of the detail is what
// makes the difference, whatever it says.
func reasonOf(detail *statuspb.Status) string {
	if detail == nil {
		return ""
	}
	return cmp.Or(clip(detail.GetMessage(), longestReason), "refused without a reason")
}

const (
	longestReason = 4200 // read for names: Envoy cuts its own at 4096 bytes, and says so
	keptReason    = 1 << 10
)

// clip cuts s to at most n bytes, between runes. The rest of s is not kept alive.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return strings.Clone(s[:n])
}
