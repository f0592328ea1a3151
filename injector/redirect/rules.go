package redirect

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/heddle-mesh/heddle/model"
)

// What the rules and Envoy's listeners agree on.
const (
	User         = 1337  // whom the agent and Envoy run as
	OutboundPort = 15001 // where what leaves the pod arrives at Envoy
	InboundPort  = 15006 // where what comes to the pod arrives at Envoy
	ProbePort    = 15021 // where the agent answers the kubelet
)

// Source4 and Source6 are where connections from the agent and from Envoy to the pod's own application come from. They
// tell these from connections of Envoy to the pod's own address that are for another sidecar, which may be this one.
func Source4() netip.Addr { return netip.AddrFrom4([4]byte{127, 0, 0, 6}) }

// Source6 is [Source4] for IPv6. Unlike that it is no address of a host by itself: [Install] adds it to the loopback
// interface.
func Source6() netip.Addr { return netip.AddrFrom16([16]byte{15: 6}) }

// Options say what is left alone beside what always is. The zero value redirects all.
type Options struct {
	SkipInboundPorts  []model.Ports  // ports of the pod that callers reach directly
	SkipInboundCIDRs  []netip.Prefix // callers that reach the pod directly
	SkipOutboundPorts []model.Ports  // ports that the pod reaches directly, on whatever host
	SkipOutboundCIDRs []netip.Prefix // hosts that the pod reaches directly
}

// Validate says what is wrong with the options.
func (o Options) Validate() error {
	var errs []error
	for _, p := range slices.Concat(o.SkipInboundPorts, o.SkipOutboundPorts) {
		if p.First == 0 || p.First > p.Last {
			errs = append(errs, fmt.Errorf("ports %d to %d to be skipped: want some from 1 to 65535, the lower one first", p.First, p.Last))
		}
	}
	for _, p := range slices.Concat(o.SkipInboundCIDRs, o.SkipOutboundCIDRs) {
		if !p.IsValid() {
			errs = append(errs, errors.New("network to be skipped: want one as 10.0.0.0/8 or fd00::/8"))
		}
	}
	return errors.Join(errs...)
}

// ParseCIDRs reads networks with commas between them. An address alone is a network of one.
func ParseCIDRs(text string) ([]netip.Prefix, error) {
	if strings.TrimSpace(text) == "" {
		return nil, nil
	}
	var out []netip.Prefix
	for field := range strings.SplitSeq(text, ",") {
		field = strings.TrimSpace(field)
		p, err := netip.ParsePrefix(field)
		if a, aerr := netip.ParseAddr(field); aerr == nil && a.Zone() == "" {
			p, err = netip.PrefixFrom(a, a.BitLen()), nil
		}
		if err != nil || p.Addr().Is4In6() {
			return nil, fmt.Errorf("%q: want networks with commas between them, as 10.0.0.0/8,fd00::/8", field)
		}
		out = append(out, p.Masked())
	}
	return out, nil
}

// Chain is a list of rules that TCP packets go through until one of them decides.
type Chain struct {
	Name  string
	Hook  Hook
	Rules []Rule
}

// Hook is when packets get to a chain.
type Hook uint8

// The hooks. Only a connection's first packet gets to those that translate addresses.
const (
	NoHook     Hook = iota // by a rule of another chain
	Output                 // a connection begins here
	Prerouting             // a connection arrives
	Input                  // a packet is delivered here, after all translation
	Leaving                // a packet is sent from here, after all translation
)

// Rule decides on what all its conditions hold for. A zero condition holds for everything.
type Rule struct {
	Loopback    bool         // it goes out by the loopback interface: from the pod to the pod
	User        uint32       // of the process that it comes from
	Source      netip.Prefix // where it comes from
	Destination netip.Prefix // where it goes to
	To          model.Ports  // that it goes to
	Direct      bool         // it goes where its sender sent it: nobody has translated that
	Do          Verdict
}

// Verdict is what becomes of a packet.
type Verdict struct {
	Kind  Kind
	Chain string // with Continue
	Port  uint16 // with Redirect
}

// Kind is one of the verdicts.
type Kind uint8

// The verdicts.
const (
	Leave    Kind = iota // as it is
	Continue             // in another chain
	Redirect             // to a port of this host
	Refuse               // by a reset
)

// Rules are the chains for o. A chain stands before those that lead to it.
func Rules(o Options) []Chain {
	inbound := []Rule{
		// What is sent to Envoy's ports itself is refused below; redirected, it would come back to Envoy for ever.
		{To: model.OnePort(OutboundPort)}, {To: model.OnePort(InboundPort)}, {To: model.OnePort(ProbePort)},
	}
	for _, p := range o.SkipInboundPorts {
		inbound = append(inbound, Rule{To: p})
	}
	for _, p := range o.SkipInboundCIDRs {
		inbound = append(inbound, Rule{Source: p})
	}
	inbound = append(inbound, Rule{Do: Verdict{Kind: Redirect, Port: InboundPort}})

	outbound := []Rule{
		// To the application.
		{Loopback: true, User: User, Source: single(Source4())}, {Loopback: true, User: User, Source: single(Source6())},
		{Loopback: true, User: User, Destination: loopback4()}, {Loopback: true, User: User, Destination: single(netip.IPv6Loopback())},
		// The application called its own Service, and it was this pod's turn.
		{Loopback: true, User: User, Do: Verdict{Kind: Continue, Chain: "arriving"}},
		{User: User},
		// Containers of the pod talk to each other.
		{Loopback: true},
	}
	for _, p := range o.SkipOutboundPorts {
		outbound = append(outbound, Rule{To: p})
	}
	for _, p := range o.SkipOutboundCIDRs {
		outbound = append(outbound, Rule{Destination: p})
	}
	outbound = append(outbound, Rule{Do: Verdict{Kind: Redirect, Port: OutboundPort}})

	return []Chain{
		{Name: "arriving", Rules: inbound},
		{Name: "inbound", Hook: Prerouting, Rules: []Rule{{Do: Verdict{Kind: Continue, Chain: "arriving"}}}},
		{Name: "outbound", Hook: Output, Rules: outbound},
		{Name: "guard", Hook: Input, Rules: []Rule{
			{To: model.OnePort(OutboundPort), Direct: true, Do: Verdict{Kind: Refuse}},
			{To: model.OnePort(InboundPort), Direct: true, Do: Verdict{Kind: Refuse}},
		}},
		// Envoy takes a call to port 15006 of another host for one that has arrived at its own. The answer to those addresses
		// would never come back; the kernel itself refuses to send from the first one.
		{Name: "leaving", Hook: Leaving, Rules: []Rule{
			{Loopback: true},
			{Source: single(Source4()), Do: Verdict{Kind: Refuse}},
			{Source: single(Source6()), Do: Verdict{Kind: Refuse}},
		}},
	}
}

func single(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

func loopback4() netip.Prefix { return netip.PrefixFrom(netip.AddrFrom4([4]byte{127}), 8) }
