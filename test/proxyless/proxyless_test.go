// Package proxyless shows gRPC's own xDS client at work against the control plane: no Envoy, SotW, by name. The agent of
// its pod proves who it is.
package proxyless

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/xds"

	"github.com/heddle-mesh/heddle/controlplane"
	"github.com/heddle-mesh/heddle/kube"
	"github.com/heddle-mesh/heddle/local"
	"github.com/heddle-mesh/heddle/model"
	"github.com/heddle-mesh/heddle/sidecar"
	"github.com/heddle-mesh/heddle/test/loopback"
	"github.com/heddle-mesh/heddle/test/secrets"
	"github.com/heddle-mesh/heddle/test/wait"
)

func TestAGRPCClientWithoutASidecarBalancesAndFollowsItsEndpoints(t *testing.T) {
	network := loopback.Reserve(t)
	folder, manifest := exampleIn(t, network)
	client := dial(t, startAgent(t, folder), "xds:///greeter.shop:9000")
	for _, host := range []string{"20.1", "20.2"} {
		serve(t, addressIn(network, host)+":9000")
	}

	seen := callUntil(t, client, func(seen map[string]int) bool { return len(seen) == 2 })
	t.Logf("two endpoints: %v", seen)

	text, err := os.ReadFile(manifest)
	if err != nil {
		t.Fatal(err)
	}
	withdrawn := addressIn(network, "20.1")
	edited := strings.Replace(string(text), "["+withdrawn+"], conditions: {ready: true}", "["+withdrawn+"], conditions: {ready: false}", 1)
	if edited == string(text) {
		t.Fatal("the example does not hold the endpoint to withdraw")
	}
	if err := os.WriteFile(manifest, []byte(edited), 0o600); err != nil {
		t.Fatal(err)
	}
	const inARow = 20
	only := 0
	callUntil(t, client, func(map[string]int) bool {
		if call(t, client) == addressIn(network, "20.2") {
			only++
		} else {
			only = 0
		}
		return only == inARow
	})
}

// callUntil calls until enough was seen, or half a minute is over.
func callUntil(t *testing.T, client grpc_testing.TestServiceClient, enough func(map[string]int) bool) map[string]int {
	t.Helper()
	seen := map[string]int{}
	deadline := time.Now().Add(30 * time.Second)
	for !enough(seen) {
		if time.Now().After(deadline) {
			t.Fatalf("not within half a minute; seen: %v", seen)
		}
		seen[call(t, client)]++
	}
	return seen
}

// call says which address answered.
func call(t *testing.T, client grpc_testing.TestServiceClient) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	r, err := client.UnaryCall(ctx, &grpc_testing.SimpleRequest{}, grpc.WaitForReady(true))
	if err != nil {
		t.Fatal(err)
	}
	return r.Username
}

// exampleIn writes the example with its pods at addresses of the network.
func exampleIn(t *testing.T, network netip.Prefix) (folder, file string) {
	t.Helper()
	text, err := os.ReadFile("../../examples/proxyless-grpc.yaml")
	if err != nil {
		t.Fatal(err)
	}
	b := network.Addr().As4()
	moved := strings.ReplaceAll(string(text), "10.1.", fmt.Sprintf("%d.%d.", b[0], b[1]))
	folder = t.TempDir()
	file = filepath.Join(folder, "mesh.yaml")
	if err := os.WriteFile(file, []byte(moved), 0o600); err != nil {
		t.Fatal(err)
	}
	return folder, file
}

func addressIn(network netip.Prefix, host string) string {
	b := network.Addr().As4()
	return fmt.Sprintf("%d.%d.%s", b[0], b[1], host)
}

// startAgent starts a control plane and the agent of the client's pod, and gives gRPC's bootstrap, which the agent wrote.
func startAgent(t *testing.T, folder string) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "heddle-") // a unix socket's path is at most 107 bytes, which t.TempDir may exceed
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	scan, metrics := secrets.New(t), prometheus.NewRegistry()
	log := scan.Log("the control plane")
	mesh, err := local.New(local.Options{Dir: dir, Log: log, Plane: controlplane.Options{
		Source: kube.NewFolder(kube.FolderOptions{Dir: folder}), Drain: time.Millisecond, Registry: metrics, Log: log,
	}})
	if err != nil {
		t.Fatal(err)
	}
	wait.Background(t, "control plane", mesh.Run)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	relay := filepath.Join(dir, "ads.sock")
	agent, err := mesh.Sidecar(ctx, local.SidecarOptions{
		Pod: model.Key{Namespace: "shop", Name: "client"}, Relay: relay, Log: scan.Log("the agent"),
	})
	if err != nil {
		t.Fatal(err)
	}
	wait.Background(t, "agent", agent.Run)
	t.Cleanup(func() {
		scan.LookAtMetrics(metrics)
		scan.LookAtFiles(dir, filepath.Join(dir, "ca", "ca.json"))
	})
	return filepath.Join(dir, sidecar.BootstrapName)
}

// dial gives a client that finds its server by xDS, by the bootstrap in a file (gRFC A27), which may have to be waited for.
func dial(t *testing.T, file, target string) grpc_testing.TestServiceClient {
	t.Helper()
	var bootstrap []byte
	wait.Until(t, 30*time.Second, "the agent writes "+file, func() (written bool) {
		var err error
		bootstrap, err = os.ReadFile(file)
		return err == nil
	})
	resolver, err := xds.NewXDSResolverWithConfigForTesting(bootstrap)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := grpc.NewClient(target, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithResolvers(resolver))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return grpc_testing.NewTestServiceClient(conn)
}

// server answers with its own address.
type server struct {
	grpc_testing.UnimplementedTestServiceServer
	address string
}

func (s server) UnaryCall(context.Context, *grpc_testing.SimpleRequest) (*grpc_testing.SimpleResponse, error) {
	return &grpc_testing.SimpleResponse{Username: s.address}, nil
}

func serve(t *testing.T, address string) {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	grpc_testing.RegisterTestServiceServer(s, server{address: host})
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(l) }()
	t.Cleanup(func() {
		s.Stop()
		if err := <-ended; err != nil {
			t.Error("server:", err)
		}
	})
}
