package bootstrap

import (
	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	metricsv3 "github.com/envoyproxy/go-control-plane/envoy/config/metrics/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// Labels that statistics carry. See package observe for their use.
const (
	// TagCluster is the name of a cluster of the mesh: ob|namespace|service|port|subset or in|port|protocol.
	TagCluster = "heddle.cluster"
	// TagListener is the name of a listener or filter chain: ob|namespace|service|port or in|port.
	TagListener = "heddle.listener"
	// TagHost is the name of a virtual host: namespace/service.
	TagHost = "heddle.host"
	// TagRoute is the name of a route within its virtual host.
	TagRoute = "heddle.route"
)

// pushStats sends statistics to the control plane as differences.
func (o Options) pushStats(b *bootstrapv3.Bootstrap) {
	b.StatsFlush = nil
	b.StatsFlushInterval = durationpb.New(o.FlushInterval)
	b.StatsSinks = []*metricsv3.StatsSink{{
		Name: "envoy.stat_sinks.metrics_service",
		ConfigType: &metricsv3.StatsSink_TypedConfig{TypedConfig: mustAny(&metricsv3.MetricsServiceConfig{
			GrpcService:            controlPlaneService(),
			TransportApiVersion:    corev3.ApiVersion_V3,
			ReportCountersAsDeltas: wrapperspb.Bool(true),
			EmitTagsAsLabels:       true,
			// Quantiles of one sidecar cannot be added up; buckets can.
			HistogramEmitMode: metricsv3.HistogramEmitMode_HISTOGRAM,
		})},
	}}
}

// statsConfig keeps the statistics that the mesh shows and no others: with all of them a sidecar that knows 1,000
// Services takes a quarter more memory.
func statsConfig() *metricsv3.StatsConfig {
	return &metricsv3.StatsConfig{
		StatsMatcher: &metricsv3.StatsMatcher{StatsMatcher: &metricsv3.StatsMatcher_InclusionList{
			InclusionList: &matcherv3.ListStringMatcher{Patterns: keptStats()},
		}},
		UseAllDefaultTags: wrapperspb.Bool(false),
		StatsTags: []*metricsv3.TagSpecifier{
			// The first group is cut out of the name, the second is the value. The names hold no dot.
			regexTag(TagCluster, `^cluster\.(((?:ob|in)\|[^.]*)\.)`),
			regexTag(TagListener, `^http\.(((?:ob|in)\|[^.]*)\.)`),
			regexTag(TagListener, `^tcp\.(((?:ob|in)\|[^.]*)\.)`),
			regexTag(TagHost, `^vhost\.(([^.]*)\.)route\.`),
			regexTag(TagRoute, `^vhost\.[^.]*\.route\.(([^.]*)\.)`),
			{TagName: "envoy.response_code_class"},
		},
		HistogramBucketSettings: []*metricsv3.HistogramBucketSettings{{
			Match:   &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Suffix{Suffix: "_rq_time"}},
			Buckets: latencyBounds(),
		}},
	}
}

// latencyBounds are the bounds of the buckets of request times in milliseconds, the same for every sidecar so that
// buckets add up; Envoy's own begin 0.5, 1, 5, 10, 25. Envoy records whole milliseconds, rounded down, to two
// digits: 9 holds what took less than 10, and 190, which stands for 190 to 199, what took less than 200.
func latencyBounds() []float64 {
	return []float64{
		0.5, 1, 2, 3, 4, 5, 6, 7, 9, 11, 14, 19, 24, 29, 39, 49, 59, 74, 99,
		110, 140, 190, 240, 290, 390, 490, 740, 990,
		1400, 1900, 2900, 4900, 9900, 29000, 59000,
	}
}

