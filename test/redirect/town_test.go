//go:build e2e

package redirect

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/heddle-mesh/heddle/controlplane"
	"github.com/heddle-mesh/heddle/controlplane/operator"
	"github.com/heddle-mesh/heddle/identity"
	"github.com/heddle-mesh/heddle/injector/redirect"
	"github.com/heddle-mesh/heddle/kube"
	"github.com/heddle-mesh/heddle/local"
	"github.com/heddle-mesh/heddle/mesh"
	"github.com/heddle-mesh/heddle/sidecar/envoy"
	"github.com/heddle-mesh/heddle/test/pods"
	"github.com/heddle-mesh/heddle/test/secrets"
	"github.com/heddle-mesh/heddle/xds"
)

// patience is how long a test waits for what should take a moment.
const patience = 60 * time.Second

// prefix is what only the kubelet knows. One for all pods will do here.
const prefix = "0a1b2c3d-0a1b-2c3d-4e5f"

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// town is a control plane with pods around it.
type town struct {
	t                      testing.TB
	given, dir             string // what is there before the mesh, and what the mesh makes; the sidecars' user may enter both
	program, proxy         string // heddle-sidecar and Envoy
	node                   *pods.Node
	web, api, plain, safe  *pod
	scan                   *secrets.Scan
	operator, plane, signs string // the operator's socket; the addresses as pods know them
}

// pod is a place with an application, and often a sidecar.
type pod struct {
	*pods.Place
	namespace, name string
	sidecar         *sidecar      // nil without
	given, made     string        // directories: of what injection gives the sidecar, and of what that makes
	slow            chan struct{} // gets something when a request for /slow has come, and wants something back to answer it
	checked         chan struct{} // gets something when a health check has come to the application
}

// sidecar is the running heddle-sidecar of a pod.
type sidecar struct {
	cmd   *exec.Cmd
	ended <-chan error // gets what the process ended with, once
	said  *output
}

func newTown(t *testing.T) *town {
	t.Helper()
	// Not t.TempDir: nobody else may enter that, and the path of a unix socket is short.
	dir := must(os.MkdirTemp("", "town-"))
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("remove the town's files: %v", err)
		}
	})
	w := &town{t: t, given: filepath.Join(dir, "given"), dir: filepath.Join(dir, "made"), node: pods.New(t), scan: secrets.New(t)}
	if err := errors.Join(os.Chmod(dir, 0o755), os.Mkdir(w.given, 0o755), os.Mkdir(w.dir, 0o755)); err != nil {
		t.Fatal(err)
	}
	w.programs(t)
	add := func(namespace, name string) *pod {
		return &pod{Place: w.node.Pod(t), namespace: namespace, name: name, slow: make(chan struct{}), checked: make(chan struct{}, 1)}
	}
	w.web, w.api, w.plain, w.safe = add("shop", "web"), add("shop", "api"), add("shop", "plain"), add("vault", "safe")
	w.plane, w.signs = net.JoinHostPort(w.node.IPv4.String(), "15010"), net.JoinHostPort(w.node.IPv4.String(), "15012")
	return w
}

// programs are built and copied to where the sidecars' user may run them.
func (w *town) programs(t *testing.T) {
	t.Helper()
	w.program, w.proxy = filepath.Join(w.given, "heddle-sidecar"), filepath.Join(w.given, "envoy")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", w.program, "../../cmd/heddle-sidecar").CombinedOutput(); err != nil {
		t.Fatalf("build heddle-sidecar: %v\n%s", err, out)
	}
	from := must(os.Open(must(envoy.Find(t.Context(), envoy.FindOptions{Progress: os.Stderr}))))
	defer from.Close()
	to := must(os.OpenFile(w.proxy, os.O_CREATE|os.O_WRONLY, 0o755))
	if _, err := io.Copy(to, from); err != nil {
		t.Fatal(err)
	}
	if err := to.Close(); err != nil {
		t.Fatal(err)
	}
}

