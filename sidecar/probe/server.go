package probe

import (
	"bufio"
	"bytes"
	"container/list"
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"
)

// Options describe a server. Prefix and Ready must be set.
type Options struct {
	Prefix  string           // at least 16 letters, digits or dashes
	Probes  map[string]Probe // from Parse
	Sources Sources
	Ready   func(context.Context) (ok bool, body []byte) // the agent's own readiness, and why, as JSON
	Log     zerolog.Logger
}

// Server answers a kubelet. Make it with [New], then call Serve once.
type Server struct {
	o       Options
	results map[string]*outcome

	mu      sync.Mutex
	waiting *list.List // of net.Conn: those that have not asked yet, the oldest first
}

// outcome is how a probe ended last.
type outcome struct {
	mu     sync.Mutex
	status int
}

// minPrefix is what cannot be guessed over the network.
const minPrefix = 16

// maxWaiting is how many connections may be open that have not asked yet. With more, the oldest goes: whoever opens many to
// keep the kubelet out loses them.
const maxWaiting = 256

// New gives a server.
func New(o Options) (*Server, error) {
	odd := func(r rune) bool {
		return (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && r != '-'
	}
	if len(o.Prefix) < minPrefix || strings.ContainsFunc(o.Prefix, odd) {
		return nil, fmt.Errorf("the prefix of the kubelet's paths: want at least %d letters, digits or dashes", minPrefix)
	}
	s := &Server{o: o, results: map[string]*outcome{}, waiting: list.New()}
	for name := range o.Probes {
		s.results[name] = &outcome{status: http.StatusOK}
	}
	return s, nil
}

// Serve answers at l until ctx is done, and closes it.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	defer context.AfterFunc(ctx, func() { l.Close() })()
	var open sync.WaitGroup
	defer open.Wait()
	for {
		c, err := l.Accept()
		switch {
		case err != nil && ctx.Err() != nil:
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("answer the kubelet at %s: %w", l.Addr(), err)
		case err != nil: // of one connection, or no descriptors are left
			s.o.Log.Warn().Err(err).Msg("a connection of the kubelet was not accepted")
			select {
			case <-ctx.Done():
			case <-time.After(100 * time.Millisecond):
			}
			continue
		}
		open.Go(func() {
			defer c.Close()
			defer context.AfterFunc(ctx, func() { c.Close() })()
			s.converse(ctx, c)
		})
	}
}

// converse answers one question, or nothing.
func (s *Server) converse(ctx context.Context, c net.Conn) {
	done := s.wait(c)
	defer done()
	if err := c.SetDeadline(time.Now().Add(linger)); err != nil {
		return
	}
	request, err := http.ReadRequest(bufio.NewReaderSize(io.LimitReader(c, 16<<10), 2<<10))
	done()
	if err != nil || request.Method != http.MethodGet || !s.knows(request) {
		return
	}
	ctx, left := whileOpen(ctx, c)
	answer, ok := s.handle(ctx, c.LocalAddr(), request)
	left()
	if !ok {
		return
	}
	if err := c.SetDeadline(time.Now().Add(linger)); err != nil {
		return
	}
	if err := answer.Write(c); err != nil {
		s.o.Log.Debug().Err(err).Msg("the kubelet went away")
	}
}

// wait counts a connection among those that have not asked yet, until the function that it gives is called.
func (s *Server) wait(c net.Conn) (done func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.waiting.Len() >= maxWaiting {
		s.waiting.Remove(s.waiting.Front()).(net.Conn).Close()
	}
	e := s.waiting.PushBack(c)
	return sync.OnceFunc(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.waiting.Remove(e)
	})
}

// whileOpen gives a context that ends when who asked goes away, as a kubelet does that is started anew: what takes long is
// not done for nobody. The function must be called when the answer is known.
func whileOpen(ctx context.Context, c net.Conn) (context.Context, func()) {
	ctx, cancel := context.WithCancel(ctx)
	watched := make(chan struct{})
	if err := c.SetDeadline(time.Time{}); err != nil {
		cancel()
	}
	go func() {
		defer close(watched)
		defer cancel()
		// It says no more, so this ends with the connection, or below.
		_, _ = io.Copy(io.Discard, c)
	}()
	return ctx, func() {
		_ = c.SetReadDeadline(time.Unix(1, 0)) // fails on what is closed, which has ended the reading too
		<-watched
	}
}

// split gives the two parts of a request's path.
func split(r *http.Request) (prefix, path string) {
	prefix, path, _ = strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	return prefix, path
}

// knows says whether who asks knows the prefix.
func (s *Server) knows(r *http.Request) bool {
	prefix, _ := split(r)
	return subtle.ConstantTimeCompare([]byte(prefix), []byte(s.o.Prefix)) == 1
}

// handle gives the answer, unless there is none for what is asked.
func (s *Server) handle(ctx context.Context, at net.Addr, r *http.Request) (*http.Response, bool) {
	_, path := split(r)
	if path == "readyz" {
		ok, body := s.o.Ready(ctx)
		if !ok {
			return respond(http.StatusServiceUnavailable, "application/json", body), true
		}
		return respond(http.StatusOK, "application/json", body), true
	}
	name, isProbe := strings.CutPrefix(path, "probe/")
	probe, known := s.o.Probes[name]
	if !isProbe || !known {
		return nil, false
	}
	// The kubelet came to the address of the pod that it would ask the application at.
	pod, err := netip.ParseAddrPort(at.String())
	if err != nil {
		return nil, false
	}
	p := performer{s.o.Sources, pod.Addr().Unmap(), r.UserAgent()}
	if isHook(name) {
		if err := p.hook(ctx, probe.HTTPGet); err != nil {
			s.o.Log.Warn().Str("hook", name).Err(err).Msg("a hook of the application fails")
			return nil, false
		}
		return respond(http.StatusOK, "text/plain; charset=utf-8", nil), true
	}
	got := p.perform(ctx, probe)
	s.hear(name, got)
	return respond(got.status, "text/plain; charset=utf-8", []byte(got.reason+"\n")), true
}

// hear logs what the kubelet does not tell: why a probe begins to fail.
func (s *Server) hear(name string, got result) {
	o := s.results[name]
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.status == got.status {
		return
	}
	o.status = got.status
	if got.status == http.StatusOK {
		s.o.Log.Info().Str("probe", name).Msg("a probe of the application succeeds again")
		return
	}
	s.o.Log.Warn().Str("probe", name).Int("status", got.status).Str("reason", got.reason).Msg("a probe of the application fails")
}

func respond(status int, kind string, body []byte) *http.Response {
	return &http.Response{
		StatusCode: status, ProtoMajor: 1, ProtoMinor: 1, Close: true,
		Header:        http.Header{"Content-Type": {kind}},
		ContentLength: int64(len(body)), Body: io.NopCloser(bytes.NewReader(body)),
	}
}
