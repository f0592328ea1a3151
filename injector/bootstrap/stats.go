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
	// TagHost is the name of a virtual host: ob|namespace|service|port.
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
			// The first group is cut out of the name, the second is the value. A subset's label values may hold
			// dots, so what follows the cluster's name is named rather than guessed at.
			regexTag(TagCluster, `^cluster\.(((?:ob|in)\|.*?)\.)(?:upstream_|membership_|outlier_detection\.|circuit_breakers\.|health_check\.|lb_|grpc\.)`),
			regexTag(TagHost, `^vhost\.((.*?)\.)route\.`),
			regexTag(TagRoute, `^vhost\..*?\.route\.((.*?)\.)upstream_`),
			{TagName: "envoy.response_code_class"},
			{TagName: "envoy.http_conn_manager_prefix"},
			{TagName: "envoy.tcp_prefix"},
			{TagName: "envoy.cluster_name"},
		},
		HistogramBucketSettings: []*metricsv3.HistogramBucketSettings{{
			Match:   &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Suffix{Suffix: "_rq_time"}},
			Buckets: latencyBounds(),
		}},
	}
}

// latencyBounds are the upper bounds of the buckets of request times, in milliseconds, the same for every sidecar so
// that buckets add up. Envoy records whole milliseconds, rounded down: a bound of 2.5 is the end of [2, 3).
func latencyBounds() []float64 {
	return []float64{
		0.5, 1.5, 2.5, 3.5, 4.5, 5.5, 6.5, 7.5, 9.5, 11.5, 14.5, 19.5, 24.5, 29.5, 39.5, 49.5, 59.5, 74.5, 99.5,
		124.5, 149.5, 199.5, 249.5, 299.5, 399.5, 499.5, 749.5, 999.5, 1499.5, 1999.5, 2999.5, 4999.5, 9999.5,
		19999.5, 29999.5, 59999.5,
	}
}

func keptStats() []*matcherv3.StringMatcher {
	return []*matcherv3.StringMatcher{
		keepPrefix("cluster_manager."),
		keepPrefix("control_plane."),
		keepPrefix("listener_manager."),
		keepRegex(`server\.(?:concurrency|days_until_first_cert_expiring|envoy_bug_failures|live|memory_.*|state|total_connections|uptime|version|watchdog_.*)`),
		keepRegex(`cluster\.xds\.(?:upstream_cx_(?:total|active|connect_fail)|upstream_rq_(?:total|active|pending_failure_eject))`),
		keepRegex(`cluster\.(?:ob|in)\|.*\.(?:` +
			`upstream_rq_(?:total|active|[1-5]xx|time|timeout|per_try_timeout|rx_reset|tx_reset|pending_overflow|pending_active|` +
			`retry|retry_success|retry_overflow|retry_limit_exceeded)|` +
			`upstream_cx_(?:total|active|connect_fail|connect_timeout|overflow|pool_overflow|rx_bytes_total|tx_bytes_total)|` +
			`membership_(?:total|healthy)|lb_healthy_panic|` +
			`outlier_detection\.ejections_.*|` +
			`health_check\.(?:attempt|success|failure|healthy)|` +
			`circuit_breakers\.default\.(?:cx|cx_pool|rq|rq_pending|rq_retry)_open|` +
			`grpc\..*)`),
		// Route names come from policies; only what is routed under one is counted.
		keepRegex(`vhost\.ob\|.*\.route\..*\.upstream_rq_(?:total|[1-5]xx|time|timeout|retry|retry_success|retry_overflow|retry_limit_exceeded)`),
		// HCM and TCP prefixes of single Services hold a | and stay out: the cluster's numbers say the same.
		keepRegex(`http\.[^|]*\.(?:downstream_rq_(?:total|active|[1-5]xx|time|rx_reset|tx_reset|overload_close)|downstream_cx_(?:total|active|rx_bytes_total|tx_bytes_total|protocol_error)|no_route|no_cluster)`),
		keepRegex(`tcp\.[^|]*\.downstream_cx_(?:total|active|rx_bytes_total|tx_bytes_total|no_route)`),
		keepRegex(`.*http_local_rate_limit\.(?:rate_limited|ok|enforced)`),
		keepRegex(`.*fault\.(?:aborts_injected|delays_injected)`),
	}
}

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
