package mesh

import (
	"testing"
	"time"

	"github.com/heddle-mesh/heddle/model"
)

func TestAPolicyInTheServicesNamespaceHoldsForAllCallers(t *testing.T) {
	s := meshOf(aService("shop/catalog", "10.96.0.1"))
	ch := s.Apply(events(aPolicy("shop/catalog", "kind: Traffic\nservice: catalog\ntimeout: 2s\n")))
	want(t, "changed", ch.Outbounds, []View{{Key: key("shop/catalog")}})
	want(t, "timeout", trafficOf(s, "", "shop/catalog").Timeout, 2*time.Second)
	origin := trafficOf(s, "", "shop/catalog").Origin("timeout")
	if origin.Hash == "" {
		t.Error("the origin has no hash")
	}
	origin.Hash = ""
	want(t, "origin", origin, model.Origin{Kind: "ConfigMap", Key: key("shop/catalog"), Item: "traffic.yaml", Part: "timeout"})

	ch = s.Apply(gone(aPolicy("shop/catalog", "")))
	want(t, "changed", ch.Outbounds, []View{{Key: key("shop/catalog")}})
	want(t, "timeout", trafficOf(s, "", "shop/catalog").Timeout, 0)
}

func TestAPolicyInACallersNamespaceHoldsForThatNamespaceAlone(t *testing.T) {
	s := meshOf(
		aService("shop/catalog", "10.96.0.1"),
		aPolicy("shop/producer", "kind: Traffic\nservice: catalog\ntimeout: 2s\nidleTimeout: 1m\n"),
		aPolicy("heddle-system/mesh", "kind: Mesh\ndefaults: {traffic: {timeout: 9s, retries: {attempts: 1}}}\n"),
	)
	shared := s.Outbound(View{Key: key("shop/catalog")})
	ch := s.Apply(events(aPolicy("web/consumer", "kind: Traffic\nservice: shop/catalog\ntimeout: 5s\n")))
	want(t, "changed", ch.Outbounds, []View{{"web", key("shop/catalog")}})
	if s.Outbound(View{Key: key("shop/catalog")}) != shared {
		t.Error("the view of all others was made anew")
	}
	want(t, "views", s.Views(key("shop/catalog")), []View{{Key: key("shop/catalog")}, {"web", key("shop/catalog")}})
	own := trafficOf(s, "web", "shop/catalog")
	want(t, "the caller's", own.Timeout, 5*time.Second)
	want(t, "the producer's", own.IdleTimeout, time.Minute)
	want(t, "the mesh's", own.Retries.Attempts, 1)
	want(t, "others'", shared.Traffic.Timeout, 2*time.Second)
	want(t, "part of the mesh's document", own.Origin("retries").Part, "defaults.traffic.retries")

	ch = s.Apply(gone(aPolicy("web/consumer", "")))
	want(t, "changed", ch.Outbounds, []View{{"web", key("shop/catalog")}})
	if s.Outbound(View{"web", key("shop/catalog")}) != nil {
		t.Error("the caller's view is left")
	}
}

func TestWithoutPolicyTheMeshAddsNoLimit(t *testing.T) {
	s := meshOf(aService("shop/catalog", "10.96.0.1"), aService("shop/cart", "10.96.0.2"))
	got := trafficOf(s, "", "shop/catalog")
	want(t, "traffic", got, &model.Traffic{
		Connection: model.Connection{ConnectTimeout: 10 * time.Second}, Origins: map[model.Field]model.Origin{},
	})
	if got != trafficOf(s, "", "shop/cart") {
		t.Error("two Services without policies do not share their Traffic")
	}
	want(t, "settings", s.Settings(), &model.Settings{
		DetectionTimeout: 100 * time.Millisecond, TrustDomain: "cluster.local", ClusterDomain: "cluster.local", ConnectionAge: time.Hour, Origins: map[model.Field]model.Origin{},
	})
}

