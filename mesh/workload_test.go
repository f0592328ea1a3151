package mesh

import (
	"slices"
	"testing"
	"time"

	"github.com/heddle-mesh/heddle/model"
)

// one is the only port of shop/a.
func one(t *testing.T, s *State) model.InboundPort {
	t.Helper()
	ports := s.Workload(key("shop/a")).Ports
	if len(ports) != 1 {
		t.Fatalf("shop/a has the ports %+v, want one", ports)
	}
	return ports[0]
}

// catalog is a Service with one pod, shop/a, and a policy.
func catalog(text string, more ...any) *State {
	return meshOf(append([]any{
		aService("shop/catalog", "10.96.0.1"), aPod("shop/a", "10.1.0.1"),
		aSlice("shop/catalog-1", "catalog", at("a", "10.1.0.1")),
		aPolicy("shop/p", "kind: Traffic\nservice: catalog\n"+text),
	}, more...)...)
}

func TestAWorkloadReceivesOnDeclaredPortsAndOnThoseThatServicesTarget(t *testing.T) {
	s := meshOf(
		&model.Node{Name: "n1", Zone: "z1"},
		aService("shop/web", "10.96.0.1"),
		aPod("shop/a", "10.1.0.1", func(p *model.Pod) {
			p.Ports = []model.PodPort{{Name: "metrics", Number: 9100}, {Name: "grpc", Number: 9000, Protocol: model.GRPC, Declared: true}}
		}),
		aSlice("shop/web-1", "web", at("a", "10.1.0.1", notReady)),
	)
	got := s.Workload(key("shop/a"))
	want(t, "ports", got.Ports, []model.InboundPort{
		{Number: 8080, Protocol: model.HTTP, Declared: true, Services: []model.Key{web}, Access: &model.Access{}},
		{Number: 9000, Protocol: model.GRPC, Declared: true, Access: &model.Access{}},
		{Number: 9100, Access: &model.Access{}},
	})
	want(t, "all others", got.Undeclared, model.InboundPort{Protocol: model.TCP, Access: &model.Access{}})
	want(t, "location", got.Location, model.Location{Node: "n1", Zone: "z1"})
	want(t, "namespace", got.Namespace, "shop")
}

func TestOnlyPodsWithASidecarAreWorkloads(t *testing.T) {
	s := meshOf(aPod("shop/a", "10.1.0.1"), aPod("shop/b", "10.1.0.2", unmeshed),
		aPod("shop/c", "10.1.0.3", func(p *model.Pod) { p.HostNetwork = true }),
		aPod("shop/d", "10.1.0.4", deleted))
	want(t, "workloads", sortedKeys(s.workloads), []model.Key{key("shop/a"), key("shop/d")})
	ch := s.Apply(gone(aPod("shop/a", "10.1.0.1")))
	want(t, "changed", ch, Changes{Workloads: []model.Key{key("shop/a")}, Replaced: []model.Key{key("shop/a")}})
	want(t, "gone", s.Workload(key("shop/a")), nil)
}

func TestAPodIsReplacedByOneOfAnotherUIDOrAccount(t *testing.T) {
	pod := func(uid, account, node string) model.Event {
		return model.Event{Pod: aPod("shop/a", "10.1.0.1", func(p *model.Pod) { p.UID, p.ServiceAccount, p.Node = uid, account, node })}
	}
	s := meshOf()
	for _, step := range []struct {
		name     string
		event    model.Event
		replaced []model.Key
	}{
		{"it comes", pod("u1", "web", "n1"), nil},
		{"it moves", pod("u1", "web", "n2"), nil},
		{"another UID", pod("u2", "web", "n2"), []model.Key{key("shop/a")}},
		{"another account", pod("u2", "admin", "n2"), []model.Key{key("shop/a")}},
	} {
		want(t, step.name, s.Apply([]model.Event{step.event}).Replaced, step.replaced)
	}
}

func TestAServerThatIsHeardLateIsTold(t *testing.T) {
	s := meshOf(
		aService("shop/db", "10.96.0.1", ports(model.Port{Name: "http", Number: 3306, Protocol: model.TCP, Greets: true})),
		aPod("shop/a", "10.1.0.1"), aPod("shop/b", "10.1.0.2"), aSlice("shop/db-1", "db", at("a", "10.1.0.1"), at("b", "10.1.0.2")),
	)
	want(t, "once for two pods", s.Notices(), []Notice{{"Service", key("shop/db"),
		"at port 3306 the server speaks first: a caller without a sidecar hears it 100ms later, since until then it may yet prove who it is; callers with a sidecar do not wait, and mtls: strict ends the wait with the plain text"}})
	s.Apply(events(aPolicy("shop/strict", "kind: Access\nmtls: strict")))
	want(t, "where plain text is refused", s.Notices(), nil)
}

