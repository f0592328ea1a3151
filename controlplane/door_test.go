package controlplane

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	healthv3 "github.com/envoyproxy/go-control-plane/envoy/service/health/v3"
	metricsv3 "github.com/envoyproxy/go-control-plane/envoy/service/metrics/v3"
	"github.com/rs/zerolog"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/heddle-mesh/heddle/identity"
	"github.com/heddle-mesh/heddle/model"
	"github.com/heddle-mesh/heddle/test/certs"
	"github.com/heddle-mesh/heddle/test/transcript"
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
			code: codes.NotFound, says: "not known", reason: deniedUnknownPod,
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

// denies waits until refusals for a reason have been counted.
func (p *Plane) denies(t *testing.T, reason string, times int) {
	t.Helper()
	line := fmt.Sprintf("\nheddle_sidecar_refusals_total{reason=%q} %d\n", reason, times)
	wait(t, line, func() bool { _, body := p.asked("/metrics"); return strings.Contains(body, line) })
}

func TestASecondNodeOnAStreamIsRefusedAndCounted(t *testing.T) {
	d := newDoor(t)
	source := gated{open: make(chan struct{}), events: benchFacts(1)}
	close(source.open)
	p, end := started(t, Options{Source: source, Door: d.Door})
	own, other := benchPod(0, 0).Key.String(), benchPod(0, 1).Key.String()
	stream := d.ads(peerFor(benchPod(0, 0)))
	if err := asks(t, stream, own); err != nil {
		t.Fatal(err)
	}
	if err := asks(t, stream, other); status.Code(err) != codes.PermissionDenied {
		t.Errorf("it ends with %v", err)
	}
	p.denies(t, deniedSecondNode, 1)

	checks, err := healthv3.NewHealthDiscoveryServiceClient(d.dial(credentials.NewTLS(d.ca.Client(peerFor(benchPod(0, 0)).workload())))).StreamHealthCheck(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, node := range []string{own, other} {
		_ = checks.Send(&healthv3.HealthCheckRequestOrEndpointHealthResponse{
			RequestType: &healthv3.HealthCheckRequestOrEndpointHealthResponse_HealthCheckRequest{
				HealthCheckRequest: &healthv3.HealthCheckRequest{Node: &corev3.Node{Id: node}},
			},
		})
		if _, err = checks.Recv(); err != nil {
			break
		}
	}
	if status.Code(err) != codes.PermissionDenied || !strings.Contains(err.Error(), "another node") {
		t.Errorf("health checks end with %v", err)
	}
	p.denies(t, deniedSecondNode, 2)
	if err := end(); err != nil {
		t.Error(err)
	}
}

// uris gives the SPIFFE IDs of a certificate that a CA would not sign.
func uris(t *testing.T, all ...string) func(*x509.Certificate) {
	t.Helper()
	return func(c *x509.Certificate) {
		c.URIs = nil
		for _, s := range all {
			u, err := url.Parse(s)
			if err != nil {
				t.Fatal(err)
			}
			c.URIs = append(c.URIs, u)
		}
	}
}

// uriBytes gives a certificate one SPIFFE ID, of whatever bytes.
func uriBytes(t *testing.T, id string) func(*x509.Certificate) {
	t.Helper()
	names, err := asn1.Marshal([]asn1.RawValue{{Class: asn1.ClassContextSpecific, Tag: 6, Bytes: []byte(id)}}) // uniformResourceIdentifier, RFC 5280, section 4.2.1.6
	if err != nil {
		t.Fatal(err)
	}
	return func(c *x509.Certificate) {
		c.URIs = nil
		c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Value: names})
	}
}

