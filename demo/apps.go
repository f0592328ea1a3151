package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/heddle-mesh/heddle/model"
)

// callerHeader tells the called application which pod calls, for the ledger only.
const callerHeader = "X-Demo-Caller"

// application is what runs in a pod: a handler, and a client that calls Services through the pod's sidecar.
type application struct {
	pod    pod
	ledger *ledger
	client *http.Client
	mood   *mood
	served atomic.Uint64
}

func newApplication(p pod, names directory, l *ledger, m *mood) *application {
	return &application{pod: p, ledger: l, mood: m, client: &http.Client{
		Timeout:   5 * time.Second,
		Transport: &http.Transport{DialContext: p.dialer(names), MaxIdleConnsPerHost: 64},
	}}
}

// handler gives what the application answers with; nil if it only calls others.
func (a *application) handler() (http.Handler, error) {
	mux := http.NewServeMux()
	switch a.pod.app {
	case "shoppers":
		return nil, nil
	case "frontend":
		mux.HandleFunc("GET /{$}", a.page)
		mux.HandleFunc("GET /report", a.report)
	case "catalog":
		mux.HandleFunc("GET /items/{id}", a.item)
	case "inventory":
		mux.HandleFunc("GET /stock/{id}", a.stock)
		mux.HandleFunc("GET /audit/{id}", a.audit)
	default:
		return nil, fmt.Errorf("pod %s: the demo has no application %q; its label app may be shoppers, frontend, catalog or inventory",
			a.pod.Key, a.pod.app)
	}
	mux.HandleFunc("GET /healthz", a.health)
	return mux, nil
}

// health is for a healthCheck policy, which somebody may add.
func (a *application) health(w http.ResponseWriter, _ *http.Request) {
	if a.mood.bad(a.pod, time.Now()) {
		http.Error(w, "not now", http.StatusServiceUnavailable)
	}
}

// run serves on the application's address until ctx is done.
func (a *application) run(ctx context.Context, l net.Listener, h http.Handler) error {
	s := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second}
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(l) }()
	select {
	case err := <-ended:
		return fmt.Errorf("application of pod %s: %w", a.pod.Key, err)
	case <-ctx.Done():
	}
	err := s.Close()
	<-ended
	return err
}

// listen opens the application's port.
func (a *application) listen(ctx context.Context) (net.Listener, error) {
	at := netip.AddrPortFrom(a.pod.capture.App, a.pod.port)
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", at.String())
	if err != nil {
		return nil, fmt.Errorf("application of pod %s: %w; is another demo running?", a.pod.Key, err)
	}
	return l, nil
}

// get calls a Service of the same namespace and gives the body of its answer.
func (a *application) get(ctx context.Context, service, path string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort(service, servicePort)+path, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set(callerHeader, a.pod.Key.String())
	res, err := a.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return nil, err
	}
	a.ledger.answer(call{a.pod.Key.String(), model.Key{Namespace: a.pod.Key.Namespace, Name: service}})
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answered %s", service, res.Status)
	}
	return body, nil
}

// servicePort is that of every Service of the demo.
const servicePort = "18080"

// page is the front end's: an item of the catalog.
func (a *application) page(w http.ResponseWriter, r *http.Request) {
	item, err := a.get(r.Context(), "catalog", "/items/"+strconv.FormatUint(a.served.Add(1)%100, 10))
	if err != nil {
		http.Error(w, "the catalog does not answer", http.StatusBadGateway)
		return
	}
	writeJSON(w, map[string]any{"item": json.RawMessage(item)})
}

// auditCalls is how many calls a report makes at once.
const auditCalls = 12

// report asks inventory many things at once, more than its circuit breaker lets through, and does with what it gets.
func (a *application) report(w http.ResponseWriter, r *http.Request) {
	var counted atomic.Int64
	var wg sync.WaitGroup
	for i := range auditCalls {
		wg.Go(func() {
			if _, err := a.get(r.Context(), "inventory", "/audit/"+strconv.Itoa(i)); err == nil {
				counted.Add(1)
			}
		})
	}
	wg.Wait()
	writeJSON(w, map[string]any{"asked": auditCalls, "counted": counted.Load()})
}

// item is the catalog's; without inventory it does not know the stock, and says so. Version 2 is slower.
func (a *application) item(w http.ResponseWriter, r *http.Request) {
	version, _ := a.pod.Labels.Get("version")
	if version == "v2" {
		pause(r.Context(), 8*time.Millisecond)
	}
	stock := "unknown"
	if body, err := a.get(r.Context(), "inventory", "/stock/"+r.PathValue("id")); err == nil {
		stock = string(body)
	}
	writeJSON(w, map[string]string{"id": r.PathValue("id"), "catalog": version, "stock": stock})
}

// stock is inventory's. One answer in twenty takes long, as in life.
func (a *application) stock(w http.ResponseWriter, r *http.Request) {
	took := 2 * time.Millisecond
	if a.served.Add(1)%20 == 0 {
		took = 30 * time.Millisecond
	}
	a.answer(w, r, took)
}

// audit takes its time.
func (a *application) audit(w http.ResponseWriter, r *http.Request) {
	a.answer(w, r, 80*time.Millisecond)
}

// answer answers as the pod's mood is.
func (a *application) answer(w http.ResponseWriter, r *http.Request, took time.Duration) {
	own := model.Key{Namespace: a.pod.Key.Namespace, Name: a.pod.app}
	ended := a.ledger.serve(a.pod.Key.String(), call{r.Header.Get(callerHeader), own})
	bad := a.mood.bad(a.pod, time.Now())
	defer func() { ended(bad) }()
	if bad {
		http.Error(w, "not now", http.StatusServiceUnavailable)
		return
	}
	pause(r.Context(), took)
	fmt.Fprint(w, 7)
}

// pause is work.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// writeJSON answers with v. A caller that has gone away is its own affair.
func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v)
}

// mood is when flaky pods, those with the label demo: flaky, answer 503: from the start of the load on, for a while in
// each cycle.
type mood struct{ began atomic.Pointer[time.Time] }

const (
	moodCycle = 8 * time.Second
	moodFrom  = 3 * time.Second // into the cycle
	moodFor   = 2500 * time.Millisecond
)

func (m *mood) begin(now time.Time) { m.began.Store(&now) }

func (m *mood) bad(p pod, now time.Time) bool {
	label, _ := p.Labels.Get("demo")
	began := m.began.Load()
	if label != "flaky" || began == nil {
		return false
	}
	at := now.Sub(*began) % moodCycle
	return at >= moodFrom && at < moodFrom+moodFor
}
