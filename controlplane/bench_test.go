package controlplane

import (
	"fmt"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-mesh/heddle/mesh"
	"github.com/heddle-mesh/heddle/model"
	"github.com/heddle-mesh/heddle/translator"
	"github.com/heddle-mesh/heddle/xds"
)

// The size that docs/benchmarks.md speaks of.
const (
	benchServices  = 1000
	benchEndpoints = 10
)

// benchFacts is a mesh of HTTP Services whose pods all have sidecars.
func benchFacts(services int) []model.Event {
	events := []model.Event{{Namespace: &model.Namespace{Name: "bench"}}}
	for i := range services {
		events = append(events, model.Event{Service: benchService(i, "")}, model.Event{Slice: benchSlice(i, true)})
		for j := range benchEndpoints {
			events = append(events, model.Event{Pod: benchPod(i, j)})
		}
	}
	return append(events, model.Event{Synced: true})
}

func benchService(i int, hash string) *model.Service {
	return &model.Service{
		Key: model.Key{Namespace: "bench", Name: fmt.Sprintf("svc-%04d", i)}, UID: fmt.Sprint("s", i),
		Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, 96, byte(i >> 8), byte(i)})},
		Ports:     []model.Port{{Name: "http" + hash, Number: 80, Protocol: model.HTTP, Declared: true}},
		Selector:  model.LabelsOf(map[string]string{"app": fmt.Sprint(i)}),
		Hash:      fmt.Sprint(i, hash),
	}
}

func benchSlice(i int, lastReady bool) *model.Slice {
	s := &model.Slice{
		Key: model.Key{Namespace: "bench", Name: fmt.Sprintf("svc-%04d-x", i)}, Service: fmt.Sprintf("svc-%04d", i),
		Ports: []model.SlicePort{{Name: "http", Number: 8080}},
	}
	for j := range benchEndpoints {
		ready := lastReady || j < benchEndpoints-1
		p := benchPod(i, j)
		s.Endpoints = append(s.Endpoints, model.SliceEndpoint{
			Address: p.Addresses[0], Ready: ready, Serving: ready, Node: p.Node, Zone: "z1", Pod: p.Key.Name, PodUID: p.UID,
		})
	}
	return s
}

func benchPod(i, j int) *model.Pod {
	return &model.Pod{
		Key: model.Key{Namespace: "bench", Name: fmt.Sprintf("pod-%04d-%d", i, j)}, UID: fmt.Sprint("p", i, "-", j),
		ServiceAccount: "default", Node: fmt.Sprint("n", j), Meshed: true,
		Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, byte(1 + j), byte(i >> 8), byte(i)})},
		Ports:     []model.PodPort{{Name: "http", Number: 8080}},
	}
}

func newBench() *publisher {
	state := mesh.New(mesh.Options{Namespace: DefaultNamespace})
	p := newPublisher(state, xds.NewStore(), newMetrics(prometheus.NewRegistry()), zerolog.Nop())
	p.frame()
	return p
}

// BenchmarkFullTranslation is a start: 1,000 Services with 10 endpoints each, from facts to published resources.
func BenchmarkFullTranslation(b *testing.B) {
	events := benchFacts(benchServices)
	b.ReportAllocs()
	before := processCPU(b)
	for b.Loop() {
		p := newBench()
		p.changes(p.state.Apply(events))
	}
	b.ReportMetric((processCPU(b)-before).Seconds()/float64(b.N), "cpu-s/op")
	b.ReportMetric(float64(bytesPerService()), "B/Service")
}

// processCPU is what this process has used of all processors, garbage collection included.
func processCPU(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// bytesPerService is how much a sidecar is sent for one more Service.
func bytesPerService() int {
	state := mesh.New(mesh.Options{Namespace: DefaultNamespace})
	state.Apply(benchFacts(1))
	key := benchService(0, "").Key
	r := translator.Outbound(state.Outbound(mesh.View{Key: key}), translator.Capture{})
	r.Endpoints = translator.Endpoints(state.Endpoints(key), model.Location{})
	total := 0
	for _, n := range messages(r) {
		total += proto.Size(n.message)
	}
	return total
}

// BenchmarkEndpointChange is one endpoint of one Service becoming ready or not, on top of all others.
func BenchmarkEndpointChange(b *testing.B) {
	benchChanges(b, func(i int) (there, back model.Event) {
		return model.Event{Slice: benchSlice(i, false)}, model.Event{Slice: benchSlice(i, true)}
	})
}

// BenchmarkServiceChange is one Service getting another address, on top of all others.
func BenchmarkServiceChange(b *testing.B) {
	benchChanges(b, func(i int) (there, back model.Event) {
		moved := benchService(i, "")
		moved.Addresses = []netip.Addr{netip.AddrFrom4([4]byte{10, 97, byte(i >> 8), byte(i)})}
		moved.Hash += "moved"
		return model.Event{Service: moved}, model.Event{Service: benchService(i, "")}
	})
}

// benchChanges changes one Service after the other, there and back.
func benchChanges(b *testing.B, change func(i int) (there, back model.Event)) {
	p := newBench()
	p.changes(p.state.Apply(benchFacts(benchServices)))
	var events [][]model.Event
	for i := range benchServices {
		there, back := change(i)
		events = append(events, []model.Event{there}, []model.Event{back})
	}
	b.ReportAllocs()
	before, i := processCPU(b), 0
	for b.Loop() {
		p.changes(p.state.Apply(events[i%len(events)]))
		i++
	}
	b.ReportMetric(float64((processCPU(b)-before).Microseconds())/float64(b.N), "cpu-us/op")
}
