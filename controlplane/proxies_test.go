package controlplane

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	healthv3 "github.com/envoyproxy/go-control-plane/envoy/service/health/v3"
	metricsv3 "github.com/envoyproxy/go-control-plane/envoy/service/metrics/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"github.com/heddle-mesh/heddle/model"
	"github.com/heddle-mesh/heddle/translator"
)

// told is a source that says what it is told to say.
type told chan []model.Event

func (s told) Run(ctx context.Context, out func([]model.Event)) error {
	for {
		select {
		case events := <-s:
			out(events)
		case <-ctx.Done():
			return nil
		}
	}
}

func TestASidecarFollowsItsNodeToAnotherZone(t *testing.T) {
	source, door := make(told, 1), newDoor(t)
	p, end := started(t, Options{Source: source, Door: door.Door})
	pod := benchPod(0, 0)
	pod.Node = "n1"
	source <- []model.Event{{Pod: pod}, {Synced: true}}
	wait(t, "the first listing", p.ready.Load)
	open := func() adsStream {
		t.Helper()
		stream := door.ads(peerFor(pod))
		if err := asks(t, stream, pod.Key.String()); err != nil {
			t.Fatal(err)
		}
		return stream
	}
	places := func() (places []model.Location) {
		t.Helper()
		if err := p.call(t.Context(), func() {
			for at := range p.publisher.locations {
				places = append(places, at)
			}
		}); err != nil {
			t.Fatal(err)
		}
		return places
	}
	stream := open()
	source <- []model.Event{{Node: &model.Node{Name: "n1", Zone: "z1"}}}
	if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
		t.Fatalf("its stream goes on, or ended with %v; want it to end without fault", err)
	}
	open()
	wait(t, "the old stream to be counted out", func() bool { return len(places()) == 2 })
	if got := places(); len(got) != 2 || !slices.Contains(got, model.Location{Zone: "z1"}) {
		t.Errorf("sidecars are at %+v; want one node in z1", got)
	}
	if err := end(); err != nil {
		t.Error(err)
	}
}

// counts is how many streams bring statistics of a pod.
func (p *Plane) counts(pod model.Key) (n int) {
	if p.call(context.Background(), func() { n = len(p.publisher.meters[pod]) }) != nil {
		return -1
	}
	return n
}

// checksOf opens a stream for health checks, and waits until it is told of some.
func (d door) checksOf(p peer) healthv3.HealthDiscoveryService_StreamHealthCheckClient {
	d.t.Helper()
	conn := d.dial(credentials.NewTLS(d.ca.Client(p.workload())))
	stream, err := healthv3.NewHealthDiscoveryServiceClient(conn).StreamHealthCheck(d.t.Context())
	if err != nil {
		d.t.Fatal(err)
	}
	_ = stream.Send(&healthv3.HealthCheckRequestOrEndpointHealthResponse{ // Recv says why it fails
		RequestType: &healthv3.HealthCheckRequestOrEndpointHealthResponse_HealthCheckRequest{
			HealthCheckRequest: &healthv3.HealthCheckRequest{Node: &corev3.Node{Id: p.pod.String()}},
		},
	})
	return stream
}

// statisticsOf opens a stream for statistics, and gives what it ends with.
func (d door) statisticsOf(p peer) (ended <-chan error) {
	d.t.Helper()
	stream, err := metricsv3.NewMetricsServiceClient(d.dial(credentials.NewTLS(d.ca.Client(p.workload())))).StreamMetrics(d.t.Context())
	if err != nil {
		d.t.Fatal(err)
	}
	_ = stream.Send(&metricsv3.StreamMetricsMessage{ // RecvMsg says why it fails
		Identifier: &metricsv3.StreamMetricsMessage_Identifier{Node: &corev3.Node{Id: p.pod.String()}},
	})
	end := make(chan error, 1)
	go func() { end <- stream.RecvMsg(&metricsv3.StreamMetricsResponse{}) }()
	return end
}

