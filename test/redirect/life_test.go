//go:build e2e

package redirect

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/heddle-mesh/heddle/controlplane/operator"
	"github.com/heddle-mesh/heddle/identity"
	"github.com/heddle-mesh/heddle/injector/redirect"
)

func TestASidecarWithoutItsControlPlaneWaitsAndOpensNothing(t *testing.T) {
	w := newTown(t)
	ca := must(identity.NewRoot(must(identity.ParseTrustDomain("cluster.local")), time.Now(), 0))
	bundle := must(identity.MarshalBundle(ca.Bundle()))
	w.web.serveHTTP(t, ":8080")
	w.plain.serveHTTP(t, ":8080")
	w.initialise(t, w.web)
	w.startSidecar(t, w.web, operator.Join{Token: "of-no-use", Bundle: bundle}, `{"app/liveness": {"httpGet": {"path": "/", "port": 8080}}}`)
	w.web.sidecar.hears(t, "does not work and is tried again")

	status, body, err := w.status(t.Context(), w.web, "readyz")
	if err != nil || status != http.StatusServiceUnavailable || !strings.Contains(body, "there is no certificate yet") || !strings.Contains(body, "connection refused") {
		t.Errorf("the kubelet hears %d %s %v, want the reasons", status, body, err)
	}
	if status, body, err := w.status(t.Context(), w.web, "probe/app/liveness"); err != nil || status != http.StatusOK {
		t.Errorf("the application is alive, and the kubelet hears %d %s %v", status, body, err)
	}
	for what, call := range map[string]func() (int, string, error){
		"a call from the pod": func() (int, string, error) {
			return get(t.Context(), *w.web.Place, "http://"+at(w.plain.IPv4, "8080")+"/")
		},
		"a call of the pod": func() (int, string, error) {
			return get(t.Context(), *w.plain.Place, "http://"+at(w.web.IPv4, "8080")+"/")
		},
	} {
		if status, body, err := call(); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("%s: %d %s %v, want a refusal", what, status, body, err)
		}
	}

	w.startPlane(t, ca)
	w.give(t, w.web, w.join(t, w.web))
	w.awaitReady(t, w.web)
	w.call(t, w.plain, "http://"+at(w.web.IPv4, "8080")+"/", http.StatusOK)
	w.call(t, w.web, "http://"+at(w.plain.IPv4, "8080")+"/", http.StatusOK)
	if err := w.web.sidecar.stop(t); err != nil {
		t.Errorf("told to end, the sidecar ends with %v", err)
	}
}

// TestASidecarThatStartsBeforeItsInitContainerKeepsOffTheNetworkUntilItIsRedirected: injected pods start so.
func TestASidecarThatStartsBeforeItsInitContainerKeepsOffTheNetworkUntilItIsRedirected(t *testing.T) {
	w := newTown(t)
	w.startPlane(t, nil)
	w.web.serveHTTP(t, ":8080")
	w.startSidecar(t, w.web, w.join(t, w.web), "")
	w.does(t, w.web, "started", "127.0.0.1:15021")
	status, body, err := w.status(t.Context(), w.web, "readyz") // the answer waits for some seconds
	if err != nil || status != http.StatusServiceUnavailable || !strings.Contains(body, "heddle-init has not redirected the pod's traffic yet") {
		t.Errorf("the kubelet hears %d %s %v, want the reason", status, body, err)
	}
	if w.web.sidecar.said.has("certificate obtained") {
		t.Error("the sidecar has its certificate before the pod's traffic is redirected")
	}

	w.initialise(t, w.web, "--await=127.0.0.1:15021") // it ends when the sidecar can route
	if status, body, err := w.status(t.Context(), w.web, "readyz"); err != nil || status != http.StatusOK {
		t.Errorf("after the init container has ended the kubelet hears %d %s %v", status, body, err)
	}
	w.call(t, w.plain, "http://"+at(w.web.IPv4, "8080")+"/", http.StatusOK)
	if err := w.web.sidecar.stop(t); err != nil {
		t.Errorf("told to end, the sidecar ends with %v", err)
	}
}

func TestAPodWithoutIPv6IsRedirectedAndServed(t *testing.T) {
	w := newTown(t)
	w.startPlane(t, nil)
	w.web.DisableIPv6(t)
	w.web.serveHTTP(t, ":8080")
	w.plain.serveHTTP(t, ":8080")
	w.initialise(t, w.web)
	w.startSidecar(t, w.web, w.join(t, w.web), "")
	w.awaitReady(t, w.web)
	if got := w.call(t, w.web, "http://10.96.0.2/", http.StatusOK); got.App != "web" || callerIn(got.Caller) != idOfWeb {
		t.Errorf("the application saw %+v", got)
	}
	w.call(t, w.plain, "http://"+at(w.web.IPv4, "8080")+"/", http.StatusOK)
	w.call(t, w.web, "http://10.96.0.4/", http.StatusOK)
}

