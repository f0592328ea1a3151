package live

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"regexp"
	"testing"

	"k8s.io/client-go/kubernetes"

	"github.com/heddle-mesh/heddle/injector/bootstrap"
	"github.com/heddle-mesh/heddle/sidecar"
	"github.com/heddle-mesh/heddle/sidecar/envoy"
	"github.com/heddle-mesh/heddle/test/loopback"
	"github.com/heddle-mesh/heddle/test/secrets"
	"github.com/heddle-mesh/heddle/test/wait"
)

// world is a namespace of the API server, with pods that really run and a control plane that watches it.
type world struct {
	t      testing.TB
	client kubernetes.Interface
	setting
	binary string // of Envoy
	log    *transcript
	scan   *secrets.Scan // of all that is said
	plane  *plane
	web    *pod // the one that calls
	pods   int
	papers func(pod string) papers // gives what a pod's agent starts with
	// accounts are those of pods, by name, which must be there; a pod that is not in it has the account default.
	accounts map[string]string
	// apps runs the application of a pod; see [world.app].
	apps func(pod string, at netip.Addr) (stop func())
	tcp  bool // applications have a port for TCP as well
}

// start gives a world with a control plane in this process, and the pod web.
func start(t testing.TB) *world {
	t.Helper()
	return startWith(t, (*world).serve)
}

func startWith(t testing.TB, run func(*world) *plane) *world {
	t.Helper()
	w := prepare(t)
	w.plane = run(w)
	w.web = w.pod("web")
	return w
}

// prepare gives a world in which nothing runs yet.
func prepare(t testing.TB) *world {
	t.Helper()
	binary, err := envoy.Find(t.Context(), envoy.FindOptions{Progress: os.Stderr})
	if err != nil {
		t.Fatal(err)
	}
	scan := secrets.New(t)
	w := &world{
		t: t, client: api.Client(t), binary: binary, scan: scan, log: newTranscript(t, scan, "control plane"),
		setting: setting{
			Kubeconfig: api.Kubeconfig(t), Namespace: api.Namespace(t), System: api.Namespace(t), Network: loopback.Reserve(t),
		},
	}
	w.papers, w.apps = w.mounted, w.app
	return w
}

// directory makes one that is removed when the test ends.
func (w *world) directory() string {
	w.t.Helper()
	// Not t.TempDir: a test's name is part of that, and the path of a unix socket is short.
	dir, err := os.MkdirTemp("", "live-")
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			w.t.Error(err)
		}
	})
	return dir
}

// pod is a pod whose application and sidecar run.
type pod struct {
	name    string
	address netip.Addr // as the API server knows it
	*envoy.Proxy
	capture bootstrap.Capture
	stop    func() // ends the sidecar and the application
}

// id is the pod as its sidecar calls itself.
func (w *world) id(p *pod) string { return w.Namespace + "/" + p.name }

// account is that of a pod.
func (w *world) account(pod string) string { return cmp.Or(w.accounts[pod], "default") }

// pod makes a pod at an address of its own, and returns when its sidecar serves. The application answers every
// request with the pod's name in the header x-app.
func (w *world) pod(name string, labels ...string) *pod {
	w.t.Helper()
	w.pods++
	return w.podAt(netip.AddrFrom4([4]byte{10, 1, 0, byte(w.pods)}), name, labels...)
}

func (w *world) podAt(address netip.Addr, name string, labels ...string) *pod {
	w.t.Helper()
	w.createPod(name, address, labels...)
	return w.run(name, address)
}

// run runs a pod's application and sidecar, and returns when it serves.
func (w *world) run(name string, address netip.Addr) *pod {
	w.t.Helper()
	at := w.loopback(address).As4()
	capture := bootstrap.Capture{Bind: loopback.Reserve(w.t), App: netip.AddrFrom4([4]byte{at[0], at[1], 255, at[3]})}
	stopApp := w.apps(name, capture.App)
	p := &pod{name: name, address: address, capture: capture}
	log, own := newTranscript(w.t, w.scan, "sidecar of "+name), w.papers(name)
	p.Proxy = envoy.New(envoy.Options{
		Binary:      w.binary,
		Bootstrap:   bootstrap.Options{ID: w.id(p), Server: own.server, SDS: own.agent.SDS, Capture: p.capture},
		Caller:      bootstrap.Caller{Namespace: w.Namespace, Account: w.account(name)},
		Concurrency: 1,
		Log:         log.logger(),
	})
	own.agent.Proxy, own.agent.Log = p.Proxy, log.logger()
	agent, err := sidecar.New(own.agent)
	if err != nil {
		w.t.Fatal(err)
	}
	stopSidecar := wait.Background(w.t, "sidecar of "+name, agent.Run)
	p.stop = wait.Lastly(w.t, func() {
		w.scan.LookAtEnvoy(name, p)
		stopSidecar()
		stopApp()
	})
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	if err := p.Ready(ctx); err != nil {
		w.t.Fatal(err)
	}
	w.learnKeys()
	return p
}

// appPort is where applications listen.
const appPort = 8080

// app runs the application of a pod, which speaks HTTP/1.1.
func (w *world) app(name string, at netip.Addr) (stop func()) {
	w.t.Helper()
	l, err := net.Listen("tcp", netip.AddrPortFrom(at, appPort).String())
	if err != nil {
		w.t.Fatal(err)
	}
	answer := http.NewServeMux()
	answer.HandleFunc("/", func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("x-app", name)
		fmt.Fprintln(rw, "hello")
	})
	answer.HandleFunc(endlessPath, speak)
	s := &http.Server{Handler: answer}
	return wait.Background(w.t, "application of "+name, func(ctx context.Context) error {
		context.AfterFunc(ctx, func() { _ = s.Close() }) // says what the connections said
		if err := s.Serve(l); ctx.Err() == nil {
			return err
		}
		return nil
	})
}

// config is all that a sidecar has, in Envoy's own words, so that two of them can be compared: the times of updates
// are left out, and keys are sorted, whose order Envoy leaves to chance.
func (w *world) config(p *pod) string {
	w.t.Helper()
	var dump any
	err := json.Unmarshal([]byte(w.admin(p, "/config_dump?include_eds")), &dump)
	if err != nil {
		w.t.Fatal(err)
	}
	text, err := json.MarshalIndent(dump, "", " ")
	if err != nil {
		w.t.Fatal(err)
	}
	return regexp.MustCompile(`"last_updated": "[^"]*"`).ReplaceAllString(string(text), "")
}

// admin asks a sidecar's admin interface.
func (w *world) admin(p *pod, path string) string {
	w.t.Helper()
	text, err := p.Get(w.t.Context(), path)
	if err != nil {
		w.t.Fatal(err)
	}
	return string(text)
}