// startPlane runs the control plane until the test ends. It is for one machine, so it serves on loopback; pods reach it at
// the node's address. Its CA is a new one if none is given.
func (w *town) startPlane(t *testing.T, ca *identity.Authority) {
	t.Helper()
	folder, state := filepath.Join(w.dir, "manifests"), filepath.Join(w.dir, "state")
	for _, d := range []string{folder, state} {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(folder, "town.yaml"), must(os.ReadFile("testdata/town.yaml")), 0o600); err != nil {
		t.Fatal(err)
	}
	w.operator = filepath.Join(state, "operator.sock")
	log := w.scan.Log("the control plane")
	doors := [2]string{freePort(t), freePort(t)}
	var first controlplane.FirstCA
	if ca != nil {
		first.Make = func(time.Time) (*identity.Authority, error) { return ca, nil }
	}
	m, err := local.New(local.Options{
		First: first,
		Dir:   state, Operator: w.operator, Sidecars: doors[0], Signer: doors[1], Log: log,
		Plane: controlplane.Options{
			Source: kube.NewFolder(kube.FolderOptions{Dir: folder, Log: log}), Drain: time.Millisecond, Observer: observer{t}, Log: log,
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- m.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("control plane: %v", err)
		}
		w.scan.LookAtFiles(w.dir, filepath.Join(state, "ca", "ca.json"))
	})
	forward(t, w.node.Listen(t, w.plane), doors[0])
	forward(t, w.node.Listen(t, w.signs), doors[1])
}

func freePort(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// observer fails the test when a sidecar refuses anything.
type observer struct{ t *testing.T }

// Applied fails the test when a policy of the town has an error.
func (o observer) Applied(c mesh.Changes) {
	for _, p := range c.Policies {
		if !p.Accepted {
			o.t.Errorf("the policy %s of %s is not accepted: %v", p.Item, p.ConfigMap, p.Problems)
		}
	}
}

func (o observer) Observe(e xds.Event) {
	if e.Kind == xds.Refused {
		o.t.Errorf("refused by %s: %s: %s", e.Proxy, e.Type, e.Reason)
	}
}

// forward carries what arrives at l to an address of the machine.
func forward(t *testing.T, l net.Listener, to string) {
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				out, err := net.Dial("tcp", to)
				if err != nil {
					return
				}
				defer out.Close()
				go func() {
					defer c.Close()
					_, _ = io.Copy(c, out)
				}()
				_, _ = io.Copy(out, c)
			}()
		}
	}()
}

// initialise runs heddle-sidecar init in a pod, as its init container would.
func (w *town) initialise(t *testing.T, p *pod, args ...string) {
	t.Helper()
	w.does(t, p, append([]string{"init"}, args...)...)
}

// does runs heddle-sidecar in a pod until it ends.
func (w *town) does(t *testing.T, p *pod, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), w.program, args...)
	cmd.Env = []string{"HEDDLE_PROBE_PREFIX=" + prefix}
	var out []byte
	if err := p.Do(func() (err error) {
		out, err = cmd.CombinedOutput()
		return err
	}); err != nil {
		t.Fatalf("%s of %s: %v\n%s", args[0], p.name, err, out)
	}
}

// join asks for what injection would give the sidecar of a pod: an ID, a token and the trust bundle.
func (w *town) join(t *testing.T, p *pod) (got operator.Join) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		err := operator.Client{Socket: w.operator}.Call(ctx, http.MethodPost, operator.JoinPath, operator.Ask{Pod: p.namespace + "/" + p.name}, &got)
		if err == nil {
			return got
		}
		if ctx.Err() != nil {
			t.Fatalf("join %s: %v", p.name, err)
		}
		pause(ctx)
	}
}

// pause is between two attempts.
func pause(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-time.After(20 * time.Millisecond):
	}
}

