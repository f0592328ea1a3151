package mtls

import (
	"context"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-mesh/heddle/injector/bootstrap"
	"github.com/heddle-mesh/heddle/mesh"
	"github.com/heddle-mesh/heddle/model"
	"github.com/heddle-mesh/heddle/sidecar/envoy"
	"github.com/heddle-mesh/heddle/test/identities"
	"github.com/heddle-mesh/heddle/test/loopback"
	"github.com/heddle-mesh/heddle/test/secrets"
	"github.com/heddle-mesh/heddle/test/transcript"
	"github.com/heddle-mesh/heddle/translator"
	"github.com/heddle-mesh/heddle/xds"
)

// patience is how long a test waits for what should take a moment.
const patience = 30 * time.Second

const domain = "cluster.local"

// Ports of the Service catalog, which are its pods' ports as well.
const (
	portHTTP   = 8080
	portGRPC   = 8081
	portTCP    = 8082
	portDetect = 8083 // carries HTTP, which nobody declared
	portLegacy = 8084 // carries a protocol in which the server speaks first, which nobody declared
)

var catalog = model.Key{Namespace: "shop", Name: "catalog"}

// town is a mesh of which the test is the control plane.
type town struct {
	t      testing.TB
	ca     *identities.Authority
	state  *mesh.State
	store  *xds.Store
	door   identities.Door
	binary string
	net    netip.Prefix
	strict map[model.Key]bool // pods that take no plain text
	pods   map[model.Key]*pod // with a sidecar
	before map[xds.Layer]map[xds.Ref]bool
	scan   *secrets.Scan
}

// pod is a pod with a sidecar. Its address is a relay's.
type pod struct {
	key     model.Key
	capture translator.Capture
	address netip.Addr // that the mesh knows
	sidecar netip.Addr // where the sidecar really is
	proxy   *envoy.Proxy
	log     *transcript.Buffer
}

func newTown(t testing.TB) *town {
	t.Helper()
	binary, err := envoy.Find(t.Context(), envoy.FindOptions{Progress: os.Stderr})
	if err != nil {
		t.Fatal(err)
	}
	w := &town{
		t: t, ca: identities.New(t, domain), state: mesh.New(mesh.Options{}), store: xds.NewStore(), binary: binary,
		net: loopback.Reserve(t), strict: map[model.Key]bool{}, pods: map[model.Key]*pod{}, before: map[xds.Layer]map[xds.Ref]bool{},
		scan: secrets.New(t),
	}
	w.serve()
	w.know(&model.Service{
		Key: catalog, Addresses: []netip.Addr{netip.MustParseAddr("10.96.0.10")},
		Ports: []model.Port{
			{Name: "http", Number: portHTTP, Protocol: model.HTTP, Declared: true},
			{Name: "grpc", Number: portGRPC, Protocol: model.GRPC, Declared: true},
			{Name: "tcp", Number: portTCP, Protocol: model.TCP, Declared: true},
			{Name: "any", Number: portDetect},
			{Name: "legacy", Number: portLegacy},
		},
	})
	w.store.MarkSynced()
	return w
}

// serve runs the discovery service. A sidecar sees what all see, and its own pod's layer.
func (w *town) serve() {
	w.t.Helper()
	w.door = w.ca.Door(w.t)
	listener := w.door.Listen(w.t)
	server := grpc.NewServer(xds.ServerOptions(w.door.Credentials())...)
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(server, xds.NewServer(xds.Options{
		Store: w.store, Observer: refusals{w.t}, Grace: time.Millisecond,
		Connect: func(_ context.Context, node *corev3.Node) (xds.Session, error) {
			return xds.Session{Layers: []xds.Layer{xds.Layer(node.Id), "mesh"}}, nil
		},
	}))
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	w.t.Cleanup(func() {
		server.Stop()
		if err := <-served; err != nil {
			w.t.Error(err)
		}
	})
}

// refusals fails the test when an Envoy refuses something.
type refusals struct{ t testing.TB }

