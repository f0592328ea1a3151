package traffic

import (
	"context"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Requests per second.
const (
	Full = 200
	Some = 20
)

const (
	workers = 16 // that wait for answers at once
	pace    = 100 * time.Millisecond
	// patience is how long a load waits for what takes a moment. Only a test that fails waits as long.
	patience = 2 * time.Minute
)

// soakVariable says for how long a load goes on at least, and that the machine has nothing else to do.
const soakVariable = "HEDDLE_OUTAGE_LOAD"

// Soak says for how long a load of [Full] is to last at least, and how many requests of it must be answered in a second.
// Where other tests run at the same time there is no such number: both are 0 then, and it is for the test to choose.
func Soak(t testing.TB) (lasts time.Duration, least float64) {
	t.Helper()
	text := os.Getenv(soakVariable)
	if text == "" {
		return 0, 0
	}
	lasts, err := time.ParseDuration(text)
	if err != nil {
		t.Fatalf("%s: %v", soakVariable, err)
	}
	return lasts, 0.9 * Full
}

// Load is a steady stream of requests, and the conversations beside it.
type Load struct {
	t        testing.TB
	rate     int
	begin    time.Time
	stop     context.CancelFunc
	running  sync.WaitGroup
	answered [2]atomic.Int64 // by Protocol
	words    atomic.Int64    // of conversations

	mu     sync.Mutex
	failed []string
}

// Begin sends so many requests per second to an application of [Serve], until Finish or the test's end. It returns when
// each kind has been answered once.
func Begin(t testing.TB, to Addresses, rate int) *Load {
	t.Helper()
	url := "http://" + to.HTTP + "/"
	once := Client(HTTP1)
	defer once.CloseIdleConnections()
	eventually(t, "the application answers", func() bool { return Get(once, url) == nil })
	ctx, stop := context.WithCancel(context.Background())
	l := &Load{t: t, rate: rate, begin: time.Now(), stop: stop}
	t.Cleanup(l.end)
	for what, dial := range to.conversations() {
		c, err := dial(ctx)
		if err == nil {
			err = Exchange(c, 0)
		}
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		l.running.Go(func() { l.converse(ctx, what, c) })
	}
	l.running.Go(func() { l.send(ctx, url) })
	return l
}

// Since is how long it has lasted.
func (l *Load) Since() time.Duration { return time.Since(l.begin) }

// send sends requests at the rate. Where all workers wait for answers it waits as well, so that a slow machine gets fewer.
func (l *Load) send(ctx context.Context, url string) {
	var due [2]chan struct{}
	var open sync.WaitGroup
	defer open.Wait()
	for p := range due {
		due[p] = make(chan struct{})
		for range workers / len(due) {
			c := Client(Protocol(p))
			open.Go(func() {
				defer c.CloseIdleConnections()
				for range due[p] {
					l.count(Protocol(p), Get(c, url))
				}
			})
		}
		defer close(due[p])
	}
	tick := time.NewTicker(time.Second / time.Duration(l.rate))
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		select {
		case due[n%len(due)] <- struct{}{}:
		case <-ctx.Done():
			return
		}
	}
}

func (l *Load) count(p Protocol, err error) {
	if err != nil {
		l.fail(err)
		return
	}
	l.answered[p].Add(1)
}

func (l *Load) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failed = append(l.failed, fmt.Sprintf("after %v: %v", time.Since(l.begin).Round(time.Millisecond), err))
}

// converse says something again and again, over one connection.
func (l *Load) converse(ctx context.Context, what string, c io.ReadWriteCloser) {
	defer c.Close()
	tick := time.NewTicker(pace)
	defer tick.Stop()
	for n := uint64(1); ; n++ {
		if err := Exchange(c, n); err != nil {
			l.fail(fmt.Errorf("%s, word %d: %w", what, n, err))
			return
		}
		l.words.Add(1)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// Answered is how many requests were.
func (l *Load) Answered() int64 { return l.answered[HTTP1].Load() + l.answered[HTTP2].Load() }

// More waits for as many more answers as that time brings where nothing is slow.
func (l *Load) More(d time.Duration) {
	l.t.Helper()
	goal := l.Answered() + int64(d.Seconds()*float64(l.rate))
	eventually(l.t, "more requests are answered", func() bool { return l.Answered()+int64(l.failures()) >= goal })
}

func (l *Load) failures() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.failed)
}

func (l *Load) end() {
	l.stop()
	l.running.Wait()
}

// Finish ends it, and wants nothing to have failed. It gives how many requests were answered in a second. What happened in
// less time than a request takes is over before one is answered: the load lasts until each protocol has been.
func (l *Load) Finish() (rate float64) {
	l.t.Helper()
	eventually(l.t, "each protocol is answered", func() bool {
		return l.answered[HTTP1].Load() > 0 && l.answered[HTTP2].Load() > 0 || l.failures() > 0
	})
	took := l.Since()
	rate = float64(l.Answered()) / took.Seconds()
	l.end()
	l.t.Logf("%d requests answered over HTTP/1.1 and %d over HTTP/2 in %v, %.1f per second, %d words said over 3 connections that stayed, %d failures",
		l.answered[HTTP1].Load(), l.answered[HTTP2].Load(), took.Round(time.Millisecond), rate, l.words.Load(), len(l.failed))
	for i, f := range l.failed {
		if i == 10 {
			break
		}
		l.t.Error("failed ", f)
	}
	for p, n := range []int64{l.answered[HTTP1].Load(), l.answered[HTTP2].Load()} {
		if n == 0 {
			l.t.Errorf("no request over HTTP/%d was answered: it shows nothing", p+1)
		}
	}
	return rate
}

// eventually waits for ok to hold, asking it again and again.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); !ok(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}