func TestTheOlderPolicyHasAFieldAndTheOtherIsTold(t *testing.T) {
	s := meshOf(
		aService("shop/catalog", "10.96.0.1"),
		aPolicy("shop/b", "kind: Traffic\nservice: catalog\ntimeout: 2s\nidleTimeout: 1m\n", created(2)),
		aPolicy("shop/c", "kind: Traffic\nservice: catalog\ntimeout: 3s\n", created(1)),
		aPolicy("shop/a", "kind: Traffic\nservice: catalog\n\nidleTimeout: 2m\n", created(2)),
	)
	got := trafficOf(s, "", "shop/catalog")
	want(t, "by age", got.Timeout, 3*time.Second)
	want(t, "by name", got.IdleTimeout, 2*time.Minute)
	want(t, "loser", problems(s, "shop/b"), []string{
		"-:3:10: HDL1601: warning: timeout: has no effect: traffic.yaml in ConfigMap shop/c sets it too, and is older or first by name; remove it from one of the two",
		"-:4:14: HDL1601: warning: idleTimeout: has no effect: traffic.yaml in ConfigMap shop/a sets it too, and is older or first by name; remove it from one of the two",
	})
	want(t, "winners", append(problems(s, "shop/a"), problems(s, "shop/c")...), nil)

	ch := s.Apply(gone(aPolicy("shop/c", "")))
	want(t, "next in line", trafficOf(s, "", "shop/catalog").Timeout, 2*time.Second)
	if len(ch.Policies) != 2 || !ch.Policies[1].Gone || len(ch.Policies[0].Problems) != 1 {
		t.Errorf("statuses that changed: %+v", ch.Policies)
	}
}

func TestAnEditOfOneFieldLeavesTheOriginsOfTheOthers(t *testing.T) {
	text := "kind: Traffic\nservice: catalog\nidleTimeout: 1m\ntimeout: "
	mesh := "kind: Mesh\ndefaults: {traffic: {connection: {connectTimeout: 1s}, retries: {attempts: 1}, outlierDetection: {interval: "
	s := meshOf(aService("shop/catalog", "10.96.0.1"), aPolicy("shop/p", text+"2s"), aPolicy("heddle-system/mesh", mesh+"5s}}}"))
	before := trafficOf(s, "", "shop/catalog").Origins
	s.Apply(events(aPolicy("shop/p", text+"3s"), aPolicy("heddle-system/mesh", mesh+"6s}}}")))
	after := trafficOf(s, "", "shop/catalog").Origins
	for _, same := range []model.Field{"idleTimeout", "connection", "retries"} {
		want(t, string(same), after[same], before[same])
	}
	for _, changed := range []model.Field{"timeout", "outlierDetection"} {
		if before[changed] == after[changed] {
			t.Errorf("%s: the origin did not change", changed)
		}
	}
}

func TestACallersNamespaceHasNoSayInWhatHappensAtTheServer(t *testing.T) {
	s := meshOf(
		aService("shop/catalog", "10.96.0.1"),
		aPolicy("web/consumer", `kind: Traffic
service: shop/catalog
healthCheck: {path: /healthz}
loadBalancer: {policy: random, locality: prefer}
routes:
- name: all
  rateLimit: {requests: 5}
`))
	got := trafficOf(s, "web", "shop/catalog")
	want(t, "balancing", got.LoadBalancer.Policy, model.Random)
	want(t, "check", got.HealthCheck, nil)
	want(t, "closeness", s.Endpoints(key("shop/catalog")).Prefer, model.PreferNone)
	want(t, "problems", problems(s, "web/consumer"), []string{
		"-:3:1: HDL1508: warning: healthCheck: has no effect from namespace web, since pods of shop run it; write it in the Service's own namespace",
		"-:4:42: HDL1614: warning: loadBalancer.locality: has no effect from namespace web, since all callers share the list of endpoints; write it in the Service's own namespace",
		"-:7:3: HDL1508: warning: routes[0].rateLimit: has no effect from namespace web, since pods of shop enforce it; write it in the Service's own namespace",
	})
}

