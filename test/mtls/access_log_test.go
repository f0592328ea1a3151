package mtls

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/heddle-mesh/heddle/model"
)

// calls are the lines of a sidecar's log about calls, without the time.
func (p *pod) calls() (all []string) {
	at := regexp.MustCompile(`^\S+ INF `)
	for line := range strings.Lines(p.log.String()) {
		if strings.Contains(line, " access=") {
			all = append(all, strings.TrimSpace(at.ReplaceAllString(line, "")))
		}
	}
	return all
}

// Tests wait for statistics, which count at once, before they look at the log, which comes later and is bounded: one that
// called until it sees a line would use up what the log takes.

// waitForCall waits until a sidecar has told of a call, and gives all lines about calls until then.
func (p *pod) waitForCall(t *testing.T, part string) (all []string) {
	t.Helper()
	eventually(t, "a line about "+part, func() bool {
		all = p.calls()
		return slices.ContainsFunc(all, func(line string) bool { return strings.Contains(line, part) })
	})
	return all
}

// about are the lines that speak of a path.
func about(lines []string, path string) (found []string) {
	for _, line := range lines {
		if strings.Contains(line, "path="+path+" ") {
			found = append(found, line)
		}
	}
	return found
}

func wantLines(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: the log says\n%s\nwant\n%s", what, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestTheServersSidecarLogsWhatAuditWouldRefuseAndNothingElse(t *testing.T) {
	g := newGuarded(t)
	g.rule("mode: audit\n"+denials, "", ask("GET", "/admin"), http.StatusOK)
	eventually(t, "the rules to deny are in force", func() bool {
		return g.once(t, "web", ask("GET", "/admin/first")) == http.StatusOK && strings.Contains(g.stats(g.server, "rbac.audit_deny"), "shadow_denied")
	})
	const secret = "hunter2"
	for _, request := range []string{
		ask("GET", "/public/x?token="+secret, "authorization: Bearer "+secret),
		ask("GET", "/admin/x?token="+secret, "authorization: Bearer "+secret, "cookie: "+secret),
		ask("GET", "/admin/last"),
	} {
		if got := g.once(t, "web", request); got != http.StatusOK {
			t.Errorf("%q is answered %d", request, got)
		}
	}
	lines := g.server.waitForCall(t, "path=/admin/last ")
	code := g.state.Workload(g.server.key).Ports[0].Access.Shadow.Deny[0].Code
	wantLines(t, "denied", about(lines, "/admin/x"),
		"access would be denied access=audit code="+code+" from=spiffe://cluster.local/ns/shop/sa/web method=GET path=/admin/x port=8080")
	wantLines(t, "not denied", about(lines, "/public/x"))
	if strings.Contains(g.server.log.String(), secret) {
		t.Errorf("the log has more of a request than its path:\n%s", g.server.log.String())
	}

	g.rule("mode: audit\n"+allowances, "web", ask("GET", "/"), http.StatusOK)
	eventually(t, "the rules to allow are in force", func() bool {
		return g.once(t, "", ask("GET", "/other")) == http.StatusOK && strings.Contains(g.stats(g.server, "rbac.audit_allow"), "shadow_denied")
	})
	for _, target := range []string{"/public/y", "/x/y", "/z"} {
		if got := g.once(t, "web", ask("GET", target)); got != http.StatusOK {
			t.Errorf("%s is answered %d", target, got)
		}
	}
	lines = g.server.waitForCall(t, "path=/z ")
	wantLines(t, "not allowed", about(lines, "/x/y"), "access would be denied access=audit code="+
		g.state.Workload(g.server.key).Ports[0].Access.Shadow.Code+" from=spiffe://cluster.local/ns/shop/sa/web method=GET path=/x/y port=8080")
	wantLines(t, "allowed", about(lines, "/public/y"))
	if plain := about(lines, "/other"); strings.Contains(plain[0], "from=") || !strings.HasPrefix(plain[0], "access would be denied access=audit code=HDA-none-") {
		t.Errorf("of a caller who proves nothing it says %s", plain[0])
	}
}