// give puts files where the sidecar of a pod finds them, in place of those that were there.
func (w *town) give(t *testing.T, p *pod, with operator.Join) {
	t.Helper()
	if p.given == "" {
		p.given, p.made = must(os.MkdirTemp(w.given, p.name+"-")), must(os.MkdirTemp(w.dir, p.name+"-"))
		if err := errors.Join(os.Chmod(p.given, 0o755), os.Chown(p.made, redirect.User, redirect.User)); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{
		"bundle.json": string(with.Bundle), "token": with.Token, "labels": fmt.Sprintf("app=%q\nheddle.dev/sidecar=\"true\"\n", p.name),
	} {
		path := filepath.Join(p.given, name)
		if err := errors.Join(os.WriteFile(path+".new", []byte(text), 0o644), os.Rename(path+".new", path)); err != nil {
			t.Fatal(err)
		}
	}
}

// startSidecar runs the sidecar of a pod as its container would. Files and flags are those that injection gives, but for
// the token, which no API server would vouch for here.
func (w *town) startSidecar(t *testing.T, p *pod, with operator.Join, probes string) {
	t.Helper()
	w.give(t, p, with)
	given, dir := p.given, p.made
	log := w.scan.Log("the sidecar of " + p.name)
	cmd := exec.Command(w.program,
		"--namespace="+p.namespace, "--service-account="+p.name, "--pod="+p.name, "--signer="+w.signs, "--control-plane="+w.plane,
		"--bundle="+filepath.Join(given, "bundle.json"), "--join-token-file="+filepath.Join(given, "token"), "--labels-file="+filepath.Join(given, "labels"),
		"--dir="+filepath.Join(dir, "private"), "--ready=:15021", "--await-redirection", "--health-checks", "--flush-interval=1s", "--envoy="+w.proxy, "--concurrency=1",
	)
	cmd.Env = []string{"HEDDLE_PROBE_PREFIX=" + prefix, "HEDDLE_PROBES=" + probes, "TMPDIR=" + dir}
	said := &output{log: log}
	cmd.Stdout, cmd.Stderr = said, said
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Credential: &syscall.Credential{Uid: redirect.User, Gid: redirect.User}, Pdeathsig: syscall.SIGKILL,
	}
	ended, err := p.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	p.sidecar = &sidecar{cmd, ended, said}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
	})
}

// output passes what a process says on to a log, and keeps it.
type output struct {
	log  zerolog.Logger
	mu   sync.Mutex
	text strings.Builder
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.log.Log().Msg(strings.TrimSpace(string(p)))
	return o.text.Write(p)
}

func (o *output) has(words string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return strings.Contains(o.text.String(), words)
}

// hears waits until a sidecar has said something.
func (s *sidecar) hears(t *testing.T, words string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for !s.said.has(words) {
		if ctx.Err() != nil {
			t.Fatalf("the sidecar does not say %q", words)
		}
		pause(ctx)
	}
}

// status is what the kubelet hears of a pod's sidecar at a path.
func (w *town) status(ctx context.Context, p *pod, path string) (int, string, error) {
	return get(ctx, w.node.Place, "http://"+netip.AddrPortFrom(p.IPv4, redirect.ProbePort).String()+"/"+prefix+"/"+path)
}

// awaitReady waits until the kubelet would take a sidecar for ready.
func (w *town) awaitReady(t *testing.T, p *pod) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		status, body, err := w.status(ctx, p, "readyz")
		if err == nil && status == http.StatusOK {
			return
		}
		if ctx.Err() != nil {
			t.Fatalf("the sidecar of %s is not ready: %d %s %v", p.name, status, body, err)
		}
		pause(ctx)
	}
}

// client calls from a place.
func client(from pods.Place) *http.Client {
	return &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		return from.Dial(ctx, network, address)
	}, DisableKeepAlives: true}}
}

func get(ctx context.Context, from pods.Place, url string) (int, string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, "", err
	}
	response, err := client(from).Do(request)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return response.StatusCode, string(body), err
}

// stop ends a sidecar as the kubelet does, and gives what it ended with.
func (s *sidecar) stop(t *testing.T) error {
	t.Helper()
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	return s.await(t)
}

func (s *sidecar) await(t *testing.T) error {
	t.Helper()
	select {
	case err := <-s.ended:
		return err
	case <-time.After(patience):
		return errors.New("it is still running")
	}
}

// seen is what an application tells of a request.
type seen struct {
	App, Remote, Host string
	Caller            string // x-forwarded-client-cert
	Protocol          string
}

func read(t *testing.T, body string) (s seen) {
	t.Helper()
	if err := json.Unmarshal([]byte(body), &s); err != nil {
		t.Fatalf("%q is no answer of an application: %v", body, err)
	}
	return s
}
