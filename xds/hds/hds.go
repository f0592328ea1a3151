// Package hds serves Envoy's health discovery service: it tells each sidecar what to check of its own application,
// and hears what came of it. So an application is checked once, by its companion, and not by every caller.
//
// What Envoy 1.40 was seen to do, over a unix socket:
//
//   - It sends its node once per stream, then a report every interval of the last specifier, changed or not. Every
//     specifier replaces the one before, the interval included; one without checks gives empty reports.
//   - It checks at once and then every no_traffic_interval of the check, 60 s if that is not set, because no requests
//     pass through the cluster that it makes for the check.
//   - An HTTP check names the cluster as its host, unless it has one of its own: in|8080 is no host, and refused by many
//     servers, Go's among them.
//   - What has not been checked yet is reported as UNHEALTHY. A first success is enough to be HEALTHY; from then on the
//     thresholds count, but a 503 makes it UNHEALTHY at once.
//   - The same checks told again, on this stream or the next, go on as if nothing had happened. A cluster of another
//     name starts anew.
//   - A broken stream is opened again within a second, and checks go on meanwhile. Reports go on only once a
//     specifier is told.
//
// https://www.envoyproxy.io/docs/envoy/v1.40.0/api-v3/service/health/v3/hds.proto
package hds

import (
	"context"
	"errors"
	"io"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	healthv3 "github.com/envoyproxy/go-control-plane/envoy/service/health/v3"
	"github.com/rs/zerolog"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Session is what a stream was admitted as.
type Session struct {
	// Checks gives what to check, at once and again after every change. It is read until the stream ends.
	Checks <-chan *healthv3.HealthCheckSpecifier
	// Report hears that a cluster, as a specifier names it, became healthy or unhealthy. The first result counts as a
	// change. It is not called twice at the same time.
	Report func(cluster string, status Status)
	Over   <-chan struct{} // ends the stream without fault when it is closed; nil: never
	Second func()          // called when a message names another node, which ends the stream; may be nil
	Close  func()          // called once when the stream has ended
}

// Status is the result of a check.
type Status uint8

const (
	Healthy Status = iota
	Unhealthy
)

func (s Status) String() string { return [...]string{Healthy: "healthy", Unhealthy: "unhealthy"}[s] }

// Options configure a Server. Connect is required.
type Options struct {
	// Connect decides whose stream it is. It is asked once per stream, and an error ends the stream.
	Connect func(context.Context, *corev3.Node) (Session, error)
	Log     zerolog.Logger
}

// Server is the health discovery service.
type Server struct {
	healthv3.UnimplementedHealthDiscoveryServiceServer
	options Options
}

// NewServer gives a Server to be registered with a grpc.Server.
func NewServer(o Options) *Server { return &Server{options: o} }

// StreamHealthCheck implements the streaming form, the only one that Envoy uses.
func (s *Server) StreamHealthCheck(stream healthv3.HealthDiscoveryService_StreamHealthCheckServer) error {
	first, err := stream.Recv()
	if err != nil {
		return ended(err)
	}
	node := first.GetHealthCheckRequest().GetNode()
	if node == nil {
		return status.Error(codes.InvalidArgument, "the first message of a health check stream must be a request that names its node")
	}
	session, err := s.options.Connect(stream.Context(), node)
	if err != nil {
		return err
	}
	defer session.Close()
	log := s.options.Log.With().Str("proxy", node.GetId()).Logger()
	c := conversation{session: session, log: log, known: map[string]Status{}, pending: map[string]time.Time{}}
	reports := make(chan *healthv3.EndpointHealthResponse)
	received := make(chan error, 1)
	go func() { received <- receive(stream, node.GetId(), session.Second, reports) }()
	for {
		select {
		case spec := <-session.Checks:
			if err := stream.Send(spec); err != nil {
				return err
			}
			c.told(spec)
		case r := <-reports:
			c.hear(r)
		case err := <-received:
			return err
		case <-session.Over:
			return nil
		}
	}
}

// receive hands on reports until the stream ends.
func receive(stream healthv3.HealthDiscoveryService_StreamHealthCheckServer, node string, second func(), reports chan<- *healthv3.EndpointHealthResponse) error {
	for {
		m, err := stream.Recv()
		if err != nil {
			return ended(err)
		}
		if n := m.GetHealthCheckRequest().GetNode(); n != nil && n.GetId() != node {
			if second != nil {
				second()
			}
			return status.Errorf(codes.PermissionDenied, "the stream belongs to proxy %q; a message on it carried another node", node)
		}
		select {
		case reports <- m.GetEndpointHealthResponse():
		case <-stream.Context().Done():
			return stream.Context().Err()
		}
	}
}

// conversation is what passed on one stream, as far as it matters for the next report.
type conversation struct {
	session Session
	log     zerolog.Logger
	known   map[string]Status    // by cluster
	pending map[string]time.Time // by cluster: until when its first check may not be over
}

// told notes which clusters are checked for the first time.
func (c *conversation) told(spec *healthv3.HealthCheckSpecifier) {
	for _, cluster := range spec.GetClusterHealthChecks() {
		if _, checked := c.known[cluster.GetClusterName()]; checked {
			continue
		}
		var longest time.Duration
		for _, check := range cluster.GetHealthChecks() {
			longest = max(longest, check.GetTimeout().AsDuration())
		}
		c.pending[cluster.GetClusterName()] = time.Now().Add(longest)
	}
}

// hear reports what changed. A cluster that is unhealthy before its first check can have ended is not known to be
// so: it would keep callers from every pod that starts.
func (c *conversation) hear(r *healthv3.EndpointHealthResponse) {
	now := results(r)
	for cluster, result := range now {
		if until, ok := c.pending[cluster]; ok && result == Unhealthy && time.Now().Before(until) {
			delete(now, cluster)
			continue
		}
		delete(c.pending, cluster)
		if before, ok := c.known[cluster]; !ok || before != result {
			c.log.Debug().Str("cluster", cluster).Stringer("health", result).Msg("health check")
			c.session.Report(cluster, result)
		}
	}
	for cluster, before := range c.known {
		if _, checked := now[cluster]; !checked && before == Unhealthy {
			c.session.Report(cluster, Healthy) // nobody checks any more, so nothing is known against it
		}
	}
	c.known = now
}

// results reads a report: a cluster is healthy if all of its endpoints are.
func results(r *healthv3.EndpointHealthResponse) map[string]Status {
	out := map[string]Status{}
	for _, c := range r.GetClusterEndpointsHealth() {
		for _, l := range c.GetLocalityEndpointsHealth() {
			for _, e := range l.GetEndpointsHealth() {
				switch e.GetHealthStatus() {
				case corev3.HealthStatus_HEALTHY, corev3.HealthStatus_DEGRADED:
					out[c.GetClusterName()] = max(out[c.GetClusterName()], Healthy)
				case corev3.HealthStatus_UNHEALTHY, corev3.HealthStatus_TIMEOUT, corev3.HealthStatus_DRAINING:
					out[c.GetClusterName()] = Unhealthy
				}
			}
		}
	}
	return out
}

// ended turns the orderly end of a stream into success.
func ended(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}
