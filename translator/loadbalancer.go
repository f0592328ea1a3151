package translator

import (
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/heddle-mesh/heddle/model"
)

func slowStart(lb model.LoadBalancer) *clusterv3.Cluster_SlowStartConfig {
	return &clusterv3.Cluster_SlowStartConfig{SlowStartWindow: duration(lb.SlowStart)}
}

func ringHash(lb model.LoadBalancer) *clusterv3.Cluster_RingHashLbConfig {
	return &clusterv3.Cluster_RingHashLbConfig{MinimumRingSize: optionalSize(lb.RingMin), MaximumRingSize: optionalSize(lb.RingMax)}
}

func maglev(lb model.LoadBalancer) *clusterv3.Cluster_MaglevLbConfig {
	return &clusterv3.Cluster_MaglevLbConfig{TableSize: optionalSize(lb.TableSize)}
}

func optionalSize(n uint64) *wrapperspb.UInt64Value {
	if n == 0 {
		return nil
	}
	return wrapperspb.UInt64(n)
}

// hashPolicies says what a request's hash is made of. A Service with sessionAffinity ClientIP hashes the caller's
// address unless policy names something better.
func hashPolicies(o *model.Outbound, on []model.HashOn) []*routev3.RouteAction_HashPolicy {
	if len(on) == 0 {
		on = o.Traffic.LoadBalancer.HashOn
	}
	if len(on) == 0 && o.Service.Affinity > 0 {
		on = []model.HashOn{{SourceIP: true}}
	}
	var out []*routev3.RouteAction_HashPolicy
	for _, h := range on {
		out = append(out, hashPolicy(h))
	}
	return out
}

func hashPolicy(h model.HashOn) *routev3.RouteAction_HashPolicy {
	p := &routev3.RouteAction_HashPolicy{Terminal: h.Terminal}
	switch {
	case h.Header != "":
		p.PolicySpecifier = &routev3.RouteAction_HashPolicy_Header_{Header: &routev3.RouteAction_HashPolicy_Header{HeaderName: h.Header}}
	case h.Cookie != "":
		// With a ttl, 0 included, Envoy makes the cookie where the caller has none.
		p.PolicySpecifier = &routev3.RouteAction_HashPolicy_Cookie_{Cookie: &routev3.RouteAction_HashPolicy_Cookie{
			Name: h.Cookie, Ttl: duration(h.CookieTTL), Path: h.CookiePath,
		}}
	case h.Query != "":
		p.PolicySpecifier = &routev3.RouteAction_HashPolicy_QueryParameter_{QueryParameter: &routev3.RouteAction_HashPolicy_QueryParameter{Name: h.Query}}
	case h.SourceIP:
		p.PolicySpecifier = &routev3.RouteAction_HashPolicy_ConnectionProperties_{ConnectionProperties: &routev3.RouteAction_HashPolicy_ConnectionProperties{SourceIp: true}}
	}
	return p
}
