package translator_test

import (
	"encoding/json"
	"flag"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/heddle-mesh/heddle/mesh"
	"github.com/heddle-mesh/heddle/model"
	"github.com/heddle-mesh/heddle/policy"
	"github.com/heddle-mesh/heddle/translator"
)

var givenSeed = flag.Uint64("seed", 0, "repeat a run of the property test; 0: another one each time")

// 2,000 sets of documents with 50 calls each. What Envoy is told must answer each call as the documents do.
func TestWhatIsCompiledAnswersEveryCallAsTheDocumentsSay(t *testing.T) {
	seed := *givenSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("seed %d", seed)
	r := random{rand.New(rand.NewPCG(seed, 0))}
	for range 2000 {
		w, texts := r.world()
		pod := compiled(t, w, texts)
		for range 50 {
			c := r.call()
			passes, audited := w.may(c)
			got, gotAudited := pod.may(t, c)
			if got != passes || passes && gotAudited != audited {
				t.Fatalf("seed %d: %+v passes: %v, with audit %v; the documents say %v, %v:\n%s",
					seed, c, got, gotAudited, passes, audited, texts)
			}
		}
	}
}

// compiled is what the sidecar of shop/web-1 is told.
func compiled(t *testing.T, w world, texts []string) receiver {
	t.Helper()
	return receiverOf(t, resources(t, w, texts))
}

// resources joins documents and translates what the sidecar of shop/web-1 receives.
func resources(t *testing.T, w world, texts []string) translator.Resources {
	t.Helper()
	s := mesh.New(mesh.Options{Namespace: "heddle-system"})
	ports := map[string]model.Service{
		"web": {Ports: []model.Port{{Name: "a", Number: 80, Protocol: model.HTTP, Declared: true}, {Name: "b", Number: 81, Protocol: model.HTTP, Declared: true}, {Name: "c", Number: 82, Protocol: model.HTTP, Declared: true}}},
		"db":  {Ports: []model.Port{{Name: "a", Number: 80, Protocol: model.TCP, Declared: true}}},
	}
	var events []model.Event
	for name, svc := range ports {
		svc.Key = model.Key{Namespace: podNamespace, Name: name}
		slice := &model.Slice{Key: svc.Key, Service: name, Endpoints: []model.SliceEndpoint{{Address: address, Ready: true, Pod: "web-1"}}}
		for _, p := range svc.Ports {
			slice.Ports = append(slice.Ports, model.SlicePort{Name: p.Name, Number: w.services[name][p.Number]})
		}
		events = append(events, model.Event{Service: &svc}, model.Event{Slice: slice})
	}
	key := model.Key{Namespace: podNamespace, Name: "web-1"}
	events = append(events, model.Event{Pod: &model.Pod{
		Key: key, UID: "u", ServiceAccount: "web", Meshed: true, Addresses: addresses, Labels: model.LabelsOf(map[string]string{"app": "web"}),
	}})
	for i, text := range texts {
		namespace := podNamespace
		if i == 0 {
			namespace = "heddle-system"
		}
		events = append(events, model.Event{Policy: &model.PolicyText{
			Key: model.Key{Namespace: namespace, Name: "p"}, UID: "u", Created: time.Unix(int64(i), 0),
			Documents: []model.PolicyDocument{{Item: "x.yaml", Text: text}},
		}})
		if i > 0 {
			events[len(events)-1].Policy.Key.Name = "p" + string(rune('a'+i))
		}
	}
	for _, status := range s.Apply(events).Policies {
		if !status.Accepted {
			t.Fatalf("the document %s is not good: %v", texts, status.Problems)
		}
	}
	return translator.Inbound(s.Workload(key), translator.Capture{})
}

// random makes documents and calls. Names are such that one could be taken for another.
type random struct{ *rand.Rand }

func pick[T any](r random, from ...T) T { return from[r.IntN(len(from))] }

func some[T any](r random, most int, from ...T) []T {
	r.Shuffle(len(from), func(i, j int) { from[i], from[j] = from[j], from[i] })
	return from[:r.IntN(most+1)]
}

func (r random) caller() (namespace, account string) {
	return pick(r, "shop", "shop", "sho", "shops", "admin"), pick(r, "web", "we", "web2", "w.b", "wxb", "w-b")
}

