package bootstrap

import (
	"maps"
	"slices"
	"strings"
)

// CallerVariable is the environment variable in which an Envoy finds its [Caller].
const CallerVariable = "HEDDLE_CALLER"

// Caller is what routes that match on who calls can know about a sidecar's own pod. Resources are the same for all
// sidecars, so these facts are in none of them: outbound listeners read them from Envoy's environment, by
// %ENVIRONMENT(HEDDLE_CALLER)%, into filter state, and routes match on that.
type Caller struct {
	Namespace string
	Account   string
	Labels    map[string]string
}

// String writes the caller as ns=NAMESPACE;sa=ACCOUNT;l=KEY=VALUE;... with the labels sorted and a semicolon after
// each part, so that every part can be looked for with both of its ends. Kubernetes allows no semicolon in any of
// them; one that came from elsewhere is dropped with the part it is in, lest a label pass for an account.
func (c Caller) String() string {
	var b strings.Builder
	part := func(prefix, value string) {
		if !strings.ContainsAny(value, ";\x00\n") {
			b.WriteString(prefix + value + ";")
		}
	}
	part("ns=", c.Namespace)
	part("sa=", c.Account)
	for _, k := range slices.Sorted(maps.Keys(c.Labels)) {
		part("l=", k+"="+c.Labels[k])
	}
	return b.String()
}

// Environment is the caller as an entry of a process's environment.
func (c Caller) Environment() string { return CallerVariable + "=" + c.String() }
