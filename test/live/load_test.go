package live

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/heddle-mesh/heddle/test/wait"
)

// answer is what became of one request.
type answer struct {
	begun      time.Time
	took       time.Duration
	status     int // 0: there was no answer
	pod        string
	generation string // of the policy that it met
	flaw       string // why there was no good answer
}

func (a answer) ok() bool { return a.status == http.StatusOK && a.flaw == "" }

func (a answer) String() string {
	return fmt.Sprintf("%s +%v: status %d from pod %q under policy %q: %s",
		a.begun.Format("15:04:05.000"), a.took.Round(time.Millisecond), a.status, a.pod, a.generation, a.flaw)
}

// caller calls Services from the pod web, through its sidecar.
type caller struct {
	client http.Client
	bind   netip.Prefix
}

// caller gives one that keeps connections open, or makes a new one for each request.
func (w *world) caller(keep connections) *caller {
	t := &http.Transport{DisableKeepAlives: keep == fresh, DisableCompression: true, MaxIdleConnsPerHost: workers}
	w.t.Cleanup(t.CloseIdleConnections)
	return &caller{http.Client{Transport: t}, w.web.capture.Bind}
}

type connections bool

const (
	kept  connections = true
	fresh connections = false
)

// get asks a Service for something.
func (c *caller) get(ctx context.Context, service netip.Addr, path string) answer {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	a := answer{begun: time.Now()}
	tries := 0
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GetConn: func(string) { tries++ }})
	url := "http://" + netip.AddrPortFrom(within(c.bind, service), servicePort).String() + path
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		a.flaw = err.Error()
		return a
	}
	res, err := c.client.Do(req)
	if err != nil {
		a.flaw, a.took = err.Error(), time.Since(a.begun)
		return a
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	a.took, a.status = time.Since(a.begun), res.StatusCode
	a.pod, a.generation = res.Header.Get("x-app"), res.Header.Get("x-generation")
	switch {
	case err != nil:
		a.flaw = err.Error()
	case tries > 1: // Go repeats a GET by itself when a connection breaks; that is no good service
		a.flaw = fmt.Sprintf("it took %d connections", tries)
	case a.status != http.StatusOK:
		a.flaw = strings.TrimSpace(string(body))
	}
	return a
}

// ask sends one request on a new connection.
func (w *world) ask(service netip.Addr) answer { return w.askFor(service, "/") }

func (w *world) askFor(service netip.Addr, path string) answer {
	w.t.Helper()
	return w.caller(fresh).get(w.t.Context(), service, path)
}

// answers waits until a Service answers well.
func (w *world) answers(service netip.Addr) {
	w.t.Helper()
	eventually(w.t, fmt.Sprint(service, " answers"), func() bool { return w.ask(service).ok() })
}

// refuses waits until nobody listens at a Service's address any more.
func (w *world) refuses(service netip.Addr) {
	w.t.Helper()
	eventually(w.t, fmt.Sprint(service, " refuses connections"), func() bool {
		c, err := net.Dial("tcp", netip.AddrPortFrom(within(w.web.capture.Bind, service), servicePort).String())
		if err == nil {
			_ = c.Close()
		}
		return err != nil
	})
}

const (
	rate    = 150 // requests per second
	workers = 8
)

// load is a steady stream of requests to one Service whose answers are all kept. Half of them come on connections
// that are kept open, half on new ones. Beside them is one request whose answer never ends.
type load struct {
	t    testing.TB
	stop func()
	long *endless

	mu  sync.Mutex
	all []answer
}

// load begins once the Service answers.
func (w *world) load(service netip.Addr) *load {
	w.t.Helper()
	w.answers(service)
	l := &load{t: w.t, long: w.endless(service)}
	l.stop = wait.Background(w.t, "load", func(ctx context.Context) error {
		due := make(chan struct{})
		var running sync.WaitGroup
		for i := range workers {
			c := w.caller(i%2 == 0)
			running.Go(func() {
				for range due {
					l.keep(c.get(context.WithoutCancel(ctx), service, "/"))
				}
			})
		}
		pace(ctx, due)
		close(due)
		running.Wait()
		return nil
	})
	return l
}

