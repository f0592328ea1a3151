package live

import (
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Each edit replaces what the sidecars have in another place: routes, clusters (which warm), listeners, endpoints.
func TestNoRequestFailsWhileAPolicyIsEdited(t *testing.T) {
	w := start(t)
	one, two := w.pod("catalog-1", "version=v1"), w.pod("catalog-2", "version=v2")
	catalog := w.service("catalog")
	w.slice("catalog", ready(one, two))
	load := w.load(catalog)

	for range 6 {
		for i, text := range []string{
			"timeout: 1m",
			"timeout: 6s",
			"idleTimeout: 1m",
			"retries: {attempts: 2, on: [connect-failure, reset]}",
			"retries: {attempts: 1, on: [503], budget: {percent: 50, minConcurrency: 5}}",
			"circuitBreaker: {maxConnections: 1000, maxRequests: 1000}",
			"outlierDetection: {consecutive5xx: 5, interval: 10s, baseEjection: 30s, maxEjectionPercent: 50}",
			"loadBalancer: {policy: round-robin}",
			"loadBalancer: {policy: ring-hash, hashOn: [{sourceIP: true}]}",
			"loadBalancer: {policy: least-request, locality: prefer}",
			"connection: {connectTimeout: 2s, maxRequestsPerConnection: 10}",
			"healthCheck: {path: /healthz, interval: 5s, timeout: 1s}",
			"", // generation alone
		} {
			w.policy("catalog", generation(i, text))
			load.untilGeneration(i)
		}
		w.deletePolicy("catalog")
		load.until("an answer without policy", func(a answer) bool { return a.generation == "" })
	}
	load.finish()
}

func TestNoRequestFailsWhileASplitComesAndGoes(t *testing.T) {
	w := start(t)
	one, two := w.pod("catalog-1", "version=v1"), w.pod("catalog-2", "version=v2")
	next := w.pod("next-1")
	catalog := w.service("catalog")
	w.service("next")
	w.slice("catalog", ready(one, two))
	w.slice("next", ready(next))
	load := w.load(catalog)

	for range 4 {
		w.policy("catalog", `routes: [{name: v1, to: [{service: catalog, subset: {version: v1}}]}]`)
		load.untilOnly(one)
		w.policy("catalog", `routes: [{name: split, to: [{service: catalog, subset: {version: v2}, weight: 1}, {service: next, weight: 1}]}]`)
		load.untilFrom(next)
		if got := pods(load.next(30)); got[one.name] > 0 || got[two.name] == 0 || got[next.name] == 0 {
			t.Errorf("a split between catalog's v2 and next is answered by %v", got)
		}
		w.deletePolicy("catalog")
		load.untilFrom(one)
	}
	load.finish()
}

func TestASubsetWithNoPodsAnswers503UntilOneAppears(t *testing.T) {
	w := start(t)
	one := w.pod("catalog-1", "version=v1")
	catalog := w.service("catalog")
	w.slice("catalog", ready(one))
	load := w.load(catalog)

	w.policy("catalog", `routes: [{name: canary, match: [{path: {prefix: /canary}}], to: [{service: catalog, subset: {version: v2}}]}]`)
	eventually(t, "the missing subset answers 503", func() bool {
		return w.askFor(catalog, "/canary").status == http.StatusServiceUnavailable
	})
	two := w.pod("catalog-2", "version=v2")
	w.slice("catalog", ready(one, two))
	eventually(t, "the subset answers", func() bool { return w.askFor(catalog, "/canary").pod == two.name })
	load.untilFrom(two)
	w.slice("catalog", ready(one))
	eventually(t, "the subset answers 503 again", func() bool {
		return w.askFor(catalog, "/canary").status == http.StatusServiceUnavailable
	})
	load.next(50)
	load.finish()
}

func TestAnInvalidEditChangesNothing(t *testing.T) {
	w := start(t)
	one := w.pod("catalog-1")
	catalog := w.service("catalog")
	w.slice("catalog", ready(one))
	w.policy("catalog", generation(1, "timeout: 1m"))
	load := w.load(catalog)
	load.untilGeneration(1)
	good := w.plane.policy("catalog")
	before := map[*pod]string{w.web: w.config(w.web), one: w.config(one)}
	sent := w.plane.sent()

	for _, broken := range []string{
		generation(2, "timeuot: 5s"),
		generation(2, "timeout: -5s"),
		generation(2, "timeout: 5s\ntimeout: 6s"),
		"timeout: {",
		generation(2, "service: catalog\n---\nkind: Traffic"),
	} {
		w.policy("catalog", broken)
		w.wantRefused("catalog", good.Serving)
		for p, config := range before {
			w.wantConfig(p, config)
		}
	}
	if got := generations(load.next(50)); got["1"] < 50 {
		t.Errorf("answers are under policies %v, want 1 alone", got)
	}
	if diff := cmp.Diff(sent, w.plane.sent()); diff != "" {
		t.Errorf("resources sent (-before the edits +after):\n%s", diff)
	}
	w.policy("catalog", generation(3, "timeout: 6s"))
	load.untilGeneration(3)
	load.finish()
}

// wantRefused waits until the newest version of a policy has been judged, and fails the test unless it was refused and
// the version with that hash serves.
func (w *world) wantRefused(name, serving string) {
	w.t.Helper()
	eventually(w.t, "the edit is refused", func() bool { return !w.plane.policy(name).Accepted })
	if s := w.plane.policy(name); s.Serving != serving || len(s.Problems) == 0 {
		w.t.Errorf("status of policy %s is %+v, want version %s in force and problems", name, s, serving)
	}
}
