package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"github.com/envoyproxy/go-control-plane/pkg/server/v3"
	"github.com/rs/zerolog"
	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/heddle-mesh/heddle/identity"
	"github.com/heddle-mesh/heddle/identity/attest"
	"github.com/heddle-mesh/heddle/identity/service"
	"github.com/heddle-mesh/heddle/sidecar"
	"github.com/heddle-mesh/heddle/sidecar/envoy"
	"github.com/heddle-mesh/heddle/test/transcript"
	"github.com/heddle-mesh/heddle/test/wait"
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func domain() spiffeid.TrustDomain { return must(identity.ParseTrustDomain("cluster.local")) }

// ca is one that never changes.
type ca struct{ *identity.Authority }

func (ca) Ready() error                          { return nil }
func (c ca) Issuer() (identity.Issuer, error)    { return c, nil }
func (c ca) Tokens() (identity.JWTSigner, error) { return c, nil }
func (c ca) Bundle() (*spiffebundle.Bundle, <-chan struct{}, error) {
	return c.Authority.Bundle(), nil, nil
}

// mesh is a signer and a control plane with an empty configuration, as sidecars see them.
type mesh struct {
	ca           ca
	tokens       *attest.JoinTokens
	account, pod string // whose sidecar is started
	signer       string // address
	plane        string // address
}

func startMesh(t testing.TB) *mesh {
	t.Helper()
	m := &mesh{ca: ca{must(identity.NewRoot(domain(), time.Now(), 0))}, tokens: attest.NewJoinTokens(nil, nil), account: "web", pod: "web-1"}
	m.signer = m.serve(t, func(ctx context.Context, l net.Listener) error {
		return service.ForFiles(service.Options{
			ID: must(identity.ID(domain(), "heddle-system", "heddle-signer")), Authorities: m.ca, Log: zerolog.New(zerolog.NewTestWriter(t)),
		}, m.tokens).Run(ctx, l)
	})
	m.plane = m.serve(t, func(ctx context.Context, l net.Listener) error {
		snapshots := cache.NewSnapshotCache(true, cache.IDHash{}, nil)
		empty := must(cache.NewSnapshot("1", map[resource.Type][]types.Resource{}))
		if err := snapshots.SetSnapshot(ctx, "shop/web-1", empty); err != nil {
			return err
		}
		g := grpc.NewServer(grpc.Creds(credentials.NewTLS(m.planeTLS(t))))
		discoveryv3.RegisterAggregatedDiscoveryServiceServer(g, server.NewServer(ctx, snapshots, nil))
		defer context.AfterFunc(ctx, g.Stop)()
		return g.Serve(l)
	})
	return m
}

func (m *mesh) serve(t testing.TB, run func(context.Context, net.Listener) error) string {
	t.Helper()
	l := must(net.Listen("tcp", "127.0.0.1:0"))
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, l) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return l.Addr().String()
}

func (m *mesh) planeTLS(t testing.TB) *tls.Config {
	k := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	chain := must(m.ca.Issue(t.Context(), identity.Request{ID: must(identity.ID(domain(), "heddle-system", "heddle")), Key: k.Public()}))
	return &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{{Certificate: [][]byte{chain[0].Raw}, PrivateKey: k}},
		ClientAuth: tls.RequireAnyClientCert, SessionTicketsDisabled: true,
		VerifyConnection: func(s tls.ConnectionState) error {
			w, err := identity.VerifyPod(s.PeerCertificates, m.ca.Authority.Bundle(), time.Now())
			if err == nil && w.Pod != m.pod {
				err = fmt.Errorf("it is %v", w)
			}
			return err
		},
	}
}

// program is the built one: what it needs is measured on it.
func program(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "heddle-sidecar")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", path, ".").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return path
}

// process is a running program.
type process struct {
	*exec.Cmd
	dir   string
	token string
	said  *transcript.Buffer
}

func (m *mesh) start(t testing.TB, program string, more ...string) *process {
	t.Helper()
	dir := must(os.MkdirTemp("", "hdl")) // a unix socket's path is short
	t.Cleanup(func() { os.RemoveAll(dir) })
	bundle := filepath.Join(dir, "bundle.json")
	if err := os.WriteFile(bundle, must(identity.MarshalBundle(m.ca.Authority.Bundle())), 0o600); err != nil {
		t.Fatal(err)
	}
	p := &process{dir: dir, said: &transcript.Buffer{}, token: m.tokens.Hand(identity.Workload{Namespace: "shop", Account: m.account, Pod: m.pod})}
	p.Cmd = exec.Command(program, append([]string{
		"--namespace", "shop", "--service-account", m.account, "--pod", m.pod, "--signer", m.signer, "--control-plane", m.plane,
		"--bundle", bundle, "--join-token-file", "/dev/stdin", "--dir", filepath.Join(dir, "private"),
		"--workload-api", filepath.Join(dir, "api.sock"), "--ready", "unix:" + filepath.Join(dir, "ready.sock"), "--log-level", "debug",
	}, more...)...)
	p.Stdin, p.Stdout, p.Stderr = strings.NewReader(p.token), p.said, p.said
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if p.ProcessState == nil {
			p.Process.Kill() // what Wait says then is of no interest
			p.Wait()
		}
		if t.Failed() {
			t.Log(p.said)
		}
	})
	return p
}

