package live

import (
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/heddle-mesh/heddle/xds"
)

// An Envoy whose operator allows only the smallest regular expressions refuses what every other takes. Validation knows
// all other reasons for which an Envoy of ours refuses a policy, so this one is made.
const (
	fewInstructions = "/runtime_modify?re2.max_program_size.error_level=5"
	refusedRegex    = `routes:
- {name: odd, match: [{path: {regex: '/items/[a-z]+/[0-9]{8}'}}], to: [{service: catalog}]}`
)

// allowFewInstructions makes a sidecar refuse refusedRegex.
func allowFewInstructions(t *testing.T, p *pod) {
	t.Helper()
	if _, err := p.Post(t.Context(), fewInstructions); err != nil {
		t.Fatal(err)
	}
}

func TestWhatEnvoyRefusesLeavesTheRestWorkingAndTheLastGoodInForce(t *testing.T) {
	w := start(t)
	one := w.pod("catalog-1")
	catalog, other := w.service("catalog"), w.service("other")
	w.slice("catalog", ready(one))
	w.slice("other", ready(one))
	w.policy("catalog", generation(1))
	load := w.load(catalog)
	load.untilGeneration(1)
	good := w.plane.policy("catalog").Serving
	config := w.config(w.web)

	allowFewInstructions(t, w.web)
	allowFewInstructions(t, one)
	w.policy("catalog", refusedRegex)
	eventually(t, "enough sidecars have refused the edit", func() bool { return w.metric("heddle_policy_problems", "error") == 1 })
	w.wantRefused("catalog", good)
	if s := w.plane.policy("catalog"); !strings.Contains(s.Problems[0].Message, "program size") {
		t.Errorf("the problem does not say what Envoy said: %v", s.Problems)
	}
	if got := w.metric("heddle_xds_nacks_total", "route"); got < 2 {
		t.Errorf("%v refusals are counted, want one of each sidecar", got)
	}
	if got := generations(load.next(50)); got["1"] < 50 {
		t.Errorf("answers are under policies %v, want 1 alone", got)
	}
	w.wantConfig(w.web, config)
	w.policy("other", generation(7))
	eventually(t, "another Service's policy has effect", func() bool { return w.ask(other).generation == "7" })

	// Nothing of it is forgotten by a restart, nor tried on anybody again.
	w.kept(w.plane.policy("catalog").Hash)
	w.plane.stop()
	w.plane = w.serve()
	w.returned(w.web, one)
	w.wantRefused("catalog", good)
	if diff := cmp.Diff(map[xds.Type]int{}, w.plane.sent()); diff != "" {
		t.Errorf("resources sent after the restart (-want +got):\n%s", diff)
	}
	w.pod("late")
	if n := w.plane.count("", xds.Refused); n > 0 {
		t.Errorf("%d responses were refused after the restart, want none", n)
	}
	if got := generations(load.next(50)); got["1"] < 50 {
		t.Errorf("answers are under policies %v after the restart, want 1 alone", got)
	}

	w.policy("catalog", generation(3))
	load.untilGeneration(3)
	if s := w.plane.policy("catalog"); !s.Accepted {
		t.Errorf("status of the mended policy is %+v", s)
	}
	load.finish()
}

func TestAListenerThatASidecarCannotBindCostsNoOtherService(t *testing.T) {
	w := start(t)
	one := w.pod("catalog-1")
	catalog := w.service("catalog")
	w.slice("catalog", ready(one))
	load := w.load(catalog)

	address := netip.MustParseAddr("10.96.240.1")
	taken, err := net.Listen("tcp", netip.AddrPortFrom(within(w.web.capture.Bind, address), servicePort).String())
	if err != nil {
		t.Fatal(err)
	}
	w.service("unlucky", addressed(address))
	w.slice("unlucky", ready(one))
	eventually(t, "the sidecar refuses the listener", func() bool { return w.plane.count(w.id(w.web), xds.Refused, xds.Listener) > 0 })
	later := w.service("later")
	w.slice("later", ready(one))
	w.answers(later)
	if n := w.plane.count(w.id(one), xds.Refused); n > 0 {
		t.Errorf("the other sidecar refused %d responses", n)
	}

	if err := taken.Close(); err != nil {
		t.Fatal(err)
	}
	w.policy("unlucky", "idleTimeout: 1m") // another version, which is tried
	w.answers(address)
	load.next(75)
	load.finish()
}