func TestLocalityIsThePolicysElseTheServices(t *testing.T) {
	prefer := func(p model.Preference, locality string) model.Preference {
		return meshOf(
			aService("shop/catalog", "10.96.0.1", func(s *model.Service) { s.Prefer = p }),
			aPolicy("shop/p", "kind: Traffic\nservice: catalog\nloadBalancer: {"+locality+"}"),
		).Endpoints(key("shop/catalog")).Prefer
	}
	want(t, "policy off", prefer(model.PreferZone, "locality: off"), model.PreferNone)
	want(t, "policy prefer", prefer(model.PreferNone, "locality: prefer"), model.PreferZone)
	want(t, "nearer still", prefer(model.PreferNode, "locality: prefer"), model.PreferNode)
	want(t, "the Service's", prefer(model.PreferZone, "policy: random"), model.PreferZone)
}

func TestMeshDefaultsComeFromTheControlPlanesNamespaceOnly(t *testing.T) {
	s := meshOf(aService("shop/catalog", "10.96.0.1"), aPod("shop/a", "10.1.0.1"))
	mesh := "kind: Mesh\nunknownDestinations: refuse\ndetectionTimeout: 50ms\ndefaults: {traffic: {timeout: 4s}}\n"
	ch := s.Apply(events(aPolicy("shop/mesh", mesh)))
	want(t, "changed", len(ch.Outbounds), 0)
	want(t, "accepted", ch.Policies[0].Accepted, false)

	ch = s.Apply(events(aPolicy("heddle-system/mesh", mesh)))
	want(t, "settings changed", ch.Settings, true)
	want(t, "views", ch.Outbounds, []View{{Key: key("shop/catalog")}})
	want(t, "workloads", ch.Workloads, []model.Key{key("shop/a")})
	want(t, "timeout", trafficOf(s, "", "shop/catalog").Timeout, 4*time.Second)
	want(t, "detection", s.Settings().DetectionTimeout, 50*time.Millisecond)
	want(t, "refuse", s.Settings().RefuseUnknown, true)

	s.Apply(events(aPolicy("heddle-system/other", "kind: Mesh\ndetectionTimeout: 70ms\n", created(2))))
	want(t, "the older", s.Settings().DetectionTimeout, 50*time.Millisecond)
	want(t, "loser", problems(s, "heddle-system/other"), []string{
		"-:2:19: HDL1601: warning: detectionTimeout: has no effect: traffic.yaml in ConfigMap heddle-system/mesh sets it too, and is older or first by name; remove it from one of the two",
	})
}

func TestRetriesHaveABudgetUnlessAFixedNumberBoundsThem(t *testing.T) {
	budgetOf := func(text string) *model.RetryBudget {
		return trafficOf(meshOf(aService("shop/catalog", "10.96.0.1"), aPolicy("shop/p", "kind: Traffic\nservice: catalog\n"+text)), "", "shop/catalog").Budget
	}
	want(t, "no retries", budgetOf("timeout: 1s"), nil)
	want(t, "retries", budgetOf("retries: {attempts: 2}"), &model.RetryBudget{Percent: 20, MinConcurrency: 3})
	want(t, "a route's retries", budgetOf("routes: [{name: all, retries: {attempts: 2}}]"), &model.RetryBudget{Percent: 20, MinConcurrency: 3})
	want(t, "written", budgetOf("retries: {attempts: 2, budget: {percent: 50}}"), &model.RetryBudget{Percent: 50, MinConcurrency: 3})
	want(t, "maxRetries", budgetOf("retries: {attempts: 2}\ncircuitBreaker: {maxRetries: 5}"), nil)

	s := meshOf(aService("shop/catalog", "10.96.0.1"),
		aPolicy("shop/a", "kind: Traffic\nservice: catalog\nretries: {attempts: 2, budget: {percent: 50}}"),
		aPolicy("shop/b", "kind: Traffic\nservice: catalog\ncircuitBreaker: {maxRetries: 5}"))
	want(t, "of two documents", trafficOf(s, "", "shop/catalog").Budget, nil)
	want(t, "told", problems(s, "shop/a"), []string{
		"-:3:32: HDL1601: warning: retries.budget: has no effect: maxRetries of the circuitBreaker of shop/b holds; remove one of the two"})
}

