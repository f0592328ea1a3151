package mtls

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/heddle-mesh/heddle/model"
	"github.com/heddle-mesh/heddle/policy"
)

// guarded is a pod with the Service's port for HTTP, of which documents say who may call. Its application notes what
// reaches it.
type guarded struct {
	*town
	server *pod

	mu      sync.Mutex
	seen    []arrival
	configs map[string]*tls.Config // by account
}

// arrival is a request as the application sees it.
type arrival struct{ method, uri, override string }

func newGuarded(t testing.TB) *guarded {
	t.Helper()
	w := newTown(t)
	known := w.fact(1, "catalog-1", "catalog")
	w.know(slice("catalog-a", endpoint(known)), known)
	g := &guarded{town: w, configs: map[string]*tls.Config{}}
	g.server = w.open(1, known, "catalog")
	l, err := net.Listen("tcp", address(g.server.capture.App, portHTTP))
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(g.answer), Protocols: &http.Protocols{}}
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetUnencryptedHTTP2(true) // a request over HTTP/2 is handed on over HTTP/2
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	t.Cleanup(func() {
		_ = server.Close()
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	return g
}

func (g *guarded) answer(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	g.seen = append(g.seen, arrival{r.Method, r.RequestURI, strings.Join(folded(r.Header, "x-http-method-override"), ",")})
	g.mu.Unlock()
	if r.URL.Path == "/own" {
		w.Header().Set("x-heddle-access", "HDA-forged")
		http.Error(w, "my own", http.StatusForbidden)
	}
}

// folded gives the values of a header as an application finds them that gets headers as variables: - and _ are one there.
func folded(h http.Header, name string) []string {
	var all []string
	for key, values := range h {
		if strings.EqualFold(strings.ReplaceAll(key, "_", "-"), name) {
			all = append(all, values...)
		}
	}
	return all
}

// arrived gives what reached the application since it was last asked.
func (g *guarded) arrived() []arrival {
	g.mu.Lock()
	defer g.mu.Unlock()
	seen := g.seen
	g.seen = nil
	return seen
}

// rule puts documents in force in place of those before, and waits until the sidecar answers one request so.
func (g *guarded) rule(text, account, request string, status int) {
	g.t.Helper()
	ch := g.state.Apply([]model.Event{{Policy: &model.PolicyText{
		Key: model.Key{Namespace: "shop", Name: "access"}, UID: "u",
		Documents: []model.PolicyDocument{{Item: "access.yaml", Text: text}},
	}}})
	for _, p := range ch.Policies {
		if !p.Accepted {
			g.t.Fatalf("%v", p.Problems)
		}
	}
	g.publish()
	end := time.Now().Add(patience)
	for g.once(g.t, account, request) != status {
		if time.Now().After(end) {
			g.t.Fatalf("%q is never answered %d", request, status)
		}
	}
	g.arrived()
}

// connect reaches the sidecar as an account of shop, or in plain text.
func (g *guarded) connect(t testing.TB, account string, port int) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", address(g.server.sidecar, port))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.SetDeadline(time.Now().Add(2 * time.Second)); err != nil { // some of what is sent has no answer
		t.Fatal(err)
	}
	if account == "" {
		return c
	}
	alpn := map[bool]string{true: "heddle-http", false: "heddle-tcp"}[port == portHTTP]
	if g.configs[account+alpn] == nil {
		g.configs[account+alpn] = g.ca.Client(t, g.ca.ID("shop", account), alpn)
	}
	return tls.Client(c, g.configs[account+alpn])
}

// send writes bytes and gives the answer, nil if there is none.
func (g *guarded) send(t testing.TB, account, request string) *http.Response {
	t.Helper()
	c := g.connect(t, account, portHTTP)
	defer c.Close()
	_, _ = io.WriteString(c, request) // what it answers counts
	response, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return nil
	}
	body, _ := io.ReadAll(response.Body)
	response.Body = io.NopCloser(strings.NewReader(string(body)))
	return response
}

