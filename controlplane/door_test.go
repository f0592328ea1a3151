package controlplane

import (
	"crypto/tls"
	"net"
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	healthv3 "github.com/envoyproxy/go-control-plane/envoy/service/health/v3"
	metricsv3 "github.com/envoyproxy/go-control-plane/envoy/service/metrics/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/heddle-mesh/heddle/identity"
	"github.com/heddle-mesh/heddle/model"
	"github.com/heddle-mesh/heddle/test/certs"
	"github.com/heddle-mesh/heddle/xds"
)

// door is a Door with the CA behind it.
type door struct {
	Door
	t  *testing.T
	ca *certs.CA
}

func newDoor(t *testing.T) door {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ca := certs.New(t)
	return door{Door{Listener: l, TLS: ca.Server()}, t, ca}
}

func peerFor(p *model.Pod) peer { return peer{pod: p.Key, uid: p.UID, account: p.ServiceAccount} }

// workload is who a certificate is made for.
func (p peer) workload() identity.Workload {
	return identity.Workload{Namespace: p.pod.Namespace, Account: p.account, Pod: p.pod.Name, PodUID: p.uid}
}

func (d door) dial(c credentials.TransportCredentials) *grpc.ClientConn {
	d.t.Helper()
	conn, err := grpc.NewClient(d.Listener.Addr().String(), grpc.WithTransportCredentials(c))
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { _ = conn.Close() }) // says that it was closed, if the server closed it first
	return conn
}

type adsStream = discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesClient

// ads opens a stream with the certificate of a pod.
func (d door) ads(p peer) adsStream {
	d.t.Helper()
	return openADS(d.t, d.dial(credentials.NewTLS(d.ca.Client(p.workload()))))
}

func openADS(t *testing.T, conn *grpc.ClientConn) adsStream {
	t.Helper()
	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return stream
}

// asks gives what a first request for clusters ends with.
func asks(t *testing.T, stream adsStream, node string) error {
	t.Helper()
	// A server that has already refused makes Send fail with EOF; Recv says why.
	_ = stream.Send(&discoveryv3.DeltaDiscoveryRequest{Node: &corev3.Node{Id: node}, TypeUrl: xds.Cluster.URL()})
	_, err := stream.Recv()
	return err
}

func TestASidecarIsServedAsItsCertificateSaysAndNotAsItSays(t *testing.T) {
	d := newDoor(t)
	source := gated{open: make(chan struct{}), events: benchFacts(1)}
	close(source.open)
	p, end := started(t, Options{Source: source, Door: d.Door})
	own, other := benchPod(0, 0), benchPod(0, 1)
	tests := map[string]struct {
		peer   peer
		node   string
		code   codes.Code
		says   string
		reason string
	}{
		"itself": {peer: peerFor(own), node: own.Key.String()},
		"the node id of another pod": {
			peer: peerFor(own), node: other.Key.String(),
			code: codes.PermissionDenied, says: "the certificate is that of bench/pod-0000-0", reason: deniedNode,
		},
		"no node id": {
			peer: peerFor(own), code: codes.PermissionDenied, says: "so must the node id be", reason: deniedNode,
		},
		"a pod of the same name with another UID": {
			peer: peer{own.Key, "earlier", "default"}, node: own.Key.String(),
			code: codes.PermissionDenied, says: "no longer so", reason: deniedPod,
		},
		"an account that the pod no longer has": {
			peer: peer{own.Key, own.UID, "admin"}, node: own.Key.String(),
			code: codes.PermissionDenied, says: "no longer so", reason: deniedPod,
		},
		"a pod that does not exist": {
			peer: peer{model.Key{Namespace: "bench", Name: "none"}, "u", "default"}, node: "bench/none",
			code: codes.NotFound, says: "not known",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			err := asks(t, d.ads(test.peer), test.node)
			if status.Code(err) != test.code || err != nil && !strings.Contains(err.Error(), test.says) {
				t.Errorf("it ends with %v", err)
			}
			if line := `heddle_sidecar_refusals_total{reason="` + test.reason + `"}`; test.reason != "" {
				wait(t, line, func() bool { _, body := p.asked("/metrics"); return strings.Contains(body, "\n"+line) })
			}
		})
	}
	if err := end(); err != nil {
		t.Error(err)
	}
}

