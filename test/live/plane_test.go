package live

import (
	"bufio"
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
	"os/signal"
	"runtime"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"k8s.io/client-go/kubernetes"

	"github.com/heddle-mesh/heddle/controlplane"
	"github.com/heddle-mesh/heddle/kube"
	"github.com/heddle-mesh/heddle/mesh"
	"github.com/heddle-mesh/heddle/model"
	"github.com/heddle-mesh/heddle/test/wait"
	"github.com/heddle-mesh/heddle/xds"
)

// setting is all that a control plane must know of a test, in a form that another process can read.
type setting struct {
	Kubeconfig string
	Namespace  string        // the one that the test is about; nothing of others is seen
	System     string        // the control plane's own
	Network    netip.Prefix  // where pods really are
	Replica    byte          // which of the control planes that share a CA
	Leaf       time.Duration // the life of certificates and of tokens that the signer makes; 0: the default
	Skew       time.Duration // how far clocks may differ; 0: the default
	Relayed    bool          // each pod has a second address, relayed, at which slices may list it and a test may stand
}

// Addresses of the control plane. They are in the test's own network, so that one that was killed finds them free.

func (s setting) sidecars() string { return s.door(15010) }
func (s setting) signer() string   { return s.door(15012) }

func (s setting) door(port uint16) string {
	host := s.loopback(netip.AddrFrom4([4]byte{10, 1, 254, s.Replica + 1}))
	return netip.AddrPortFrom(host, port).String()
}

func trustDomain() spiffeid.TrustDomain {
	return spiffeid.RequireTrustDomainFromString(controlplane.DefaultTrustDomain)
}

// make prepares a control plane as heddle serve does, but that its sidecars may be without redirection.
func (s setting) make(o controlplane.Options) (controlplane.Whole, error) {
	o, err := s.options(o)
	if err != nil {
		return controlplane.Whole{}, err
	}
	o.Source, o.Unredirected = moved{o.Source, s}, true
	return s.whole(o)
}

// whole opens the addresses and adds the signer.
func (s setting) whole(o controlplane.Options) (controlplane.Whole, error) {
	client, err := s.client()
	if err != nil {
		return controlplane.Whole{}, err
	}
	signing, err := net.Listen("tcp", s.signer())
	if err != nil {
		return controlplane.Whole{}, err
	}
	door, err := net.Listen("tcp", s.sidecars())
	if err != nil {
		return controlplane.Whole{}, err
	}
	signer, err := controlplane.NewClusterSigner(controlplane.SignerOptions{
		TrustDomain: o.TrustDomain, Namespace: o.Namespace, Listener: signing, Lifetime: s.Leaf, TokenLife: s.Leaf,
		Skew: s.Skew, Registry: o.Registry, Log: o.Log,
	}, controlplane.ClusterOptions{Client: client, Identity: fmt.Sprint("replica-", s.Replica)})
	if err != nil {
		return controlplane.Whole{}, err
	}
	o.ConnectionAge = controlplane.ConnectionAge(s.Leaf)
	o.Door = controlplane.Door{Listener: door, TLS: signer.TLS()}
	return controlplane.Whole{Plane: controlplane.New(o), Signer: signer}, nil
}