func keptStats() []*matcherv3.StringMatcher {
	return []*matcherv3.StringMatcher{
		keepPrefix("cluster_manager."),
		keepPrefix("control_plane."),
		keepPrefix("listener_manager."),
		keepRegex(`server\.(?:concurrency|days_until_first_cert_expiring|envoy_bug_failures|live|memory_.*|state|total_connections|uptime|version|watchdog_.*)`),
		keepRegex(`cluster\.(?:xds|sds)\.(?:upstream_cx_(?:total|active|connect_fail)|upstream_rq_(?:total|active|pending_failure_eject)|` + keptTLS + `)`),
		// What is no Service's; what is under way there is waited for when the pod leaves.
		keepRegex(`cluster\.passthrough\.(?:upstream_cx_(?:total|active|connect_fail)|upstream_rq_active)`),
		// Right after the name, so that the same again under .external, .internal and .retry stays out.
		keepRegex(`cluster\.(?:ob|in)\|[^.]*\.(?:` +
			`upstream_rq_(?:total|active|[1-5]xx|time|timeout|per_try_timeout|rx_reset|tx_reset|active_overflow|pending_overflow|pending_active|` +
			`retry|retry_success|retry_overflow|retry_limit_exceeded)|` +
			`upstream_cx_(?:total|active|connect_fail|connect_timeout|overflow|pool_overflow|rx_bytes_total|tx_bytes_total)|` +
			`membership_(?:total|healthy)|lb_healthy_panic|` +
			`outlier_detection\.ejections_.*|` +
			`health_check\.(?:attempt|success|failure|healthy)|` +
			`circuit_breakers\.default\.(?:cx|cx_pool|rq|rq_pending|rq_retry)_open|` +
			`grpc\.[0-9]+|` + keptTLS + `)`),
		keepRegex(`listener\.(?:inbound|in\|[0-9]+)\.` + keptTLS),
		keepRegex(`vhost\.[^.]*\.route\.[^.]*\.upstream_rq_(?:total|[1-5]xx|time|timeout|retry|retry_success|retry_overflow|retry_limit_exceeded)`),
		// What callers met: with timeouts, faults and answers by the sidecar itself, which no cluster counts.
		keepRegex(`http\.ob\|[^.]*\.downstream_rq_(?:[1-5]xx|time|active|rx_reset)`),
		keepRegex(`http\.in\|[^.]*\.(?:downstream_rq_(?:total|active|[1-5]xx|time|rx_reset|tx_reset)|downstream_cx_(?:total|active|rx_bytes_total|tx_bytes_total|protocol_error)|no_route|no_cluster)`),
		keepRegex(`tcp\.(?:ob|in)\|[^.]*\.downstream_cx_(?:total|rx_bytes_total|tx_bytes_total)`),
		keepRegex(`(?:.*\.)?http_local_rate_limit\.(?:rate_limited|ok|enforced)`),
		keepRegex(`http\.in\|[^.]*\.rbac\..*`),
		keepRegex(`tcp\.in\|[^.]*\.(?:deny|allow)\.rbac\..*`),
		keepRegex(`tcp\.in\|[^.]*\.plain\.rbac\.allowed`), // callers that a strict port would not take
		keepRegex(`http\.ob\|[^.]*\.fault\.(?:aborts_injected|delays_injected)`),
	}
}

// keptTLS counts handshakes and why they failed.
const keptTLS = `ssl\.(?:handshake|connection_error|fail_verify_error|fail_verify_san|fail_verify_cert_hash|fail_verify_no_cert)`

func keepPrefix(prefix string) *matcherv3.StringMatcher {
	return &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Prefix{Prefix: prefix}}
}

// keepRegex matches whole names.
func keepRegex(regex string) *matcherv3.StringMatcher {
	return &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_SafeRegex{
		SafeRegex: &matcherv3.RegexMatcher{Regex: regex},
	}}
}

func regexTag(name, regex string) *metricsv3.TagSpecifier {
	return &metricsv3.TagSpecifier{TagName: name, TagValue: &metricsv3.TagSpecifier_Regex{Regex: regex}}
}
