package demo

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write what the code gives to testdata")

func f(v float64) *float64 { return &v }

// busy is a scene with everything in it.
func busy() scene {
	at := time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)
	edges := []Edge{
		{Source: "shop/catalog", Destination: "shop/inventory", Requests: 987, RPS: 49.35, Success: f(1), P50: f(3.8), P95: f(32.2), P99: f(45.2)},
		{Source: "shop/frontend", Destination: "shop/catalog", Requests: 987, RPS: 49.4, Success: f(0.9995), P50: f(5.4), P95: f(34.1), P99: f(51.8)},
		{Source: "shop/frontend", Destination: "shop/inventory", Requests: 72, RPS: 0},
		{Source: "shop/shoppers", Destination: "shop/frontend", Requests: 993, RPS: 49.65, Success: f(0.97), P50: f(6.9), P95: f(36.4), P99: f(1064.1)},
	}
	routes := []Route{{Source: "shop/frontend", Service: "shop/catalog", Route: "canary", Requests: 987, Targets: []Target{
		{Destination: "shop/catalog", Subset: "version=v1", Wanted: 0.9, Share: 0.8946},
		{Destination: "shop/catalog", Subset: "version=v2", Wanted: 0.1, Share: 0.1054},
	}}}
	return scene{
		now: at, elapsed: 42 * time.Second, folder: "examples/demo", sidecars: 7, rate: 50,
		live: Report{Edges: edges}, since: Report{Routes: routes},
		total: Report{
			Edges: edges, Routes: routes,
			Retries:   []Retries{{"shop/catalog", "shop/inventory", 22, 22, 0}, {"shop/frontend", "shop/inventory", 0, 0, 0}},
			Breakers:  []Breaker{{"shop/catalog", "shop/inventory", 8, 0, false}, {"shop/frontend", "shop/inventory", 8, 24, false}},
			Ejections: []Ejections{{"shop/catalog", "shop/inventory", 3, 6, 5, 1}},
		},
		heard: heard{changed: at.Add(-5 * time.Second), acked: 7, took: 38 * time.Millisecond, news: []news{
			{at.Add(-9 * time.Second), newsPolicy, "shop/inventory traffic.yaml: timeout 1s -> 2s"},
			{at.Add(-8 * time.Second), newsShop, "inventory-3 turns bad: it answers 503"},
			{at.Add(-7 * time.Second), newsMesh, "catalog took an endpoint of inventory out of use"},
			{at.Add(-5 * time.Second), newsPolicy, "shop/catalog traffic.yaml: routes[canary].to[0].weight 50 -> 90, routes[canary].to[1].weight 50 -> 10"},
			{at.Add(-4 * time.Second), newsMesh, "the breaker of frontend → inventory opened: 4 refused"},
			{at.Add(-3 * time.Second), newsMesh, "catalog gives an endpoint of inventory another chance"},
		}},
	}
}

func TestTheScreenIsTheGoldenOne(t *testing.T) {
	quiet := scene{now: busy().now, folder: "examples/demo", sidecars: 7, rate: 50}
	wrong := busy()
	wrong.heard.news = append(wrong.heard.news, news{wrong.now, newsWrong, "shop/catalog traffic.yaml refused: what was good before stays in force"},
		news{wrong.now, newsWrong, `examples/demo/catalog.yaml:12:7: HDL1102: routes: unknown field "weigth"; did you mean weight?`})
	wrong.since.Disagreements = []Disagreement{{"shop/catalog traffic.yaml", "900 of 1000 requests", "500"}}
	for name, c := range map[string]struct {
		scene scene
		size  size
	}{
		"80x24":       {busy(), size{80, 24}},
		"120x40":      {busy(), size{120, 40}},
		"first-frame": {quiet, size{80, 24}},
		"wrong-edit":  {wrong, size{80, 24}},
		"tiny":        {busy(), size{60, 10}},
		"narrow":      {busy(), size{20, 30}},
		"phone":       {wrong, size{40, 30}},
	} {
		t.Run(name, func(t *testing.T) {
			lines := c.scene.render(palette{}, c.size)
			if len(lines) != c.size.height {
				t.Errorf("%d lines on a screen of %d", len(lines), c.size.height)
			}
			for _, line := range lines {
				if n := utf8.RuneCountInString(line); n > c.size.width {
					t.Errorf("%d characters in a width of %d: %s", n, c.size.width, line)
				}
			}
			golden(t, name+".txt", strings.Join(lines, "\n")+"\n")
		})
	}
}

func TestNoScreenIsTooSmall(t *testing.T) {
	for at := (size{1, 1}); at.width <= 130; at = (size{at.width + 1, (at.height + 6) % 50}) {
		at.height = max(at.height, 1)
		for _, s := range []scene{busy(), {}} {
			lines := s.render(palette{}, at)
			if len(lines) != at.height {
				t.Errorf("%d lines on a screen of %v", len(lines), at)
			}
			for _, line := range lines {
				if n := utf8.RuneCountInString(line); n > at.width {
					t.Errorf("%d characters on a screen of %v: %s", n, at, line)
				}
			}
		}
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("(-want +got); run with -update if this is meant:\n%s", diff)
	}
}

func TestColoursTakeNoRoom(t *testing.T) {
	plain := busy().render(palette{}, size{80, 24})
	painted := busy().render(colours(), size{80, 24})
	c := colours()
	strip := strings.NewReplacer(c.bold, "", c.dim, "", c.red, "", c.green, "", c.yellow, "", c.cyan, "", c.reset, "")
	for i := range plain {
		if got := strings.TrimRight(strip.Replace(painted[i]), " "); got != plain[i] {
			t.Errorf("line %d: %q, without colours %q", i, got, plain[i])
		}
	}
}

func TestEdgesAreInTheOrderInWhichARequestTravels(t *testing.T) {
	edge := func(from, to string) Edge { return Edge{Source: from, Destination: to} }
	var got []string
	for _, e := range outsideIn([]Edge{edge("c", "d"), edge("b", "c"), edge("b", "d"), edge("a", "b"), edge("x", "y"), edge("y", "x")}) {
		got = append(got, fmt.Sprint(e.Source, e.Destination))
	}
	want := []string{"ab", "bc", "bd", "cd", "xy", "yx"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
