package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"

	"github.com/heddle-mesh/heddle/controlplane"
	"github.com/heddle-mesh/heddle/injector/bootstrap"
	"github.com/heddle-mesh/heddle/kube"
	"github.com/heddle-mesh/heddle/local"
	"github.com/heddle-mesh/heddle/model"
	"github.com/heddle-mesh/heddle/sidecar/envoy"
	"github.com/heddle-mesh/heddle/test/loopback"
	"github.com/heddle-mesh/heddle/test/secrets"
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func account(name string) spiffeid.ID {
	return spiffeid.RequireFromString("spiffe://cluster.local/ns/shop/sa/" + name)
}

// town is a mesh with the pods web and catalog, which have agents alone, and meshed, which has an Envoy as well.
type town struct {
	t    *testing.T
	mesh *local.Mesh
	dir  string
	pods netip.Prefix
	scan *secrets.Scan
}

func pod(name string, address netip.Addr) string {
	return fmt.Sprintf(`---
apiVersion: v1
kind: Pod
metadata: {name: %[1]s, namespace: shop, labels: {heddle.dev/sidecar: "true"}}
spec: {serviceAccountName: %[1]s, containers: [{name: app, image: "example/app:1", ports: [{name: http, containerPort: 8080}]}]}
status: {phase: Running, podIP: %[2]s, podIPs: [{ip: %[2]s}]}
`, name, address)
}

func newTown(t *testing.T) *town {
	t.Helper()
	w := &town{t: t, dir: must(os.MkdirTemp("", "app")), pods: loopback.Reserve(t), scan: secrets.New(t)} // a unix socket's path is short
	t.Cleanup(func() { os.RemoveAll(w.dir) })
	manifests := filepath.Join(w.dir, "mesh")
	if err := os.Mkdir(manifests, 0o700); err != nil {
		t.Fatal(err)
	}
	text := pod("web", w.at(1)) + pod("catalog", w.at(2)) + pod("meshed", w.at(3))
	if err := os.WriteFile(filepath.Join(manifests, "mesh.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	w.mesh = must(local.New(local.Options{Dir: w.dir, Log: w.scan.Log("the control plane"), Plane: controlplane.Options{
		Source: kube.NewFolder(kube.FolderOptions{Dir: manifests}), Drain: time.Millisecond,
	}}))
	w.run(w.mesh.Run)
	// A token is handed out by a mesh that has its CA.
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(20 * time.Second); ; <-tick.C {
		if _, err := w.mesh.Signer().Facts(); err == nil {
			return w
		} else if time.Now().After(end) {
			t.Fatal(err)
		}
	}
}

// at is an address of the n-th pod.
func (w *town) at(n byte) netip.Addr {
	a := w.pods.Addr().As4()
	return netip.AddrFrom4([4]byte{a[0], a[1], 0, n})
}

func (w *town) run(f func(context.Context) error) {
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- f(ctx) }()
	w.t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			w.t.Error(err)
		}
	})
}

func (w *town) soon() context.Context {
	ctx, stop := context.WithTimeout(w.t.Context(), 30*time.Second)
	w.t.Cleanup(stop)
	return ctx
}

// app is the identity of an application, whose pod has an agent.
func (w *town) app(name string) *identity {
	w.t.Helper()
	socket := filepath.Join(w.dir, name+".sock")
	s := must(w.mesh.Sidecar(w.soon(), local.SidecarOptions{
		Pod: model.Key{Namespace: "shop", Name: name}, WorkloadAPI: socket, Log: w.scan.Log("the agent of " + name),
	}))
	w.run(s.Run)
	me := must(openIdentity(w.soon(), workloadapi.WithAddr("unix://"+socket)))
	w.t.Cleanup(func() { me.Close() })
	return me
}

func TestTwoApplicationsTalkAndOthersAreRefused(t *testing.T) {
	w := newTown(t)
	web, catalog := w.app("web"), w.app("catalog")
	l := must(net.Listen("tcp", "127.0.0.1:0"))
	w.run(func(ctx context.Context) error { return serve(ctx, l, catalog, account("web")) })
	url := "https://" + l.Addr().String() + "/"

	var said bytes.Buffer
	if err := get(t.Context(), web.client(account("catalog")), url, &said); err != nil || said.String() != "hello spiffe://cluster.local/ns/shop/sa/web\n" {
		t.Errorf("web hears %q, %v", &said, err)
	}
	if err := get(t.Context(), web.client(account("inventory")), url, &said); err == nil || !strings.Contains(err.Error(), "unexpected ID") {
		t.Errorf("web wants inventory and gets %v", err)
	}
	if err := get(t.Context(), catalog.client(account("catalog")), url, &said); err == nil || !strings.Contains(err.Error(), "bad certificate") {
		t.Errorf("catalog, who may not call, gets %v", err)
	}
	if err := get(t.Context(), http.DefaultClient, url, &said); err == nil {
		t.Error("somebody without an identity was served")
	}
}

func TestAnApplicationTalksToASidecar(t *testing.T) {
	w := newTown(t)
	me := w.app("web")
	bind := loopback.Reserve(t)
	behind := netip.AddrFrom4([4]byte{127, bind.Addr().As4()[1], 255, 1})
	l := must(net.Listen("tcp", behind.String()+":8080"))
	plain := &http.Server{ReadHeaderTimeout: time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, "hello from behind a sidecar")
	})}
	w.run(func(ctx context.Context) error {
		defer context.AfterFunc(ctx, func() { plain.Close() })()
		if err := plain.Serve(l); ctx.Err() == nil {
			return err
		}
		return nil
	})
	s := must(w.mesh.Sidecar(w.soon(), local.SidecarOptions{
		Pod: model.Key{Namespace: "shop", Name: "meshed"}, Log: w.scan.Log("the agent of meshed"),
		Envoy: envoy.Options{
			Binary:    must(envoy.Find(w.soon(), envoy.FindOptions{Progress: os.Stderr})),
			Bootstrap: bootstrap.Options{Capture: bootstrap.Capture{Bind: bind, App: behind}},
			Caller:    bootstrap.Caller{Namespace: "shop", Account: "meshed"}, Concurrency: 1, StopTimeout: time.Second,
			Log: w.scan.Log("the Envoy of meshed"), Dir: w.dir,
		},
	}))
	w.run(s.Run)
	if err := s.Ready(w.soon()); err != nil {
		t.Fatal(err)
	}
	// The URL is in plain HTTP; the client speaks it over the mesh's TLS.
	url := "http://" + w.at(3).String() + ":8080/"
	var said bytes.Buffer
	if err := get(t.Context(), me.meshClient(account("meshed")), url, &said); err != nil || said.String() != "hello from behind a sidecar\n" {
		t.Errorf("it hears %q, %v", &said, err)
	}
	if err := get(t.Context(), me.meshClient(account("catalog")), url, &said); err == nil || !strings.Contains(err.Error(), "unexpected ID") {
		t.Errorf("it wants catalog and gets %v", err)
	}
}
