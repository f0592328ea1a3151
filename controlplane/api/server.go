package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"golang.org/x/net/netutil"

	"github.com/heddle-mesh/heddle/buildinfo"
	"github.com/heddle-mesh/heddle/controlplane/operator"
)

// Mesh is what there is to tell.
type Mesh interface {
	Health(ctx context.Context) (Health, error)
	// Proxies lists the sidecars connected here, of one namespace or of all if it is empty, in the order of names.
	Proxies(ctx context.Context, namespace string) ([]Proxy, error)
	// Config fails with a *Refusal if there is no such pod.
	Config(ctx context.Context, namespace, pod string) (Config, error)
}

// Options say what is told to whom. All but Identity are required.
type Options struct {
	Mesh          Mesh
	Authenticator Authenticator
	Version       buildinfo.Info
	// Identity gives the facts of identities (service.Facts), for those who see the whole mesh; nil where this process does
	// not sign.
	Identity func(ctx context.Context) (any, error)
}

// Codes of answers that are not about who asks.
const (
	NoSuchPath  = "no-such-path"
	NoPod       = "no-pod"
	NoFacts     = "no-facts-here"
	Unavailable = "unavailable"
)

// Handler answers one request.
func Handler(o Options) http.Handler {
	s := server{o}
	mux := http.NewServeMux()
	s.handle(mux, VersionPath, func(*http.Request, Caller) (any, error) { return o.Version, nil })
	s.handle(mux, HealthPath, func(r *http.Request, _ Caller) (any, error) { return o.Mesh.Health(r.Context()) })
	s.handle(mux, ProxiesPath, s.proxies)
	s.handle(mux, ConfigPath("{namespace}", "{pod}"), s.config)
	s.handle(mux, IdentityPath, s.identity)
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, nil, refuse(http.StatusNotFound, NoSuchPath, "there is no such path; heddle and the control plane may be of different versions: compare them with heddle version"))
	})
	return mux
}

type server struct{ options Options }

// handle answers GET on a path to whoever the authenticator knows.
func (s server) handle(mux *http.ServeMux, path string, h func(*http.Request, Caller) (any, error)) {
	mux.HandleFunc("GET "+path, func(w http.ResponseWriter, r *http.Request) {
		caller, err := s.options.Authenticator.Authenticate(r)
		if err != nil {
			answer(w, nil, err)
			return
		}
		v, err := h(r, caller)
		answer(w, v, err)
	})
}

// proxies gives those of ?namespace=, or all that the caller may see.
func (s server) proxies(r *http.Request, c Caller) (any, error) {
	namespace := r.URL.Query().Get("namespace")
	if namespace == "" {
		namespace = c.Namespace
	}
	if !c.Sees(namespace) {
		return nil, otherNamespace(c, namespace)
	}
	return s.options.Mesh.Proxies(r.Context(), namespace)
}

func (s server) config(r *http.Request, c Caller) (any, error) {
	namespace := r.PathValue("namespace")
	if !c.Sees(namespace) {
		return nil, otherNamespace(c, namespace)
	}
	return s.options.Mesh.Config(r.Context(), namespace, r.PathValue("pod"))
}

func (s server) identity(r *http.Request, c Caller) (any, error) {
	if c.Namespace != "" {
		return nil, otherNamespace(c, "")
	}
	if s.options.Identity == nil {
		return nil, refuse(http.StatusNotFound, NoFacts, "this process does not sign, and knows no facts of identities; ask the signer: kubectl exec deploy/heddle-signer -- heddle identity")
	}
	return s.options.Identity(r.Context())
}

func otherNamespace(c Caller, asked string) error {
	what := "namespace " + asked
	if asked == "" {
		what = "the whole mesh"
	}
	return refuse(http.StatusForbidden, OtherNamespace, fmt.Sprintf(
		"the token is for namespace %s and you ask for %s: name yours with -n, or have somebody let you create tokens of %s in the control plane's namespace",
		c.Namespace, what, ViewAccount))
}

// answer writes what was asked for, or why there is none. A caller that has gone away is its own affair.
func answer(w http.ResponseWriter, v any, err error) {
	w.Header().Set("Content-Type", "application/json")
	if err != nil {
		r, ok := errors.AsType[*Refusal](err)
		if !ok {
			r = refuse(http.StatusServiceUnavailable, Unavailable, err.Error())
		}
		w.WriteHeader(r.Status)
		v = operator.Problem{Code: r.Code, Message: r.Message}
	}
	_ = json.NewEncoder(w).Encode(v)
}

// maxConnections is more than people open at once.
const maxConnections = 64

// Serve answers on l until ctx ends, and closes it. l's TLS is the caller's affair (tls.NewListener). It refuses to serve
// where others than this pod could dial.
func Serve(ctx context.Context, l net.Listener, h http.Handler) error {
	if a, ok := l.Addr().(*net.TCPAddr); !ok || !a.IP.IsLoopback() {
		return errors.Join(fmt.Errorf("serve the command line's API on %s: it is reached by port-forward only; listen on a loopback address", l.Addr()), l.Close())
	}
	s := &http.Server{
		Handler: http.MaxBytesHandler(h, 1<<10), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second,
		WriteTimeout: time.Minute, IdleTimeout: time.Minute, MaxHeaderBytes: 32 << 10,
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(netutil.LimitListener(l, maxConnections)) }()
	select {
	case err := <-ended:
		return fmt.Errorf("answer the command line on %s: %w", l.Addr(), err)
	case <-ctx.Done():
	}
	err := s.Close()
	<-ended
	return err
}
