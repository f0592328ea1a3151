package redirect

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/heddle-mesh/heddle/model"
)

// statusDNAT is a connection's flag in the kernel (IPS_DST_NAT): its destination was translated to another one.
const statusDNAT = 1 << 5

// replace puts chains in the place of those that a run before this one installed, in one transaction.
func replace(c *nftables.Conn, chains []Chain) error {
	t := &nftables.Table{Family: nftables.TableFamilyINet, Name: Table}
	// What is not there cannot be deleted, so it is added first.
	c.AddTable(t)
	c.DelTable(t)
	c.AddTable(t)
	for _, chain := range chains {
		made := c.AddChain(chain.Hook.chain(t, chain.Name))
		for _, r := range chain.Rules {
			c.AddRule(&nftables.Rule{Table: t, Chain: made, Exprs: r.expressions()})
		}
	}
	if err := c.Flush(); err != nil {
		return fmt.Errorf("install the nftables table %s: %w", Table, err)
	}
	return nil
}

func (h Hook) chain(t *nftables.Table, name string) *nftables.Chain {
	c := &nftables.Chain{Table: t, Name: name}
	switch h {
	case Output:
		c.Type, c.Hooknum, c.Priority = nftables.ChainTypeNAT, nftables.ChainHookOutput, nftables.ChainPriorityNATDest
	case Prerouting:
		c.Type, c.Hooknum, c.Priority = nftables.ChainTypeNAT, nftables.ChainHookPrerouting, nftables.ChainPriorityNATDest
	case Input:
		c.Type, c.Hooknum, c.Priority = nftables.ChainTypeFilter, nftables.ChainHookInput, nftables.ChainPriorityFilter
	case Leaving:
		c.Type, c.Hooknum, c.Priority = nftables.ChainTypeFilter, nftables.ChainHookOutput, nftables.ChainPriorityFilter
	}
	return c
}

func (r Rule) expressions() []expr.Any {
	out := meta(expr.MetaKeyL4PROTO, []byte{unix.IPPROTO_TCP})
	if r.Loopback {
		name := make([]byte, unix.IFNAMSIZ)
		copy(name, "lo")
		out = append(out, meta(expr.MetaKeyOIFNAME, name)...)
	}
	if r.User != 0 {
		out = append(out, meta(expr.MetaKeySKUID, binaryutil.NativeEndian.PutUint32(r.User))...)
	}
	if r.Source.IsValid() {
		out = append(out, address(r.Source, 12, 8)...)
	}
	if r.Destination.IsValid() {
		out = append(out, address(r.Destination, 16, 24)...)
	}
	if r.To != (model.Ports{}) {
		out = append(out, ports(r.To)...)
	}
	if r.Direct {
		zero := make([]byte, 4)
		out = append(out,
			&expr.Ct{Register: 1, Key: expr.CtKeyDIRECTION}, equal([]byte{0}), // IP_CT_DIR_ORIGINAL
			&expr.Ct{Register: 1, Key: expr.CtKeySTATUS},
			&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: binaryutil.NativeEndian.PutUint32(statusDNAT), Xor: zero},
			equal(zero))
	}
	return append(out, r.Do.expressions()...)
}

func ports(p model.Ports) []expr.Any {
	out := []expr.Any{&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2}}
	if p.First == p.Last {
		return append(out, equal(port(p.First)))
	}
	return append(out,
		&expr.Cmp{Op: expr.CmpOpGte, Register: 1, Data: port(p.First)}, &expr.Cmp{Op: expr.CmpOpLte, Register: 1, Data: port(p.Last)})
}

func (v Verdict) expressions() []expr.Any {
	switch v.Kind {
	case Continue:
		return []expr.Any{&expr.Verdict{Kind: expr.VerdictGoto, Chain: v.Chain}}
	case Redirect:
		return []expr.Any{&expr.Immediate{Register: 1, Data: port(v.Port)}, &expr.Redir{RegisterProtoMin: 1}}
	case Refuse:
		return []expr.Any{&expr.Reject{Type: unix.NFT_REJECT_TCP_RST}}
	}
	return []expr.Any{&expr.Verdict{Kind: expr.VerdictReturn}}
}

// address compares with an address in the IP header, which is at one of two places, by family.
func address(p netip.Prefix, at4, at6 uint32) []expr.Any {
	kind, at := byte(unix.NFPROTO_IPV4), at4
	if p.Addr().Is6() {
		kind, at = unix.NFPROTO_IPV6, at6
	}
	bytes := p.Masked().Addr().AsSlice()
	size := uint32(len(bytes))
	return append(meta(expr.MetaKeyNFPROTO, []byte{kind}),
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: at, Len: size},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: size, Mask: mask(p.Bits(), len(bytes)), Xor: make([]byte, size)},
		equal(bytes))
}

func mask(bits, size int) []byte {
	out := make([]byte, size)
	for i := range bits {
		out[i/8] |= 0x80 >> (i % 8)
	}
	return out
}

func meta(key expr.MetaKey, value []byte) []expr.Any {
	return []expr.Any{&expr.Meta{Key: key, Register: 1}, equal(value)}
}

func equal(value []byte) expr.Any { return &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: value} }

func port(p uint16) []byte { return binary.BigEndian.AppendUint16(nil, p) }
