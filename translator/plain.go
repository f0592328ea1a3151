package translator

import (
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	tcprbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/rbac/v3"
)

// filterPlain counts a permissive port's callers that prove no identity: those that a strict port would not take.
const filterPlain = "heddle.plain"

// countPlain lets every connection pass, and counts it at its first byte as tcp.in|PORT.plain.rbac.allowed. It comes before
// the filters that may refuse, since whoever is refused calls in plain text all the same.
func countPlain(port uint16) *listenerv3.Filter {
	everybody := &rbacv3.Policy{
		Permissions: []*rbacv3.Permission{andRules()},
		Principals:  []*rbacv3.Principal{{Identifier: &rbacv3.Principal_Any{Any: true}}},
	}
	return &listenerv3.Filter{Name: filterPlain, ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: typed(&tcprbacv3.RBAC{
		StatPrefix: "tcp." + inboundName(port) + ".plain.",
		Rules:      &rbacv3.RBAC{Action: rbacv3.RBAC_ALLOW, Policies: map[string]*rbacv3.Policy{"plain": everybody}},
	})}}
}