func (g *guarded) once(t testing.TB, account, request string) int {
	t.Helper()
	if r := g.send(t, account, request); r != nil {
		return r.StatusCode
	}
	return 0
}

// ask is a plain request line with what HTTP/1.1 wants beside it.
func ask(method, target string, headers ...string) string {
	return method + " " + target + " HTTP/1.1\r\nhost: catalog\r\nconnection: close\r\n" + strings.Join(append(headers, ""), "\r\n") + "\r\n"
}

// denials are what nobody may do; allowances all that web may.
const (
	denials = `kind: Access
service: catalog
action: deny
rules:
- {paths: [/admin, /admin/*, /a@b, /pkg.Admin/*], ports: [8080]}
- {methods: [DELETE], ports: [8080]}
`
	allowances = `kind: Access
service: catalog
rules:
- {from: [shop/web], methods: [GET], paths: [/public/*, /pkg.Shop/Get], ports: [8080]}
`
)

// asSeen is a path as a careless server may take it: decoded, without parameters, and cleaned.
func asSeen(uri string) string {
	p, _, _ := strings.Cut(uri, "?")
	if i := strings.Index(p, "://"); i > 0 {
		_, p, _ = strings.Cut(p[i+3:], "/")
		p = "/" + p
	}
	var segments []string
	for s := range strings.SplitSeq(p, "/") {
		s, _, _ = strings.Cut(s, ";")
		if plain, err := url.PathUnescape(s); err == nil {
			s = plain
		}
		segments = append(segments, s)
	}
	return path.Clean("/" + strings.Join(segments, "/"))
}

// denied says that an arrival is one that denials forbid.
func denied(a arrival) bool {
	p := asSeen(a.uri)
	return p == "/admin" || strings.HasPrefix(p, "/admin/") || p == "/a@b" || strings.HasPrefix(p, "/pkg.Admin/") ||
		strings.EqualFold(a.method, http.MethodDelete) || strings.EqualFold(a.override, http.MethodDelete)
}

// allowed says that an arrival is one of allowances.
func allowed(a arrival) bool {
	p := asSeen(a.uri)
	return a.method == http.MethodGet && (a.override == "" || strings.EqualFold(a.override, "GET")) &&
		(p == "/public" || strings.HasPrefix(p, "/public/") || p == "/pkg.Shop/Get")
}

