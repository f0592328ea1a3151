package redirect

import (
	"fmt"
	"strings"

	"github.com/heddle-mesh/heddle/model"
)

// This file says the same to iptables-restore, which has one table for each of the two kinds of chains, and one program
// for each family.

// jump is a rule of a built-in chain that leads to one of ours.
type jump struct{ table, from, to string }

func (c Chain) jump() (jump, bool) {
	switch c.Hook {
	case Output:
		return jump{"nat", "OUTPUT", iptablesName(c.Name)}, true
	case Prerouting:
		return jump{"nat", "PREROUTING", iptablesName(c.Name)}, true
	case Input:
		return jump{"filter", "INPUT", iptablesName(c.Name)}, true
	case Leaving:
		return jump{"filter", "OUTPUT", iptablesName(c.Name)}, true
	}
	return jump{}, false
}

// rule is the jump's, as iptables -A and -C want it.
func (j jump) rule() []string { return []string{j.from, "-p", "tcp", "-j", j.to} }

func iptablesName(chain string) string { return "HEDDLE_" + strings.ToUpper(chain) }

// restore is the input of iptables-restore --noflush, or ip6tables-restore. It makes our chains anew, which is one
// transaction for each table, and adds the jumps to them that are missing.
func restore(chains []Chain, four bool, missing []jump) string {
	var b strings.Builder
	for _, table := range []string{"nat", "filter"} {
		fmt.Fprintf(&b, "*%s\n", table)
		var rules []string
		for _, c := range chains {
			if (c.Hook == Input || c.Hook == Leaving) != (table == "filter") {
				continue
			}
			fmt.Fprintf(&b, ":%s - [0:0]\n", iptablesName(c.Name))
			for _, r := range c.Rules {
				if r.of(four) {
					rules = append(rules, "-A "+iptablesName(c.Name)+" "+r.iptables())
				}
			}
		}
		for _, j := range missing {
			if j.table == table {
				rules = append(rules, "-A "+strings.Join(j.rule(), " "))
			}
		}
		fmt.Fprintf(&b, "%s\nCOMMIT\n", strings.Join(rules, "\n"))
	}
	return b.String()
}

// of says that a rule can hold for packets of the family.
func (r Rule) of(four bool) bool {
	return (!r.Source.IsValid() || r.Source.Addr().Is4() == four) && (!r.Destination.IsValid() || r.Destination.Addr().Is4() == four)
}

func (r Rule) iptables() string {
	parts := []string{"-p tcp"}
	add := func(format string, args ...any) { parts = append(parts, fmt.Sprintf(format, args...)) }
	if r.Loopback {
		add("-o lo")
	}
	if r.User != 0 {
		add("-m owner --uid-owner %d", r.User)
	}
	if r.Source.IsValid() {
		add("-s %s", r.Source)
	}
	if r.Destination.IsValid() {
		add("-d %s", r.Destination)
	}
	if r.To != (model.Ports{}) {
		add("--dport %s", portsText(r.To, ":"))
	}
	if r.Direct {
		add("-m conntrack --ctdir ORIGINAL ! --ctstate DNAT")
	}
	switch r.Do.Kind {
	case Leave:
		add("-j RETURN")
	case Continue:
		add("-g %s", iptablesName(r.Do.Chain))
	case Redirect:
		add("-j REDIRECT --to-ports %d", r.Do.Port)
	case Refuse:
		add("-j REJECT --reject-with tcp-reset")
	}
	return strings.Join(parts, " ")
}
