package hds

import (
	"context"
	"io"
	"testing"
	"testing/synctest"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	healthv3 "github.com/envoyproxy/go-control-plane/envoy/service/health/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
)

type message = healthv3.HealthCheckRequestOrEndpointHealthResponse

// stream is a sidecar: it says what it was given, in order, and then ends.
type stream struct {
	grpc.ServerStream
	says []*message
	told chan *healthv3.HealthCheckSpecifier
}

func (s *stream) Context() context.Context { return context.Background() }

func (s *stream) Recv() (*message, error) {
	if len(s.says) == 0 {
		return nil, io.EOF
	}
	m := s.says[0]
	s.says = s.says[1:]
	return m, nil
}

func (s *stream) Send(m *healthv3.HealthCheckSpecifier) error {
	s.told <- m
	return nil
}

func hello(id string) *message {
	return &message{RequestType: &healthv3.HealthCheckRequestOrEndpointHealthResponse_HealthCheckRequest{
		HealthCheckRequest: &healthv3.HealthCheckRequest{Node: &corev3.Node{Id: id}},
	}}
}

func report(results map[string]corev3.HealthStatus) *message {
	r := &healthv3.EndpointHealthResponse{}
	for cluster, s := range results {
		r.ClusterEndpointsHealth = append(r.ClusterEndpointsHealth, &healthv3.ClusterEndpointsHealth{
			ClusterName: cluster,
			LocalityEndpointsHealth: []*healthv3.LocalityEndpointsHealth{{
				EndpointsHealth: []*healthv3.EndpointHealth{{HealthStatus: s}},
			}},
		})
	}
	return &message{RequestType: &healthv3.HealthCheckRequestOrEndpointHealthResponse_EndpointHealthResponse{EndpointHealthResponse: r}}
}

const (
	good    = corev3.HealthStatus_HEALTHY
	bad     = corev3.HealthStatus_UNHEALTHY
	timeout = corev3.HealthStatus_TIMEOUT
	unknown = corev3.HealthStatus_UNKNOWN
)

// heard serves one stream and lists what was reported.
func heard(t *testing.T, says ...*message) (reports []string, err error) {
	t.Helper()
	closed := false
	s := NewServer(Options{Connect: func(_ context.Context, n *corev3.Node) (Session, error) {
		return Session{
			Report: func(cluster string, s Status) {
				reports = append(reports, cluster+" "+s.String())
			},
			Close: func() { closed = true },
		}, nil
	}})
	err = s.StreamHealthCheck(&stream{says: says})
	if len(says) > 0 && says[0].GetHealthCheckRequest().GetNode() != nil && !closed {
		t.Error("the session was not closed")
	}
	return reports, err
}

func TestOnlyChangesOfHealthAreReported(t *testing.T) {
	one := func(s corev3.HealthStatus) *message { return report(map[string]corev3.HealthStatus{"in|8080": s}) }
	got, err := heard(t, hello("shop/web-1"), one(good), one(good), one(bad), one(timeout), one(unknown), one(good))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"in|8080 healthy", "in|8080 unhealthy", "in|8080 healthy", "in|8080 healthy"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("reports (-want +got):\n%s", diff)
	}
}

func TestWhatIsNoLongerCheckedIsNoLongerHeldAgainstAPod(t *testing.T) {
	got, err := heard(t, hello("shop/web-1"), report(map[string]corev3.HealthStatus{"in|8080": bad}), report(nil))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"in|8080 unhealthy", "in|8080 healthy"}, got); diff != "" {
		t.Errorf("reports (-want +got):\n%s", diff)
	}
}

func TestAnApplicationIsNotUnhealthyBeforeItsFirstCheckCanHaveEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var reports []string
		c := conversation{
			session: Session{Report: func(cluster string, s Status) { reports = append(reports, cluster+" "+s.String()) }},
			known:   map[string]Status{}, pending: map[string]time.Time{},
		}
		unhealthy := report(map[string]corev3.HealthStatus{"in|8080": bad}).GetEndpointHealthResponse()
		spec := &healthv3.HealthCheckSpecifier{ClusterHealthChecks: []*healthv3.ClusterHealthCheck{{
			ClusterName: "in|8080", HealthChecks: []*corev3.HealthCheck{{Timeout: durationpb.New(2 * time.Second)}},
		}}}
		c.told(spec)
		c.hear(unhealthy)
		time.Sleep(1999 * time.Millisecond)
		c.hear(unhealthy)
		if len(reports) > 0 {
			t.Errorf("reported %v within the check's timeout", reports)
		}

		time.Sleep(time.Millisecond)
		c.hear(unhealthy)
		c.told(spec) // again: it is known by now
		c.hear(unhealthy)

		if diff := cmp.Diff([]string{"in|8080 unhealthy"}, reports); diff != "" {
			t.Errorf("reports (-want +got):\n%s", diff)
		}
	})
}

func TestAStreamBelongsToTheNodeThatOpenedIt(t *testing.T) {
	_, err := heard(t, hello("shop/web-1"), hello("shop/web-2"))
	if status.Code(err) != codes.PermissionDenied {
		t.Errorf("got %v, want PermissionDenied", err)
	}
	_, err = heard(t, report(nil))
	if status.Code(err) != codes.InvalidArgument {
		t.Errorf("got %v, want InvalidArgument without a node", err)
	}
}

func TestASidecarIsToldWhatToCheckAtOnceAndAfterEveryChange(t *testing.T) {
	checks := make(chan *healthv3.HealthCheckSpecifier)
	s := NewServer(Options{Connect: func(context.Context, *corev3.Node) (Session, error) {
		return Session{Checks: checks, Close: func() {}}, nil
	}})
	pipe := &open{stream: stream{says: []*message{hello("shop/web-1")}, told: make(chan *healthv3.HealthCheckSpecifier)}, end: make(chan struct{})}
	ended := make(chan error)
	go func() { ended <- s.StreamHealthCheck(pipe) }()
	for range 2 {
		spec := &healthv3.HealthCheckSpecifier{}
		checks <- spec
		if got := <-pipe.told; got != spec {
			t.Errorf("told %v, want %v", got, spec)
		}
	}
	close(pipe.end)
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// open is a stream that stays open until its end is closed.
type open struct {
	stream
	end chan struct{}
}

func (o *open) Recv() (*message, error) {
	if len(o.says) == 0 {
		<-o.end
	}
	return o.stream.Recv()
}
