package hop

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/heddle-mesh/heddle/controlplane"
	"github.com/heddle-mesh/heddle/injector/bootstrap"
	"github.com/heddle-mesh/heddle/kube"
	"github.com/heddle-mesh/heddle/local"
	"github.com/heddle-mesh/heddle/model"
	"github.com/heddle-mesh/heddle/sidecar/envoy"
	"github.com/heddle-mesh/heddle/test/loopback"
)

// manifests are a caller, and a Service with one pod at the address %s.
const manifests = `
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop, labels: {app: web, heddle.dev/sidecar: "true"}}
spec:
  serviceAccountName: web
  containers: [{name: app, image: "example/web:1"}]
status: {phase: Running, podIP: 10.1.0.1, podIPs: [{ip: 10.1.0.1}]}
---
apiVersion: v1
kind: Service
metadata: {name: catalog, namespace: shop}
spec:
  clusterIP: 10.96.0.10
  clusterIPs: [10.96.0.10]
  selector: {app: catalog}
  ports: [{name: http, port: 8080}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: catalog-1, namespace: shop, labels: {kubernetes.io/service-name: catalog}}
addressType: IPv4
ports: [{name: http, port: 8080}]
endpoints:
- {addresses: [%[1]s], conditions: {ready: true}, targetRef: {kind: Pod, namespace: shop, name: catalog}}
---
apiVersion: v1
kind: Pod
metadata: {name: catalog, namespace: shop, labels: {app: catalog, heddle.dev/sidecar: "true"}}
spec:
  serviceAccountName: catalog
  containers: [{name: app, image: "example/catalog:1", ports: [{containerPort: 8080}]}]
status: {phase: Running, podIP: %[1]s, podIPs: [{ip: %[1]s}]}
`

const port = 8080

// sidecars runs a mesh with the sidecars of web and of catalog, whose application is at app, and gives where web calls
// catalog.
func sidecars(b *testing.B, binary string, network netip.Prefix, app netip.Addr) way {
	b.Helper()
	dir := short(b)
	folder := filepath.Join(dir, "manifests")
	if err := os.Mkdir(folder, 0o700); err != nil {
		b.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(folder, "mesh.yaml"), fmt.Appendf(nil, manifests, at(network, 1, 1)), 0o600); err != nil {
		b.Fatal(err)
	}
	log := zerolog.Nop()
	m, err := local.New(local.Options{Dir: dir, Plane: controlplane.Options{
		Source: kube.NewFolder(kube.FolderOptions{Dir: folder, Log: log}), Drain: time.Millisecond, Log: log,
	}, Log: log})
	if err != nil {
		b.Fatal(err)
	}
	run(b, "mesh", m.Run)
	before := children(b)
	bind := loopback.Reserve(b)
	for pod, capture := range map[string]bootstrap.Capture{
		"web":     {Bind: bind, App: at(network, 3, 1)},
		"catalog": {Bind: loopback.Reserve(b), App: app},
	} {
		ctx, cancel := context.WithTimeout(b.Context(), patience)
		defer cancel()
		s, err := m.Sidecar(ctx, local.SidecarOptions{Pod: model.Key{Namespace: "shop", Name: pod}, Log: log, Envoy: envoy.Options{
			Binary: binary, Dir: dir, Concurrency: 1, StopTimeout: time.Second, Log: log,
			Bootstrap: bootstrap.Options{Capture: capture, HealthChecks: true, FlushInterval: time.Second},
			Caller:    bootstrap.Caller{Namespace: "shop", Account: pod},
		}})
		if err != nil {
			b.Fatal(err)
		}
		run(b, "sidecar of "+pod, s.Run)
		if err := s.Ready(ctx); err != nil {
			b.Fatal(err)
		}
	}
	w := way{name: "two sidecars", address: netip.AddrPortFrom(at(bind, 0, 10), port).String()}
	for pid := range children(b) {
		if !before[pid] {
			w.envoys = append(w.envoys, pid)
		}
	}
	return w
}

// at is an address of a loopback network.
func at(network netip.Prefix, what, number byte) netip.Addr {
	n := network.Addr().As4()
	return netip.AddrFrom4([4]byte{n[0], n[1], what, number})
}

// short is a directory whose path leaves room for a unix socket's name, which that of b.TempDir may not.
func short(b *testing.B) string {
	b.Helper()
	dir, err := os.MkdirTemp("", "hop-")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// run runs something long-lived until the benchmark ends.
func run(b *testing.B, what string, f func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	b.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			b.Errorf("%s: %v", what, err)
		}
	})
}
