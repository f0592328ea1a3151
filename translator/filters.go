package translator

import (
	"strings"

	mutationrulesv3 "github.com/envoyproxy/go-control-plane/envoy/config/common/mutation_rules/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	statev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/common/set_filter_state/v3"
	corsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/cors/v3"
	faultv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/fault/v3"
	grpcstatsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/grpc_stats/v3"
	ratelimitv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/local_ratelimit/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	networkstatev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/set_filter_state/v3"
	earlyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/http/early_header_mutation/header_mutation/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/proto"
)

// Names of the HTTP filters, which per-route configuration refers to.
const (
	filterCORS      = "envoy.filters.http.cors"
	filterFault     = "envoy.filters.http.fault"
	filterRateLimit = "envoy.filters.http.local_ratelimit"
	filterGRPCStats = "envoy.filters.http.grpc_stats"
	filterRouter    = "envoy.filters.http.router"
	filterDeny      = "heddle.deny"
	filterAllow     = "heddle.allow"
)

// outboundHTTPFilters is the order of filters for requests that leave a pod. All are always there and do nothing
// until a route configures them: adding one would replace the filter chain, which drains its connections, while a
// change of a route touches no connection.
func outboundHTTPFilters() []*hcmv3.HttpFilter {
	return []*hcmv3.HttpFilter{
		httpFilter(filterCORS, &corsv3.Cors{}),
		httpFilter(filterFault, &faultv3.HTTPFault{}),
		grpcStats(),
		router(),
	}
}

// inboundHTTPFilters is the order of filters for requests that a pod receives. Authorization comes first: what it
// refuses must not spend a rate limit.
func inboundHTTPFilters() []*hcmv3.HttpFilter {
	return append(accessFilters(),
		httpFilter(filterRateLimit, &ratelimitv3.LocalRateLimit{StatPrefix: "limit"}),
		grpcStats(),
		router(),
	)
}

func httpFilter(name string, config proto.Message) *hcmv3.HttpFilter {
	return &hcmv3.HttpFilter{Name: name, ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: typed(config)}}
}

// grpcStats counts gRPC by its own status: without it a failed call looks like a 200.
func grpcStats() *hcmv3.HttpFilter {
	return httpFilter(filterGRPCStats, &grpcstatsv3.FilterConfig{
		PerMethodStatSpecifier: &grpcstatsv3.FilterConfig_StatsForAllMethods{StatsForAllMethods: no()},
	})
}

// router ends every chain. Its own x-envoy-* headers stay off: they would tell the application of the mesh's affairs.
func router() *hcmv3.HttpFilter {
	return httpFilter(filterRouter, &routerv3.Router{SuppressEnvoyHeaders: true})
}

// foreignHeaders removes, before anything looks at them, headers that steer a sidecar: an application that passes on
// what it received must not pass on orders. Callers' x-forwarded-* headers are information and stay.
func foreignHeaders(prefixes, folded []string) []*corev3.TypedExtensionConfig {
	var mutations []*mutationrulesv3.HeaderMutation
	remove := func(names *matcherv3.StringMatcher) {
		mutations = append(mutations, &mutationrulesv3.HeaderMutation{Action: &mutationrulesv3.HeaderMutation_RemoveOnMatch_{
			RemoveOnMatch: &mutationrulesv3.HeaderMutation_RemoveOnMatch{KeyMatcher: names},
		}})
	}
	for _, prefix := range prefixes {
		remove(hasPrefix(prefix))
	}
	if len(folded) > 0 {
		remove(matches(alternatives(foldedHeaders(folded))))
	}
	return []*corev3.TypedExtensionConfig{{
		Name:        "envoy.http.early_header_mutation.header_mutation",
		TypedConfig: typed(&earlyv3.HeaderMutation{Mutations: mutations}),
	}}
}

// foldedHeaders are the spellings of headers with underscores. What passes variables in the manner of CGI (RFC 3875, 4.1.18)
// takes them for the headers themselves, and so for something that a sidecar has looked at.
func foldedHeaders(names []string) []string {
	var all []string
	for _, name := range names {
		spellings := []string{""}
		for i, word := range strings.Split(name, "-") {
			var longer []string
			for _, s := range spellings {
				if i == 0 {
					longer = append(longer, word)
					continue
				}
				longer = append(longer, s+"-"+word, s+"_"+word)
			}
			spellings = longer
		}
		all = append(all, spellings[1:]...) // the first has none
	}
	return all
}

// callerKey is the filter state that says who calls, for routes that match on the caller. A sidecar's own
// environment tells it, so that all sidecars share one route configuration.
const callerKey = "dev.heddle.caller"

func callerState() *listenerv3.Filter {
	return connectionState(&statev3.FilterStateValue{
		Key:        &statev3.FilterStateValue_ObjectKey{ObjectKey: callerKey},
		FactoryKey: "envoy.string",
		Value:      stateText("%ENVIRONMENT(HEDDLE_CALLER)%"),
	})
}

// offerTCP replaces the ALPN of whatever cluster a connection goes to.
// https://www.envoyproxy.io/docs/envoy/v1.40.0/configuration/advanced/well_known_filter_state
func offerTCP() *listenerv3.Filter {
	return connectionState(&statev3.FilterStateValue{
		Key:   &statev3.FilterStateValue_ObjectKey{ObjectKey: "envoy.network.application_protocols"},
		Value: stateText(alpnTCP),
	})
}

// connectionState is filter state that is set when a connection starts.
func connectionState(v *statev3.FilterStateValue) *listenerv3.Filter {
	return &listenerv3.Filter{
		Name: "envoy.filters.network.set_filter_state",
		ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: typed(&networkstatev3.Config{
			OnNewConnection: []*statev3.FilterStateValue{v},
		})},
	}
}

func stateText(text string) *statev3.FilterStateValue_FormatString {
	return &statev3.FilterStateValue_FormatString{FormatString: &corev3.SubstitutionFormatString{
		Format: &corev3.SubstitutionFormatString_TextFormatSource{TextFormatSource: &corev3.DataSource{
			Specifier: &corev3.DataSource_InlineString{InlineString: text},
		}},
	}}
}
