package hop

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/heddle-mesh/heddle/sidecar/envoy"
	"github.com/heddle-mesh/heddle/test/loopback"
)

// patience is how long the benchmark waits for what should take a moment.
const patience = 30 * time.Second

// The load: connections that each send a request when the last is answered.
const (
	connections = 16
	rounds      = 4
	turn        = 5 * time.Second
	body        = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
)

// way is two Envoys between the load and the application, and what was measured of them.
type way struct {
	name    string
	address string
	envoys  []int // process IDs

	requests int
	cpu      time.Duration // of both Envoys
	took     []time.Duration
}

// BenchmarkMutualTLS lets the ways take turns. The load and the application share the machine with the Envoys, and what
// they need is in the rates and the latencies, but not in the Envoys' CPU.
func BenchmarkMutualTLS(b *testing.B) {
	runtime.LockOSThread() // the kernel ends the bare Envoys with the thread that started them; see prctl(2)
	binary, err := envoy.Find(b.Context(), envoy.FindOptions{Progress: os.Stderr})
	if err != nil {
		b.Fatal(err)
	}
	network := loopback.Reserve(b)
	app := at(network, 3, 2)
	answer(b, netip.AddrPortFrom(app, port).String())
	mesh, hand := sidecars(b, binary, network, app), bare(b, binary, network, app)
	ways := []*way{&hand, &mesh}
	if len(mesh.envoys) != len(hand.envoys) {
		b.Fatalf("two sidecars are the processes %v", mesh.envoys)
	}
	for _, w := range ways {
		w.awaitAnswer(b)
		w.load(b, time.Second) // connections are made, caches are warm
		w.requests, w.cpu, w.took = 0, 0, nil
	}
	for range rounds {
		for _, w := range ways {
			before := w.used(b)
			w.load(b, turn)
			w.cpu += w.used(b) - before
		}
	}
	report(b, &hand, &mesh)
}

func report(b *testing.B, hand, mesh *way) {
	var text strings.Builder
	fmt.Fprintf(&text, "%d connections, %d rounds of %v each in turns, mutual TLS 1.3 and HTTP/2 between the two\n", connections, rounds, turn)
	t := tabwriter.NewWriter(&text, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "way\tEnvoys' CPU per request\trequests per second\tp50\tp99")
	for _, w := range []*way{hand, mesh} {
		fmt.Fprintf(t, "%s\t%.1f us\t%.0f\t%v\t%v\n", w.name, w.perRequest(), w.rate(), w.at(50).Round(time.Microsecond), w.at(99).Round(time.Microsecond))
	}
	ratio := func(percent int) float64 { return float64(mesh.at(percent)) / float64(hand.at(percent)) }
	fmt.Fprintf(t, "ratio\t%.2f\t%.2f\t%.2f\t%.2f\n", mesh.perRequest()/hand.perRequest(), mesh.rate()/hand.rate(), ratio(50), ratio(99))
	if err := t.Flush(); err != nil {
		b.Fatal(err)
	}
	b.Log(text.String())
	b.ReportMetric(mesh.perRequest()/hand.perRequest(), "x-cpu/request")
	b.ReportMetric(0, "ns/op")
}

func (w *way) perRequest() float64 { return float64(w.cpu.Microseconds()) / float64(w.requests) }

func (w *way) rate() float64 { return float64(w.requests) / (rounds * turn).Seconds() }

func (w *way) at(percent int) time.Duration {
	slices.Sort(w.took)
	return w.took[(len(w.took)-1)*percent/100]
}

// answer is the application.
func answer(b *testing.B, address string) {
	b.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		b.Fatal(err)
	}
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, body) })}
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(l) }()
	b.Cleanup(func() {
		_ = s.Close()
		if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
			b.Error(err)
		}
	})
}

// awaitAnswer waits until a request comes through.
func (w *way) awaitAnswer(b *testing.B) {
	b.Helper()
	deadline := time.Now().Add(patience)
	for {
		c, err := dial(w.address)
		if err == nil {
			err = errors.Join(c.get(), c.Close())
		}
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			b.Fatalf("%s do not answer: %v", w.name, err)
		}
		<-time.After(20 * time.Millisecond)
	}
}

// load sends requests for a while and adds them to what was measured.
func (w *way) load(b *testing.B, long time.Duration) {
	b.Helper()
	end := time.Now().Add(long)
	var mu sync.Mutex
	var errs []error
	var group sync.WaitGroup
	for range connections {
		group.Go(func() {
			took, err := w.send(end)
			mu.Lock()
			defer mu.Unlock()
			w.requests += len(took)
			w.took, errs = append(w.took, took...), append(errs, err)
		})
	}
	group.Wait()
	if err := errors.Join(errs...); err != nil {
		b.Fatalf("%s: %v", w.name, err)
	}
}

func (w *way) send(end time.Time) (took []time.Duration, err error) {
	c, err := dial(w.address)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	for at := time.Now(); at.Before(end); {
		if err := c.get(); err != nil {
			return nil, err
		}
		now := time.Now()
		took, at = append(took, now.Sub(at)), now
	}
	return took, nil
}

// connection is HTTP/1.1 with as little work as it takes, since the load shares the processors with what is measured.
type connection struct {
	net.Conn
	read *bufio.Reader
}

func dial(address string) (*connection, error) {
	c, err := net.DialTimeout("tcp", address, patience)
	if err != nil {
		return nil, err
	}
	return &connection{c, bufio.NewReader(c)}, c.SetDeadline(time.Now().Add(patience))
}

// get sends a request and reads its answer.
func (c *connection) get() error {
	if _, err := io.WriteString(c, "GET /item HTTP/1.1\r\nHost: catalog\r\n\r\n"); err != nil {
		return err
	}
	for first := true; ; first = false {
		line, err := c.read.ReadSlice('\n')
		switch {
		case err != nil:
			return err
		case first && string(line) != "HTTP/1.1 200 OK\r\n":
			return fmt.Errorf("answer %q", line)
		case string(line) == "\r\n":
			_, err = c.read.Discard(len(body))
			return err
		}
	}
}

// used is what the Envoys have used of all processors so far: utime and stime, in hundredths of a second; see proc(5).
func (w *way) used(b *testing.B) (sum time.Duration) {
	b.Helper()
	for _, pid := range w.envoys {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			b.Fatalf("an Envoy of %s: %v", w.name, err)
		}
		fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+2:]))
		for _, f := range fields[11:13] {
			n, err := strconv.Atoi(f)
			if err != nil {
				b.Fatal(err)
			}
			sum += time.Duration(n) * 10 * time.Millisecond
		}
	}
	return sum
}

// children are the processes that this one started.
func children(b *testing.B) map[int]bool {
	b.Helper()
	threads, err := filepath.Glob("/proc/self/task/*/children")
	if err != nil {
		b.Fatal(err)
	}
	all := map[int]bool{}
	for _, path := range threads {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // the thread has ended
		}
		for _, f := range strings.Fields(string(text)) {
			pid, err := strconv.Atoi(f)
			if err != nil {
				b.Fatal(err)
			}
			all[pid] = true
		}
	}
	return all
}
