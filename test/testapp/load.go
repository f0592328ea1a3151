package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// load is a client that sends requests at a steady rate, whatever becomes of them, and tells at the end what it met, as one
// line of JSON. It ends after --for, or when it is told to. Nothing is sent twice.
func load(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("load", flag.ContinueOnError)
	target := flags.String("url", "", "what to call: http://host:port/path, tcp://host:port (one long stream) or grpc://host:port")
	protocol := flags.String("protocol", "http1", "of an http URL: http1 or http2 (without TLS)")
	rate := flags.Int("rate", 100, "requests a second")
	lasts := flags.Duration("for", 0, "for how long (default: until it is told to end)")
	timeout := flags.Duration("timeout", 10*time.Second, "how long one request may take")
	want := flags.String("want", "", "what a good answer holds, besides status 200")
	greeted := flags.Bool("greeted", false, "a tcp server speaks first; what it says is told with the end of each stream")
	file := flags.String("report", "", "file to write the report into, too: as /dev/termination-log it is in the pod's status")
	if err := flags.Parse(args); err != nil {
		return err
	}
	stream := &stream{greeted: *greeted}
	call, err := caller(*protocol, *target, *want, stream)
	if err != nil {
		return err
	}
	if *lasts > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, *lasts)
		defer cancel()
	}
	t := newTally()
	send(ctx, *rate, func() { t.one(*timeout, call) })
	r := t.report()
	r.Ends = stream.ended()
	line, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	if _, err := fmt.Fprintf(out, "%s\n", line); err != nil || *file == "" {
		return err
	}
	return os.WriteFile(*file, line, 0o644)
}

// send does something at a rate until ctx ends, and waits until all of it is done.
func send(ctx context.Context, rate int, do func()) {
	var running sync.WaitGroup
	defer running.Wait()
	tick := time.NewTicker(time.Second / time.Duration(max(rate, 1)))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			running.Go(do)
		}
	}
}

// tally counts what requests met.
type tally struct {
	mu       sync.Mutex
	began    time.Time
	took     []time.Duration
	failures map[string]int // by reason
	ok       int
}

func newTally() *tally { return &tally{began: time.Now(), failures: map[string]int{}} }

// one makes one call and counts it. A call that was begun is waited for, also when the load is over.
func (t *tally) one(timeout time.Duration, call func(context.Context) error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	began := time.Now()
	err := call(ctx)
	took := time.Since(began)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.took = append(t.took, took)
	if err != nil {
		t.failures[reason(err)]++
		return
	}
	t.ok++
}

// caller gives what makes one call. The stream is for tcp.
func caller(protocol, target, want string, tcp *stream) (func(context.Context) error, error) {
	parsed, err := url.Parse(target)
	if err != nil || parsed.Host == "" {
		return nil, fmt.Errorf("--url=%q is no URL", target)
	}
	switch parsed.Scheme {
	case "tcp":
		tcp.address = parsed.Host
		return tcp.call, nil
	case "grpc":
		return checker(parsed.Host)
	case "http":
		return httpCaller(protocol, target, want)
	}
	return nil, fmt.Errorf("--url=%q: want http://, tcp:// or grpc://", target)
}

func httpCaller(protocol, target, want string) (func(context.Context) error, error) {
	transport := &http.Transport{MaxIdleConnsPerHost: 1000, Protocols: new(http.Protocols)}
	switch protocol {
	case "http1":
		transport.Protocols.SetHTTP1(true)
	case "http2":
		transport.Protocols.SetUnencryptedHTTP2(true)
	default:
		return nil, fmt.Errorf("--protocol=%q: want http1 or http2", protocol)
	}
	client := &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse
	}}
	return func(ctx context.Context) error { return get(ctx, client, target, want) }, nil
}

// get makes one request. Go's client sends some again by itself, on another connection; that counts as a failure here.
func get(ctx context.Context, client *http.Client, target, want string) error {
	var attempts atomic.Int32
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		WroteRequest: func(httptrace.WroteRequestInfo) { attempts.Add(1) },
	})
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	switch {
	case err != nil:
		return fmt.Errorf("the body: %w", err)
	case resp.StatusCode != http.StatusOK:
		return fmt.Errorf("status %d: %s", resp.StatusCode, strings.TrimSpace(string(body)))
	case !strings.Contains(string(body), want):
		return fmt.Errorf("the answer does not hold %q: %s", want, strings.TrimSpace(string(body)))
	case attempts.Load() > 1:
		return fmt.Errorf("it was sent %d times", attempts.Load())
	}
	return nil
}
