// Package hds serves Envoy's health discovery service: it tells each sidecar what to check of its own application,
// and hears what came of it. So an application is checked once, by its companion, and not by every caller.
//
// What Envoy 1.40 was seen to do, on a unix socket, with one check every 300 ms and reports every 500 ms:
//
//   - It sends its node once per stream, then a report every interval of the last specifier, changed or not. A
//     specifier without checks gives empty reports and is the way to take checks back.
//   - The same specifier again, or one that changes a check, is taken without a report in between that says unhealthy.
//   - The first report of an endpoint comes after its first check, and one result is enough for it; from then on the
//     thresholds count.
//   - After the stream broke it comes back within a second, with the checks to be told again.
//
// https://www.envoyproxy.io/docs/envoy/v1.40.0/api-v3/service/health/v3/hds.proto
package hds

import (
	"context"
	"errors"
	"io"

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
	Close  func() // called once when the stream has ended
}

// Status is the result of a check.
type Status uint8

const (
	Healthy Status = iota
	Unhealthy
)

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
	received := make(chan error, 1)
	go func() { received <- s.receive(stream, node.GetId(), session) }()
	for {
		select {
		case spec := <-session.Checks:
			if err := stream.Send(spec); err != nil {
				return errors.Join(err, <-received)
			}
		case err := <-received:
			return err
		}
	}
}

// receive reports changes until the stream ends.
func (s *Server) receive(stream healthv3.HealthDiscoveryService_StreamHealthCheckServer, node string, session Session) error {
	known := map[string]Status{}
	for {
		m, err := stream.Recv()
		if err != nil {
			return ended(err)
		}
		if n := m.GetHealthCheckRequest().GetNode(); n != nil && n.GetId() != node {
			return status.Errorf(codes.PermissionDenied, "the stream belongs to proxy %q; a message on it carried another node", node)
		}
		now := results(m.GetEndpointHealthResponse())
		for cluster, result := range now {
			if before, ok := known[cluster]; !ok || before != result {
				s.options.Log.Debug().Str("proxy", node).Str("cluster", cluster).Bool("healthy", result == Healthy).Msg("health check")
				session.Report(cluster, result)
			}
		}
		for cluster, before := range known {
			if _, checked := now[cluster]; !checked && before == Unhealthy {
				session.Report(cluster, Healthy) // nobody checks any more, so nothing is known against it
			}
		}
		known = now
	}
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
