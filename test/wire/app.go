package wire

import (
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
)

// App is the application of one pod, on one port. It answers every HTTP request with the facts of what it got, until
// told to behave otherwise.
type App struct {
	Pod string

	t       testing.TB
	addr    string
	http    *http.Server
	inbox   *inbox
	handler atomic.Pointer[http.Handler]

	mu          sync.Mutex
	listener    net.Listener // nil while connections are refused
	serve       func(net.Conn)
	requests    []Facts
	connections int
}

// Facts are what an application saw of a request; the answer carries them back to the caller.
type Facts struct {
	Pod    string
	Method string
	Path   string // as received, with the query
	Host   string
	Proto  string
	Header http.Header
	Body   string
}

// startApp runs an application at addr until the test ends. Over a connection it speaks HTTP/1.1 or HTTP/2 without
// TLS, whichever it is spoken to in.
func startApp(t testing.TB, pod, addr string) *App {
	t.Helper()
	a := &App{Pod: pod, t: t, addr: addr, inbox: newInbox()}
	a.Does(Echo)
	a.serve = a.inbox.put
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	a.http = &http.Server{Handler: http.HandlerFunc(a.record), Protocols: &protocols}
	served := make(chan struct{})
	go func() {
		defer close(served)
		if err := a.http.Serve(a.inbox); !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("app %s: %v", pod, err)
		}
	}()
	a.Accept()
	t.Cleanup(func() {
		a.Refuse()
		_ = a.http.Close() // only says what the connections said
		<-served
	})
	return a
}

// Port is where the application listens.
func (a *App) Port() string {
	_, port, err := net.SplitHostPort(a.addr)
	if err != nil {
		a.t.Fatalf("app %s: %v", a.Pod, err)
	}
	return port
}

// Behaviour is how an application answers HTTP requests; next is what it would do otherwise.
type Behaviour func(next http.Handler) http.Handler

// Does lets the application behave so from the next request on.
func (a *App) Does(b Behaviour) {
	h := b(http.HandlerFunc(a.echo))
	a.handler.Store(&h)
}

// Speaks hands every new connection to serve, which closes it, in place of HTTP.
func (a *App) Speaks(serve func(net.Conn)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.serve = serve
}

// Refuse closes the port: new connections are refused. Those that are open stay.
func (a *App) Refuse() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.listener != nil {
		_ = a.listener.Close()
		a.listener = nil
	}
}

// Accept opens the port again.
func (a *App) Accept() {
	a.t.Helper()
	l, err := net.Listen("tcp", a.addr)
	if err != nil {
		a.t.Fatalf("app %s: %v", a.Pod, err)
	}
	a.mu.Lock()
	a.listener = l
	a.mu.Unlock()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return // closed by Refuse
			}
			a.mu.Lock()
			serve := a.serve
			a.connections++
			a.mu.Unlock()
			go serve(c)
		}
	}()
}

// Hangup closes the open HTTP connections, as an application does that restarts.
func (a *App) Hangup() { a.inbox.closeAll() }

// Requests are what the application received since its start or the last Forget.
func (a *App) Requests() []Facts {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]Facts(nil), a.requests...)
}

// Connections is how many connections were made to the application since then.
func (a *App) Connections() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.connections
}

// Forget starts counting anew.
func (a *App) Forget() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.requests, a.connections = nil, 0
}

// reset makes the application what it was at its start.
func (a *App) reset() {
	a.Does(Echo)
	a.Speaks(a.inbox.put)
	a.mu.Lock()
	refused := a.listener == nil
	a.mu.Unlock()
	if refused {
		a.Accept()
	}
	a.Forget()
}

// WantRequests fails the test unless the application received n requests.
func (a *App) WantRequests(n int) {
	a.t.Helper()
	if got := len(a.Requests()); got != n {
		a.t.Errorf("app %s received %d requests, want %d", a.Pod, got, n)
	}
}

func (a *App) record(w http.ResponseWriter, r *http.Request) {
	facts := a.facts(r)
	a.mu.Lock()
	a.requests = append(a.requests, facts)
	a.mu.Unlock()
	(*a.handler.Load()).ServeHTTP(w, r)
}

func (a *App) facts(r *http.Request) Facts {
	return Facts{a.Pod, r.Method, r.RequestURI, r.Host, r.Proto, r.Header.Clone(), ""}
}

func (a *App) echo(w http.ResponseWriter, r *http.Request) {
	facts := a.facts(r)
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the caller is gone
	}
	facts.Body = string(body)
	w.Header().Set("content-type", "application/json")
	w.Header().Set("x-app", a.Pod)
	_ = json.NewEncoder(w).Encode(facts) // fails only if the caller is gone
}

// inbox is a net.Listener whose connections are put into it.
type inbox struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once

	mu   sync.Mutex
	open map[net.Conn]bool
}

func newInbox() *inbox {
	return &inbox{conns: make(chan net.Conn), done: make(chan struct{}), open: map[net.Conn]bool{}}
}

func (i *inbox) put(c net.Conn) {
	i.mu.Lock()
	i.open[c] = true
	i.mu.Unlock()
	select {
	case i.conns <- c:
	case <-i.done:
		_ = c.Close()
	}
}

func (i *inbox) closeAll() {
	i.mu.Lock()
	defer i.mu.Unlock()
	for c := range i.open {
		_ = c.Close()
	}
	clear(i.open)
}

func (i *inbox) Accept() (net.Conn, error) {
	select {
	case c := <-i.conns:
		return c, nil
	case <-i.done:
		return nil, net.ErrClosed
	}
}

func (i *inbox) Close() error {
	i.once.Do(func() { close(i.done) })
	return nil
}

func (i *inbox) Addr() net.Addr { return &net.TCPAddr{} }

// Apps are several applications that are told and counted as one.
type Apps []*App

// Does lets all behave so.
func (as Apps) Does(b Behaviour) {
	for _, a := range as {
		a.Does(b)
	}
}

// Requests is how many requests all received together.
func (as Apps) Requests() int {
	n := 0
	for _, a := range as {
		n += len(a.Requests())
	}
	return n
}

// Forget starts counting anew.
func (as Apps) Forget() {
	for _, a := range as {
		a.Forget()
	}
}

// WantRequests fails the test unless all together received n requests.
func (as Apps) WantRequests(n int) {
	as[0].t.Helper()
	if got := as.Requests(); got != n {
		as[0].t.Errorf("the applications received %d requests, want %d", got, n)
	}
}
