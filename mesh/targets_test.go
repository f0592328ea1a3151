package mesh

import (
	"strings"
	"testing"
	"time"

	"github.com/heddle-mesh/heddle/model"
)

// split is a policy of shop/catalog with one route to the targets, written as YAML flow mappings.
func split(targets string) *model.PolicyText {
	return aPolicy("shop/p", "kind: Traffic\nservice: catalog\nroutes:\n- name: split\n  to: ["+targets+"]\n")
}

func number(n uint16, p model.Protocol) model.Port {
	return model.Port{Name: "p", Number: n, Protocol: p, Declared: true}
}

func TestARouteMaySendToServicesOfAnyNamespace(t *testing.T) {
	s := meshOf(
		aService("shop/catalog", "10.96.0.1"), aService("shop/v2", "10.96.0.2"), aService("lab/v3", "10.96.0.3"),
		split("{service: catalog, weight: 8}, {service: v2}, {service: lab/v3, weight: 0}"),
	)
	want(t, "targets", targetsOf(s, "", "shop/catalog"), []string{"shop/catalog:80[] 8", "shop/v2:80[] 1", "lab/v3:80[] 0"})
}

func TestAMissingServiceIsAnsweredAndTheWarningGoesWhenItAppears(t *testing.T) {
	s := meshOf(aService("shop/catalog", "10.96.0.1"), split("{service: catalog}, {service: v2}"))
	want(t, "targets", targetsOf(s, "", "shop/catalog"),
		[]string{"shop/catalog:80[] 1", "shop/v2:80[] 1 missing: there is no Service shop/v2"})
	want(t, "problems", problems(s, "shop/p"), []string{
		"-:5:38: HDL1611: warning: routes[0].to[1].service: there is no Service shop/v2: this share is answered 503; correct the name, or create the Service"})

	ch := s.Apply(events(aService("shop/v2", "10.96.0.2")))
	want(t, "changed", ch.Outbounds, []View{{Key: key("shop/catalog")}, {Key: key("shop/v2")}})
	want(t, "statuses", len(ch.Policies), 1)
	want(t, "targets", targetsOf(s, "", "shop/catalog"), []string{"shop/catalog:80[] 1", "shop/v2:80[] 1"})
	want(t, "problems", problems(s, "shop/p"), nil)

	s.Apply(gone(aService("shop/v2", "10.96.0.2")))
	want(t, "gone again", len(problems(s, "shop/p")), 1)

	outside := aService("shop/v2", "", func(s *model.Service) { s.Kind = model.ExternalName })
	s.Apply(events(outside))
	want(t, "an ExternalName", targetsOf(s, "", "shop/catalog")[1],
		"shop/v2:80[] 1 missing: Service shop/v2 is an ExternalName, which has no pods")
}

func TestATargetsPortIsTheOneWrittenElseTheSameNumberElseTheOnlyOne(t *testing.T) {
	s := meshOf(
		aService("shop/catalog", "10.96.0.1", ports(number(80, model.HTTP), number(90, model.HTTP), number(100, model.TCP))),
		aService("shop/one", "10.96.0.2", ports(number(8080, model.HTTP))),
		aService("shop/two", "10.96.0.3", ports(number(80, model.HTTP), number(81, model.HTTP))),
		split("{service: one}, {service: two}, {service: two, port: 81}, {service: two, port: 82}"),
	)
	of := func(i int) []string {
		var all []string
		for _, to := range s.Outbound(View{Key: key("shop/catalog")}).Ports[i].Routes[0].To {
			all = append(all, targetText(to))
		}
		return all
	}
	missing82 := "shop/two:82[] 1 missing: Service shop/two has no port 82"
	want(t, "port 80", of(0), []string{"shop/one:8080[] 1", "shop/two:80[] 1", "shop/two:81[] 1", missing82})
	want(t, "port 90", of(1), []string{"shop/one:8080[] 1", "shop/two:90[] 1 missing: Service shop/two has no port 90", "shop/two:81[] 1", missing82})
	want(t, "TCP port 100", of(2)[0], "shop/one:100[] 1 missing: Service shop/one has no port 100")
	const hint = " is answered 503; write the port that is meant"
	want(t, "problems", problems(s, "shop/p"), []string{
		"-:5:8: HDL1612: warning: routes[0].to[0]: Service shop/one has no port 100: this share of calls to port 100" + hint,
		"-:5:24: HDL1612: warning: routes[0].to[1]: Service shop/two has no port 90: this share of calls to port 90" + hint,
		"-:5:24: HDL1612: warning: routes[0].to[1]: Service shop/two has no port 100: this share of calls to port 100" + hint,
		"-:5:66: HDL1612: warning: routes[0].to[3]: Service shop/two has no port 82: this share" + hint,
	})
}

