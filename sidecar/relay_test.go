package sidecar

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	secretv3 "github.com/envoyproxy/go-control-plane/envoy/service/secret/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-mesh/heddle/identity"
	"github.com/heddle-mesh/heddle/sidecar/relay"
	"github.com/heddle-mesh/heddle/test/wait"
)

// plane is a control plane that answers each request with its type and its unknown fields, and remembers who asked.
type plane struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer
	caller   atomic.Value // string
	metadata atomic.Value // metadata.MD
}

func (p *plane) StreamAggregatedResources(s discoveryv3.AggregatedDiscoveryService_StreamAggregatedResourcesServer) error {
	who, _ := peer.FromContext(s.Context())
	p.caller.Store(who.AuthInfo.(credentials.TLSInfo).State.PeerCertificates[0].URIs[0].String())
	md, _ := metadata.FromIncomingContext(s.Context())
	p.metadata.Store(md)
	for {
		q, err := s.Recv()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if q.GetTypeUrl() == "fail" {
			return status.Error(codes.ResourceExhausted, "too much")
		}
		r := &discoveryv3.DiscoveryResponse{VersionInfo: q.GetTypeUrl()}
		r.ProtoReflect().SetUnknown(q.ProtoReflect().GetUnknown())
		if err := s.Send(r); err != nil {
			return err
		}
	}
}

func (p *plane) DeltaAggregatedResources(s discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	q, err := s.Recv()
	if err != nil {
		return err
	}
	return s.Send(&discoveryv3.DeltaDiscoveryResponse{Nonce: q.GetTypeUrl()})
}

// servePlane serves p over mutual TLS as id, and gives its address.
func servePlane(t *testing.T, s *signer, id string, p *plane) string {
	t.Helper()
	k := must(newKey())
	var server tls.Certificate = forge(t, s.CA(), k, []string{id}, nil)
	g := grpc.NewServer(grpc.Creds(credentials.NewTLS(&tls.Config{
		Certificates: []tls.Certificate{server}, ClientAuth: tls.RequireAnyClientCert, MinVersion: tls.VersionTLS13,
		VerifyConnection: func(c tls.ConnectionState) error {
			_, err := identity.VerifyLeaf(c.PeerCertificates, s.Trusted(), time.Now())
			return err
		},
	})))
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(g, p)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- g.Serve(l) }()
	t.Cleanup(func() {
		g.Stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return l.Addr().String()
}

const planeID = "spiffe://cluster.local/ns/heddle-system/sa/heddle"

// relaying runs an agent with a relay to address and gives a connection to its socket, and the socket.
func relaying(t *testing.T, s *signer, address string) (*grpc.ClientConn, string) {
	t.Helper()
	o := options(t, s, shortDir(t))
	o.Relay = RelayOptions{
		Socket: filepath.Join(filepath.Dir(o.SDS), "ads.sock"), Address: address,
		ControlPlane: must(identity.ID(domain(), "heddle-system", "heddle")), Node: "shop/web-1", Zone: "z1",
	}
	a := run(t, o)
	if s.Away() == nil && !a.held.Wait(soon(t)) {
		t.Fatal("no identity")
	}
	conn, err := grpc.NewClient("unix:"+o.Relay.Socket, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.WaitForReady(true)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn, o.Relay.Socket
}

func TestADSStreamsArePassedOnByteForByteWithThePodsIdentity(t *testing.T) {
	s, p := newSigner(t, "web", time.Hour), &plane{}
	conn, _ := relaying(t, s, servePlane(t, s, planeID, p))
	ads := discoveryv3.NewAggregatedDiscoveryServiceClient(conn)
	ctx := metadata.AppendToOutgoingContext(soon(t), "x-forwarded-client-cert", "somebody else")
	stream, err := ads.StreamAggregatedResources(ctx, grpc.WaitForReady(true))
	if err != nil {
		t.Fatal(err)
	}
	unknown := protowire.AppendString(protowire.AppendTag(nil, 12345, protowire.BytesType), "from the future")
	for _, url := range []string{"first", "second"} {
		q := &discoveryv3.DiscoveryRequest{TypeUrl: url}
		q.ProtoReflect().SetUnknown(unknown)
		if err := stream.Send(q); err != nil {
			t.Fatal(err)
		}
		r, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if r.GetVersionInfo() != url || !bytes.Equal(r.ProtoReflect().GetUnknown(), unknown) {
			t.Errorf("got %v", r)
		}
	}
	if got := p.caller.Load(); got != s.ID.String() {
		t.Errorf("the control plane sees %v, want %s", got, s.ID)
	}
	if got := p.metadata.Load().(metadata.MD).Get("x-forwarded-client-cert"); got != nil {
		t.Errorf("metadata is passed on: %v", got)
	}
	if err := stream.Send(&discoveryv3.DiscoveryRequest{TypeUrl: "fail"}); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("the control plane's status arrives as %v", err)
	}

	delta, err := ads.DeltaAggregatedResources(soon(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := delta.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: "delta"}); err != nil {
		t.Fatal(err)
	}
	if r, err := delta.Recv(); err != nil || r.GetNonce() != "delta" {
		t.Errorf("delta: %v %v", r, err)
	}
	if _, err := delta.Recv(); err != io.EOF {
		t.Errorf("the end of a stream arrives as %v", err)
	}
}

func TestALargeMessageIsPassedOn(t *testing.T) {
	s, p := newSigner(t, "web", time.Hour), &plane{}
	conn, _ := relaying(t, s, servePlane(t, s, planeID, p))
	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).StreamAggregatedResources(soon(t))
	if err != nil {
		t.Fatal(err)
	}
	q := &discoveryv3.DiscoveryRequest{TypeUrl: "large"}
	q.ProtoReflect().SetUnknown(protowire.AppendBytes(protowire.AppendTag(nil, 12345, protowire.BytesType), make([]byte, 3<<20)))
	if err := stream.Send(q); err != nil {
		t.Fatal(err)
	}
	if r, err := stream.Recv(); err != nil || proto.Size(r) < 3<<20 {
		t.Errorf("%v, %d bytes", err, proto.Size(r))
	}
}