func TestTheOlderOfTwoServicesDecidesOnAPortsProtocol(t *testing.T) {
	raw := aService("shop/raw", "10.96.0.2", ports(model.Port{Name: "http", Number: 81, Protocol: model.TCP, Declared: true}),
		func(s *model.Service) { s.Created = day(2) })
	s := meshOf(
		aService("shop/web", "10.96.0.1"), raw, aPod("shop/a", "10.1.0.1"), aPod("shop/b", "10.1.0.2"),
		aSlice("shop/web-1", "web", at("a", "10.1.0.1"), at("b", "10.1.0.2")),
		aSlice("shop/raw-1", "raw", at("a", "10.1.0.1"), at("b", "10.1.0.2")),
	)
	want(t, "protocol", one(t, s).Protocol, model.HTTP)
	want(t, "services", one(t, s).Services, []model.Key{key("shop/raw"), web})
	notice := Notice{"Service", key("shop/raw"), "port 81 is declared tcp, but Service shop/web, which is older, declares the same port 8080 of its pods http, and so it is received; declare the same in both"}
	want(t, "once for two pods", s.Notices(), []Notice{notice})

	silent := *raw
	silent.Ports = []model.Port{{Name: "http", Number: 81}}
	s.Apply(events(&silent))
	want(t, "nothing declared is no conflict", slices.Contains(s.Notices(), notice), false)
	s.Apply(gone(aService("shop/web", "10.96.0.1")))
	want(t, "detected", one(t, s).Protocol, model.Detect)
}

func TestThePodsOwnWordCountsWhereNoServiceDeclares(t *testing.T) {
	s := meshOf(
		aService("shop/web", "10.96.0.1", ports(model.Port{Name: "http", Number: 80})),
		aPod("shop/a", "10.1.0.1", func(p *model.Pod) {
			p.Ports = []model.PodPort{{Number: 8080, Protocol: model.HTTP2, Declared: true}}
		}),
		aSlice("shop/web-1", "web", at("a", "10.1.0.1")),
	)
	want(t, "protocol", one(t, s).Protocol, model.HTTP2)
}

func TestRateLimitsOfRoutesHoldInTheServersPods(t *testing.T) {
	s := catalog(`routes:
- {name: health, match: [{path: {exact: /healthz}}]}
- {name: search, match: [{path: {prefix: /search}}], rateLimit: {requests: 5}}
- {name: rest, rateLimit: {requests: 100, burst: 200}}
- {name: never, rateLimit: {requests: 1}}
`)
	health := []model.Match{{Path: &model.PathMatch{Exact: "/healthz"}}}
	origin := trafficOf(s, "", "shop/catalog").Origin("routes")
	want(t, "limits", one(t, s).Limits, []model.RouteLimit{{
		Service: key("shop/catalog"), Route: "search", Matches: []model.Match{{Path: &model.PathMatch{Prefix: "/search"}}},
		Unless: health, Limit: model.RateLimit{Requests: 5, Per: time.Second, Burst: 5}, Origin: origin,
	}, {
		Service: key("shop/catalog"), Route: "rest",
		Unless: health, Limit: model.RateLimit{Requests: 100, Per: time.Second, Burst: 200}, Origin: origin,
	}})

	s.Apply(events(aPolicy("web/q", "kind: Traffic\nservice: shop/catalog\nroutes: [{name: x, rateLimit: {requests: 1}}]")))
	want(t, "a caller's namespace adds none", len(one(t, s).Limits), 2)
}

func TestALimitOnARouteToOtherServicesIsTold(t *testing.T) {
	s := catalog("routes: [{name: x, rateLimit: {requests: 1}, to: [{service: catalog}, {service: v2}]}]", aService("shop/v2", "10.96.0.2"))
	want(t, "problems", problems(s, "shop/p"), []string{
		"-:3:31: HDL1508: warning: routes[0].rateLimit: holds in the pods of Service shop/catalog alone, not in those of other Services that the route sends to; limit the rate in the policies of the other Services too"})
}

