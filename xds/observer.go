package xds

import "time"

// Observer is told what happens on the streams. It is called from many goroutines and must not block.
type Observer interface {
	Observe(Event)
}

// Event is one thing that happened on one stream.
type Event struct {
	Kind      Kind
	Proxy     string // node id
	Type      Type
	Resources int           // Sent, Acked, Refused: in the response, removals included
	Bytes     int           // Sent
	Took      time.Duration // Acked, Refused: from sending to the answer
	Reason    string        // Refused, Condemned, Withdrawn: what the proxy said
	Verdict   *Verdict      // Condemned, Withdrawn
}

// Kind says what an Event is about.
type Kind uint8

const (
	Connected    Kind = iota
	Disconnected      //
	Sent              // a response
	Acked             // a response
	Refused           // a response; which resource was at fault may not be known yet
	Condemned         // one version of one resource, by this proxy
	Withdrawn         // one version of one resource, from everybody: enough proxies refused it
	SecondNode        // a request named another node than the first one of its stream, which ends
)

func (k Kind) String() string {
	return [...]string{"connected", "disconnected", "sent", "acked", "refused", "condemned", "withdrawn", "second node"}[k]
}

// Verdict is what is known of a refused version.
type Verdict struct {
	Resource *Resource
	Layer    Layer
	Proxies  int       // that refused it so far
	Good     *Resource // Withdrawn: what is served in its place; nil if there is nothing
}