// pace says when a request is due. Where all workers are busy it waits, so that a slow machine gets fewer.
func pace(ctx context.Context, due chan<- struct{}) {
	tick := time.NewTicker(time.Second / rate)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		select {
		case due <- struct{}{}:
		case <-ctx.Done():
			return
		}
	}
}

func (l *load) keep(a answer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, a)
}

// answers are those so far, in the order in which they came.
func (l *load) answers() []answer {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.all)
}

// until waits for an answer, to a request sent from now on, that is as wanted.
func (l *load) until(what string, want func(answer) bool) {
	l.t.Helper()
	from := time.Now()
	eventually(l.t, what, func() bool {
		return slices.ContainsFunc(l.answers(), func(a answer) bool { return a.begun.After(from) && want(a) })
	})
}

func (l *load) untilGeneration(n int) {
	l.t.Helper()
	want := fmt.Sprint(n)
	l.until("an answer under policy "+want, func(a answer) bool { return a.generation == want })
}

func (l *load) untilFrom(p *pod) {
	l.t.Helper()
	l.until("an answer from "+p.name, func(a answer) bool { return a.pod == p.name })
}

// untilOnly waits until nobody but p answers: it does not look at requests under way when the change reaches the
// sidecar, but does at the 30 that follow the first such batch.
func (l *load) untilOnly(p *pod) {
	l.t.Helper()
	only := func() bool {
		list := l.next(10)
		return pods(list)[p.name] == len(list)
	}
	eventually(l.t, "answers from "+p.name+" alone", only)
	if list := l.next(30); pods(list)[p.name] != len(list) {
		l.t.Errorf("answers are from %v, want %s alone", pods(list), p.name)
	}
}

// next waits for n answers to requests sent from now on, and gives them.
func (l *load) next(n int) (list []answer) {
	l.t.Helper()
	from := time.Now()
	eventually(l.t, fmt.Sprint(n, " more answers"), func() bool {
		list = slices.DeleteFunc(l.answers(), func(a answer) bool { return !a.begun.After(from) })
		return len(list) >= n
	})
	return list
}

// pods counts answers by the pod that gave them.
func pods(list []answer) map[string]int {
	n := map[string]int{}
	for _, a := range list {
		n[a.pod]++
	}
	return n
}

// generations counts answers by the policy that they met.
func generations(list []answer) map[string]int {
	n := map[string]int{}
	for _, a := range list {
		n[a.generation]++
	}
	return n
}

// finish ends the load and fails the test if any request failed.
func (l *load) finish() {
	l.t.Helper()
	l.long.wantAlive(l.t)
	l.stop()
	all := l.answers()
	failed, took := 0, make([]time.Duration, 0, len(all))
	for _, a := range all {
		took = append(took, a.took)
		if a.ok() {
			continue
		}
		if failed++; failed <= 20 {
			l.t.Errorf("failed: %v", a)
		}
	}
	slices.Sort(took)
	l.t.Logf("%d requests, %d failed; p50 %v, p99 %v, longest %v", len(all), failed,
		quantile(took, 0.5), quantile(took, 0.99), quantile(took, 1))
	if len(all) < rate/2 {
		l.t.Errorf("%d requests are too few to show anything", len(all))
	}
}

// quantile of sorted durations.
func quantile(sorted []time.Duration, q float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[int(q*float64(len(sorted)-1))].Round(10 * time.Microsecond)
}

// firstDifference shows where two texts part.
func firstDifference(a, b string) string {
	as, bs := strings.Split(a, "\n"), strings.Split(b, "\n")
	for i := range min(len(as), len(bs)) {
		if as[i] != bs[i] {
			return fmt.Sprintf("line %d was %s\nand is %s", i+1, as[i], bs[i])
		}
	}
	return fmt.Sprintf("%d lines became %d", len(as), len(bs))
}