func TestSidecarsEndAfterWhatIsUnderWay(t *testing.T) {
	w := openTown(t)
	labels := must(os.ReadFile(filepath.Join("/proc", strconv.Itoa(w.envoyOf(t, w.web)), "environ")))
	if want := "HEDDLE_CALLER=ns=shop;sa=web;l=app=web;"; !strings.Contains(string(labels), want) {
		t.Errorf("the environment of Envoy is %q, want %s from the labels' file", labels, want)
	}

	w.call(t, w.web, "http://10.96.0.3/", http.StatusOK)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	answered := w.slowCall(ctx, t)
	c := must(w.web.Dial(ctx, "tcp", "10.96.0.3:3306"))
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	stream := bufio.NewReader(c)
	echo := func(what string) {
		t.Helper()
		if _, err := io.WriteString(c, what+"\n"); err != nil {
			t.Error(err)
		}
		if got, err := stream.ReadString('\n'); got != what+"\n" {
			t.Errorf("the TCP stream answers %q with %q, %v", what, got, err)
		}
	}
	if got, err := stream.ReadString('\n'); got != banner {
		t.Fatalf("%q %v", got, err)
	}

	for _, p := range []*pod{w.web, w.api} { // as the kubelet does once the application has ended
		if err := p.sidecar.cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		p.sidecar.hears(t, "told to end")
	}
	echo("after SIGTERM")
	w.call(t, w.web, "http://10.96.0.3/", http.StatusOK)
	select {
	case w.api.slow <- struct{}{}:
	case <-ctx.Done():
		t.Fatal("the slow request is not there any more")
	}
	if got := <-answered; got.status != http.StatusOK || got.err != nil {
		t.Errorf("a request that was under way when both sidecars were told to end: %d %v", got.status, got.err)
	}
	echo("once more")
	for _, p := range []*pod{w.web, w.api} {
		select {
		case err := <-p.sidecar.ended:
			t.Errorf("the sidecar of %s ended under a TCP stream: %v", p.name, err)
		default:
		}
	}
	c.Close()
	for _, p := range []*pod{w.web, w.api} {
		if err := p.sidecar.await(t); err != nil {
			t.Errorf("the sidecar of %s ends with %v", p.name, err)
		}
		if p.sidecar.said.has("is cut") {
			t.Errorf("the sidecar of %s cuts something", p.name)
		}
	}
}

// answer is what became of a request.
type answer struct {
	status int
	err    error
}

// slowCall begins a request from web to api, and returns when it has arrived.
func (w *town) slowCall(ctx context.Context, t *testing.T) <-chan answer {
	t.Helper()
	answered := make(chan answer, 1)
	go func() {
		status, _, err := get(ctx, *w.web.Place, "http://10.96.0.3/slow")
		answered <- answer{status, err}
	}()
	select {
	case <-w.api.slow:
	case got := <-answered:
		t.Fatalf("answered before its time: %+v", got)
	case <-ctx.Done():
		t.Fatal("the slow request does not arrive")
	}
	return answered
}

func TestAnEnvoyThatCrashesEndsTheSidecarAndTheNextOneServes(t *testing.T) {
	w := openTown(t)
	w.call(t, w.web, "http://10.96.0.3/", http.StatusOK)
	if err := syscall.Kill(w.envoyOf(t, w.web), syscall.SIGSEGV); err != nil {
		t.Fatal(err)
	}
	err := w.web.sidecar.await(t)
	if err == nil || w.web.sidecar.cmd.ProcessState.ExitCode() != 1 || !w.web.sidecar.said.has("ended by itself") {
		t.Errorf("after Envoy's crash the sidecar ends with %v, want exit code 1 and the reason", err)
	}
	if status, body, err := get(t.Context(), *w.web.Place, "http://10.96.0.3/"); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("without a sidecar a call is answered: %d %s %v", status, body, err)
	}
	// The kubelet starts the container again, in the same pod with the same volumes.
	w.startSidecar(t, w.web, w.join(t, w.web), "")
	w.awaitReady(t, w.web)
	if got := w.call(t, w.web, "http://10.96.0.3/", http.StatusOK); callerIn(got.Caller) != idOfWeb {
		t.Errorf("the application saw %+v", got)
	}
}

// envoyOf is the process ID of a pod's Envoy, a child of its agent that runs as the same user.
func (w *town) envoyOf(t *testing.T, p *pod) int {
	t.Helper()
	parent := strconv.Itoa(p.sidecar.cmd.Process.Pid)
	for _, path := range must(filepath.Glob("/proc/[0-9]*/status")) {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		if s := string(text); strings.Contains(s, "\nPPid:\t"+parent+"\n") && strings.Contains(s, fmt.Sprintf("\nUid:\t%d\t", redirect.User)) {
			return must(strconv.Atoi(strings.Split(path, "/")[2]))
		}
	}
	t.Fatalf("the sidecar of %s runs no Envoy", p.name)
	return 0
}
