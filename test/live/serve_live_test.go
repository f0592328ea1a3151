package live

import (
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/heddle-mesh/heddle/controlplane"
	"github.com/heddle-mesh/heddle/sidecar/envoy"
	"github.com/heddle-mesh/heddle/test/loopback"
	"github.com/heddle-mesh/heddle/test/secrets"
	"github.com/heddle-mesh/heddle/test/wait"
)

// shop is a mesh of two pods, as a person would write it for heddle serve --manifests.
const shop = `
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop, labels: {heddle.dev/sidecar: "true"}}
status: {phase: Running, podIP: %[1]s, podIPs: [{ip: %[1]s}]}
---
apiVersion: v1
kind: Pod
metadata: {name: catalog-1, namespace: shop, labels: {heddle.dev/sidecar: "true"}}
spec: {containers: [{name: app, ports: [{name: http, containerPort: 8080}]}]}
status: {phase: Running, podIP: %[2]s, podIPs: [{ip: %[2]s}]}
---
apiVersion: v1
kind: Service
metadata: {name: catalog, namespace: shop}
spec: {clusterIP: 10.96.0.10, clusterIPs: [10.96.0.10], ports: [{name: http, port: 8000}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: catalog-1, namespace: shop, labels: {kubernetes.io/service-name: catalog}}
addressType: IPv4
ports: [{name: http, port: 8080}]
endpoints: [{addresses: [%[2]s], targetRef: {kind: Pod, namespace: shop, name: catalog-1}}]
---
apiVersion: v1
kind: ConfigMap
metadata: {name: catalog, namespace: shop, labels: {heddle.dev/policy: "true"}}
data:
  traffic.yaml: |
    kind: Traffic
    service: catalog
    %[3]s
`