func TestAHealthCheckIsOfThePodsPortBehindTheServices(t *testing.T) {
	s := catalog("healthCheck: {path: /healthz}")
	check := model.HealthCheck{
		Port: 8080, Path: "/healthz", Host: "catalog", Interval: 10 * time.Second, Timeout: time.Second, UnhealthyThreshold: 3, HealthyThreshold: 2,
		Origin: trafficOf(s, "", "shop/catalog").Origin("healthCheck"),
	}
	want(t, "checks", s.Workload(key("shop/a")).Checks, []model.HealthCheck{check})

	s = catalog("healthCheck: {tcp: {}, port: 99}")
	want(t, "checks", s.Workload(key("shop/a")).Checks, nil)
	want(t, "problems", problems(s, "shop/p"), []string{
		"-:3:30: HDL1612: warning: healthCheck.port: Service shop/catalog has no port 99, so that nothing is checked; write a port of the Service, or none for its first"})

	s = catalog("healthCheck: {grpc: {service: x}}",
		aService("shop/other", "10.96.0.3", func(s *model.Service) { s.Created = day(2) }), aSlice("shop/other-1", "other", at("a", "10.1.0.1")),
		aPolicy("shop/q", "kind: Traffic\nservice: other\nhealthCheck: {path: /}"))
	want(t, "the older Service's", s.Workload(key("shop/a")).Checks[0].GRPCService, "x")
	want(t, "notice", s.Notices(), []Notice{{"Service", key("shop/other"),
		"its health check has no effect: port 8080 of its pods is checked as ConfigMap shop/p says for an older Service"}})
}

func TestFailureStreaksAreCountedWhereOutlierDetectionAsksForThem(t *testing.T) {
	want(t, "none", one(t, catalog("timeout: 1s")).Streak, 0)
	want(t, "by default", one(t, catalog("outlierDetection: {interval: 1s}")).Streak, 5)
	want(t, "switched off", one(t, catalog("outlierDetection: {consecutive5xx: 0}")).Streak, 0)
	s := catalog("outlierDetection: {consecutive5xx: 7}", aService("shop/other", "10.96.0.3"), aSlice("shop/other-1", "other", at("a", "10.1.0.1")),
		aPolicy("shop/q", "kind: Traffic\nservice: other\noutlierDetection: {consecutive5xx: 3}"))
	want(t, "the shortest of two Services", one(t, s).Streak, 3)
}

func TestStreaksOfFailedConnectionsAreCountedWhereTCPMayArrive(t *testing.T) {
	streaks := func(p model.Protocol, settings string) [2]uint32 {
		s := meshOf(aService("shop/catalog", "10.96.0.1", ports(model.Port{Name: "http", Number: 80, Protocol: p, Declared: true})),
			aPod("shop/a", "10.1.0.1"), aSlice("shop/catalog-1", "catalog", at("a", "10.1.0.1")),
			aPolicy("shop/p", "kind: Traffic\nservice: catalog\noutlierDetection: {"+settings+"}"))
		port := one(t, s)
		want(t, "ejection", port.Ejection, 30*time.Second)
		return [2]uint32{port.Streak, port.ConnectStreak}
	}
	want(t, "TCP, counted apart", streaks(model.TCP, "consecutiveLocalOrigin: 3"), [2]uint32{0, 3})
	want(t, "TCP, else as 5xx", streaks(model.TCP, "consecutive5xx: 4"), [2]uint32{0, 4})
	want(t, "HTTP", streaks(model.HTTP, "consecutiveLocalOrigin: 3"), [2]uint32{5, 0})
	want(t, "one of the two", streaks(model.Detect, "consecutiveLocalOrigin: 3"), [2]uint32{5, 3})
}

func TestAServersIdleTimeoutIsTheLongestThatACallerMayHave(t *testing.T) {
	want(t, "none", one(t, catalog("timeout: 1s")).IdleTimeout, 0)
	want(t, "the policy's", one(t, catalog("idleTimeout: 1m")).IdleTimeout, time.Minute)
	want(t, "a route's", one(t, catalog("idleTimeout: 1m\nroutes: [{name: a, idleTimeout: 1h}]")).IdleTimeout, time.Hour)
	want(t, "a route without", one(t, catalog("idleTimeout: 1m\nroutes: [{name: a, idleTimeout: 0s}]")).IdleTimeout, 0)
	want(t, "a caller's", one(t, catalog("idleTimeout: 1m",
		aPolicy("web/q", "kind: Traffic\nservice: shop/catalog\nidleTimeout: 2m"))).IdleTimeout, 2*time.Minute)
}

func TestTheHTTPVersionOfAnApplicationReachesItsSidecar(t *testing.T) {
	want(t, "auto", one(t, catalog("timeout: 1s")).HTTP, model.HTTPAuto)
	want(t, "two", one(t, catalog(`connection: {http: "2"}`)).HTTP, model.HTTPVersion2)
}