func (r refusals) Observe(e xds.Event) {
	if e.Kind == xds.Refused {
		r.t.Errorf("refused by %s: %s: %s", e.Proxy, e.Type, e.Reason)
	}
}

// know takes in facts and publishes what follows.
func (w *town) know(facts ...any) {
	w.t.Helper()
	var events []model.Event
	for _, f := range facts {
		switch f := f.(type) {
		case *model.Service:
			events = append(events, model.Event{Service: f})
		case *model.Slice:
			events = append(events, model.Event{Slice: f})
		case *model.Pod:
			events = append(events, model.Event{Pod: f})
		default:
			w.t.Fatalf("a %T is no fact", f)
		}
	}
	w.state.Apply(events)
	w.publish()
}

// publish makes everything anew; the store knows what is the same.
func (w *town) publish() {
	w.t.Helper()
	shared := translator.Frame(w.state.Settings(), translator.Capture{})
	shared.Listeners = nil
	listeners := map[model.Key]translator.Resources{}
	for _, k := range w.state.Services() {
		if o := w.state.Outbound(mesh.View{Key: k}); o != nil {
			r := translator.Outbound(o, translator.Capture{})
			shared.Routes, shared.Clusters = append(shared.Routes, r.Routes...), append(shared.Clusters, r.Clusters...)
			for key, p := range w.pods {
				own := listeners[key]
				own.Listeners = append(own.Listeners, translator.Outbound(o, p.capture).Listeners...)
				listeners[key] = own
			}
		}
		if e := w.state.Endpoints(k); e != nil {
			shared.Endpoints = append(shared.Endpoints, translator.Endpoints(e, model.Location{})...)
		}
	}
	updates := []xds.Update{w.update("mesh", shared)}
	for key, p := range w.pods {
		r := translator.Inbound(w.workload(p), p.capture)
		r.Listeners = append(r.Listeners, listeners[key].Listeners...)
		updates = append(updates, w.update(xds.Layer(key.String()), r))
	}
	w.store.Publish(updates...)
}

// workload is what a pod receives, at the address where its sidecar really is.
func (w *town) workload(p *pod) *model.Workload {
	view := *w.state.Workload(p.key)
	moved := *view.Pod
	moved.Addresses = []netip.Addr{p.sidecar}
	view.Pod = &moved
	view.Ports = slices.Clone(view.Ports)
	for i := range view.Ports {
		if w.strict[p.key] {
			view.Ports[i].MTLS = model.MTLSStrict
		}
	}
	return &view
}

func (w *town) update(layer xds.Layer, r translator.Resources) xds.Update {
	w.t.Helper()
	u, now := xds.Update{Layer: layer}, map[xds.Ref]bool{}
	put := func(name string, m proto.Message) {
		resource, err := xds.NewResource(name, m)
		if err != nil {
			w.t.Fatal(err)
		}
		now[resource.Ref] = true
		u.Set = append(u.Set, resource)
	}
	for _, c := range r.Clusters {
		put(c.Name, c)
	}
	for _, e := range r.Endpoints {
		put(e.ClusterName, e)
	}
	for _, l := range r.Listeners {
		put(l.Name, l)
	}
	for _, c := range r.Routes {
		put(c.Name, c)
	}
	for _, ref := range slices.Collect(maps.Keys(w.before[layer])) {
		if !now[ref] {
			u.Remove = append(u.Remove, ref)
		}
	}
	w.before[layer] = now
	return u
}

// publishEndpoints says of catalog's endpoints what the facts do not.
func (w *town) publishEndpoints(e *model.Endpoints) {
	w.t.Helper()
	u := xds.Update{Layer: "mesh"}
	for _, a := range translator.Endpoints(e, model.Location{}) {
		r, err := xds.NewResource(a.ClusterName, a)
		if err != nil {
			w.t.Fatal(err)
		}
		u.Set = append(u.Set, r)
	}
	w.store.Publish(u)
}