func TestHTTPRulesForTCPAreTold(t *testing.T) {
	s := meshOf(
		aService("shop/catalog", "10.96.0.1"), aService("shop/db", "10.96.0.2", ports(number(80, model.TCP))),
		split("{service: db}"),
		aPolicy("shop/q", "kind: Traffic\nservice: db\nroutes:\n- {name: a, match: [{method: GET}], to: [{service: db}]}\n- {name: b, to: [{service: db}]}\n"),
	)
	want(t, "target", problems(s, "shop/p"), []string{
		"-:5:8: HDL1615: warning: routes[0].to[0]: port 80 of Service shop/db is declared tcp, and is sent HTTP; route to a port with HTTP, or correct the port's name or appProtocol"})
	want(t, "Service", problems(s, "shop/q"), []string{
		"-:4:3: HDL1615: warning: routes[0]: has no effect: no port of Service shop/db may carry HTTP; correct the name or appProtocol of the Service's ports"})
	want(t, "a split of connections", targetsOf(s, "", "shop/db"), []string{"shop/db:80[] 1"})
}

func TestHTTPKeysForAServiceOfTCPAloneAreTold(t *testing.T) {
	const text = `kind: Traffic
service: db
timeout: 1s
idleTimeout: 1m
retries: {attempts: 2}
circuitBreaker: {maxConnections: 5, maxRequests: 5, maxRetries: 1}
outlierDetection: {consecutiveGatewayErrors: 2, successRate: {}}
loadBalancer: {policy: maglev, hashOn: [{header: x-user}, {sourceIP: true}]}
connection: {connectTimeout: 1s, http: "2", maxRequestsPerConnection: 1}
routes:
- {name: a, to: [{service: db}], timeout: 1s, idleTimeout: 1m, mirror: [{service: db}], fault: {abort: {status: 500}}, hashOn: [{sourceIP: true}]}
`
	tcp := func(n uint16) model.Port { return number(n, model.TCP) }
	s := meshOf(aService("shop/db", "10.96.0.2", ports(tcp(5432), tcp(5433))), aPolicy("shop/p", text))
	const reason = ": has no effect: it is for HTTP, and Service shop/db carries TCP alone, at ports 5432, 5433; remove it, or correct the name or appProtocol of the Service's ports"
	var told []string
	for _, at := range []string{
		"3:10: ~timeout", "5:10: ~retries", "6:50: ~circuitBreaker.maxRequests", "6:65: ~circuitBreaker.maxRetries",
		"7:46: ~outlierDetection.consecutiveGatewayErrors", "7:62: ~outlierDetection.successRate",
		"8:41: ~loadBalancer.hashOn[0]", "9:40: ~connection.http", "9:71: ~connection.maxRequestsPerConnection",
		"11:43: ~routes[0].timeout", "11:60: ~routes[0].idleTimeout", "11:72: ~routes[0].mirror", "11:96: ~routes[0].fault", "11:128: ~routes[0].hashOn",
	} {
		told = append(told, "-:"+strings.Replace(at, "~", "HDL1615: warning: ", 1)+reason)
	}
	want(t, "problems", problems(s, "shop/p"), told)

	s.Apply(events(aService("shop/db", "10.96.0.2", ports(tcp(5432), number(5433, model.Detect)))))
	want(t, "with a port that may carry HTTP", problems(s, "shop/p"), nil)
	s.Apply(events(aService("shop/db", "10.96.0.2", ports(tcp(5432)))))
	want(t, "with one port", strings.Contains(problems(s, "shop/p")[0], "TCP alone, at port 5432; "), true)
}

func TestAMirrorIsResolvedLikeATarget(t *testing.T) {
	s := meshOf(aService("shop/catalog", "10.96.0.1"), aService("shop/copy", "10.96.0.2", ports(number(8080, model.HTTP))),
		aPolicy("shop/p", "kind: Traffic\nservice: catalog\nroutes: [{name: all, mirror: [{service: copy, percent: 5}, {service: none}]}]"))
	want(t, "targets", targetsOf(s, "", "shop/catalog"), []string{
		"mirror shop/copy:8080[] 0", "mirror shop/none:80[] 0 missing: there is no Service shop/none"})
	want(t, "problems", problems(s, "shop/p"), []string{
		"-:3:70: HDL1611: warning: routes[0].mirror[1].service: there is no Service shop/none: these copies go nowhere; correct the name, or create the Service"})
	want(t, "percent", s.Outbound(View{Key: key("shop/catalog")}).Ports[0].Routes[0].Mirror[0].Percent, 5.0)
	want(t, "as written", trafficOf(s, "", "shop/catalog").Routes[0].Mirror[0].Target.Port, 0)
}

