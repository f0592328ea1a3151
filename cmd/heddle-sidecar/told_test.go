package main

import (
	"context"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/heddle-mesh/heddle/buildinfo"
	"github.com/heddle-mesh/heddle/controlplane/api"
	"github.com/heddle-mesh/heddle/controlplane/operator"
	"github.com/heddle-mesh/heddle/test/transcript"
)

// What a real Envoy answers is what makes it synced in the eyes of people.
func TestARealEnvoyIsToldOfAsSyncedWithItsVersions(t *testing.T) {
	socket := serveFiles(t)
	dir := must(os.MkdirTemp("", "hdl"))
	t.Cleanup(func() { os.RemoveAll(dir) })
	t.Setenv("TMPDIR", dir)
	ctx, stop := context.WithCancel(t.Context())
	said, ended := &transcript.Buffer{}, make(chan error, 1)
	go func() { ended <- serve(ctx, []string{"--join", socket, "--pod", "shop/web-1"}, said, said) }()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	var list []api.Proxy
	for end := time.Now().Add(time.Minute); ; <-tick.C {
		if err := (operator.Client{Socket: socket}).Call(t.Context(), http.MethodGet, api.ProxiesPath, nil, &list); err != nil {
			t.Fatal(err)
		}
		if len(list) == 1 && list[0].Synced && len(list[0].Types) > 1 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("after a minute it is told of as %+v\n%s", list, said)
		}
	}
	p := list[0]
	if p.Name() != "shop/web-1" || p.Envoy == "" || p.Agent != buildinfo.Get().Version || !p.Certificate.NotAfter.After(time.Now()) {
		t.Errorf("it is told of as %+v", p)
	}
	var config api.Config
	if err := (operator.Client{Socket: socket}).Call(t.Context(), http.MethodGet, api.ConfigPath("shop", "web-1"), nil, &config); err != nil {
		t.Fatal(err)
	}
	total := 0
	for _, t := range p.Types {
		total += t.Resources
	}
	if !config.Connected || len(config.Resources) != total {
		t.Errorf("its configuration has %d resources, connected %v; it is told to have %d", len(config.Resources), config.Connected, total)
	}
	stop()
	if err := <-ended; err != nil {
		t.Errorf("it ends with %v", err)
	}
}