func TestHeddleServeKilledUnderLoadComesBackUnnoticed(t *testing.T) {
	t.Parallel() // it mostly waits
	w := &world{t: t, scan: secrets.New(t), setting: setting{Namespace: "shop", Network: loopback.Reserve(t)}}
	w.apps = w.app
	dir := w.directory()
	socket := filepath.Join(dir, "operator.sock")
	w.papers = w.joined(socket)
	var err error
	if w.binary, err = envoy.Find(t.Context(), envoy.FindOptions{Progress: os.Stderr}); err != nil {
		t.Fatal(err)
	}
	web, catalog := netip.MustParseAddr("10.1.0.1"), netip.MustParseAddr("10.1.0.2")
	manifest := filepath.Join(dir, "manifests", "shop.yaml")
	if err := os.Mkdir(filepath.Dir(manifest), 0o700); err != nil {
		t.Fatal(err)
	}
	write := func(policy string) {
		text := fmt.Sprintf(shop, w.loopback(web), w.loopback(catalog), strings.TrimSpace(policy))
		if err := os.WriteFile(manifest, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(generation(1))
	heddle := buildHeddle(t, dir)
	serve := func() (log *transcript, kill func()) {
		log = newTranscript(t, w.scan, "heddle serve")
		cmd := exec.Command(heddle, "serve", "--manifests", filepath.Dir(manifest), "--socket", socket,
			"--sidecars", w.sidecars(), "--signer", w.signer(), "--listen", "", "--log-level", "debug")
		cmd.Env = append(os.Environ(), "XDG_STATE_HOME="+filepath.Join(dir, "state"))
		cmd.Stderr = log
		return log, w.process(cmd, func(out io.Reader) { _, _ = io.Copy(log, out) })
	}
	_, kill := serve()
	w.web = w.run("web", web)
	one := w.run("catalog-1", catalog)
	load := w.load(netip.MustParseAddr("10.96.0.10"))
	load.untilGeneration(1)
	before := map[*pod]string{w.web: w.config(w.web), one: w.config(one)}

	// Broken meanwhile, so that what serves after the restart is what was kept.
	write("timeuot: 5s")
	for range 2 {
		kill()
		load.next(30)
		var log *transcript
		log, kill = serve()
		eventually(t, "both sidecars are back", func() bool {
			return log.count(`"message":"connected"`) == 2 && log.count(`"message":"sent"`) >= 4
		})
		load.next(30)
		if diff := cmp.Diff(log.count(`"message":"sent"`), log.count(`"resources":0`)); diff != "" {
			t.Errorf("responses sent after kill -9, and those without resources, differ:\n%s", diff)
		}
		for p, config := range before {
			w.wantConfig(p, config)
		}
	}
	write(generation(2))
	load.untilGeneration(2)
	load.finish()
}

// What heddle serve gives sidecars with redirection is what any other replica gives them.
func TestHeddleServeOnAClusterServesWhatEveryReplicaServes(t *testing.T) {
	w := prepare(t)
	w.createPod("web", netip.MustParseAddr("10.1.0.1"))
	w.createPod("catalog-1", netip.MustParseAddr("10.1.0.2"), "version=v1")
	w.service("catalog")
	w.slice("catalog", ready(&pod{name: "catalog-1", address: netip.MustParseAddr("10.1.0.2")}))
	w.policy("catalog", generation(1, "timeout: 1m"))

	w.serveCluster(w.log)
	served := map[string]map[string]string{}
	for _, name := range []string{"web", "catalog-1"} {
		served[name] = w.versions(w.setting, &pod{name: name})
		if route := "route ob|" + w.Namespace + "|catalog|8000"; served[name][route] == "" {
			t.Errorf("%s gets no %s but %v", name, route, served[name])
		}
	}
	// Now that the first one leads, it is the one that signs.
	second := w.setting
	second.Replica = 1
	options, err := second.options(controlplane.Options{Log: w.log.logger()})
	if err != nil {
		t.Fatal(err)
	}
	replica, err := second.whole(options)
	if err != nil {
		t.Fatal(err)
	}
	wait.Background(t, "second replica", replica.Run)
	for name := range served {
		if diff := cmp.Diff(served[name], w.versions(second, &pod{name: name})); diff != "" {
			t.Errorf("versions for %s (-heddle serve +replica):\n%s", name, diff)
		}
	}
}

func TestHeddleServeStartedWhileTheAPIServerIsAwayWaitsForIt(t *testing.T) {
	w := prepare(t)
	w.createPod("web", netip.MustParseAddr("10.1.0.1"))
	w.service("catalog")
	api.Kill(t)
	log := newTranscript(t, w.scan, "heddle serve")
	w.serveCluster(log)
	eventually(t, "it says that the API server is away", func() bool { return log.count("API server does not answer") == 1 })
	api.Resume(t)
	eventually(t, "it serves", func() bool { return log.count(`"message":"serving"`) == 1 })
	if route := "route ob|" + w.Namespace + "|catalog|8000"; w.versions(w.setting, &pod{name: "web"})[route] == "" {
		t.Errorf("it does not serve %s", route)
	}
	if n := log.count("API server does not answer"); n != 1 {
		t.Errorf("it says %d times that the API server is away", n)
	}
}

// serveCluster runs heddle serve on the cluster until the test ends.
func (w *world) serveCluster(log *transcript) {
	w.t.Helper()
	dir := w.directory()
	cmd := exec.Command(buildHeddle(w.t, dir), "serve", "--kubeconfig", w.Kubeconfig, "--namespace", w.System,
		"--sidecars", w.sidecars(), "--signer", w.signer(), "--socket", filepath.Join(dir, "operator.sock"), "--listen", "")
	cmd.Stderr = log
	w.process(cmd, func(out io.Reader) { _, _ = io.Copy(log, out) })
}

func buildHeddle(t testing.TB, dir string) string {
	t.Helper()
	path := filepath.Join(dir, "heddle")
	out, err := exec.CommandContext(t.Context(), "go", "build", "-ldflags", "-s -w", "-o", path, "github.com/heddle-mesh/heddle/cmd/heddle").CombinedOutput()
	if err != nil {
		t.Fatalf("build heddle: %v\n%s", err, out)
	}
	return path
}
