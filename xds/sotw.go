package xds

import (
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"
)

// onSotw takes one request of the state-of-the-world protocol, whose every request holds the whole list of names.
func (c *client) onSotw(t Type, r *discoveryv3.DiscoveryRequest) error {
	sub := c.subs[t]
	switch {
	case sub == nil:
		sub = c.open(t)
	case r.GetResponseNonce() != "" && r.GetResponseNonce() != sub.nonce:
		return nil // written before the proxy had the last response; it will say it again
	default:
		c.answer(t, r.GetResponseNonce(), reasonOf(r.GetErrorDetail()))
	}
	names := r.GetResourceNames()
	if len(names) == 0 && !sub.explicit {
		if !sub.wildcard {
			c.subscribeAll(t)
		}
		return nil
	}
	return c.replace(t, names)
}

// replace makes names the whole subscription.
func (c *client) replace(t Type, names []string) error {
	sub := c.subs[t]
	sub.explicit = true
	var keep bitset
	var added, dropped []string
	everything := false
	for _, name := range names {
		if name == wildcard {
			everything = true
			continue
		}
		sl := c.store.tables[t].intern(name)
		keep.set(sl.id)
		if !sub.named.has(sl.id) {
			added = append(added, name)
		}
	}
	for id := range sub.named.all() {
		if !keep.has(id) {
			dropped = append(dropped, c.store.tables[t].slots[id].name)
		}
	}
	switch {
	case everything && !sub.wildcard:
		c.subscribeAll(t)
	case !everything && sub.wildcard:
		c.unsubscribeAll(t)
	}
	c.unsubscribe(t, dropped)
	sub.owed = sub.owed || len(added) > 0
	return c.subscribe(t, added, nil)
}

// encodeSotw concatenates f into a DiscoveryResponse. The version of the whole is the nonce: clients only compare it.
func encodeSotw(f *flight) *message {
	const (
		versionField = 1
		urlField     = 4
		nonceField   = 5
	)
	url := f.typ.URL()
	head := make([]byte, 0, sizeOf(versionField, len(f.nonce))+sizeOf(urlField, len(url))+sizeOf(nonceField, len(f.nonce)))
	head = append(appendHead(head, versionField, len(f.nonce)), f.nonce...)
	head = append(appendHead(head, urlField, len(url)), url...)
	head = append(appendHead(head, nonceField, len(f.nonce)), f.nonce...)
	m := &message{data: make(mem.BufferSlice, 0, len(f.items)+1)}
	m.data = append(m.data, mem.SliceBuffer(head))
	for _, v := range f.items {
		m.data = append(m.data, v.sotw)
	}
	return m
}

// denySotw answers with nothing, which is all that can be said.
func denySotw(r request) proto.Message {
	d := r.(*discoveryv3.DiscoveryRequest)
	if d.GetResponseNonce() != "" {
		return nil
	}
	return &discoveryv3.DiscoveryResponse{TypeUrl: d.GetTypeUrl(), VersionInfo: "0", Nonce: "0"}
}
