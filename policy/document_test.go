package policy

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// parse reads a document without errors.
func parse(t *testing.T, text string) *Document {
	t.Helper()
	doc, problems := Parse(Source{Text: text, System: true})
	if doc == nil {
		t.Fatal(problems)
	}
	return doc
}

func TestADocumentBecomesWhatItSays(t *testing.T) {
	got := parse(t, `
kind: Traffic
service: shop/catalog
timeout: 1m30s
retries: {attempts: 3, on: [connect-failure, 503], budget: {percent: 12.5}}
loadBalancer: {policy: maglev, hashOn: [{cookie: {name: sid}}], locality: off}
connection: {http: 2}
routes:
- name: canary
  match:
  - path: {prefix: /v2}
    headers: {X-Canary: "1", x-bot: {absent: true}}
    from: [shop/frontend, "admin/*", {labels: {tier: front}}]
  to: [{service: catalog, weight: 90}, {service: other/catalog, port: 8080, subset: {version: v2}, weight: 10}]
`).Traffic
	want := &Traffic{
		Service: ServiceRef{"shop", "catalog"},
		TrafficSettings: TrafficSettings{
			Timeout:      span(90 * time.Second),
			Retries:      &Retries{Attempts: 3, On: []Condition{"connect-failure", "503"}, Budget: &RetryBudget{Percent: new(Percent(12.5))}},
			LoadBalancer: &LoadBalancer{Policy: Maglev, HashOn: []HashOn{{Cookie: &HashCookie{Name: "sid"}}}, Locality: LocalityOff},
			Connection:   &Connection{HTTP: HTTP2},
		},
		Routes: []Route{{
			Name: "canary",
			Match: []Match{{
				Path:    &PathMatch{Prefix: "/v2"},
				Headers: map[HeaderName]ValueMatch{"x-canary": {Exact: new("1")}, "x-bot": {Absent: true}},
				From:    []Caller{{Namespace: "shop", ServiceAccount: "frontend"}, {Namespace: "admin"}, {Labels: Labels{"tier": "front"}}},
			}},
			To: []Target{
				{Service: ServiceRef{Name: "catalog"}, Weight: new(uint32(90))},
				{Service: ServiceRef{"other", "catalog"}, Port: new(uint16(8080)), Subset: Labels{"version": "v2"}, Weight: new(uint32(10))},
			},
		}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("document (-want +got):\n%s", diff)
	}
}

func TestShortFormsMeanWhatTheirLongFormsMean(t *testing.T) {
	short := parse(t, `
kind: Traffic
service: a
routes:
- name: r
  match: [{headers: {x: "1"}, query: {q: ""}, from: [shop/web, "shop/*", "*/web", "*/*"]}]
  cors: {origins: [https://a.example.com, "*"]}
`)
	long := parse(t, `
kind: Traffic
service: a
routes:
- name: r
  match:
  - headers: {X: {exact: "1"}}
    query: {q: {exact: ""}}
    from: [{namespace: shop, serviceAccount: web}, {namespace: shop}, {serviceAccount: web}, "*/*"]
  cors: {origins: [{exact: "https://a.example.com"}, {exact: "*"}]}
`)
	if diff := cmp.Diff(short.Traffic, long.Traffic); diff != "" {
		t.Errorf("short and long (-short +long):\n%s", diff)
	}
	if everyone := short.Traffic.Routes[0].Match[0].From[3]; !cmp.Equal(everyone, Caller{}) {
		t.Errorf(`"*/*" is %+v`, everyone)
	}
}

func TestHashesFollowTheContentAndNotItsLayout(t *testing.T) {
	const text = "kind: Traffic\nservice: a\ntimeout: 1s\nretries: {attempts: 1, on: [reset, \"503\"]}\n"
	before := parse(t, text)
	same := parse(t, "# a comment\nretries:\n  on:\n  - 'reset'\n  - \"503\"\n  attempts: 1\nkind: Traffic\ntimeout: 1s # another\nservice: a\n")
	if before.Hash != same.Hash || !cmp.Equal(before.Fields, same.Fields) {
		t.Errorf("another layout has other hashes:\n%s %v\n%s %v", before.Hash, before.Fields, same.Hash, same.Fields)
	}
	for _, edit := range [][2]string{{"1s", "2s"}, {"attempts: 1", "attempts: 2"}, {"reset, \"503\"", "\"503\", reset"}, {"service: a", "service: b"}} {
		after := parse(t, strings.Replace(text, edit[0], edit[1], 1))
		if after.Hash == before.Hash {
			t.Errorf("%s for %s leaves the document's hash", edit[1], edit[0])
		}
	}
}

func TestAnEditChangesTheHashOfItsFieldAlone(t *testing.T) {
	before := parse(t, "kind: Traffic\nservice: a\ntimeout: 1s\nretries: {attempts: 1}\n")
	after := parse(t, "kind: Traffic\nservice: a\ntimeout: 1s\nretries: {attempts: 2}\n")
	var changed []string
	for field, hash := range after.Fields {
		if before.Fields[field] != hash {
			changed = append(changed, field)
		}
	}
	if diff := cmp.Diff([]string{"retries"}, changed); diff != "" {
		t.Errorf("changed fields (-want +got):\n%s", diff)
	}
}

func TestDefaultsFillWhatWasWrittenAndSwitchNothingOn(t *testing.T) {
	written := parse(t, "kind: Traffic\nservice: a\nretries: {attempts: 2, backOff: {max: 1s}}\nroutes: [{name: r, to: [{service: b}]}]\n").Traffic
	kept := parse(t, "kind: Traffic\nservice: a\nretries: {attempts: 2, backOff: {max: 1s}}\nroutes: [{name: r, to: [{service: b}]}]\n").Traffic
	want := Traffic{
		Service: ServiceRef{Name: "a"},
		TrafficSettings: TrafficSettings{
			Retries: &Retries{
				Attempts: 2,
				On:       []Condition{OnConnectFailure, OnRefusedStream},
				Methods:  []Method{"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"},
				BackOff:  &BackOff{Base: span(25 * time.Millisecond), Max: span(time.Second)},
			},
			LoadBalancer: &LoadBalancer{Policy: LeastRequest, PanicThreshold: new(Percent(0))},
			Connection:   &Connection{ConnectTimeout: span(10 * time.Second), HTTP: HTTPAuto},
		},
		Routes: []Route{{Name: "r", To: []Target{{Service: ServiceRef{Name: "b"}, Weight: new(uint32(1))}}}},
	}
	if diff := cmp.Diff(want, WithDefaults(*written)); diff != "" {
		t.Errorf("with defaults (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(kept, written); diff != "" {
		t.Errorf("the document itself has changed (-want +got):\n%s", diff)
	}
}

func TestWritingTheBuiltInValuesOutChangesNothing(t *testing.T) {
	const head = "kind: Traffic\nservice: a\n"
	for _, c := range []struct{ short, long string }{
		{
			"retries: {attempts: 1}",
			"retries: {attempts: 1, on: [connect-failure, refused-stream], methods: [GET, HEAD, OPTIONS, TRACE, PUT, DELETE], backOff: {base: 25ms, max: 250ms}}",
		},
		{"retries: {attempts: 1, budget: {}}", "retries: {attempts: 1, budget: {percent: 20, minConcurrency: 3}}"},
		{
			"outlierDetection: {successRate: {}}",
			"outlierDetection: {consecutive5xx: 5, consecutiveGatewayErrors: 0, consecutiveLocalOrigin: 0, interval: 10s, baseEjection: 30s," +
				" maxEjection: 5m, maxEjectionPercent: 50, successRate: {minimumHosts: 5, requestVolume: 100, stdevFactor: 1.9}}",
		},
		{"healthCheck: {path: /}", "healthCheck: {path: /, interval: 10s, timeout: 1s, unhealthyThreshold: 3, healthyThreshold: 2}"},
		{"", "loadBalancer: {policy: least-request, panicThreshold: 0}\nconnection: {connectTimeout: 10s, http: auto}"},
		{
			"loadBalancer: {policy: ring-hash, hashOn: [{cookie: {name: a}}], ringSize: {}}",
			"loadBalancer: {policy: ring-hash, hashOn: [{cookie: {name: a, ttl: 0s, path: /}}], ringSize: {min: 1024, max: 8388608}}",
		},
		{
			"routes: [{name: r, rateLimit: {requests: 1}, mirror: [{service: b}], fault: {delay: {duration: 1s}, abort: {status: 503}}}]",
			"routes: [{name: r, rateLimit: {requests: 1, per: 1s}, mirror: [{service: b, percent: 100}], fault: {delay: {duration: 1s, percent: 100}, abort: {status: 503, percent: 100}}}]",
		},
		{"routes: [{name: r, redirect: {path: /}}]", "routes: [{name: r, redirect: {path: /, status: 302}}]"},
	} {
		short, long := parse(t, head+c.short+"\n").Traffic, parse(t, head+c.long+"\n").Traffic
		if diff := cmp.Diff(WithDefaults(*short), WithDefaults(*long)); diff != "" {
			t.Errorf("%s\nis not the same as\n%s\n(-short +long):\n%s", c.short, c.long, diff)
		}
	}
}

func TestAPathOfADocumentIsFoundInItsFile(t *testing.T) {
	src := Source{
		Text: "kind: Traffic\nservice: a\nroutes:\n- name: r\n  to:\n  - {service: b, subset: {app.kubernetes.io/version: v2}}\n",
		File: "shop.yaml", Line: 11, Column: 4,
	}
	for _, c := range []struct {
		at           Path
		line, column int
	}{
		{"service", 12, 14},
		{Path("routes").Index(0).Field("to").Index(0).Field("subset").Key("app.kubernetes.io/version"), 16, 58},
		{Path("routes").Index(0).Field("to").Index(0).Field("port"), 16, 9}, // not written: what is around it
		{Path("routes").Index(0).Field("timeout"), 14, 7},
		{"routes[7]", 14, 5},
		{"", 11, 5},
	} {
		if line, column := Locate(src, c.at); line != c.line || column != c.column {
			t.Errorf("%q is at %d:%d, want %d:%d", c.at, line, column, c.line, c.column)
		}
	}
}
