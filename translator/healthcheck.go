package translator

import (
	"strconv"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	healthv3 "github.com/envoyproxy/go-control-plane/envoy/service/health/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/heddle-mesh/heddle/model"
)

// HealthChecks says what a sidecar checks of its own application, over Envoy's health discovery service: one check per
// pod and port instead of one from every caller. Nil says that there is nothing to check.
// https://www.envoyproxy.io/docs/envoy/v1.40.0/api-v3/service/health/v3/hds.proto
func HealthChecks(w *model.Workload, capture Capture) *healthv3.HealthCheckSpecifier {
	if len(w.Checks) == 0 || len(w.Pod.Addresses) == 0 {
		return nil
	}
	app, source := w.Pod.Addresses[0], appSource()
	if !capture.Redirected() {
		app, source = capture.App, nil
	}
	out := &healthv3.HealthCheckSpecifier{Interval: duration(w.Checks[0].Interval)}
	for _, c := range w.Checks {
		if c.Interval < out.Interval.AsDuration() {
			out.Interval = duration(c.Interval) // reports come as often as the most frequent check
		}
		out.ClusterHealthChecks = append(out.ClusterHealthChecks, &healthv3.ClusterHealthCheck{
			ClusterName:        inboundName(c.Port),
			HealthChecks:       []*corev3.HealthCheck{healthCheck(c)},
			UpstreamBindConfig: source,
			LocalityEndpoints: []*healthv3.LocalityEndpoints{{
				Endpoints: []*endpointv3.Endpoint{{Address: socket(app, uint32(c.Port))}},
			}},
		})
	}
	return out
}

// CheckedPort says which of a pod's ports the results for a cluster of HealthChecks are about.
func CheckedPort(cluster string) (uint16, bool) {
	number, ok := strings.CutPrefix(cluster, "in|")
	port, err := strconv.ParseUint(number, 10, 16)
	return uint16(port), ok && err == nil
}

func healthCheck(c model.HealthCheck) *corev3.HealthCheck {
	out := &corev3.HealthCheck{
		Interval:           duration(c.Interval),
		Timeout:            duration(c.Timeout),
		UnhealthyThreshold: wrapperspb.UInt32(c.UnhealthyThreshold),
		HealthyThreshold:   wrapperspb.UInt32(c.HealthyThreshold),
		NoTrafficInterval:  duration(c.Interval), // no requests pass through the checking cluster itself
	}
	switch c.Kind {
	case model.CheckGRPC:
		out.HealthChecker = &corev3.HealthCheck_GrpcHealthCheck_{GrpcHealthCheck: &corev3.HealthCheck_GrpcHealthCheck{ServiceName: c.GRPCService}}
	case model.CheckTCP:
		out.HealthChecker = &corev3.HealthCheck_TcpHealthCheck_{TcpHealthCheck: &corev3.HealthCheck_TcpHealthCheck{}}
	default:
		http := &corev3.HealthCheck_HttpHealthCheck{Path: c.Path, Host: c.Host}
		for _, s := range c.Statuses {
			http.ExpectedStatuses = append(http.ExpectedStatuses, &typev3.Int64Range{Start: int64(s.First), End: int64(s.Last) + 1})
		}
		out.HealthChecker = &corev3.HealthCheck_HttpHealthCheck_{HttpHealthCheck: http}
	}
	return out
}