func subset(t *testing.T, s *State, service string) (outbound, endpoints []string) {
	t.Helper()
	for _, l := range s.Outbound(View{Key: key(service)}).Subsets {
		outbound = append(outbound, l.String())
	}
	for _, l := range s.Endpoints(key(service)).Subsets {
		endpoints = append(endpoints, l.String())
	}
	return outbound, endpoints
}

func TestAServiceHasTheSubsetsOfAllRoutesThatSendToThem(t *testing.T) {
	s := meshOf(
		aService("shop/catalog", "10.96.0.1"), aService("shop/cart", "10.96.0.2"),
		split("{service: catalog, subset: {version: v2}}, {service: catalog, subset: {version: v1, app: x}}, {service: catalog}"),
	)
	ch := s.Apply(events(aPolicy("web/q", "kind: Traffic\nservice: shop/cart\nroutes: [{name: a, to: [{service: catalog, subset: {version: v1}}]}]")))
	want(t, "changed", ch.Outbounds, []View{{"web", key("shop/cart")}, {Key: key("shop/catalog")}})
	want(t, "endpoints changed", ch.Endpoints, []model.Key{key("shop/catalog")})
	outbound, endpoints := subset(t, s, "shop/catalog")
	want(t, "clusters", outbound, []string{"app=x,version=v1", "version=v1", "version=v2"})
	want(t, "endpoints", endpoints, outbound)

	s.Apply(gone(aPolicy("web/q", "")))
	outbound, _ = subset(t, s, "shop/catalog")
	want(t, "after", outbound, []string{"app=x,version=v1", "version=v2"})
}

func TestASubsetWithoutEndpointsIsToldUntilItHasSome(t *testing.T) {
	v2 := func(p *model.Pod) { p.Labels = model.Labels{{Key: "version", Value: "v2"}} }
	s := meshOf(
		aService("shop/catalog", "10.96.0.1"), aPod("shop/a", "10.1.0.1"),
		aSlice("shop/catalog-1", "catalog", at("a", "10.1.0.1")),
		split("{service: catalog}, {service: catalog, subset: {version: v2}}"),
	)
	told := []string{
		"-:5:55: HDL1613: warning: routes[0].to[1].subset: no endpoint of Service shop/catalog has the labels version=v2: this share is answered 503; correct the labels, or wait for pods that have them"}
	want(t, "problems", problems(s, "shop/p"), told)
	want(t, "targets", targetsOf(s, "", "shop/catalog"), []string{"shop/catalog:80[] 1", "shop/catalog:80[version=v2] 1"})

	ch := s.Apply(events(aPod("shop/b", "10.1.0.2", v2), aSlice("shop/catalog-1", "catalog", at("a", "10.1.0.1"), at("b", "10.1.0.2"))))
	want(t, "problems", problems(s, "shop/p"), nil)
	want(t, "outbounds", ch.Outbounds, nil)
	s.Apply(gone(aPod("shop/b", "10.1.0.2")))
	want(t, "gone again", problems(s, "shop/p"), told)
}

func TestAPolicyForAServiceThatIsNotThereWaitsForIt(t *testing.T) {
	s := meshOf(aPolicy("shop/p", "kind: Traffic\nservice: catalog\ntimeout: 2s"))
	want(t, "problems", problems(s, "shop/p"), []string{
		"-:2:10: HDL1611: warning: service: there is no Service shop/catalog; correct the name, or create the Service"})
	s.Apply(events(aService("shop/catalog", "10.96.0.1")))
	want(t, "problems", problems(s, "shop/p"), nil)
	want(t, "timeout", trafficOf(s, "", "shop/catalog").Timeout, 2*time.Second)
}