func (r random) world() (world, []string) {
	w := world{
		access: policy.AccessOpen, mtls: policy.MTLSPermissive,
		services: map[string]map[uint16]uint16{"web": {80: 8080, 81: 8081, 82: 8080}, "db": {80: 5432}},
	}
	m := policy.Mesh{Access: pick(r, "", "", policy.AccessOpen, policy.AccessAuthenticated, policy.AccessSameNamespace, policy.AccessDeny)}
	defaults := policy.AccessDefaults{MTLS: pick(r, "", "", policy.MTLSStrict), Mode: pick(r, "", "", policy.ModeAudit)}
	if m.Access != "" {
		w.access = m.Access
	}
	if defaults != (policy.AccessDefaults{}) {
		m.Defaults = &policy.Defaults{Access: &defaults}
	}
	if defaults.MTLS != "" {
		w.mtls = defaults.MTLS
	}
	texts := []string{text(policy.KindMesh, m)}
	for range r.IntN(5) {
		d := r.document()
		if d.Rules == nil && d.MTLS == "" && d.Ports == nil && d.Default == "" {
			d.MTLS = policy.MTLSPermissive
		}
		texts = append(texts, text(policy.KindAccess, d))
		w.docs = append(w.docs, written{Access: d, audit: d.Mode == policy.ModeAudit || d.Mode == "" && defaults.Mode == policy.ModeAudit})
	}
	return w, texts
}

func text(kind policy.Kind, v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	comma := ","
	if string(b) == "{}" {
		comma = ""
	}
	return `{"kind": "` + string(kind) + `"` + comma + string(b[1:])
}

func (r random) document() policy.Access {
	d := policy.Access{MTLS: pick(r, "", "", policy.MTLSStrict, policy.MTLSPermissive)}
	switch r.IntN(4) {
	case 0:
		d.Service = pick(r, "web", "db", "gone")
	case 1:
		d.Workload = policy.Labels{"app": pick(r, "web", "web", "db")}
	case 2:
		d.Default = pick(r, policy.AccessOpen, policy.AccessAuthenticated, policy.AccessSameNamespace, policy.AccessDeny)
	}
	if r.IntN(4) == 0 {
		d.Ports = map[policy.Port]policy.MTLSMode{pick[policy.Port](r, 80, 81, 82, 8080, 5432): pick(r, policy.MTLSStrict, policy.MTLSPermissive)}
	}
	if r.IntN(5) > 0 {
		d.Action = pick(r, "", policy.ActionAllow, policy.ActionDeny, policy.ActionDeny)
		rules := []policy.Rule{}
		for range r.IntN(4) {
			rules = append(rules, r.rule())
		}
		d.Rules = &rules
	}
	if d.Rules != nil || d.Default != "" {
		d.Mode = pick(r, "", "", policy.ModeEnforce, policy.ModeAudit)
	}
	return d
}

func (r random) rule() (out policy.Rule) {
	for range r.IntN(3) {
		namespace, account := r.caller()
		out.From = append(out.From, pick(r,
			policy.Caller{Namespace: namespace, ServiceAccount: account},
			policy.Caller{Namespace: namespace, ServiceAccount: account},
			policy.Caller{Namespace: namespace}))
	}
	if r.IntN(2) == 0 {
		out.Methods = some(r, 2, policy.Method("GET"), "PUT", "DELETE")
	}
	if r.IntN(2) == 0 {
		out.Paths = some(r, 2, policy.PathPattern("/"), "/*", "/a", "/a/", "/a*", "/a/*", "/a/b", "/ab*", "/a@b", "/a%40b", "/a.b", "/c%25*")
	}
	if r.IntN(3) == 0 {
		out.Ports = some(r, 2, policy.Port(80), 81, 82, 8080, 8081, 5432, 9000)
	}
	return out
}

func (r random) call() call {
	c := call{port: pick[uint16](r, 8080, 8080, 8081, 5432, 5432, 9000, 9999)}
	if r.IntN(4) > 0 {
		c.namespace, c.sa = r.caller()
	}
	if c.port != 8080 && c.port != 8081 {
		return c
	}
	c.method = pick(r, "GET", "PUT", "DELETE", "POST", "GETX")
	if c.overrideIsPresent = r.IntN(4) == 0; c.overrideIsPresent {
		c.override = pick(r, "", "put", "DELETE", "GET, PUT", "xget", "POST")
	}
	c.old = r.IntN(4) == 0
	for range 1 + r.IntN(3) {
		c.path += "/" + pick(r, "", "a", "a", "b", "ab", "a@b", "a%40b", "a.b", "aXb", "c%25", "c", "A", "a;x", ";x", ";", ".;x", "..;", "..;x", "%3b")
		if c.old {
			c.path += pick(r, "", "", "", "%2f", "%2F..", "%5ca", "%5C", `\b`)
		}
	}
	for i := 0; i+1 < len(c.path) && !c.old; i++ { // as a sidecar with rules on paths leaves one
		if c.path[i:i+2] == "//" {
			c.path, i = c.path[:i]+c.path[i+1:], i-1
		}
	}
	c.path += pick(r, "", "", "?", "?/a", "?a=/../b")
	return c
}