func TestStreamsEndWithThePodOrTheAccountThatTheyWereOpenedFor(t *testing.T) {
	other := func(change func(*model.Pod)) []model.Event {
		pod := *benchPod(0, 0)
		change(&pod)
		return []model.Event{{Pod: &pod}}
	}
	for name, test := range map[string]struct {
		events []model.Event
		code   codes.Code
	}{
		"another pod of the name": {other(func(p *model.Pod) { p.UID = "later" }), codes.PermissionDenied},
		"another account":         {other(func(p *model.Pod) { p.ServiceAccount = "later" }), codes.PermissionDenied},
		"no pod":                  {[]model.Event{{Gone: true, Pod: benchPod(0, 0)}}, codes.NotFound},
	} {
		t.Run(name, func(t *testing.T) {
			source, door := make(told, 1), newDoor(t)
			p, end := started(t, Options{Source: source, Door: door.Door})
			pod := benchPod(0, 0)
			source <- []model.Event{{Pod: pod}, {Synced: true}}
			wait(t, "the first listing", p.ready.Load)
			stream, checks, statistics := door.ads(peerFor(pod)), door.checksOf(peerFor(pod)), door.statisticsOf(peerFor(pod))
			wait(t, "statistics are taken", func() bool { return p.counts(pod.Key) == 1 })
			if err := asks(t, stream, pod.Key.String()); err != nil {
				t.Fatal(err)
			}
			if _, err := checks.Recv(); err != nil {
				t.Fatal(err)
			}
			source <- test.events
			if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
				t.Errorf("its configuration goes on, or ended with %v; want it to end without fault", err)
			}
			if _, err := checks.Recv(); !errors.Is(err, io.EOF) {
				t.Errorf("its health checks go on, or ended with %v; want them to end without fault", err)
			}
			if err := <-statistics; err != nil {
				t.Errorf("its statistics end with %v; want them to end without fault", err)
			}
			if n := p.counts(pod.Key); n != 0 {
				t.Errorf("%d streams of its statistics are left", n)
			}
			if err := <-door.statisticsOf(peerFor(pod)); status.Code(err) != test.code {
				t.Errorf("it comes back with statistics and gets %v, want %s", err, test.code)
			}
			if err := asks(t, door.ads(peerFor(pod)), pod.Key.String()); status.Code(err) != test.code {
				t.Errorf("it comes back for configuration and gets %v, want %s", err, test.code)
			}
			if _, err := door.checksOf(peerFor(pod)).Recv(); status.Code(err) != test.code {
				t.Errorf("it comes back for health checks and gets %v, want %s", err, test.code)
			}
			if now := test.events[0].Pod; !test.events[0].Gone {
				if err := asks(t, door.ads(peerFor(now)), now.Key.String()); err != nil {
					t.Errorf("who came in its place gets %v", err)
				}
			}
			if err := end(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestAPodIsReplacedWhileItsStreamBegins(t *testing.T) {
	p := newBench()
	pod := *benchPod(0, 0)
	p.changes(p.state.Apply([]model.Event{{Pod: &pod}}))
	old, _, err := p.attach(peerFor(&pod), translator.Capture{})
	if err != nil {
		t.Fatal(err)
	}
	later := pod
	later.UID = "later"
	p.changes(p.state.Apply([]model.Event{{Pod: &later}}))
	if err := p.stands(old); status.Code(err) != codes.Unavailable {
		t.Errorf("the stream that began too late gets %v", err)
	}
	now, layers, err := p.attach(peerFor(&later), translator.Capture{})
	if err != nil {
		t.Fatal(err)
	}
	if slices.Contains(layers, old.layer) {
		t.Errorf("old and new share layer %s", old.layer)
	}
	p.detach(old)
	if err := p.stands(now); err != nil {
		t.Errorf("the end of the old stream took the new one away: %v", err)
	}
}

func TestWithoutADoorNothingStarts(t *testing.T) {
	if err := New(Options{Source: make(told)}).Run(t.Context()); err == nil || !strings.Contains(err.Error(), "Options.Door") {
		t.Errorf("got %v", err)
	}
}

func TestTheDoorClosesIfTheEndComesWhileLoading(t *testing.T) {
	door := newDoor(t)
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if err := New(Options{Source: make(told), Door: door.Door}).Run(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := door.Listener.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the listener is open, or says %v", err)
	}
}
