package envoy_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"github.com/envoyproxy/go-control-plane/pkg/server/v3"
	"github.com/rs/zerolog"
	"google.golang.org/grpc"

	"github.com/heddle-mesh/heddle/injector/bootstrap"
	"github.com/heddle-mesh/heddle/sidecar/envoy"
	"github.com/heddle-mesh/heddle/test/identities"
)

// serveNothing is a control plane that answers every question with an empty configuration. It gives what the sidecar
// with that node ID starts with.
func serveNothing(t *testing.T, id string) bootstrap.Options {
	t.Helper()
	snapshots := cache.NewSnapshotCache(true, cache.IDHash{}, nil)
	empty, err := cache.NewSnapshot("1", map[resource.Type][]types.Resource{})
	if err != nil {
		t.Fatal(err)
	}
	if err := snapshots.SetSnapshot(t.Context(), id, empty); err != nil {
		t.Fatal(err)
	}
	ca := identities.New(t, "cluster.local")
	door := ca.Door(t)
	s := grpc.NewServer(door.Credentials())
	ads := server.NewServer(t.Context(), snapshots, nil)
	discovery.RegisterAggregatedDiscoveryServiceServer(s, ads)
	l := door.Listen(t)
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	t.Cleanup(func() {
		s.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return bootstrap.Options{ID: id, Server: door.Server, SDS: ca.Serve(t, ca.ID("shop", "web")).Socket}
}

// shortDir is a temporary directory whose name leaves room for a unix socket's.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "hdl")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func binary(t *testing.T) string {
	t.Helper()
	path, err := envoy.Find(t.Context(), envoy.FindOptions{Progress: os.Stderr})
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// start runs an Envoy and waits until it is ready. The function that it gives ends it.
func start(t *testing.T, dir string) (p *envoy.Proxy, stop context.CancelFunc, ended <-chan error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	p = envoy.New(envoy.Options{
		Binary:      binary(t),
		Bootstrap:   serveNothing(t, "shop/web-1"),
		Caller:      bootstrap.Caller{Namespace: "shop", Account: "web"},
		Concurrency: 1,
		Log:         zerolog.New(zerolog.NewTestWriter(t)),
		Dir:         dir,
	})
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	readyCtx, cancelReady := context.WithTimeout(ctx, 20*time.Second)
	defer cancelReady()
	if err := p.Ready(readyCtx); err != nil {
		cancel()
		t.Fatal(errors.Join(err, <-done))
	}
	return p, cancel, done
}

func TestAnEnvoyRunsUntilItIsToldToEndAndLeavesNothing(t *testing.T) {
	dir := shortDir(t)
	p, stop, ended := start(t, dir)

	stats, err := p.Stats(t.Context(), `server\.(live|concurrency)`)
	if err != nil {
		t.Fatal(err)
	}
	if stats["server.live"] != 1 || stats["server.concurrency"] != 1 {
		t.Errorf("got %v, want a live server with one worker", stats)
	}
	wantMode(t, dir, "heddle-envoy-*", 0o700)
	wantMode(t, dir, "heddle-envoy-*/bootstrap.yaml", 0o600)
	wantMode(t, dir, "heddle-envoy-*/admin.sock", 0o600)

	stop()
	if err := <-ended; err != nil {
		t.Errorf("told to end, Run returned %v", err)
	}
	if left, err := filepath.Glob(filepath.Join(dir, "*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
	if err := p.Signal(t.Context(), syscall.Signal(0)); err == nil || !strings.Contains(err.Error(), "has ended") {
		t.Errorf("got %v", err)
	}
}

func wantMode(t *testing.T, dir, pattern string, want os.FileMode) {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil || len(found) != 1 {
		t.Fatalf("looked for %s: %v %v", pattern, found, err)
	}
	st, err := os.Stat(found[0])
	if err != nil {
		t.Fatal(err)
	}
	if got := st.Mode().Perm(); got != want {
		t.Errorf("%s has mode %o, want %o", pattern, got, want)
	}
}

func TestAnEnvoyThatDiesIsAnErrorAndIsNotRestarted(t *testing.T) {
	dir := shortDir(t)
	p, stop, ended := start(t, dir)
	defer stop()
	if err := p.Signal(t.Context(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	err := <-ended
	if err == nil || !strings.Contains(err.Error(), "shop/web-1 ended by itself (signal: killed)") {
		t.Errorf("got %v", err)
	}
	if err := p.Ready(t.Context()); err == nil {
		t.Error("a dead Envoy is ready")
	}
}

func TestAnEnvoyThatCannotStartSaysWhy(t *testing.T) {
	socket := filepath.Join(shortDir(t), "missing", "admin.sock")
	own := serveNothing(t, "shop/web-1")
	own.Admin = socket
	p := envoy.New(envoy.Options{
		Binary:    binary(t),
		Bootstrap: own,
		Log:       zerolog.New(zerolog.NewTestWriter(t)),
	})
	err := p.Run(t.Context())
	if err == nil || !strings.Contains(err.Error(), "cannot bind") {
		t.Errorf("got %v", err)
	}
}

func TestTheRealEnvoyAcceptsEveryBootstrap(t *testing.T) {
	golden, err := filepath.Glob("../../injector/bootstrap/testdata/*.yaml")
	if err != nil || len(golden) == 0 {
		t.Fatalf("no golden bootstraps: %v", err)
	}
	for _, path := range golden {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := envoy.Validate(t.Context(), binary(t), text); err != nil {
			t.Errorf("%s: %v", path, err)
		}
		broken := bytes.Replace(text, []byte("DELTA_GRPC"), []byte("PIGEON"), 1)
		if err := envoy.Validate(t.Context(), binary(t), broken); err == nil || !strings.Contains(err.Error(), "PIGEON") {
			t.Errorf("a broken %s is accepted, or refused for another reason: %v", path, err)
		}
	}
}