func TestNothingButADSIsPassedOn(t *testing.T) {
	s, p := newSigner(t, "web", time.Hour), &plane{}
	conn, _ := relaying(t, s, servePlane(t, s, planeID, p))
	stream, err := secretv3.NewSecretDiscoveryServiceClient(conn).StreamSecrets(soon(t))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); status.Code(err) != codes.Unimplemented {
		t.Errorf("got %v", err)
	}
}

func TestTheRelaySpeaksOnlyWithTheControlPlane(t *testing.T) {
	s, p := newSigner(t, "web", time.Hour), &plane{}
	conn, _ := relaying(t, s, servePlane(t, s, "spiffe://cluster.local/ns/shop/sa/api", p))
	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).StreamAggregatedResources(soon(t))
	if err != nil {
		t.Fatal(err)
	}
	_, err = stream.Recv()
	wantError(t, err, "it must be "+planeID)
	if p.caller.Load() != nil {
		t.Error("a stream has reached somebody else")
	}
}

func TestAStreamThatComesBeforeTheIdentityWaitsForIt(t *testing.T) {
	s, p := newSigner(t, "web", time.Hour), &plane{}
	address := servePlane(t, s, planeID, p)
	s.SetAway(errAway)
	conn, _ := relaying(t, s, address)
	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).StreamAggregatedResources(soon(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&discoveryv3.DiscoveryRequest{TypeUrl: "early"}); err != nil {
		t.Fatal(err)
	}
	s.SetAway(nil)
	if r, err := stream.Recv(); err != nil || r.GetVersionInfo() != "early" {
		t.Errorf("got %v %v", r, err)
	}
}

func TestWithoutAnIdentityTheRelaySaysSo(t *testing.T) {
	t.Parallel() // it mostly waits
	s, p := newSigner(t, "web", time.Hour), &plane{}
	address := servePlane(t, s, planeID, p)
	s.SetAway(errAway)
	conn, _ := relaying(t, s, address)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).StreamAggregatedResources(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err = stream.Recv(); status.Code(err) != codes.Unavailable {
		t.Errorf("got %v", err)
	}
	wantError(t, err, "no certificate yet")
}

func TestGRPCsBootstrapNamesTheSocketAndTheNode(t *testing.T) {
	s := newSigner(t, "web", time.Hour)
	_, socket := relaying(t, s, "127.0.0.1:1")
	var text []byte
	wait.Until(t, patience, "the file is there", func() bool {
		var err error
		text, err = os.ReadFile(filepath.Join(filepath.Dir(socket), BootstrapName))
		return err == nil
	})
	if !bytes.Equal(text, must(relay.Bootstrap(socket, "shop/web-1", "", "z1"))) {
		t.Errorf("got %s", text)
	}
	var read struct {
		Servers []struct {
			URI string `json:"server_uri"`
		} `json:"xds_servers"`
	}
	if err := json.Unmarshal(text, &read); err != nil || len(read.Servers) != 1 || read.Servers[0].URI != "unix://"+socket {
		t.Errorf("got %s: %v", text, err)
	}
}
