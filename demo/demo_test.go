package demo_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/heddle-mesh/heddle/demo"
	"github.com/heddle-mesh/heddle/sidecar/envoy"
	"github.com/heddle-mesh/heddle/test/secrets"
)

// running is heddle demo as a process of its own, in a temporary directory of its own.
type running struct {
	t      *testing.T
	cmd    *exec.Cmd
	lines  *bufio.Scanner // of standard output
	notes  *bufio.Scanner // of standard error
	folder string         // of manifests, to be edited
	tmp    string
	scan   *secrets.Scan // of all that it writes
}

// heddleVariable names the heddle that TestMain has built.
const heddleVariable = "DEMO_TEST_HEDDLE"

func TestMain(m *testing.M) {
	os.Exit(build(m))
}

// build makes the binary that the tests run, once, and runs them.
func build(m *testing.M) int {
	dir, err := os.MkdirTemp("", "heddle-build-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	heddle := filepath.Join(dir, "heddle")
	if out, err := exec.Command("go", "build", "-ldflags", "-s -w", "-o", heddle, "../cmd/heddle").CombinedOutput(); err != nil {
		panic(fmt.Sprintf("build heddle: %v\n%s", err, out))
	}
	if err := os.Setenv(heddleVariable, heddle); err != nil {
		panic(err)
	}
	return m.Run()
}

// start runs heddle demo with arguments. Demos use the same addresses, so the tests of this package take turns.
func start(t *testing.T, args ...string) *running {
	t.Helper()
	// In case it is not in the cache yet: that is not what is tested here.
	binary, err := envoy.Find(t.Context(), envoy.FindOptions{Progress: os.Stderr})
	if err != nil {
		t.Fatal(err)
	}
	r := &running{t: t, folder: filepath.Join(t.TempDir(), "manifests"), tmp: shortDir(t), scan: secrets.New(t)}
	if err := os.CopyFS(r.folder, os.DirFS("../examples/demo")); err != nil {
		t.Fatal(err)
	}
	r.cmd = exec.Command(os.Getenv(heddleVariable), append([]string{"demo", "--manifests", r.folder, "--envoy", binary}, args...)...)
	r.cmd.Env = append(os.Environ(), "TMPDIR="+r.tmp)
	r.lines, r.notes = r.pipe(r.cmd.StdoutPipe), r.pipe(r.cmd.StderrPipe)
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if r.cmd.ProcessState == nil {
			_ = r.cmd.Process.Kill() // a test that failed half-way; the sidecars end with it
			_ = r.cmd.Wait()
		}
	})
	return r
}

// shortDir is a temporary directory whose name leaves room for those of unix sockets.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "hdl")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func (r *running) pipe(make func() (io.ReadCloser, error)) *bufio.Scanner {
	r.t.Helper()
	p, err := make()
	if err != nil {
		r.t.Fatal(err)
	}
	said := &bytes.Buffer{}
	r.t.Cleanup(func() { r.scan.Look("what the demo says", said.Bytes()) })
	return bufio.NewScanner(io.TeeReader(p, said))
}

// until reads lines up to one that holds text.
func until(t *testing.T, lines *bufio.Scanner, text string) {
	t.Helper()
	var read []string
	for lines.Scan() {
		if read = append(read, lines.Text()); strings.Contains(lines.Text(), text) {
			return
		}
	}
	t.Fatalf("no line says %q (%v); read:\n%s", text, lines.Err(), strings.Join(read, "\n"))
}

// rest reads what is still to come.
func rest(lines *bufio.Scanner) string {
	var b strings.Builder
	for lines.Scan() {
		b.WriteString(lines.Text() + "\n")
	}
	return b.String()
}

// end waits for the process and gives what it wrote.
func (r *running) end() (out, notes string, err error) {
	out, notes = rest(r.lines), rest(r.notes)
	return out, notes, r.cmd.Wait()
}

// processes are those that were started in the demo's temporary directory.
func (r *running) processes() []int {
	r.t.Helper()
	var pids []int
	found, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		r.t.Fatal(err)
	}
	for _, path := range found {
		line, err := os.ReadFile(path)
		if err != nil || !bytes.Contains(line, []byte(r.tmp)) { // it may have ended meanwhile
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err != nil {
			r.t.Fatal(err)
		}
		pids = append(pids, pid)
	}
	return pids
}

// wantNothingLeft fails if a process or a file is still there.
func (r *running) wantNothingLeft() {
	r.t.Helper()
	if pids := r.processes(); len(pids) > 0 {
		r.t.Errorf("still running: %v", pids)
	}
	left, err := os.ReadDir(r.tmp)
	if err != nil {
		r.t.Fatal(err)
	}
	for _, f := range left {
		r.t.Errorf("left behind: %s", f.Name())
	}
}