func TestEveryPartOfARouteArrives(t *testing.T) {
	s := meshOf(aService("shop/catalog", "10.96.0.1"), aPolicy("shop/p", `kind: Traffic
service: catalog
routes:
- name: full
  match:
  - path: {prefix: /v2}
    headers: {x-canary: "1", x-b: {present: true}, x-a: {regex: "a+"}}
    query: {q: {prefix: z}}
    methods: [GET, POST]
    from: [shop/front, "admin/*", {namespace: web, labels: {app: x}}]
  - {path: {exact: /x}, method: PUT, headers: {x-no: {absent: true}}}
  - {path: {regex: "/y/.*"}}
  timeout: 1s
  idleTimeout: 0s
  retries: {attempts: 2}
  fault: {delay: {duration: 1s, percent: 5}, abort: {status: 500}, header: x-fault}
  rewrite: {path: /z, host: h}
  requestHeaders: {set: {b: "2", a: "1"}, add: {c: "3"}, remove: [e, d]}
  responseHeaders: {remove: [server-timing]}
  cors: {origins: ["https://a.example", {prefix: "https://b"}], methods: [GET], headers: [x-h], exposeHeaders: [x-e], maxAge: 1m, credentials: true}
  hashOn: [{sourceIP: true}]
- {name: away, match: [{path: {prefix: /old}}], redirect: {prefix: /new, port: 8443, scheme: https}}
- {name: direct, match: [{path: {prefix: /no}}], directResponse: {status: 404, body: "no\n"}}
- {name: limited, retries: {attempts: 0}, rateLimit: {requests: 10, per: 1m, burst: 20}}
`))
	want(t, "problems", problems(s, "shop/p"), nil)
	one, none, prefix, fault := time.Second, time.Duration(0), "/new", uint32(500)
	got := trafficOf(s, "", "shop/catalog").Routes
	want(t, "routes", got, []model.Route{{
		Name: "full",
		Matches: []model.Match{{
			Path: &model.PathMatch{Prefix: "/v2"},
			Headers: []model.ValueMatch{{Name: "x-a", Kind: model.ValueRegex, Value: "a+"}, {Name: "x-b", Kind: model.ValuePresent},
				{Name: "x-canary", Value: "1"}},
			Query:   []model.ValueMatch{{Name: "q", Kind: model.ValuePrefix, Value: "z"}},
			Methods: []string{"GET", "POST"},
			From: []model.Caller{{Namespace: "shop", Account: "front"}, {Namespace: "admin"},
				{Namespace: "web", Labels: model.Labels{{Key: "app", Value: "x"}}}},
		}, {
			Path: &model.PathMatch{Exact: "/x"}, Methods: []string{"PUT"}, Headers: []model.ValueMatch{{Name: "x-no", Kind: model.ValueAbsent}},
		}, {
			Path: &model.PathMatch{Regex: "/y/.*"},
		}},
		Timeout: &one, IdleTimeout: &none,
		Retries: &model.Retries{Attempts: 2, On: []model.Condition{model.OnConnectFailure, model.OnRefusedStream},
			Methods: []string{"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"}, BackOffBase: 25 * time.Millisecond, BackOffMax: 250 * time.Millisecond},
		Fault:           &model.Fault{Delay: &model.Delay{Duration: one, Percent: 5}, Abort: &model.Abort{Status: fault, Percent: 100}, Header: "x-fault"},
		Rewrite:         &model.Rewrite{Path: "/z", Host: "h"},
		RequestHeaders:  model.HeaderChange{Set: []model.Header{{Name: "a", Value: "1"}, {Name: "b", Value: "2"}}, Add: []model.Header{{Name: "c", Value: "3"}}, Remove: []string{"d", "e"}},
		ResponseHeaders: model.HeaderChange{Remove: []string{"server-timing"}},
		CORS: &model.CORS{Origins: []model.OriginMatch{{Exact: "https://a.example"}, {Prefix: "https://b"}}, Methods: []string{"GET"},
			Headers: []string{"x-h"}, Expose: []string{"x-e"}, MaxAge: time.Minute, Credentials: true},
		HashOn: []model.HashOn{{SourceIP: true}},
	}, {
		Name: "away", Matches: []model.Match{{Path: &model.PathMatch{Prefix: "/old"}}},
		Redirect: &model.Redirect{Scheme: "https", Port: 8443, Prefix: &prefix, Status: 302},
	}, {
		Name: "direct", Matches: []model.Match{{Path: &model.PathMatch{Prefix: "/no"}}},
		Direct: &model.DirectResponse{Status: 404, Body: "no\n"},
	}, {
		Name: "limited", NoRetries: true, RateLimit: &model.RateLimit{Requests: 10, Per: time.Minute, Burst: 20},
	}})
	want(t, "of the port", s.Outbound(View{Key: key("shop/catalog")}).Ports[0].Routes, got)
}