// targets are spellings of what is denied, and of what is not quite allowed.
func targets() []string {
	var all []string
	for _, p := range []string{"admin", "public/../admin"} {
		all = append(all, "/"+p, "//"+p, "/./"+p, "/x/../"+p, "/%2e/"+p, "/x/%2e%2e/"+p, "/x/.%2E/"+p, "/%2f"+p, "/%2F"+p,
			"/%5c"+p, `\`+p, `/\`+p, "/"+p+"%00", "/"+p+"/%00", "/%00/"+p, "/"+p+"?x", "/"+p+"#x", "/"+p+"/", "/"+p+"//", "/"+p+"/.",
			"/"+p+";x", "/;x/"+p, "/.;x/"+p, "/x/..;/"+p, "/x/..;y/"+p, "/"+p+"%3bx", "http://catalog/"+p, "http://catalog//"+p,
			"http://other/x/../"+p, "HTTP://CATALOG/"+p, p, "*", "", "/"+p+"\t", "/"+p+"%0a", "/"+p+"%20", "/"+p+"/x", "///x/..///"+p)
	}
	return append(all, "/%61dmin", "/adm%69n", "/%61%64%6d%69%6e", "/%2561dmin", "/ADMIN", "/a%40b", "/a@b", "/a%40b;x", "/a%2540b",
		"/public/", "/public/x", "/public", "/public/..", "/public/../x", "/public/..;/x", "/public/..;x/x", "/public/%2e%2e/x",
		"/public/..%2fx", "/public/..%5cx", `/public/..\x`, "/public%2f", "/public;/x", "/public/;/../x", "/publicx", "/%70ublic/x",
		"/pkg.Shop/Get", "/pkgXShop/Get", "/pkg.Shop/Get/", "/pkg.Admin/Drop", "/pkg.Shop/../pkg.Admin/Drop", "/pkg.Shop%2f..%2fpkg.Admin/Drop")
}

// requests are whole requests that play with something else than the path.
func requests() map[string]string {
	return map[string]string{
		"mixed case host":     "GET /admin HTTP/1.1\r\nHost: CataLog\r\n\r\n",
		"trailing dot host":   "GET /admin HTTP/1.1\r\nhost: catalog.\r\n\r\n",
		"port in host":        "GET /admin HTTP/1.1\r\nhost: catalog:8080\r\n\r\n",
		"two hosts":           "GET /admin HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
		"no host":             "GET /admin HTTP/1.1\r\n\r\n",
		"HTTP/1.0":            "GET /admin HTTP/1.0\r\n\r\n",
		"HTTP/0.9":            "GET /admin\r\n\r\n",
		"empty method":        " /admin HTTP/1.1\r\nhost: catalog\r\n\r\n",
		"small method":        ask("delete", "/x"),
		"method":              ask("DELETE", "/x"),
		"another method":      ask("POST", "/public/x"),
		"override":            ask("POST", "/x", "X-HTTP-Method-Override: DELETE"),
		"small override":      ask("POST", "/x", "x-http-method-override: delete"),
		"folded override":     ask("POST", "/x", "X_HTTP_Method_Override: DELETE"),
		"half folded":         ask("POST", "/x", "x-http_method-override: DELETE"),
		"override of GET":     ask("GET", "/public/x", "x-http-method-override: DELETE"),
		"repeated override":   ask("GET", "/public/x", "x-http-method-override: GET", "x-http-method-override: DELETE"),
		"upgrade":             "GET /admin HTTP/1.1\r\nhost: catalog\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
		"upgrade to HTTP/2":   "GET /admin HTTP/1.1\r\nhost: catalog\r\nconnection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n\r\n",
		"CONNECT":             "CONNECT catalog:80 HTTP/1.1\r\nhost: catalog\r\n\r\n",
		"CONNECT to a path":   "CONNECT /admin HTTP/1.1\r\nhost: catalog\r\n\r\n",
		"original path":       ask("GET", "/x", "x-envoy-original-path: /admin", "x-original-url: /admin"),
		"two lengths":         "POST /public/x HTTP/1.1\r\nhost: catalog\r\ncontent-length: 0\r\ncontent-length: 41\r\n\r\nGET /admin HTTP/1.1\r\nhost: catalog\r\n\r\n",
		"chunked and length":  "POST /x HTTP/1.1\r\nhost: catalog\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nGET /admin HTTP/1.1\r\nhost: catalog\r\n\r\n",
		"pipelined":           "GET /public/x HTTP/1.1\r\nhost: catalog\r\n\r\nGET /admin HTTP/1.1\r\nhost: catalog\r\nconnection: close\r\n\r\n",
		"line ends":           "GET /public/x HTTP/1.1\nhost: catalog\n\nGET /admin HTTP/1.1\nhost: catalog\n\n",
		"method with a space": ask("GET ", "/admin"),
	}
}

func TestNoRequestGetsPastADenialAndNoneBesideAnAllowance(t *testing.T) {
	g := newGuarded(t)
	g.rule(denials, "", ask("GET", "/admin"), http.StatusForbidden)
	g.attack(t, "a denial", func(a arrival) bool { return !denied(a) })
	if g.once(t, "", ask("GET", "/public/x%20y?q=%2Fadmin")) != http.StatusOK || g.once(t, "web", ask("POST", "/x")) != http.StatusOK {
		t.Error("what is not denied was refused")
	}
	g.rule(allowances, "web", ask("GET", "/x"), http.StatusForbidden)
	g.attack(t, "an allowance", allowed)
	for account, want := range map[string]int{"web": 1, "": 0, "other": 0} {
		g.sendHTTP2(t, account, request("/public/x"))(patience)
		if got := g.arrived(); len(got) != want {
			t.Errorf("of a request by HTTP/2 that web may make, made as %q, %d reached the application", account, len(got))
		}
	}
	for _, target := range []string{"/public/x", "//public/x", "/pkg.Shop/Get"} {
		if got := g.once(t, "web", ask("GET", target)); got != http.StatusOK {
			t.Errorf("what is allowed, %s, is answered %d", target, got)
		}
		for _, account := range []string{"", "we", "web2", "admin"} {
			if got := g.once(t, account, ask("GET", target)); got != http.StatusForbidden {
				t.Errorf("%s as %q is answered %d", target, account, got)
			}
		}
	}
}

// attack sends everything, and looks at what arrives.
func (g *guarded) attack(t *testing.T, what string, may func(arrival) bool) {
	t.Helper()
	all := requests()
	for _, target := range targets() {
		all[target] = ask("GET", target)
	}
	for name, request := range all {
		for _, account := range []string{"web", ""} {
			g.send(t, account, request)
			for _, a := range g.arrived() {
				if !may(a) {
					t.Errorf("%s: %q (%s, as %q) reached the application as %+v", what, request, name, account, a)
				}
			}
		}
	}
	for _, account := range []string{"web", ""} {
		var answers []func(time.Duration)
		for _, fields := range pseudoHeaders() {
			answers = append(answers, g.sendHTTP2(t, account, fields))
		}
		for _, await := range answers {
			await(2 * time.Second)
		}
		for _, a := range g.arrived() {
			if !may(a) {
				t.Errorf("%s: of the games with HTTP/2, as %q, one reached the application as %+v", what, account, a)
			}
		}
	}
}

func TestARefusalNamesItsRuleAndAnApplicationsOwnIsLeftAlone(t *testing.T) {
	g := newGuarded(t)
	g.rule(denials, "", ask("GET", "/admin"), http.StatusForbidden)
	code := g.state.Workload(g.server.key).Ports[0].Access.Deny[0].Code
	wantRefusal := func(r *http.Response, code string) {
		t.Helper()
		body, _ := io.ReadAll(r.Body)
		if got := r.Header.Get("x-heddle-access"); r.StatusCode != http.StatusForbidden || got != code || string(body) != "access denied: "+code+"\n" {
			t.Errorf("%d, %q, %q; want %s", r.StatusCode, got, body, code)
		}
	}
	wantRefusal(g.send(t, "", ask("GET", "/admin")), code)
	own := g.send(t, "", ask("GET", "/own"))
	body, _ := io.ReadAll(own.Body)
	if got := own.Header.Values("x-heddle-access"); own.StatusCode != http.StatusForbidden || len(got) > 0 || string(body) != "my own\n" {
		t.Errorf("the application's own refusal: %d, %q, %q", own.StatusCode, got, body)
	}
	g.rule(allowances, "web", ask("GET", "/x"), http.StatusForbidden)
	wantRefusal(g.send(t, "web", ask("GET", "/x")), policy.UnmatchedCode([]policy.Place{{Namespace: "shop", ConfigMap: "access", Key: "access.yaml"}}))
	g.rule("kind: Access\ndefault: deny\n", "web", ask("GET", "/public/x"), http.StatusForbidden)
	wantRefusal(g.send(t, "web", ask("GET", "/x")), model.AccessDefault)
}

func TestATighterRuleMeetsTheNextRequestOfAnOpenConnection(t *testing.T) {
	g := newGuarded(t)
	g.rule("kind: Access\nservice: catalog\nrules: [{from: [shop/web]}]\n", "other", ask("GET", "/"), http.StatusForbidden)
	c := g.connect(t, "web", portHTTP)
	defer c.Close()
	r := bufio.NewReader(c)
	next := func() *http.Response {
		if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nhost: catalog\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		response, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, response.Body)
		return response
	}
	if got := next(); got.StatusCode != http.StatusOK {
		t.Fatalf("status %d", got.StatusCode)
	}
	g.rule("kind: Access\nservice: catalog\nrules: [{from: [shop/other]}]\n", "other", ask("GET", "/"), http.StatusOK)
	for _, status := range []int{http.StatusForbidden, http.StatusForbidden} {
		if got := next(); got.StatusCode != status || got.Close {
			t.Errorf("status %d, closes: %v", got.StatusCode, got.Close)
		}
	}
}

func TestAuditCountsAndRefusesNothing(t *testing.T) {
	g := newGuarded(t)
	g.rule("mode: audit\n"+denials, "", ask("GET", "/admin"), http.StatusOK)
	code := g.state.Workload(g.server.key).Ports[0].Access.Shadow.Deny[0].Code
	eventually(t, "the rule is counted", func() bool {
		return g.once(t, "", ask("GET", "/admin")) == http.StatusOK && strings.Contains(g.stats(g.server, code), "shadow_denied")
	})
}

func TestAServerThatSpeaksFirstSaysNothingToThoseWhoMayNotCall(t *testing.T) {
	p := newPair(t)
	g := &guarded{town: p.town, server: p.server, configs: map[string]*tls.Config{}}
	hears := func(account string, port int) string {
		c := g.connect(t, account, port)
		defer c.Close()
		if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil { // whoever may not call hears the end at once
			t.Fatal(err)
		}
		got := make([]byte, len(greeting))
		n, _ := io.ReadFull(c, got)
		return string(got[:n])
	}
	for _, c := range []struct {
		name, rules string
		hear, not   []string
	}{
		{"allow", "rules: [{from: [shop/web, shop/a.b]}]", []string{"web", "a.b"}, []string{"aXb", "we", "webb", ""}},
		{"deny", "action: deny\nrules: [{from: [shop/web, shop/a.b, other/x]}]", []string{"we", "webb", "axb", "x", ""}, []string{"web", "a.b"}},
		{"deny the namespace", `action: deny` + "\n" + `rules: [{from: ["shop/*"]}]`, []string{""}, []string{"web", "x"}},
		{"methods on TCP", "rules: [{methods: [GET]}]", nil, []string{"web", ""}},
	} {
		t.Run(c.name, func(t *testing.T) {
			ch := g.state.Apply([]model.Event{{Policy: &model.PolicyText{
				Key: model.Key{Namespace: "shop", Name: "access"}, UID: "u",
				Documents: []model.PolicyDocument{{Item: "access.yaml", Text: "kind: Access\nservice: catalog\n" + c.rules + "\n"}},
			}}})
			if len(ch.Policies) != 1 || !ch.Policies[0].Accepted {
				t.Fatalf("%+v", ch.Policies)
			}
			g.publish()
			for _, port := range []int{portTCP, portLegacy} {
				// All verdicts, since the rules before may have had any one of them in common.
				eventually(t, "the rules are in force", func() bool {
					return !slices.ContainsFunc(c.not, func(account string) bool { return hears(account, port) != "" }) &&
						!slices.ContainsFunc(c.hear, func(account string) bool { return hears(account, port) != greeting })
				})
				reached := func() int64 {
					before := p.app.connections.Load()
					for _, account := range c.not {
						if got := hears(account, port); got != "" {
							t.Errorf("port %d says %q to %q", port, got, account)
						}
					}
					return p.app.connections.Load() - before
				}
				// Connections of before may still be on their way to the application.
				eventually(t, "a round that does not reach the application", func() bool { return reached() == 0 })
				for range 3 {
					if n := reached(); n > 0 {
						t.Errorf("port %d: the application was reached %d times", port, n)
					}
				}
				// A caller that gets no processor for the time of detection is taken for one without a certificate.
				for _, account := range c.hear {
					eventually(t, fmt.Sprintf("port %d greets %q", port, account), func() bool { return hears(account, port) == greeting })
				}
			}
		})
	}
}