func TestTheDemoMeasuresWhatItsPoliciesAskForAndLeavesNothing(t *testing.T) {
	r := start(t, "--for", "10s", "-o", "json")
	out, notes, err := r.end()
	if err != nil {
		t.Fatalf("%v\n%s\n%s", err, notes, out)
	}
	r.wantNothingLeft()

	var got demo.Report
	d := json.NewDecoder(strings.NewReader(out))
	d.DisallowUnknownFields()
	if err := d.Decode(&got); err != nil {
		t.Fatalf("standard output is no report: %v\n%s", err, out)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		t.Errorf("standard output has more than one document:\n%s", out)
	}
	wantEdges(t, got)
	for _, x := range got.Routes {
		if x.Route == "canary" && (x.Targets[0].Share < 0.8 || x.Targets[1].Share < 0.02) {
			t.Errorf("the canary's shares are %+v", x.Targets)
		}
	}
	var rescued, refused, ejected, returned uint64
	for i := range got.Retries {
		rescued += got.Retries[i].Rescued
	}
	for i := range got.Breakers {
		refused += got.Breakers[i].Refused
	}
	for i := range got.Ejections {
		ejected += got.Ejections[i].Ejected
		returned += got.Ejections[i].Returned
	}
	if len(got.Routes) == 0 || rescued == 0 || refused == 0 || ejected == 0 || returned == 0 {
		t.Errorf("%d routes, %d rescued, %d refused, %d ejected, %d returned: all of them should be seen\n%s",
			len(got.Routes), rescued, refused, ejected, returned, out)
	}
}

func wantEdges(t *testing.T, got demo.Report) {
	t.Helper()
	want := map[string]bool{"shop/shoppers shop/frontend": true, "shop/frontend shop/catalog": true,
		"shop/frontend shop/inventory": true, "shop/catalog shop/inventory": true}
	for _, e := range got.Edges {
		delete(want, e.Source+" "+e.Destination)
		if e.Requests == 0 || e.Success == nil || *e.Success < 0 || *e.Success > 1 || e.P50 == nil || *e.P50 <= 0 ||
			e.P95 == nil || *e.P95 < *e.P50 || e.P99 == nil || *e.P99 < *e.P95 {
			t.Errorf("edge %s to %s makes no sense: %+v", e.Source, e.Destination, e)
		}
	}
	if len(want) > 0 {
		t.Errorf("edges are missing: %v", want)
	}
}

func TestAnEditMovesTheTrafficWithinASecondAndIsNamed(t *testing.T) {
	r := start(t, "--for", "7s")
	until(t, r.lines, "inventory-3 turns bad") // three seconds into the load
	r.edit("catalog.yaml", "weight: 90", "weight: 0")
	r.edit("catalog.yaml", "weight: 10", "weight: 100")
	until(t, r.lines, "shop/catalog traffic.yaml: routes[canary].to[0].weight 90 -> 0")
	out, notes, err := r.end()
	// What is measured begins 0.8 s after the edit; a request to version 1 after that is a disagreement.
	if err != nil || !strings.Contains(out, "route canary -> catalog version=v2: policy 100.0%, measured 100.0%") {
		t.Errorf("%v\n%s\n%s", err, notes, out)
	}
	if !regexp.MustCompile(`in \d+ s:`).MatchString(out) {
		t.Errorf("no summary:\n%s", out)
	}
	r.wantNothingLeft()
}

// edit writes a file anew, as editors do.
func (r *running) edit(file, old, text string) {
	r.t.Helper()
	path := filepath.Join(r.folder, file)
	content, err := os.ReadFile(path)
	if err != nil {
		r.t.Fatal(err)
	}
	changed := strings.ReplaceAll(string(content), old, text)
	if changed == string(content) {
		r.t.Fatalf("%s does not say %q", file, old)
	}
	if err := os.WriteFile(path+".new", []byte(changed), 0o600); err != nil {
		r.t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		r.t.Fatal(err)
	}
}

func TestTheFirstInterruptCleansUp(t *testing.T) {
	signals := []syscall.Signal{syscall.SIGINT}
	if !signal.Ignored(syscall.SIGHUP) { // the demo inherits that
		signals = append(signals, syscall.SIGHUP) // the terminal was closed
	}
	for _, s := range signals {
		t.Run(s.String(), func(t *testing.T) {
			r := start(t)
			until(t, r.notes, "load begins")
			if err := r.cmd.Process.Signal(s); err != nil {
				t.Fatal(err)
			}
			if out, notes, err := r.end(); err != nil {
				t.Errorf("%v\n%s\n%s", err, notes, out)
			}
			r.wantNothingLeft()
		})
	}
}

