package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/spiffe/go-spiffe/v2/workloadapi"

	"github.com/heddle-mesh/heddle/controlplane"
	"github.com/heddle-mesh/heddle/kube"
	"github.com/heddle-mesh/heddle/local"
	"github.com/heddle-mesh/heddle/sidecar"
	"github.com/heddle-mesh/heddle/test/secrets"
	"github.com/heddle-mesh/heddle/test/transcript"
)

const pods = `apiVersion: v1
kind: Pod
metadata: {name: web-1, namespace: shop, labels: {heddle.dev/sidecar: "true"}}
spec: {serviceAccountName: web, containers: [{name: app, image: "example/web:1"}]}
status: {phase: Running, podIP: 127.0.0.1, podIPs: [{ip: 127.0.0.1}]}
`

// serveFiles is heddle serve --manifests; it gives the operator's socket.
func serveFiles(t *testing.T) string {
	t.Helper()
	dir := must(os.MkdirTemp("", "hdl")) // a unix socket's path is short
	t.Cleanup(func() { os.RemoveAll(dir) })
	manifests, socket := filepath.Join(dir, "mesh"), filepath.Join(dir, "op.sock")
	if err := os.Mkdir(manifests, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(manifests, "mesh.yaml"), []byte(pods), 0o600); err != nil {
		t.Fatal(err)
	}
	m := must(local.New(local.Options{Dir: dir, Operator: socket, Log: zerolog.Nop(), Plane: controlplane.Options{
		Source: kube.NewFolder(kube.FolderOptions{Dir: manifests}), Drain: time.Millisecond,
	}}))
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- m.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error("control plane:", err)
		}
	})
	// The socket is there at once; the CA is made within the first moments.
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); <-tick.C {
		if _, err := m.Signer().Facts(); err == nil {
			return socket
		}
	}
	t.Fatal("there is no CA within 20 s")
	return ""
}

func TestASidecarIsStartedByOneCommandThatAsksTheControlPlane(t *testing.T) {
	socket := serveFiles(t)
	dir := must(os.MkdirTemp("", "hdl"))
	t.Cleanup(func() { os.RemoveAll(dir) })
	api := filepath.Join(dir, "api.sock")
	t.Setenv("TMPDIR", dir)

	ctx, stop := context.WithCancel(t.Context())
	said, ended := &transcript.Buffer{}, make(chan error, 1)
	go func() {
		ended <- serve(ctx, []string{"--join", socket, "--pod", "shop/web-1", "--no-envoy", "--workload-api", api}, said, said)
	}()
	soon, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	source, err := workloadapi.NewX509Source(soon, workloadapi.WithClientOptions(workloadapi.WithAddr("unix://"+api)))
	if err != nil {
		t.Fatalf("no identity comes: %v\n%s", err, said)
	}
	if got := must(source.GetX509SVID()).ID.String(); got != "spiffe://cluster.local/ns/shop/sa/web" {
		t.Errorf("it is %s", got)
	}
	source.Close()
	stop()
	if err := <-ended; err != nil {
		t.Errorf("it ends with %v", err)
	}
	left, err := filepath.Glob(filepath.Join(dir, "heddle-sidecar-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("it leaves %v behind, %v", left, err)
	}
	secrets.New(t).Look("what it said", []byte(said.String()))
}

func TestJoiningSaysWhatIsWrong(t *testing.T) {
	socket := serveFiles(t)
	for want, args := range map[string][]string{
		`there is no pod shop/nobody`:                {"--join", socket, "--pod", "shop/nobody"},
		`"web-1" names no pod: want namespace/pod`:   {"--join", socket, "--pod", "web-1"},
		`no control plane answers on /nowhere`:       {"--join", "/nowhere", "--pod", "shop/web-1"},
		`--signer and --join: the control plane say`: {"--join", socket, "--pod", "shop/web-1", "--signer", "127.0.0.1:1"},
	} {
		var out transcript.Buffer
		if err := serve(t.Context(), args, &out, &out); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v; want %s", args[2:], err, want)
		}
	}
}

func TestASidecarByHandBindsALoopbackNetworkThatIsAlwaysThePodsOwn(t *testing.T) {
	bind, app := captureFor("shop/web-1")
	again, _ := captureFor("shop/web-1")
	other, _ := captureFor("shop/web-2")
	if bind != again || bind == other {
		t.Errorf("one pod has %s and %s, another %s", bind, again, other)
	}
	s := settings{captureBind: bind, captureApp: app}
	if c, err := s.capture(); err != nil || !c.Bind.Contains(c.App) || !c.App.IsLoopback() {
		t.Errorf("it binds %s, the application %s (%v)", bind, app, err)
	}
}

func TestJoiningAgainGivesAnotherTokenAndTheBundleOfToday(t *testing.T) {
	s := defaults()
	s.joinSocket, s.pod, s.dir = serveFiles(t), "shop/web-1", t.TempDir()
	f := s.flags(io.Discard)
	if err := f.Set("dir", s.dir); err != nil {
		t.Fatal(err)
	}
	if _, err := s.join(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	before := string(must(os.ReadFile(s.bundle)))
	if err := os.WriteFile(s.bundle, []byte("of before a rotation"), 0o600); err != nil {
		t.Fatal(err)
	}
	join := s.joinAgain(s.token)
	first := must(join(t.Context()))
	if got := string(must(os.ReadFile(s.bundle))); got != "of before a rotation" {
		t.Error("the first token was asked for twice")
	}
	second := must(join(t.Context()))
	if second.IsZero() || first.Equal(second) || !first.Equal(s.token) {
		t.Error("the second token is the first one, or none")
	}
	if got := string(must(os.ReadFile(s.bundle))); got != before {
		t.Errorf("the bundle is %s", got)
	}
}

func TestAFileWithAJoinTokenIsReadEachTimeAndAPipeOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(" \n")
	if _, err := joinFile(path); err == nil || !strings.Contains(err.Error(), "is empty") {
		t.Errorf("an empty file: %v", err)
	}
	write("first\n")
	join := must(joinFile(path))
	if got := must(join(t.Context())); !got.Equal(sidecar.NewToken("first")) {
		t.Error("it is not the file's")
	}
	write("second\n")
	if got := must(join(t.Context())); !got.Equal(sidecar.NewToken("second")) {
		t.Error("the file was not read again")
	}

	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := io.WriteString(w, "piped"); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	join = must(joinFile(fmt.Sprintf("/dev/fd/%d", r.Fd())))
	for range 2 {
		if got := must(join(t.Context())); !got.Equal(sidecar.NewToken("piped")) {
			t.Error("it is not what came through the pipe")
		}
	}
}