// strangers are who must not get through the door of d in the place of a pod, and the reason that is counted.
func (d door) strangers(own peer) map[string]struct {
	shows  credentials.TransportCredentials
	reason string
} {
	w := own.workload()
	without := d.ca.Client(w)
	without.Certificates = nil
	old := d.ca.Client(w)
	old.MinVersion, old.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	noPod := w
	noPod.Pod, noPod.PodUID = "", ""
	foreign := certs.New(d.t).Client(w)
	foreign.VerifyConnection = nil
	careless := func(change func(*x509.Certificate)) credentials.TransportCredentials {
		return credentials.NewTLS(d.ca.Careless(w, change))
	}
	id := "spiffe://cluster.local/ns/" + w.Namespace + "/sa/" + w.Account
	return map[string]struct {
		shows  credentials.TransportCredentials
		reason string
	}{
		"plain text":                         {insecure.NewCredentials(), deniedHandshake},
		"no certificate":                     {credentials.NewTLS(without), deniedHandshake},
		"TLS 1.2":                            {credentials.NewTLS(old), deniedHandshake},
		"a certificate that names no pod":    {credentials.NewTLS(d.ca.Client(noPod)), "pod-missing"},
		"a certificate of another authority": {credentials.NewTLS(foreign), "chain"},
		"another trust domain":               {careless(uris(d.t, "spiffe://elsewhere.example/ns/shop/sa/web")), "trust-domain"},
		"a trust domain alone":               {careless(uris(d.t, "spiffe://cluster.local")), "id-shape"},
		"the root path":                      {careless(uris(d.t, "spiffe://cluster.local/")), "san"},
		"another shape of ID":                {careless(uris(d.t, "spiffe://cluster.local/web")), "id-shape"},
		"two IDs":                            {careless(uris(d.t, id, id+"2")), "san"},
		"no ID":                              {careless(uris(d.t)), "san"},
		"an encoded NUL":                     {careless(uris(d.t, id+"%00")), "san"},
		"a dot at the end":                   {careless(uris(d.t, id+".")), "id-shape"},
		"no digitalSignature":                {careless(func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyAgreement }), "leaf-usage"},
		"a CA":                               {careless(func(c *x509.Certificate) { c.IsCA = true }), "leaf-usage"},
		"expired":                            {careless(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Second) }), "expired"},
	}
}

// served asks with credentials, and says how that ends; nil: it was served.
func (d door) served(with credentials.TransportCredentials, node string) error {
	d.t.Helper()
	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(d.dial(with)).DeltaAggregatedResources(d.t.Context())
	if err != nil {
		return err
	}
	return asks(d.t, stream, node)
}