// client is the signer's, which sees the pods of one namespace as if there were no others: it would give those its
// trust bundle, and they have a signer of their own.
func (s setting) client() (kubernetes.Interface, error) {
	config, err := kube.ClientConfig(kube.ClientOptions{Kubeconfig: s.Kubeconfig})
	if err != nil {
		return nil, err
	}
	config.Wrap(func(next http.RoundTripper) http.RoundTripper {
		return roundTrip(func(r *http.Request) (*http.Response, error) {
			if r.URL.Path == "/api/v1/pods" {
				r = r.Clone(r.Context())
				r.URL.Path = "/api/v1/namespaces/" + s.Namespace + "/pods"
			}
			return next.RoundTrip(r)
		})
	})
	return kubernetes.NewForConfig(config)
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// options adds what heddle serve takes from a kubeconfig.
func (s setting) options(o controlplane.Options) (controlplane.Options, error) {
	config, err := kube.ClientConfig(kube.ClientOptions{Kubeconfig: s.Kubeconfig})
	if err != nil {
		return o, err
	}
	cluster, err := kube.NewCluster(kube.ClusterOptions{Config: config, Log: o.Log})
	if err != nil {
		return o, err
	}
	o.Source, o.Status, o.LastGood = cluster, cluster.Status, cluster.Revisions()
	o.Namespace, o.TrustDomain = s.System, trustDomain()
	if o.Registry == nil {
		o.Registry = prometheus.NewRegistry()
	}
	return o, nil
}

// moved is a source whose pods are in a loopback network, and which says nothing of other tests' namespaces.
type moved struct {
	source controlplane.Source
	to     setting
}

func (m moved) Run(ctx context.Context, out func([]model.Event)) error {
	return m.source.Run(ctx, func(events []model.Event) {
		var ours []model.Event
		for _, e := range events {
			if e, ok := m.move(e); ok {
				ours = append(ours, e)
			}
		}
		if len(ours) > 0 {
			out(ours)
		}
	})
}

func (m moved) move(e model.Event) (model.Event, bool) {
	switch {
	case e.Service != nil:
		return e, e.Service.Key.Namespace == m.to.Namespace
	case e.Policy != nil:
		return e, e.Policy.Key.Namespace == m.to.Namespace
	case e.Slice != nil:
		s := *e.Slice
		s.Endpoints = append([]model.SliceEndpoint(nil), s.Endpoints...)
		for i := range s.Endpoints {
			s.Endpoints[i].Address = m.to.loopback(s.Endpoints[i].Address)
		}
		e.Slice = &s
		return e, s.Key.Namespace == m.to.Namespace
	case e.Pod != nil:
		p := *e.Pod
		p.Addresses = nil
		for _, a := range e.Pod.Addresses {
			p.Addresses = append(p.Addresses, m.to.loopback(a))
			if m.to.Relayed {
				p.Addresses = append(p.Addresses, m.to.loopback(relayed(a)))
			}
		}
		e.Pod = &p
		return e, p.Key.Namespace == m.to.Namespace
	}
	return e, true
}

// relayed is the second address of a pod. Its sidecar listens at the first one only.
func relayed(a netip.Addr) netip.Addr {
	b := a.As4()
	return netip.AddrFrom4([4]byte{b[0], b[1], b[2] + 1, b[3]})
}

// loopback is where the pod of an address really is.
func (s setting) loopback(a netip.Addr) netip.Addr { return within(s.Network, a) }

// within is the address in a /16 that has the last two bytes of a.
func within(network netip.Prefix, a netip.Addr) netip.Addr {
	n, b := network.Addr().As4(), a.As4()
	return netip.AddrFrom4([4]byte{n[0], n[1], b[2], b[3]})
}

// plane is a running control plane and what was seen of it.
type plane struct {
	*record
	registry *prometheus.Registry // nil for one in another process
	signer   *controlplane.Signer // as well
	stop     func()               // what is done at the test's end if not before
}

// serve runs a control plane in this process. Its stop is a graceful one.
func (w *world) serve() *plane { return w.serveOn(w.setting) }

func (w *world) serveOn(s setting) *plane { return w.serveWith(s, controlplane.Options{}) }

func (w *world) serveWith(s setting, o controlplane.Options) *plane {
	w.t.Helper()
	p := &plane{record: newRecord(), registry: prometheus.NewRegistry()}
	o.Registry, o.Observer, o.Log = p.registry, p.record, w.log.logger()
	control, err := s.make(o)
	if err != nil {
		w.t.Fatal(err)
	}
	p.signer = control.Signer
	stop := wait.Background(w.t, "control plane", control.Run)
	p.stop = wait.Lastly(w.t, func() {
		w.scan.LookAtMetrics(p.registry)
		stop()
	})
	return p
}

// metric is the value of one of the control plane's counters or gauges that has a label of that value.
func (w *world) metric(name, label string) float64 {
	w.t.Helper()
	families, err := w.plane.registry.Gather()
	if err != nil {
		w.t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.Metric {
			if f.GetName() == name && len(m.Label) == 1 && m.Label[0].GetValue() == label {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return 0
}

// childVariable holds the setting of a control plane that is a process of its own: this test binary, run again.
const childVariable = "HEDDLE_LIVE_CONTROL_PLANE"

// fork runs a control plane in a process of its own. Its stop is kill -9.
func (w *world) fork() *plane {
	w.t.Helper()
	text, err := json.Marshal(w.setting)
	if err != nil {
		w.t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		w.t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), childVariable+"="+string(text))
	cmd.Stderr = w.log
	p := &plane{record: newRecord()}
	p.stop = w.process(cmd, func(out io.Reader) {
		for events := json.NewDecoder(out); ; {
			var e xds.Event
			if events.Decode(&e) != nil {
				return // killed
			}
			p.Observe(e)
		}
	})
	return p
}

// process starts a command whose output read takes; what it gives kills it. The process does not outlive this one.
func (w *world) process(cmd *exec.Cmd, read func(io.Reader)) (kill func()) {
	w.t.Helper()
	out, err := cmd.StdoutPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started, ended := make(chan error, 1), make(chan struct{})
	go func() {
		defer close(ended)
		// The kernel sends Pdeathsig when the thread that started the process ends; see prctl(2).
		runtime.LockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			read(bufio.NewReader(out))
			_ = cmd.Wait() // says that it was killed
		}
	}()
	if err := <-started; err != nil {
		w.t.Fatal(err)
	}
	kill = sync.OnceFunc(func() {
		_ = cmd.Process.Kill() // fails only if it has ended by itself, which its log explains
		<-ended
	})
	w.t.Cleanup(kill)
	return kill
}

// child is the control plane in a process of its own: it tells what it sees on stdout.
func child(text string, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	var s setting
	err := json.Unmarshal([]byte(text), &s)
	if err == nil {
		err = runChild(ctx, s, stdout, zerolog.New(stderr))
	}
	if err != nil {
		fmt.Fprintln(stderr, err)
		return 1
	}
	return 0
}

func runChild(ctx context.Context, s setting, stdout io.Writer, log zerolog.Logger) error {
	control, err := s.make(controlplane.Options{Observer: &teller{to: json.NewEncoder(stdout)}, Log: log})
	if err != nil {
		return err
	}
	return control.Run(ctx)
}

// teller writes events down.
type teller struct {
	mu sync.Mutex
	to *json.Encoder
}

func (*teller) Applied(mesh.Changes) {}

func (o *teller) Observe(e xds.Event) {
	if e.Verdict != nil {
		e.Verdict = nil // holds a message
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if err := o.to.Encode(e); err != nil && !errors.Is(err, syscall.EPIPE) {
		panic(err)
	}
}