// at is an address of the town: of a relay (1), a sidecar (2) or an application (3).
func (w *town) at(what, number byte) netip.Addr {
	b := w.net.Addr().As4()
	return netip.AddrFrom4([4]byte{b[0], b[1], what, number})
}

// fact is a pod of that number as the mesh knows it.
func (w *town) fact(number byte, name, account string) *model.Pod {
	return &model.Pod{
		Key: model.Key{Namespace: "shop", Name: name}, UID: name, ServiceAccount: account, Meshed: true,
		Addresses: []netip.Addr{w.at(1, number)},
		Ports: []model.PodPort{
			{Number: portHTTP, Protocol: model.HTTP, Declared: true}, {Number: portGRPC, Protocol: model.GRPC, Declared: true},
			{Number: portTCP, Protocol: model.TCP, Declared: true}, {Number: portDetect}, {Number: portLegacy},
		},
	}
}

// open runs the sidecar of a pod that the mesh knows, with the identity of an account, and waits until it serves.
func (w *town) open(number byte, known *model.Pod, account string) *pod {
	w.t.Helper()
	agent := w.ca.Serve(w.t, w.ca.ID("shop", account))
	p := &pod{
		key: known.Key, address: w.at(1, number), sidecar: w.at(2, number),
		capture: translator.Capture{Bind: loopback.Reserve(w.t), App: w.at(3, number)},
	}
	w.pods[p.key] = p
	w.know(known)
	log, said := w.scan.Transcript("the Envoy of " + p.key.Name)
	p.log = said
	p.proxy = envoy.New(envoy.Options{
		Binary: w.binary,
		Bootstrap: bootstrap.Options{
			ID: p.key.String(), Server: w.door.Server, SDS: agent.Socket, Capture: bootstrap.Capture(p.capture),
		},
		Caller:      bootstrap.Caller{Namespace: "shop", Account: known.ServiceAccount},
		Concurrency: 1, StopTimeout: time.Second, Log: log,
	})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- p.proxy.Run(ctx) }()
	w.t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			w.t.Error(err)
		}
	})
	w.t.Cleanup(func() { w.scan.LookAtEnvoy(p.key.Name, p.proxy) })
	ready, done := context.WithTimeout(w.t.Context(), patience)
	defer done()
	if err := p.proxy.Ready(ready); err != nil {
		w.t.Fatal(err)
	}
	return p
}

// slice lists pods of catalog.
func slice(name string, endpoints ...model.SliceEndpoint) *model.Slice {
	return &model.Slice{
		Key: model.Key{Namespace: "shop", Name: name}, Service: catalog.Name,
		Ports: []model.SlicePort{
			{Name: "http", Number: portHTTP}, {Name: "grpc", Number: portGRPC}, {Name: "tcp", Number: portTCP},
			{Name: "any", Number: portDetect}, {Name: "legacy", Number: portLegacy},
		},
		Endpoints: endpoints,
	}
}

func endpoint(p *model.Pod) model.SliceEndpoint {
	return model.SliceEndpoint{Address: p.Addresses[0], Ready: true, Serving: true, Pod: p.Key.Name, PodUID: p.UID}
}

// service is where a pod's application calls catalog: where its sidecar binds 10.96.0.10.
func (p *pod) service(port int) string {
	b := p.capture.Bind.Addr().As4()
	return address(netip.AddrFrom4([4]byte{b[0], b[1], 0, 10}), port)
}

func address(a netip.Addr, port int) string {
	return netip.AddrPortFrom(a, uint16(port)).String()
}

// stat adds up the statistics of a sidecar that have this in their name.
func (w *town) stats(p *pod, contains string) string {
	w.t.Helper()
	text, err := p.proxy.Get(w.t.Context(), "/stats")
	if err != nil {
		w.t.Fatal(err)
	}
	var found []string
	for line := range strings.Lines(string(text)) {
		if strings.Contains(line, contains) && !strings.HasSuffix(line, ": 0\n") {
			found = append(found, strings.TrimSpace(line))
		}
	}
	return strings.Join(found, "\n")
}