func TestStatisticsAndHealthChecksAreThoseOfTheCertificateToo(t *testing.T) {
	d := newDoor(t)
	source := gated{open: make(chan struct{}), events: benchFacts(1)}
	close(source.open)
	_, end := started(t, Options{Source: source, Door: d.Door})
	conn := d.dial(credentials.NewTLS(d.ca.Client(peerFor(benchPod(0, 0)).workload())))
	another := &corev3.Node{Id: benchPod(0, 1).Key.String()}

	statistics, err := metricsv3.NewMetricsServiceClient(conn).StreamMetrics(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_ = statistics.Send(&metricsv3.StreamMetricsMessage{Identifier: &metricsv3.StreamMetricsMessage_Identifier{Node: another}})
	if _, err := statistics.CloseAndRecv(); status.Code(err) != codes.PermissionDenied {
		t.Errorf("statistics of another pod end with %v", err)
	}
	checks, err := healthv3.NewHealthDiscoveryServiceClient(conn).StreamHealthCheck(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_ = checks.Send(&healthv3.HealthCheckRequestOrEndpointHealthResponse{
		RequestType: &healthv3.HealthCheckRequestOrEndpointHealthResponse_HealthCheckRequest{HealthCheckRequest: &healthv3.HealthCheckRequest{Node: another}},
	})
	if _, err := checks.Recv(); status.Code(err) != codes.PermissionDenied {
		t.Errorf("health checks of another pod end with %v", err)
	}
	if err := end(); err != nil {
		t.Error(err)
	}
}

func TestASecondNodeOnAStreamIsRefused(t *testing.T) {
	d := newDoor(t)
	source := gated{open: make(chan struct{}), events: benchFacts(1)}
	close(source.open)
	_, end := started(t, Options{Source: source, Door: d.Door})
	stream := d.ads(peerFor(benchPod(0, 0)))
	if err := asks(t, stream, benchPod(0, 0).Key.String()); err != nil {
		t.Fatal(err)
	}
	if err := asks(t, stream, benchPod(0, 1).Key.String()); status.Code(err) != codes.PermissionDenied {
		t.Errorf("it ends with %v", err)
	}
	if err := end(); err != nil {
		t.Error(err)
	}
}

func TestNobodyElseGetsThroughTheDoor(t *testing.T) {
	d := newDoor(t)
	source := gated{open: make(chan struct{}), events: benchFacts(1)}
	close(source.open)
	_, end := started(t, Options{Source: source, Door: d.Door})
	own := peerFor(benchPod(0, 0))
	without := d.ca.Client(own.workload())
	without.Certificates = nil
	old := d.ca.Client(own.workload())
	old.MinVersion, old.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	noPod := own.workload()
	noPod.Pod, noPod.PodUID = "", ""
	foreign := certs.New(t).Client(own.workload())
	foreign.VerifyConnection = nil
	for name, c := range map[string]credentials.TransportCredentials{
		"plain text":                         insecure.NewCredentials(),
		"no certificate":                     credentials.NewTLS(without),
		"TLS 1.2":                            credentials.NewTLS(old),
		"a certificate that names no pod":    credentials.NewTLS(d.ca.Client(noPod)),
		"a certificate of another authority": credentials.NewTLS(foreign),
	} {
		t.Run(name, func(t *testing.T) {
			conn := d.dial(c)
			stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(t.Context())
			if err == nil {
				err = asks(t, stream, own.pod.String())
			}
			if status.Code(err) != codes.Unavailable {
				t.Errorf("it ends with %v", err)
			}
		})
	}
	if err := end(); err != nil {
		t.Error(err)
	}
}
