package redirect

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/heddle-mesh/heddle/model"
)

// Table is the name of the nftables table.
const Table = "heddle"

// Text writes chains as nft lists them.
func Text(chains []Chain) string {
	var b strings.Builder
	fmt.Fprintf(&b, "table inet %s {\n", Table)
	for i, c := range chains {
		if i > 0 {
			b.WriteString("\n")
		}
		fmt.Fprintf(&b, "\tchain %s {\n", c.Name)
		if hook := c.Hook.text(); hook != "" {
			fmt.Fprintf(&b, "\t\t%s\n", hook)
		}
		for _, r := range c.Rules {
			fmt.Fprintf(&b, "\t\t%s\n", r.text())
		}
		b.WriteString("\t}\n")
	}
	b.WriteString("}\n")
	return b.String()
}

func (h Hook) text() string {
	switch h {
	case Output:
		return "type nat hook output priority -100; policy accept;"
	case Prerouting:
		return "type nat hook prerouting priority -100; policy accept;"
	case Input:
		return "type filter hook input priority 0; policy accept;"
	case Leaving:
		return "type filter hook output priority 0; policy accept;"
	}
	return ""
}

func (r Rule) text() string {
	parts := []string{"meta l4proto tcp"}
	add := func(format string, args ...any) { parts = append(parts, fmt.Sprintf(format, args...)) }
	if r.Loopback {
		add(`oifname "lo"`)
	}
	if r.User != 0 {
		add("meta skuid %d", r.User)
	}
	if r.Source.IsValid() {
		add("%s saddr %s", family(r.Source.Addr().Is4()), r.Source)
	}
	if r.Destination.IsValid() {
		add("%s daddr %s", family(r.Destination.Addr().Is4()), r.Destination)
	}
	if r.To != (model.Ports{}) {
		add("tcp dport %s", portsText(r.To, "-"))
	}
	if r.Direct {
		add("ct direction original ct status & dnat == 0")
	}
	switch r.Do.Kind {
	case Leave:
		add("return")
	case Continue:
		add("goto %s", r.Do.Chain)
	case Redirect:
		add("redirect to :%d", r.Do.Port)
	case Refuse:
		add("reject with tcp reset")
	}
	return strings.Join(parts, " ")
}

func family(four bool) string {
	if four {
		return "ip"
	}
	return "ip6"
}

// portsText is one port, or the first and the last.
func portsText(p model.Ports, between string) string {
	if p.First == p.Last {
		return strconv.Itoa(int(p.First))
	}
	return fmt.Sprintf("%d%s%d", p.First, between, p.Last)
}