func TestEveryFieldOfTrafficArrives(t *testing.T) {
	percent := 40.0
	s := meshOf(aService("shop/catalog", "10.96.0.1"), aPolicy("shop/p", `kind: Traffic
service: catalog
timeout: 2s
retries: {attempts: 3, perTryTimeout: 500ms, on: [connect-failure, reset, 503], methods: [GET], backOff: {base: 10ms, max: 1s}}
circuitBreaker: {maxConnections: 1, maxPendingRequests: 2, maxRequests: 3, maxConnectionsPerEndpoint: 5}
outlierDetection: {consecutive5xx: 5, consecutiveGatewayErrors: 6, consecutiveLocalOrigin: 7, successRate: {minimumHosts: 3}, interval: 1s, baseEjection: 2s, maxEjection: 3s, maxEjectionPercent: 20}
healthCheck: {path: /healthz, host: h, statuses: [200, 300-305], interval: 5s, timeout: 1s, unhealthyThreshold: 4, healthyThreshold: 5}
loadBalancer: {policy: ring-hash, hashOn: [{header: x-user, terminal: true}, {cookie: {name: c, ttl: 1m}}, {query: q}, {sourceIP: true}], panicThreshold: 40, ringSize: {min: 16, max: 32}}
connection: {connectTimeout: 3s, keepalive: {probes: 3, time: 4s, interval: 5s}, maxRequestsPerConnection: 7, http: "2"}
`))
	got := *trafficOf(s, "", "shop/catalog")
	got.Origins = nil
	want(t, "problems", problems(s, "shop/p"), nil)
	want(t, "traffic", got, model.Traffic{
		Timeout: 2 * time.Second,
		Retries: &model.Retries{Attempts: 3, PerTryTimeout: 500 * time.Millisecond, On: []model.Condition{model.OnConnectFailure, model.OnReset},
			Statuses: []uint32{503}, Methods: []string{"GET"}, BackOffBase: 10 * time.Millisecond, BackOffMax: time.Second},
		Budget:         &model.RetryBudget{Percent: 20, MinConcurrency: 3},
		CircuitBreaker: model.CircuitBreaker{MaxConnections: 1, MaxPendingRequests: 2, MaxRequests: 3, MaxConnectionsPerEndpoint: 5},
		Outlier: &model.OutlierDetection{Consecutive5xx: 5, ConsecutiveGatewayErrors: 6, ConsecutiveLocalOrigin: 7,
			SuccessRate: &model.SuccessRate{MinimumHosts: 3, RequestVolume: 100, StdevFactor: 1.9},
			Interval:    time.Second, BaseEjection: 2 * time.Second, MaxEjection: 3 * time.Second, MaxEjectionPercent: 20},
		HealthCheck: &model.HealthCheck{Kind: model.CheckHTTP, Path: "/healthz", Host: "h", Interval: 5 * time.Second, Timeout: time.Second,
			UnhealthyThreshold: 4, HealthyThreshold: 5, Statuses: []model.StatusRange{{First: 200, Last: 200}, {First: 300, Last: 305}}},
		LoadBalancer: model.LoadBalancer{Policy: model.RingHash, Panic: &percent, RingMin: 16, RingMax: 32, HashOn: []model.HashOn{
			{Header: "x-user", Terminal: true}, {Cookie: "c", CookieTTL: time.Minute, CookiePath: "/"}, {Query: "q"}, {SourceIP: true}}},
		Connection: model.Connection{ConnectTimeout: 3 * time.Second, MaxRequests: 7, HTTP: model.HTTPVersion2,
			Keepalive: &model.Keepalive{Probes: 3, Time: 4 * time.Second, Interval: 5 * time.Second}},
	})
}

func TestAllMethodsAreAnEmptyListAndNoAttemptsAreNoRetries(t *testing.T) {
	retriesOf := func(text string) *model.Retries {
		return trafficOf(meshOf(aService("shop/catalog", "10.96.0.1"),
			aPolicy("heddle-system/mesh", "kind: Mesh\ndefaults: {traffic: {retries: {attempts: 5}}}"),
			aPolicy("shop/p", "kind: Traffic\nservice: catalog\n"+text)), "", "shop/catalog").Retries
	}
	want(t, "all methods", retriesOf(`retries: {attempts: 1, methods: ["*"]}`).Methods, nil)
	want(t, "none, against the mesh's default", retriesOf("retries: {attempts: 0}"), nil)
}
