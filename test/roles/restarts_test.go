package roles

import (
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heddle-mesh/heddle/identity/hold"
	"github.com/heddle-mesh/heddle/kube/webhooks"
	"github.com/heddle-mesh/heddle/test/transcript"
)

func TestEachRoleKilledComesBackAndTheOtherGoesOnWithoutIt(t *testing.T) {
	w := newTown(t)
	heddle := w.build()
	signer := func() (kill func()) {
		return w.process(heddle, "serve", "--role", "signer", "--kubeconfig", w.kubeconfig("signer", w.signer), "--namespace", w.system,
			"--signer", w.address(15012), "--listen", w.address(15013), "--socket", filepath.Join(w.dir, "own", "signer.sock"))
	}
	token := w.token(w.serverPod)
	server := func() (kill func()) {
		return w.process(heddle, "serve", "--role", "server", "--kubeconfig", w.kubeconfig("server", w.server), "--namespace", w.system,
			"--signer", w.address(15012), "--sidecars", w.address(15010), "--listen", w.address(15014),
			"--token-file", token, "--bundle-file", w.bundleFile(), "--socket", "/proc/none/of/its/business",
			"--webhooks", w.address(15017), "--proxy-image", "example/heddle-proxy", "--api", w.address(15016))
	}
	killServer, killSigner := server(), signer()
	w.waitReady(15014)
	p := w.sidecarPod()
	h := w.agent(p)
	configured := func(h *hold.Holder) bool { _, err := w.configure(15010, h, p); return err == nil }
	eventually(t, "the sidecar is configured", func() bool { return configured(h) })
	answers := func() {
		t.Helper()
		for name, anchors := range w.waitTrusted() {
			if got, err := w.call(15017, anchors); err != nil || got == "" {
				t.Errorf("webhook %s answers %q, %v", name, got, err)
			}
		}
	}
	answers()
	version := w.versionOfWebhooks()

	killSigner()
	if !configured(h) {
		t.Error("without the signer the server turns a sidecar away")
	}
	if code, said := w.ready(15014); code != http.StatusOK {
		t.Errorf("without the signer the server is not ready: %d %s", code, said)
	}
	killServer()
	killServer = server()
	eventually(t, "a server that starts without the signer says what it waits for", func() bool {
		code, said := w.ready(15014)
		return code == http.StatusServiceUnavailable && strings.Contains(said, "there is no certificate yet") && strings.Contains(said, w.address(15012))
	})
	killSigner = signer()
	defer killSigner()
	w.waitReady(15014)
	eventually(t, "the sidecar is configured again", func() bool { return configured(h) })
	again := w.agent(p) // its container was restarted, and begins with the bundle of the ConfigMap
	eventually(t, "a sidecar that is restarted is configured", func() bool { return configured(again) })

	killServer()
	killServer = server()
	defer killServer()
	w.waitReady(15014)
	eventually(t, "the sidecar is configured a third time", func() bool { return configured(h) })
	answers()
	if diff := cmp.Diff(version, w.versionOfWebhooks()); diff != "" {
		t.Errorf("servers wrote what was there already (-before +after):\n%s", diff)
	}
}

func (w *town) versionOfWebhooks() [2]string {
	w.t.Helper()
	registrations := w.client.AdmissionregistrationV1()
	injector, err := registrations.MutatingWebhookConfigurations().Get(w.t.Context(), webhooks.Injector, metav1.GetOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
	policy, err := registrations.ValidatingWebhookConfigurations().Get(w.t.Context(), webhooks.Policy, metav1.GetOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
	return [2]string{injector.ResourceVersion, policy.ResourceVersion}
}

func (w *town) build() string {
	w.t.Helper()
	path := filepath.Join(w.dir, "heddle")
	out, err := exec.CommandContext(w.t.Context(), "go", "build", "-ldflags", "-s -w", "-o", path, "github.com/heddle-mesh/heddle/cmd/heddle").CombinedOutput()
	if err != nil {
		w.t.Fatalf("build heddle: %v\n%s", err, out)
	}
	return path
}

// process runs a command until what it gives is called, which kills it. It does not outlive this one.
func (w *town) process(name string, args ...string) (kill func()) {
	w.t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), "XDG_RUNTIME_DIR="+w.dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	lines := &transcript.Buffer{}
	cmd.Stdout, cmd.Stderr = io.Discard, lines
	started, ended := make(chan error, 1), make(chan struct{})
	go func() {
		defer close(ended)
		// The kernel sends Pdeathsig when the thread that started the process ends; see prctl(2).
		runtime.LockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // says that it was killed
		}
	}()
	if err := <-started; err != nil {
		w.t.Fatal(err)
	}
	kill = sync.OnceFunc(func() {
		_ = cmd.Process.Kill() // fails only if it has ended by itself, which its log explains
		<-ended
		who := strings.Join(args[:3], " ")
		w.scan.Look("the log of "+who, []byte(lines.String()))
		if w.t.Failed() {
			w.t.Logf("log of %s:\n%s", who, lines)
		}
	})
	w.t.Cleanup(kill)
	return kill
}