// lookForSecrets looks into the demo's files and into what each of its Envoys tells, while it runs.
func (r *running) lookForSecrets() {
	r.t.Helper()
	cas, err := filepath.Glob(filepath.Join(r.tmp, "heddle-demo-*", "ca", "ca.json"))
	if err != nil || len(cas) != 1 {
		r.t.Fatalf("the demo has %d CAs (%v)", len(cas), err)
	}
	r.scan.LookAtFiles(r.tmp, cas[0])
	envoys := 0
	err = filepath.WalkDir(r.tmp, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Name() == "admin.sock" {
			envoys++
			r.scan.LookAtEnvoy(path, admin(path))
		}
		return err
	})
	if err != nil || envoys < 7 {
		r.t.Errorf("looked into %d Envoys (%v)", envoys, err)
	}
}

// admin is the socket of an Envoy's admin interface.
type admin string

// Get implements secrets.Envoy.
func (a admin) Get(ctx context.Context, path string) ([]byte, error) {
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", string(a))
	}}
	defer transport.CloseIdleConnections()
	ask, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://admin"+path, nil)
	if err != nil {
		return nil, err
	}
	answer, err := transport.RoundTrip(ask)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	return io.ReadAll(answer.Body)
}

func TestADemoTellsNoSecretAndRemovesWhatAKilledOneLeft(t *testing.T) {
	killed := start(t)
	until(t, killed.notes, "load begins")
	killed.lookForSecrets()
	if err := killed.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := killed.end(); err == nil {
		t.Error("the demo outlived its being killed")
	}
	killed.wait("its sidecars to end", func() bool { return len(killed.processes()) == 0 })
	folders := killed.folders()
	if len(folders) != 1 {
		t.Fatalf("it left %v, want its folder", folders)
	}
	// Of one that is new nobody can say that it is not just being made.
	t.Setenv("TMPDIR", killed.tmp)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	next := func() {
		if err := demo.Run(ended, demo.Options{}); err == nil || err.Error() != "interrupted" {
			t.Errorf("it says %v; want interrupted", err)
		}
	}
	next()
	if got := killed.folders(); !slices.Equal(got, folders) {
		t.Errorf("a new folder was removed; %v are left", got)
	}
	past := time.Now().Add(-time.Hour)
	if err := os.Chtimes(folders[0], past, past); err != nil {
		t.Fatal(err)
	}
	next()
	killed.wantNothingLeft()
}

// folders are those of demos that are in the demo's temporary directory.
func (r *running) folders() []string {
	r.t.Helper()
	found, err := filepath.Glob(filepath.Join(r.tmp, "heddle-demo-*"))
	if err != nil {
		r.t.Fatal(err)
	}
	return found
}

func TestTheSecondInterruptKills(t *testing.T) {
	r := start(t)
	until(t, r.notes, "load begins")
	sidecars := r.processes()
	if len(sidecars) < 7 {
		t.Fatalf("only %d sidecars", len(sidecars))
	}
	if err := syscall.Kill(sidecars[0], syscall.SIGSTOP); err != nil { // it will not end when told to
		t.Fatal(err)
	}
	if err := r.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	r.wait("six sidecars to end", func() bool { return len(r.processes()) == 1 })
	if err := r.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	_, _, err := r.end()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGINT {
		t.Errorf("ended with %v, want killed by the interrupt", err)
	}
	r.wait("the last sidecar to end", func() bool { return len(r.processes()) == 0 })
	r.wantNothingLeft()
}

// wait waits for a condition that nobody tells of.
func (r *running) wait(what string, done func() bool) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), 20*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-ctx.Done():
			r.t.Fatalf("waited in vain for %s", what)
		case <-tick.C:
		}
	}
}

func TestASecondDemoSaysThatAnotherOneRuns(t *testing.T) {
	first := start(t)
	until(t, first.notes, "load begins")
	second := start(t, "--for", "1s")
	_, notes, err := second.end()
	if err == nil || !strings.Contains(notes, "is another demo running?") {
		t.Errorf("%v\n%s", err, notes)
	}
	second.wantNothingLeft()
	if err := first.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if out, notes, err := first.end(); err != nil {
		t.Errorf("the first one: %v\n%s\n%s", err, notes, out)
	}
}

func TestADemoThatIsInterruptedWhileItLooksForEnvoySaysJustThat(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := demo.Run(ctx, demo.Options{})
	if err == nil || err.Error() != "interrupted" {
		t.Errorf("it says %v; want interrupted", err)
	}
}
