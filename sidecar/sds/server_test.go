package sds

import (
	"context"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	secretv3 "github.com/envoyproxy/go-control-plane/envoy/service/secret/v3"
	"github.com/rs/zerolog"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/heddle-mesh/heddle/test/transcript"
)

func serveTest(t *testing.T, log *transcript.Buffer) (*Server, secretv3.SecretDiscoveryServiceClient) {
	t.Helper()
	s := New(Options{Names: []string{"default", "bundle"}, Log: zerolog.New(log)})
	g := grpc.NewServer()
	s.Register(g)
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- g.Serve(l) }()
	conn, err := grpc.NewClient("unix:"+l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		conn.Close()
		g.Stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return s, secretv3.NewSecretDiscoveryServiceClient(conn)
}

func set(t *testing.T, s *Server, name, version string) {
	t.Helper()
	if err := s.Set(version, &tlsv3.Secret{Name: name}); err != nil {
		t.Fatal(err)
	}
}

func awaitTaken(t *testing.T, s *Server, name, want string) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	for {
		changed := s.Changed()
		if s.Taken(name) == want {
			return
		}
		select {
		case <-changed:
		case <-deadline:
			t.Fatalf("%s: taken %q, want %q", name, s.Taken(name), want)
		}
	}
}

func TestWhatIsTakenIsKnownOverBothProtocols(t *testing.T) {
	s, client := serveTest(t, &transcript.Buffer{})
	set(t, s, "bundle", "v1")
	if got := s.Taken("bundle"); got != "" {
		t.Errorf("nobody asked, and %q is taken", got)
	}
	ctx, stop := context.WithCancel(t.Context())
	sotw, err := client.StreamSecrets(ctx)
	if err != nil {
		t.Fatal(err)
	}
	ask := func(q *discoveryv3.DiscoveryRequest) {
		t.Helper()
		q.TypeUrl, q.ResourceNames = secretType, []string{"bundle"}
		if err := sotw.Send(q); err != nil {
			t.Fatal(err)
		}
	}
	ask(&discoveryv3.DiscoveryRequest{})
	r, err := sotw.Recv()
	if err != nil {
		t.Fatal(err)
	}
	ask(&discoveryv3.DiscoveryRequest{ResponseNonce: r.GetNonce(), VersionInfo: r.GetVersionInfo()})
	awaitTaken(t, s, "bundle", "v1")

	delta, err := client.DeltaSecrets(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := delta.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: secretType, ResourceNamesSubscribe: []string{"bundle"}}); err != nil {
		t.Fatal(err)
	}
	d, err := delta.Recv()
	if err != nil {
		t.Fatal(err)
	}
	awaitTaken(t, s, "bundle", "") // one of two has not answered
	if err := delta.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: secretType, ResponseNonce: d.GetNonce()}); err != nil {
		t.Fatal(err)
	}
	awaitTaken(t, s, "bundle", "v1")

	set(t, s, "bundle", "v2")
	if d, err = delta.Recv(); err != nil {
		t.Fatal(err)
	}
	if err := delta.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: secretType, ResponseNonce: d.GetNonce()}); err != nil {
		t.Fatal(err)
	}
	awaitTaken(t, s, "bundle", "") // they differ
	stop()
	awaitTaken(t, s, "bundle", "v2") // who has left counts no more
}

func TestARefusalIsCountedAndLoggedAndNothingIsTaken(t *testing.T) {
	var log transcript.Buffer
	s, client := serveTest(t, &log)
	set(t, s, "default", "v1")
	stream, err := client.StreamSecrets(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&discoveryv3.DiscoveryRequest{TypeUrl: secretType, ResourceNames: []string{"default", "other"}}); err != nil {
		t.Fatal(err)
	}
	r, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	changed := s.Changed()
	if err := stream.Send(&discoveryv3.DiscoveryRequest{
		TypeUrl: secretType, ResourceNames: []string{"default", "other"}, ResponseNonce: r.GetNonce(),
		ErrorDetail: &statuspb.Status{Message: "no good" + strings.Repeat("!", 1000)},
	}); err != nil {
		t.Fatal(err)
	}
	<-changed
	if s.Refused()["default"] != 1 || s.Taken("default") != "" {
		t.Errorf("refused %v, taken %q", s.Refused(), s.Taken("default"))
	}
	for _, want := range []string{`"secret":"default"`, `"reason":"no good!!`, `"secret":"other"`} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log lacks %s: %s", want, log.String())
		}
	}
	if strings.Contains(log.String(), strings.Repeat("!", 400)) {
		t.Error("a long refusal is logged whole")
	}
}

func TestNothingButSecretsIsServed(t *testing.T) {
	s, client := serveTest(t, &transcript.Buffer{})
	stream, err := client.StreamSecrets(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&discoveryv3.DiscoveryRequest{TypeUrl: "type.googleapis.com/envoy.config.cluster.v3.Cluster"}); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); status.Code(err) != codes.InvalidArgument {
		t.Errorf("got %v", err)
	}
	if err := s.Set("v1", &tlsv3.Secret{Name: "other"}); err == nil {
		t.Error("a third secret can be set")
	}
}
