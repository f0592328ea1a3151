package wire_test

import (
	"fmt"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"github.com/heddle-mesh/heddle/test/wire"
)

func TestConsistentHashingKeepsLikeRequestsAtOnePod(t *testing.T) {
	mesh := wire.Start(t, "consistent-hash")
	web := mesh.Caller("web")
	const kinds, repeats = 20, 5

	// sticks sends every kind of request several times and wants all kinds to stick, and not all at one pod.
	sticks := func(t *testing.T, send func(kind int) *wire.Response) {
		t.Helper()
		used := map[string]bool{}
		for kind := range kinds {
			pod := send(kind).WantStatus(http.StatusOK).Facts().Pod
			used[pod] = true
			for range repeats {
				send(kind).WantFrom(pod)
			}
		}
		if len(used) < 2 {
			t.Errorf("all %d kinds of requests went to %v: nothing was balanced", kinds, used)
		}
	}
	mesh.Run("by header", func(t *testing.T) {
		sticks(t, func(kind int) *wire.Response {
			return web.Get("http://by-header:8080/", wire.Header("x-user", fmt.Sprint("user-", kind)))
		})
	})
	mesh.Run("by query parameter", func(t *testing.T) {
		sticks(t, func(kind int) *wire.Response {
			return web.Get(fmt.Sprintf("http://by-query:8080/?page=1&basket=%d", kind))
		})
	})
	mesh.Run("by what a route says in place of its Service", func(t *testing.T) {
		// One user throughout, by whom all would meet one pod; and on other paths many users with one basket.
		sticks(t, func(kind int) *wire.Response {
			return web.Get(fmt.Sprintf("http://by-route:8080/basket?basket=%d", kind), wire.Header("x-user", "one"))
		})
		sticks(t, func(kind int) *wire.Response {
			return web.Get("http://by-route:8080/?basket=1", wire.Header("x-user", fmt.Sprint("user-", kind)))
		})
	})
	// Clients with an address and a connection each: the cookie that Envoy makes is a hash of the connection's addresses.
	callers := map[int]*wire.Caller{}
	for kind := range kinds {
		callers[kind] = web.From(netip.AddrFrom4([4]byte{127, 0, 1, byte(kind + 1)}))
	}
	mesh.Run("by the caller's address", func(t *testing.T) {
		sticks(t, func(kind int) *wire.Response { return callers[kind].Get("http://by-source:8080/") })
	})
	mesh.Run("by one thing alone where that is said to be enough", func(t *testing.T) {
		sticks(t, func(kind int) *wire.Response { return callers[kind].Get("http://by-user:8080/") })
		user := wire.Header("x-user", "user-1")
		pod := web.Get("http://by-user:8080/", user).WantStatus(http.StatusOK).Facts().Pod
		for _, c := range callers {
			c.Get("http://by-user:8080/", user).WantFrom(pod)
		}
	})
	mesh.Run("by a cookie that the mesh sets", func(t *testing.T) {
		cookies := map[int]string{}
		sticks(t, func(kind int) *wire.Response {
			if cookies[kind] != "" {
				return callers[kind].Get("http://by-cookie:8080/", wire.Header("cookie", cookies[kind]))
			}
			got := callers[kind].Get("http://by-cookie:8080/")
			for _, c := range (&http.Response{Header: got.Header}).Cookies() {
				if c.Name == "session" && c.MaxAge == 3600 && c.Path == "/" {
					cookies[kind] = c.Name + "=" + c.Value
				}
			}
			if cookies[kind] == "" {
				t.Fatalf("the first answer sets no cookie: %v", got.Header)
			}
			return got
		})
	})
}

func TestRingsAndTablesAreAsLargeAsThePolicySays(t *testing.T) {
	mesh := wire.Start(t, "consistent-hash")
	for service, want := range map[string]int{
		"by-header":   3, // 1,024 places and more
		"small-ring":  1,
		"small-table": 2,
	} {
		var all []*wire.Response
		for user := range 60 {
			all = append(all, mesh.Get("http://"+service+":8080/", wire.Header("x-user", fmt.Sprint("user-", user))).WantStatus(http.StatusOK))
		}
		if got := wire.Pods(all); len(got) != want {
			t.Errorf("%s: answers came from %v, want %d of the three pods", service, got, want)
		}
	}
}

