package translator_test

import (
	"fmt"
	"strings"
	"testing"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"github.com/heddle-mesh/heddle/policy"
	"github.com/heddle-mesh/heddle/translator"
)

// What is too much for one expression denies more, never less, and an Envoy takes what is left.
func TestADenialOfVeryManyAccountsIsTakenByEnvoyAndOpensNothing(t *testing.T) {
	for _, n := range []int{300, 1_500} {
		var from []string
		for i := range n {
			from = append(from, fmt.Sprintf("shop/account-%x-of-many", i*i))
		}
		w := world{access: policy.AccessOpen, services: map[string]map[uint16]uint16{"web": {80: 8080, 81: 8081, 82: 8080}, "db": {80: 5432}}}
		pod := compiled(t, w, []string{"kind: Mesh\naccess: open\n", "kind: Access\naction: deny\nrules: [{from: [" + strings.Join(from, ", ") + "]}]\n"})
		reaches := func(namespace, account string) bool {
			return matchesAny(pod.names["in|5432|mtls-tcp"], call{namespace: namespace, sa: account}.identity())
		}
		if reaches("shop", "account-1-of-many") || reaches("shop", "account-90-of-many") || !reaches("other", "account-1-of-many") {
			t.Errorf("%d accounts: who is denied gets through, or who is not does not", n)
		}
		if n == 300 && !reaches("shop", "account-1-of-man") {
			t.Errorf("%d accounts: another one is denied too", n)
		}
		// Where a certificate's names are checked, expressions are compiled once its secrets are there; in a route, at once.
		rc := &routev3.RouteConfiguration{Name: "all", VirtualHosts: []*routev3.VirtualHost{{Name: "all", Domains: []string{"*"}}}}
		for _, m := range pod.names["in|5432|mtls-tcp"] {
			rc.VirtualHosts[0].Routes = append(rc.VirtualHosts[0].Routes, &routev3.Route{
				Match: &routev3.RouteMatch{
					PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/"},
					Headers:       []*routev3.HeaderMatcher{{Name: "x", HeaderMatchSpecifier: &routev3.HeaderMatcher_StringMatch{StringMatch: m.Matcher}}},
				},
				Action: &routev3.Route_DirectResponse{DirectResponse: &routev3.DirectResponseAction{Status: 200}},
			})
		}
		var all served
		all.add("mesh", translator.Resources{Routes: []*routev3.RouteConfiguration{rc}})
		envoyAccepts(t, &all)
	}
}

func TestTheLongestPathToDenyIsTakenByEnvoy(t *testing.T) {
	w := world{services: map[string]map[uint16]uint16{"web": {80: 8080, 81: 8081, 82: 8080}, "db": {80: 5432}}}
	r := resources(t, w, []string{"kind: Mesh\naccess: open\n", "kind: Access\naction: deny\nrules: [{paths: ['" + strings.Repeat("/@", 2048) + "']}]\n"})
	var all served
	all.add("pod", translator.Resources{Routes: r.Routes})
	envoyAccepts(t, &all)
}
