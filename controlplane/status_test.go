package controlplane

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"

	"github.com/heddle-mesh/heddle/kube"
	"github.com/heddle-mesh/heddle/model"
	"github.com/heddle-mesh/heddle/xds"
)

// gated is a source that says all it has when it is told to.
type gated struct {
	open   chan struct{}
	events []model.Event
}

func (g gated) Run(ctx context.Context, out func([]model.Event)) error {
	select {
	case <-g.open:
		out(g.events)
		<-ctx.Done()
	case <-ctx.Done():
	}
	return nil
}

// started runs a control plane on a socket until the test ends it.
func started(t *testing.T, o Options) (p *Plane, end func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	p = New(o)
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	return p, func() error { cancel(); return <-ended }
}

func (p *Plane) asked(path string) (int, string) {
	w := httptest.NewRecorder()
	p.statusHandler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	return w.Code, w.Body.String()
}

// wait waits for a condition that nobody tells of.
func wait(t *testing.T, what string, done func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for late := time.After(20 * time.Second); !done(); {
		select {
		case <-late:
			t.Fatalf("waited in vain for %s", what)
		case <-tick.C:
		}
	}
}

func TestItIsReadyOnceAllIsListedAndUntilItStops(t *testing.T) {
	source := gated{open: make(chan struct{}), events: benchFacts(1)}
	away := kube.Status{Since: time.Date(2024, 2, 3, 4, 5, 6, 0, time.UTC), Reason: "connection refused"}
	p, end := started(t, Options{
		Source: source, Door: newDoor(t).Door, Status: func() kube.Status { return away },
	})
	if code, body := p.asked("/livez"); code != http.StatusOK {
		t.Errorf("/livez says %d %s", code, body)
	}
	if code, body := p.asked("/readyz"); code != http.StatusServiceUnavailable {
		t.Errorf("before the listing /readyz says %d %s", code, body)
	}
	close(source.open)
	wait(t, "/readyz", func() bool { code, _ := p.asked("/readyz"); return code == http.StatusOK })
	if _, body := p.asked("/readyz"); !strings.Contains(body, "away since 2024-02-03T04:05:06Z (connection refused)") {
		t.Errorf("/readyz does not tell that the source is away: %s", body)
	}
	if err := end(); err != nil {
		t.Error(err)
	}
	for _, path := range []string{"/livez", "/readyz"} {
		if code, body := p.asked(path); code != http.StatusServiceUnavailable {
			t.Errorf("after the end %s says %d %s", path, code, body)
		}
	}
}

// waiting is a keeper whose API server is away until it is told otherwise.
type waiting struct{ back chan struct{} }

func (w waiting) Load(ctx context.Context) ([]model.SavedPolicy, error) {
	select {
	case <-w.back:
		return nil, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (waiting) Save(context.Context, model.SavedPolicy) error { return nil }

func TestItLivesAndIsNotReadyWhileItWaitsForTheLastGoodPolicies(t *testing.T) {
	source := gated{open: make(chan struct{}), events: benchFacts(1)}
	close(source.open)
	keeper := waiting{make(chan struct{})}
	away := kube.Status{Since: time.Date(2024, 2, 3, 4, 5, 6, 0, time.UTC), Reason: "connection refused"}
	listen := freeAddress(t)
	_, end := started(t, Options{
		Source: source, LastGood: keeper, Door: newDoor(t).Door, Listen: listen, Status: func() kube.Status { return away },
	})
	ask := func(path string) (code int, body string) {
		resp, err := http.Get("http://" + listen + path)
		if err != nil {
			return 0, err.Error()
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(text)
	}
	wait(t, "/livez", func() bool { code, _ := ask("/livez"); return code == http.StatusOK })
	if code, body := ask("/readyz"); code != http.StatusServiceUnavailable || !strings.Contains(body, "away since 2024-02-03T04:05:06Z (connection refused)") {
		t.Errorf("while it waits /readyz says %d %s", code, body)
	}
	close(keeper.back)
	wait(t, "/readyz", func() bool { code, _ := ask("/readyz"); return code == http.StatusOK })
	if err := end(); err != nil {
		t.Error(err)
	}
}

// freeAddress is one that nobody listens on.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func TestMetricsCountWhatSidecarsAreSentAndAnswer(t *testing.T) {
	source := gated{open: make(chan struct{}), events: benchFacts(1)}
	close(source.open)
	door := newDoor(t)
	p, end := started(t, Options{Source: source, Door: door.Door})
	wait(t, "/readyz", func() bool { code, _ := p.asked("/readyz"); return code == http.StatusOK })

	stream := door.ads(peerFor(benchPod(0, 0)))
	node := &corev3.Node{Id: benchPod(0, 0).Key.String()}
	for _, kind := range []xds.Type{xds.Cluster, xds.Listener} {
		if err := stream.Send(&discoveryv3.DeltaDiscoveryRequest{Node: node, TypeUrl: kind.URL()}); err != nil {
			t.Fatal(err)
		}
		got, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		answer := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: got.TypeUrl, ResponseNonce: got.Nonce}
		if kind == xds.Listener {
			answer.ErrorDetail = &statuspb.Status{Message: "no"}
		}
		if err := stream.Send(answer); err != nil {
			t.Fatal(err)
		}
	}
	for _, line := range []string{
		"heddle_connected_proxies 1",
		`heddle_xds_pushes_total{type="cluster"} 1`, `heddle_xds_acks_total{type="cluster"} 1`,
		`heddle_xds_pushes_total{type="listener"}`, `heddle_xds_nacks_total{type="listener"} 1`,
		`heddle_translations_total{kind="outbound"} 1`, "heddle_translate_seconds_count 1",
		"heddle_source_lag_seconds_count 1", "heddle_queue_depth 0",
	} {
		wait(t, line, func() bool { _, body := p.asked("/metrics"); return strings.Contains(body, "\n"+line) })
	}
	if err := end(); err != nil {
		t.Error(err)
	}
}