func TestSessionAffinityKeepsACallerAtOnePod(t *testing.T) {
	mesh := wire.Start(t, "consistent-hash")
	web := mesh.Caller("web")
	pod := web.Get("http://by-affinity:8080/").WantStatus(http.StatusOK).Facts().Pod
	for _, got := range web.Times(20, "http://by-affinity:8080/") {
		got.WantFrom(pod)
	}
}

func TestLoadBalancersChooseAsTheySay(t *testing.T) {
	mesh := wire.Start(t, "load-balancer")
	web := mesh.Caller("web")
	const n = 300

	mesh.Run("one after the other", func(t *testing.T) {
		for pod, got := range wire.Pods(web.Times(n, "http://in-turn:8080/")) {
			if got != n/3 {
				t.Errorf("%s answered %d of %d requests, want a third", pod, got, n)
			}
		}
	})
	mesh.Run("at random", func(t *testing.T) {
		for pod, got := range wire.Pods(web.Times(n, "http://at-random:8080/")) {
			wire.WantShare(t, pod, got, n, 1.0/3)
		}
	})
	mesh.Run("where least is under way", func(t *testing.T) {
		// A request that meets the slow pod stays there, so it gets the next only if it is both of the two pods that are
		// looked at: one of nine times.
		const n = 90
		gate := wire.NewGate()
		mesh.App("catalog-1").Does(gate.Behind)
		var answers []*wire.Pending
		for i := range n {
			answers = append(answers, web.Begin(1, http.MethodGet, "http://least-busy:8080/"))
			mesh.Eventually("the request arrives", func() bool { return mesh.Apps("catalog").Requests() == i+1 })
		}
		wire.WantShare(t, "the busy pod", len(mesh.App("catalog-1").Requests()), n, 1.0/9)
		gate.Open()
		for _, a := range answers {
			a.All()
		}
	})
}

func TestANewPodsShareGrows(t *testing.T) {
	t.Parallel() // it mostly waits
	mesh := wire.Start(t, "load-balancer")
	web := mesh.Caller("web")
	const url, window = "http://growing:8080/", 3 * time.Second
	web.Get(url).WantStatus(http.StatusOK).WantFrom("catalog-1")
	<-time.After(window) // the first pod was new as well

	edited := time.Now()
	mesh.Edit("name: catalog-2}}", "ready: false", "ready: true")
	mesh.Eventually("the new pod is used", func() bool { return web.Get(url).Facts().Pod == "catalog-2" })
	const n = 60
	early := wire.Pods(web.Times(n, url))["catalog-2"]
	// Its weight is at most the part of the window that is over, and a tenth at least.
	weight := max(0.1, min(1, time.Since(edited).Seconds()/window.Seconds()))
	if most := n*weight/(1+weight) + 5; float64(early) > most {
		t.Errorf("the new pod got %d of the first %d requests, want at most %.0f", early, n, most)
	}
	mesh.Eventually("the new pod has its full share", func() bool { return wire.Pods(web.Times(n, url))["catalog-2"] == n/2 })
}

func TestPodsInTheCallersZoneComeFirst(t *testing.T) {
	mesh := wire.Start(t, "locality")
	web := mesh.Caller("web")
	for _, got := range web.Times(20, "http://catalog:8080/") {
		got.WantFrom("catalog-a")
	}

	mesh.Edit("name: catalog-a}}", "ready: true", "ready: false")
	mesh.Eventually("the other zone is used", func() bool { return web.Get("http://catalog:8080/").Facts().Pod == "catalog-b" })
	for _, got := range web.Times(20, "http://catalog:8080/") {
		got.WantFrom("catalog-b")
	}
}
