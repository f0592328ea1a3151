package outage

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/websocket"
)

// Requests per second, half of them over HTTP/1.1 and half over HTTP/2.
const (
	full = 200
	some = 20
)

const (
	workers = 16 // that wait for answers at once
	// limit is how long a request, or a word of a conversation, may take on a machine that does much else.
	limit = 20 * time.Second
	pace  = 100 * time.Millisecond // of conversations
)

// load is what the application of a pod sends to catalog, all of it through the pod's sidecar.
type load struct {
	t        *testing.T
	rate     int
	begin    time.Time
	stop     context.CancelFunc
	running  sync.WaitGroup
	answered atomic.Int64
	words    atomic.Int64 // of conversations

	mu     sync.Mutex
	failed []string
}

// load begins it. It returns when each kind has been answered once.
func (p *pod) load(t *testing.T, rate int) *load {
	t.Helper()
	once := httpClient(t1)
	defer once.CloseIdleConnections()
	eventually(t, "catalog answers", func() bool { return get(once, "http://"+p.service(portHTTP)+"/") == nil })
	ctx, stop := context.WithCancel(t.Context())
	l := &load{t: t, rate: rate, begin: time.Now(), stop: stop}
	t.Cleanup(func() { l.end() })
	for what, dial := range map[string]func(context.Context) (io.ReadWriteCloser, error){
		"WebSocket": func(context.Context) (io.ReadWriteCloser, error) {
			return websocket.Dial("ws://"+p.service(portHTTP)+"/chat", "", "http://catalog")
		},
		"HTTP/2 stream": func(ctx context.Context) (io.ReadWriteCloser, error) {
			return openStream(context.WithoutCancel(ctx), "http://"+p.service(portHTTP)+"/stream")
		},
		"TCP": func(context.Context) (io.ReadWriteCloser, error) { return net.Dial("tcp", p.service(portTCP)) },
	} {
		c, err := dial(ctx)
		if err == nil {
			err = exchange(c, 0)
		}
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		l.running.Go(func() { l.converse(ctx, what, c) })
	}
	l.running.Go(func() { l.send(ctx, "http://"+p.service(portHTTP)+"/") })
	return l
}

// send sends requests at the rate. Where all workers wait for answers it waits as well, so that a slow machine gets fewer.
func (l *load) send(ctx context.Context, url string) {
	due := make(chan struct{})
	var open sync.WaitGroup
	for i := range workers {
		c := httpClient(protocol(i % 2))
		open.Go(func() {
			defer c.CloseIdleConnections()
			for range due {
				l.count(get(c, url))
			}
		})
	}
	defer open.Wait()
	defer close(due)
	tick := time.NewTicker(time.Second / time.Duration(l.rate))
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

func (l *load) count(err error) {
	if err != nil {
		l.fail(err)
		return
	}
	l.answered.Add(1)
}

func (l *load) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failed = append(l.failed, fmt.Sprintf("after %v: %v", time.Since(l.begin).Round(time.Millisecond), err))
}

// converse says something again and again, over one connection.
func (l *load) converse(ctx context.Context, what string, c io.ReadWriteCloser) {
	defer c.Close()
	tick := time.NewTicker(pace)
	defer tick.Stop()
	for n := uint64(1); ; n++ {
		if err := exchange(c, n); err != nil {
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

// exchange says a number and hears it.
func exchange(c io.ReadWriter, n uint64) error {
	heard := make(chan error, 1)
	go func() { // it ends with the connection at the latest
		said, got := binary.BigEndian.AppendUint64(nil, n), make([]byte, 8)
		_, err := c.Write(said)
		if err == nil {
			_, err = io.ReadFull(c, got)
		}
		if err == nil && binary.BigEndian.Uint64(got) != n {
			err = fmt.Errorf("heard %x", got)
		}
		heard <- err
	}()
	late := time.NewTimer(limit)
	defer late.Stop()
	select {
	case err := <-heard:
		return err
	case <-late.C:
		return errors.New("no answer")
	}
}

// count of requests that were answered, and waits for more of them.
func (l *load) more(d time.Duration) {
	l.t.Helper()
	goal := l.answered.Load() + int64(d.Seconds()*float64(l.rate))
	eventually(l.t, "more requests are answered", func() bool {
		return l.answered.Load()+int64(l.failures()) >= goal
	})
}

func (l *load) failures() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.failed)
}

func (l *load) end() {
	l.stop()
	l.running.Wait()
}

// finish ends it, and wants nothing to have failed. It gives how many requests were answered in a second.
func (l *load) finish() (rate float64) {
	l.t.Helper()
	took := time.Since(l.begin)
	rate = float64(l.answered.Load()) / took.Seconds()
	l.end()
	l.t.Logf("%d requests answered in %v, %.1f per second, %d words said over 3 connections that stayed, %d failures",
		l.answered.Load(), took.Round(time.Millisecond), rate, l.words.Load(), len(l.failed))
	for i, f := range l.failed {
		if i == 10 {
			break
		}
		l.t.Error("failed ", f)
	}
	return rate
}

// protocol is what a client speaks.
type protocol uint8

const (
	t1 protocol = iota // HTTP/1.1
	t2                 // HTTP/2
)

// httpClient is one that keeps its connections.
func httpClient(p protocol) *http.Client {
	var protocols http.Protocols
	protocols.SetHTTP1(p == t1)
	protocols.SetUnencryptedHTTP2(p == t2)
	return &http.Client{Transport: &http.Transport{Protocols: &protocols, MaxIdleConnsPerHost: full}, Timeout: limit}
}

// get wants hello.
func get(c *http.Client, url string) error {
	response, err := c.Get(url)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK || string(body) != hello {
		return fmt.Errorf("%s: %s %q %s", response.Proto, response.Status, body, response.Header.Get("x-heddle-response-flags"))
	}
	return nil
}

// stream is a request over HTTP/2 that never ends, and its answer.
type stream struct {
	*io.PipeWriter
	answer io.ReadCloser
	client *http.Client
}

func openStream(ctx context.Context, url string) (*stream, error) {
	read, write := io.Pipe()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, read)
	if err != nil {
		return nil, err
	}
	c := httpClient(t2)
	c.Timeout = 0
	response, err := c.Do(request)
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		return nil, errors.Join(errors.New(response.Status), response.Body.Close())
	}
	return &stream{write, response.Body, c}, nil
}

func (s *stream) Read(p []byte) (int, error) { return s.answer.Read(p) }

func (s *stream) Close() error {
	err := errors.Join(s.PipeWriter.Close(), s.answer.Close())
	s.client.CloseIdleConnections()
	return err
}