func TestTheServersSidecarLogsWhatIsRefused(t *testing.T) {
	g := newGuarded(t)
	g.rule(denials, "", ask("GET", "/admin"), http.StatusForbidden)
	code := g.state.Workload(g.server.key).Ports[0].Access.Deny[0].Code
	for _, target := range []string{"/admin/x?q", "/public/x", "/own", "/admin/" + strings.Repeat("long", 1000), "/admin/last"} {
		g.send(t, "web", ask("GET", target))
	}
	lines := g.server.waitForCall(t, "path=/admin/last ")
	wantLines(t, "denied", about(lines, "/admin/x"),
		"access denied access=refused code="+code+" from=spiffe://cluster.local/ns/shop/sa/web method=GET path=/admin/x port=8080")
	wantLines(t, "not denied", about(lines, "/public/x"))
	wantLines(t, "refused by the application", about(lines, "/own"))
	for _, line := range lines {
		if len(line) > 500 {
			t.Errorf("a line has %d bytes", len(line))
		}
	}
	g.rule(allowances, "web", ask("GET", "/x"), http.StatusForbidden)
	g.send(t, "", ask("GET", "/public/last"))
	lines = g.server.waitForCall(t, "path=/public/last ")
	wantLines(t, "not allowed", about(lines, "/public/last"),
		"access denied access=refused code="+g.state.Workload(g.server.key).Ports[0].Access.Code+" method=GET path=/public/last port=8080")
}

func TestTheServersSidecarLogsTCPConnectionsThatAreOrWouldBeRefused(t *testing.T) {
	p := newPair(t)
	g := &guarded{town: p.town, server: p.server, configs: map[string]*tls.Config{}}
	hears := func(account string) bool {
		c := g.connect(t, account, portTCP)
		defer c.Close()
		got := make([]byte, len(greeting))
		if n, _ := c.Read(got); n == 0 {
			return false
		}
		_, err := c.Write([]byte("x")) // rules are asked about the first byte
		return err == nil
	}
	put := func(text string) *model.Access {
		ch := g.state.Apply([]model.Event{{Policy: &model.PolicyText{
			Key: model.Key{Namespace: "shop", Name: "access"}, UID: "u",
			Documents: []model.PolicyDocument{{Item: "access.yaml", Text: text}},
		}}})
		if len(ch.Policies) != 1 || !ch.Policies[0].Accepted {
			t.Fatalf("%+v", ch.Policies)
		}
		g.publish()
		for _, port := range g.state.Workload(g.server.key).Ports {
			if port.Number == portTCP {
				return port.Access
			}
		}
		t.Fatal("no such port")
		return nil
	}
	line := func(verdict, access, account, code string) string {
		from := ""
		if account != "" {
			from = " from=spiffe://cluster.local/ns/shop/sa/" + account
		}
		return fmt.Sprintf("%s access=%s code=%s%s port=%d", verdict, access, code, from, portTCP)
	}
	logged := func(want string) {
		t.Helper()
		g.server.waitForCall(t, want)
	}

	a := put("kind: Access\nmode: audit\naction: deny\nservice: catalog\nrules: [{from: [shop/web]}]\n")
	eventually(t, "a denial in audit mode counts", func() bool {
		return hears("web") && hears("other") && strings.Contains(g.stats(g.server, "rbac.audit_deny"), "shadow_denied")
	})
	logged(line("access would be denied", "audit", "web", a.Shadow.Deny[0].Code))
	a = put("kind: Access\nmode: audit\nservice: catalog\nrules: [{from: [shop/web]}]\n")
	eventually(t, "that nothing allows counts in audit mode", func() bool {
		return hears("web") && hears("other") && strings.Contains(g.stats(g.server, "rbac.audit_"+a.Shadow.Code), "shadow_denied")
	})
	logged(line("access would be denied", "audit", "other", a.Shadow.Code))
	a = put("kind: Access\nservice: catalog\nrules: [{from: [shop/web]}]\n")
	eventually(t, "others are refused", func() bool { return hears("web") && !hears("other") && !hears("") })
	logged(line("access denied", "refused", "other", a.Code))
	logged(line("access denied", "refused", "", a.Code))
	a = put("kind: Access\nservice: catalog\naction: deny\nrules: [{from: [shop/web]}]\n")
	eventually(t, "one is refused", func() bool { return !hears("web") && hears("other") && hears("") })
	logged(line("access denied", "refused", "web", a.Deny[0].Code))
}

func TestAPermissivePortCountsThoseWhoProveNothingApart(t *testing.T) {
	g := newGuarded(t)
	counted := func() string { return g.stats(g.server, ".plain.rbac.") }
	g.once(t, "web", ask("GET", "/"))
	if got := counted(); got != "" {
		t.Errorf("a caller who proves an identity counts as one who does not: %s", got)
	}
	for range 3 {
		g.once(t, "", ask("GET", "/"))
	}
	if got, want := counted(), "tcp.in|8080.plain.rbac.allowed: 3"; got != want {
		t.Errorf("it counts %s; want %s", got, want)
	}
	g.rule(denials, "", ask("GET", "/admin"), http.StatusForbidden)
	before := counted()
	g.once(t, "", ask("GET", "/admin"))
	if counted() == before {
		t.Error("who is refused does not count")
	}
	g.strict[g.server.key] = true
	g.publish()
	eventually(t, "the port is strict", func() bool { return g.once(t, "", ask("GET", "/")) == 0 })
}