func binary(t *testing.T) string {
	t.Helper()
	return must(envoy.Find(t.Context(), envoy.FindOptions{Progress: os.Stderr}))
}

// get asks over a unix socket of the process.
func (p *process) get(ctx context.Context, socket, path string) (string, int, error) {
	c := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", filepath.Join(p.dir, socket))
	}}}
	q, err := http.NewRequestWithContext(ctx, "GET", "http://agent"+path, nil)
	if err != nil {
		return "", 0, err
	}
	r, err := c.Do(q)
	if err != nil {
		return "", 0, err
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	return string(body), r.StatusCode, err
}

func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	wait.Until(t, 30*time.Second, what, is)
}

func (p *process) awaitReady(t testing.TB) sidecar.Status {
	t.Helper()
	var s sidecar.Status
	eventually(t, "the agent is ready", func() bool {
		body, status, err := p.get(t.Context(), "ready.sock", "/readyz")
		return err == nil && status == http.StatusOK && json.Unmarshal([]byte(body), &s) == nil && s.Ready
	})
	return s
}

// envoy gives the process ID of the only child.
func (p *process) envoy(t *testing.T) int {
	t.Helper()
	threads := must(filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", p.Process.Pid)))
	var children []string
	for _, path := range threads {
		text, err := os.ReadFile(path)
		if err == nil || !errors.Is(err, os.ErrNotExist) && !errors.Is(err, syscall.ESRCH) {
			children = append(children, strings.Fields(string(text))...)
		}
	}
	if len(children) != 1 {
		t.Fatalf("children: %v", children)
	}
	return must(strconv.Atoi(children[0]))
}

func TestASidecarBecomesReadyAndLeavesNoSecretAnywhere(t *testing.T) {
	m := startMesh(t)
	p := m.start(t, program(t), "--envoy", binary(t), "--envoy-log-level", "debug")
	s := p.awaitReady(t)
	if s.ID != "spiffe://cluster.local/ns/shop/sa/web" || s.Expires == nil || len(s.Refusals) != 0 {
		t.Errorf("status %+v", s)
	}
	eventually(t, "Envoy has taken the bundle", func() bool {
		body, _, err := p.get(t.Context(), "ready.sock", "/readyz")
		return err == nil && strings.Contains(body, `"taken":"`+s.Bundle)
	})
	svid, err := workloadapi.FetchX509SVID(t.Context(), workloadapi.WithAddr("unix://"+filepath.Join(p.dir, "api.sock")))
	if err != nil || svid.ID.String() != s.ID {
		t.Fatalf("an application gets %v: %v", svid.ID, err)
	}
	_, key := must2(svid.MarshalRaw())

	texts := map[string]string{
		"the arguments":   string(must(os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", p.Process.Pid)))),
		"the environment": string(must(os.ReadFile(fmt.Sprintf("/proc/%d/environ", p.Process.Pid)))),
		"Envoy's":         string(must(os.ReadFile(fmt.Sprintf("/proc/%d/environ", p.envoy(t))))),
	}
	for _, path := range []string{"/config_dump?include_eds", "/certs", "/stats", "/server_info"} {
		body, status, err := p.get(t.Context(), "private/admin.sock", path)
		if err != nil || status != http.StatusOK {
			t.Errorf("%s: %d %v", path, status, err)
		}
		texts[path] = body
	}
	if err := p.Process.Signal(syscall.SIGQUIT); err != nil { // a crash as Go has it: every stack with its arguments
		t.Fatal(err)
	}
	if err := p.Wait(); err == nil {
		t.Error("SIGQUIT ends it well")
	}
	texts["all that it printed, its crash included"] = p.said.String()
	for where, text := range texts {
		for what, secret := range map[string]string{
			"a private key": "PRIVATE KEY-----", "the token": p.token, "the key": string(key), "the key in hex": fmt.Sprintf("%x", key),
			"half of the token": p.token[len(p.token)/2:],
		} {
			if strings.Contains(text, secret) {
				t.Errorf("%s: %s", where, what)
			}
		}
	}
	if !strings.Contains(p.said.String(), "goroutine ") {
		t.Error("the crash printed no stack, so looking at it shows nothing")
	}
}

func must2(_ []byte, b []byte, err error) ([]byte, []byte) { return nil, must(b, err) }

func TestTheAgentEndsEnvoyFirstAndEndsWithIt(t *testing.T) {
	m, path, envoy := startMesh(t), program(t), binary(t)
	gone := func(pid int) bool { return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) }
	t.Run("told to end", func(t *testing.T) {
		p := m.start(t, path, "--envoy", envoy)
		p.awaitReady(t)
		child := p.envoy(t)
		if err := p.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if err := p.Wait(); err != nil {
			t.Error(err)
		}
		if !gone(child) {
			t.Error("Envoy runs on")
		}
		left := must(filepath.Glob(filepath.Join(p.dir, "*/*")))
		if left = append(left, must(filepath.Glob(filepath.Join(p.dir, "*.sock")))...); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
	})
	t.Run("Envoy dies", func(t *testing.T) {
		p := m.start(t, path, "--envoy", envoy)
		p.awaitReady(t)
		if err := syscall.Kill(p.envoy(t), syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		if err := p.Wait(); err == nil || p.ProcessState.ExitCode() != 1 {
			t.Errorf("it ends with %v", err)
		}
		if !strings.Contains(p.said.String(), "the Envoy of shop/web-1 ended by itself (signal: killed)") {
			t.Error("it does not say why")
		}
	})
	t.Run("the agent dies", func(t *testing.T) {
		p := m.start(t, path, "--envoy", envoy)
		p.awaitReady(t)
		child := p.envoy(t)
		if err := p.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		p.Wait() // it was killed
		eventually(t, "Envoy has ended too", func() bool { return gone(child) })
		again := m.start(t, path, "--envoy", envoy, "--dir", filepath.Join(p.dir, "private"))
		again.awaitReady(t) // over the sockets that were left behind
	})
}

// kib reads a line of the process's smaps_rollup.
func (p *process) kib(t testing.TB, field string) int {
	t.Helper()
	for line := range strings.Lines(string(must(os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", p.Process.Pid))))) {
		if words := strings.Fields(line); words[0] == field+":" {
			return must(strconv.Atoi(words[1]))
		}
	}
	t.Fatal("no " + field)
	return 0
}

// maxAnonymous is what an agent may need of its own, in KiB.
const maxAnonymous = 15 << 10

func TestAnIdleAgentIsSmall(t *testing.T) {
	p := startMesh(t).start(t, program(t), "--envoy", binary(t), "--ads-relay", filepath.Join(t.TempDir(), "ads.sock"))
	p.awaitReady(t)
	source, err := workloadapi.NewX509Source(t.Context(), workloadapi.WithClientOptions(workloadapi.WithAddr("unix://"+filepath.Join(p.dir, "api.sock"))))
	if err != nil {
		t.Fatal(err)
	}
	defer source.Close()
	got := p.kib(t, "Anonymous")
	t.Logf("anonymous %d KiB, resident %d KiB", got, p.kib(t, "Rss"))
	if got > maxAnonymous {
		t.Errorf("it needs %d KiB of its own, and may need %d", got, maxAnonymous)
	}
}

func TestTheProgramHoldsNoKubernetesClientAndNoMetrics(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", ".").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	deps := strings.Fields(string(out))
	if !slices.Contains(deps, "github.com/heddle-mesh/heddle/sidecar") {
		t.Fatal("the list is none of this program")
	}
	for _, d := range deps {
		if strings.HasPrefix(d, "k8s.io/") || strings.HasPrefix(d, "github.com/prometheus/") {
			t.Errorf("it depends on %s", d)
		}
	}
}

func TestFlagsThatMakeNoSenseAreRefused(t *testing.T) {
	good := []string{"--namespace", "shop", "--service-account", "web", "--pod", "web-1", "--signer", "h:1", "--control-plane", "h:2",
		"--bundle", "b", "--token-file", "t", "--no-envoy"}
	for want, more := range map[string][]string{
		"heddle-sidecar --help lists":   {"--wrong"},
		"there are flags only":          {"word"},
		"--trust-domain":                {"--trust-domain", "Not One"},
		"--namespace and":               {"--namespace", "a/b"},
		"--signer-id":                   {"--signer-id", "spiffe://elsewhere/ns/a/sa/b"},
		"--control-plane-id":            {"--control-plane-id", "x"},
		"want host:port for both":       {"--signer", ""},
		"want an octal mode":            {"--app-socket-mode", "rw"},
		"want debug, info, warn or":     {"--log-level", "loud"},
		"either a file with a token or": {"--token-file", ""},
		"no file with the trust bundle": {"--bundle", ""},
		"--join-token-file":             {"--join-token-file", "/nonexistent"},
		"want a loopback address":       {"--ready", "0.0.0.0:1"},
	} {
		t.Run(want, func(t *testing.T) {
			var said transcript.Buffer
			args := slices.Concat(good, []string{"--dir", filepath.Join(t.TempDir(), "d")}, more)
			if code := run(args, io.Discard, &said); code != 1 || !strings.Contains(said.String(), want) {
				t.Errorf("%d: %s", code, said.String())
			}
		})
	}
}
