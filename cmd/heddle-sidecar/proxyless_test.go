package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/xds"

	"github.com/heddle-mesh/heddle/controlplane"
	"github.com/heddle-mesh/heddle/kube"
	"github.com/heddle-mesh/heddle/test/loopback"
)

func TestAGRPCApplicationFindsItsServerThroughTheAgent(t *testing.T) {
	m := startMesh(t)
	m.account, m.pod = "client", "client"
	b := loopback.Reserve(t).Addr().As4()
	prefix := fmt.Sprintf("%d.%d.", b[0], b[1])
	m.plane = front(t, m, realPlane(t, prefix))
	p := m.start(t, program(t), "--no-envoy", "--ads-relay", filepath.Join(must(os.MkdirTemp(t.TempDir(), "a")), "ads.sock"))
	p.awaitReady(t)
	for _, host := range []string{"20.1", "20.2"} {
		greet(t, prefix+host)
	}

	relay := p.Args[len(p.Args)-1]
	config := must(os.ReadFile(filepath.Join(filepath.Dir(relay), "grpc-bootstrap.json")))
	resolver := must(xds.NewXDSResolverWithConfigForTesting(config))
	conn := must(grpc.NewClient("xds:///greeter.shop:9000",
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithResolvers(resolver)))
	defer conn.Close()
	client := grpc_testing.NewTestServiceClient(conn)
	seen := map[string]bool{}
	eventually(t, "both endpoints have answered", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		r, err := client.UnaryCall(ctx, &grpc_testing.SimpleRequest{}, grpc.WaitForReady(true))
		if err != nil {
			t.Fatal(err)
		}
		seen[r.Username] = true
		return len(seen) == 2
	})
}

// realPlane serves the example of proxyless gRPC on a unix socket, with its pods in the network.
func realPlane(t *testing.T, prefix string) string {
	t.Helper()
	text := must(os.ReadFile("../../examples/proxyless-grpc.yaml"))
	folder := t.TempDir()
	moved := strings.ReplaceAll(string(text), "10.1.", prefix)
	if err := os.WriteFile(filepath.Join(folder, "mesh.yaml"), []byte(moved), 0o600); err != nil {
		t.Fatal(err)
	}
	dir := must(os.MkdirTemp("", "hdl"))
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket := filepath.Join(dir, "ads.sock")
	plane := controlplane.New(controlplane.Options{
		Source: kube.NewFolder(kube.FolderOptions{Dir: folder}), Socket: socket, Unredirected: true, Drain: time.Millisecond, Log: zerolog.Nop(),
	})
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- plane.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error("control plane:", err)
		}
	})
	return socket
}

// front takes mutual TLS as the control plane's, and passes the bytes on to a unix socket.
func front(t *testing.T, m *mesh, socket string) string {
	t.Helper()
	config := m.planeTLS(t)
	config.NextProtos = []string{"h2"}
	return m.serve(t, func(ctx context.Context, l net.Listener) error {
		var open sync.WaitGroup
		defer open.Wait()
		defer context.AfterFunc(ctx, func() { l.Close() })()
		for {
			c, err := l.Accept()
			if err != nil {
				return nil // closed
			}
			open.Go(func() { splice(ctx, tls.Server(c, config), socket) })
		}
	})
}

func splice(ctx context.Context, c net.Conn, socket string) {
	defer c.Close()
	to, err := net.Dial("unix", socket)
	if err != nil {
		return // the client sees its connection end and comes again
	}
	defer to.Close()
	defer context.AfterFunc(ctx, func() { c.Close(); to.Close() })()
	go func() {
		io.Copy(to, c) // the end of either ends both
		to.Close()
	}()
	io.Copy(c, to)
}

type greeter struct {
	grpc_testing.UnimplementedTestServiceServer
	address string
}

func (g greeter) UnaryCall(context.Context, *grpc_testing.SimpleRequest) (*grpc_testing.SimpleResponse, error) {
	return &grpc_testing.SimpleResponse{Username: g.address}, nil
}

func greet(t *testing.T, address string) {
	t.Helper()
	l := must(net.Listen("tcp", address+":9000"))
	g := grpc.NewServer()
	grpc_testing.RegisterTestServiceServer(g, greeter{address: address})
	ended := make(chan error, 1)
	go func() { ended <- g.Serve(l) }()
	t.Cleanup(func() {
		g.Stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}