func TestNobodyElseGetsThroughTheDoorAndEachIsCountedAndLoggedWithItsReason(t *testing.T) {
	own := peerFor(benchPod(0, 0))
	for name := range newDoor(t).strangers(own) {
		t.Run(name, func(t *testing.T) {
			d := newDoor(t)
			test := d.strangers(own)[name]
			source := gated{open: make(chan struct{}), events: benchFacts(1)}
			close(source.open)
			var log transcript.Buffer
			p, end := started(t, Options{Source: source, Door: d.Door, Log: zerolog.New(&log)})
			good := credentials.NewTLS(d.ca.Client(own.workload()))
			if err := d.served(good, own.pod.String()); err != nil {
				t.Fatalf("with a good certificate: %v", err)
			}
			if err := d.served(test.shows, own.pod.String()); status.Code(err) != codes.Unavailable {
				t.Errorf("it ends with %v", err)
			}
			wait(t, "the refusal to be counted", func() bool {
				_, body := p.asked("/metrics")
				return strings.Contains(body, fmt.Sprintf("\nheddle_sidecar_refusals_total{reason=%q} ", test.reason))
			})
			wait(t, "the refusal to be logged", func() bool {
				return strings.Contains(log.String(), fmt.Sprintf(`"level":"warn","code":%q`, test.reason))
			})
			if _, body := p.asked("/metrics"); strings.Count(body, "\nheddle_sidecar_refusals_total{") != 1 {
				t.Errorf("other refusals are counted too:\n%s", body)
			}
			if err := d.served(good, own.pod.String()); err != nil {
				t.Errorf("with a good certificate after that: %v", err)
			}
			if err := end(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestAnIDWithANULAtItsEndIsRefusedInTheHandshake(t *testing.T) {
	d := newDoor(t)
	source := gated{open: make(chan struct{}), events: benchFacts(1)}
	close(source.open)
	var log transcript.Buffer
	_, end := started(t, Options{Source: source, Door: d.Door, Log: zerolog.New(&log)})
	own := peerFor(benchPod(0, 0))
	shows := func(id string) credentials.TransportCredentials {
		return credentials.NewTLS(d.ca.Careless(own.workload(), uriBytes(t, id)))
	}
	id := "spiffe://cluster.local/ns/" + own.workload().Namespace + "/sa/" + own.workload().Account
	if err := d.served(shows(id), own.pod.String()); err != nil {
		t.Fatalf("without a NUL: %v", err)
	}
	if err := d.served(shows(id+"\x00"), own.pod.String()); status.Code(err) != codes.Unavailable {
		t.Errorf("it ends with %v", err)
	}
	wait(t, "the reason to be logged", func() bool { return strings.Contains(log.String(), "invalid control character in URL") })
	if err := end(); err != nil {
		t.Error(err)
	}
}

func TestACertificateOfARootThatWasTakenAwayIsRefusedAndCounted(t *testing.T) {
	d, old := newDoor(t), certs.New(t)
	source := gated{open: make(chan struct{}), events: benchFacts(1)}
	close(source.open)
	p, end := started(t, Options{Source: source, Door: d.Door})
	own := peerFor(benchPod(0, 0))
	client := old.Client(own.workload())
	client.VerifyConnection = nil // it is the server that is looked at
	d.ca.Trust(d.ca, old)
	if err := d.served(credentials.NewTLS(client), own.pod.String()); err != nil {
		t.Fatalf("while its root is trusted: %v", err)
	}
	d.ca.Trust(d.ca)
	if err := d.served(credentials.NewTLS(client), own.pod.String()); status.Code(err) != codes.Unavailable {
		t.Errorf("it ends with %v", err)
	}
	wait(t, "the refusal to be counted", func() bool {
		_, body := p.asked("/metrics")
		return strings.Contains(body, "\nheddle_sidecar_refusals_total{reason=\"chain\"} ")
	})
	if err := end(); err != nil {
		t.Error(err)
	}
}

func TestWhoConnectsAndGoesAwayIsNotRefused(t *testing.T) {
	d := newDoor(t)
	source := gated{open: make(chan struct{}), events: benchFacts(1)}
	close(source.open)
	p, end := started(t, Options{Source: source, Door: d.Door})
	address := d.Listener.Addr().String()
	silent, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	if err := silent.Close(); err != nil {
		t.Fatal(err)
	}
	distrusts := d.ca.Client(peerFor(benchPod(0, 0)).workload())
	distrusts.VerifyConnection = func(tls.ConnectionState) error { return errors.New("another server was meant") }
	if c, err := tls.Dial("tcp", address, distrusts); err == nil {
		_ = c.Close()
		t.Error("the client takes a server that it does not trust")
	}
	plain, err := net.Dial("tcp", address) // the last one, which is refused and so counted
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	if _, err := plain.Write([]byte("GET / HTTP/1.0\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	p.denies(t, deniedHandshake, 1)
	if err := end(); err != nil { // the handshakes are over
		t.Error(err)
	}
	p.denies(t, deniedHandshake, 1)
	if _, body := p.asked("/metrics"); strings.Count(body, "\nheddle_sidecar_refusals_total{") != 1 {
		t.Errorf("got:\n%s", body)
	}
}

func TestRefusalsFillNoLog(t *testing.T) {
	var l refusalLog
	now := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	if !l.mayLog("10.0.0.1", "chain", now) || l.mayLog("10.0.0.1", "chain", now.Add(refusalsWindow-1)) {
		t.Error("want one line for one peer and reason")
	}
	if !l.mayLog("10.0.0.1", "expired", now) || !l.mayLog("10.0.0.2", "chain", now) {
		t.Error("another reason, or another peer, has no line")
	}
	lines := 3
	for i := range 10 * refusalsLogged {
		if l.mayLog(fmt.Sprintf("2001:db8::%x", i), "chain", now) {
			lines++
		}
	}
	if lines != refusalsLogged {
		t.Errorf("%d lines, want %d", lines, refusalsLogged)
	}
	if !l.mayLog("10.0.0.1", "chain", now.Add(refusalsWindow)) {
		t.Error("after a while it has none")
	}
}
