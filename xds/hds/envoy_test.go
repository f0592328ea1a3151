package hds

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"sync/atomic"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	healthv3 "github.com/envoyproxy/go-control-plane/envoy/service/health/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/heddle-mesh/heddle/injector/bootstrap"
	"github.com/heddle-mesh/heddle/sidecar/envoy"
	"github.com/heddle-mesh/heddle/test/identities"
	"github.com/heddle-mesh/heddle/xds"
)

func TestEnvoyChecksItsApplicationAndReportsEveryChange(t *testing.T) {
	app := startApp(t)
	app.slow.Store(true) // so that reports come before the first check has ended
	e := startEnvoy(t)

	e.checks <- app.check("in|8080")
	app.wantCheck(t)
	app.slow.Store(false)
	e.want("in|8080 healthy") // and not unhealthy before

	app.status.Store(http.StatusServiceUnavailable)
	e.want("in|8080 unhealthy")

	app.status.Store(http.StatusOK)
	e.want("in|8080 healthy")

	e.checks <- app.check("in|9090") // in place of the other
	e.want("in|9090 healthy")

	app.status.Store(http.StatusServiceUnavailable)
	e.want("in|9090 unhealthy")

	e.checks <- &healthv3.HealthCheckSpecifier{Interval: durationpb.New(50 * time.Millisecond)}
	e.want("in|9090 healthy") // nothing is held against it any more
}

func TestChecksGoOnWhileTheControlPlaneIsAway(t *testing.T) {
	app := startApp(t)
	e := startEnvoy(t)
	e.checks <- app.check("in|8080")
	e.want("in|8080 healthy")

	e.server.Stop()
	app.status.Store(http.StatusServiceUnavailable)
	for range 3 {
		app.wantCheck(t)
	}
	e.serve(t)
	e.checks <- app.check("in|8080")

	e.want("in|8080 unhealthy")
}

// app is an application with a health check.
type app struct {
	address netip.AddrPort
	status  atomic.Int64
	slow    atomic.Bool
	checked chan struct{} // gets one for every check, unless nobody looks
}

func startApp(t *testing.T) *app {
	t.Helper()
	a := &app{checked: make(chan struct{})}
	a.status.Store(http.StatusOK)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case a.checked <- struct{}{}:
		default:
		}
		if a.slow.Load() {
			// Several reports long; there is no event to wait for, as nothing of them must be seen.
			select {
			case <-time.After(300 * time.Millisecond):
			case <-r.Context().Done():
			}
		}
		w.WriteHeader(int(a.status.Load()))
	}))
	t.Cleanup(server.Close)
	a.address = netip.MustParseAddrPort(server.Listener.Addr().String())
	return a
}

func (a *app) wantCheck(t *testing.T) {
	t.Helper()
	select {
	case <-a.checked:
	case <-time.After(10 * time.Second):
		t.Fatal("the application was not checked")
	}
}

// check is what a sidecar is told to do, with a report every 50 ms.
func (a *app) check(cluster string) *healthv3.HealthCheckSpecifier {
	return &healthv3.HealthCheckSpecifier{
		Interval: durationpb.New(50 * time.Millisecond),
		ClusterHealthChecks: []*healthv3.ClusterHealthCheck{{
			ClusterName: cluster,
			HealthChecks: []*corev3.HealthCheck{{
				Timeout:            durationpb.New(time.Second),
				Interval:           durationpb.New(50 * time.Millisecond),
				NoTrafficInterval:  durationpb.New(50 * time.Millisecond),
				HealthyThreshold:   wrapperspb.UInt32(2),
				UnhealthyThreshold: wrapperspb.UInt32(2),
				HealthChecker: &corev3.HealthCheck_HttpHealthCheck_{
					HttpHealthCheck: &corev3.HealthCheck_HttpHealthCheck{Path: "/healthz", Host: "app"},
				},
			}},
			LocalityEndpoints: []*healthv3.LocalityEndpoints{{Endpoints: []*endpointv3.Endpoint{{
				Address: &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
					Address:       a.address.Addr().String(),
					PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(a.address.Port())},
				}}},
			}}}},
		}},
	}
}

// sidecar is a real Envoy and the server that it talks to.
type sidecar struct {
	t       *testing.T
	door    identities.Door
	server  *grpc.Server
	checks  chan *healthv3.HealthCheckSpecifier
	reports chan string
}

func startEnvoy(t *testing.T) *sidecar {
	t.Helper()
	ca := identities.New(t, "cluster.local")
	e := &sidecar{
		t: t, door: ca.Door(t),
		checks: make(chan *healthv3.HealthCheckSpecifier, 1), reports: make(chan string, 10),
	}
	e.serve(t)
	binary, err := envoy.Find(t.Context(), envoy.FindOptions{Progress: os.Stderr})
	if err != nil {
		t.Fatal(err)
	}
	proxy := envoy.New(envoy.Options{
		Binary: binary, Concurrency: 1,
		Bootstrap: bootstrap.Options{
			ID: "shop/web-1", Server: e.door.Server, SDS: ca.Serve(t, ca.ID("shop", "web")).Socket, HealthChecks: true,
		},
	})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- proxy.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return e
}

// serve offers HDS, and an ADS with nothing in it, until the test ends or the server is stopped.
func (e *sidecar) serve(t *testing.T) {
	t.Helper()
	listener := e.door.Listen(t)
	store := xds.NewStore()
	store.MarkSynced()
	s := grpc.NewServer(xds.ServerOptions(e.door.Credentials(), grpc.WaitForHandlers(true))...)
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(s, xds.NewServer(xds.Options{
		Store:   store,
		Connect: func(context.Context, *corev3.Node) (xds.Session, error) { return xds.Session{}, nil },
	}))
	healthv3.RegisterHealthDiscoveryServiceServer(s, NewServer(Options{
		Connect: func(context.Context, *corev3.Node) (Session, error) {
			return Session{
				Checks: e.checks,
				Report: func(cluster string, status Status) { e.reports <- cluster + " " + status.String() },
				Close:  func() {},
			}, nil
		},
	}))
	e.server = s
	served := make(chan error, 1)
	go func() { served <- s.Serve(listener) }()
	t.Cleanup(func() {
		s.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
}

// want waits for the next report.
func (e *sidecar) want(want string) {
	e.t.Helper()
	select {
	case got := <-e.reports:
		if got != want {
			e.t.Fatalf("reported %q; want %q", got, want)
		}
	case <-time.After(10 * time.Second):
		e.t.Fatalf("nothing was reported; want %q", want)
	}
}
