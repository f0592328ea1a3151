package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"github.com/heddle-mesh/heddle/controlplane/api"
)

// shown is what heddle proxy status prints of the two sample sidecars, with labels.
func shown(t *testing.T, output, selector string) string {
	t.Helper()
	proxies := sampleProxies(time.Date(2027, 1, 1, 12, 0, 0, 0, time.UTC))
	proxies[0].Labels = map[string]string{"app": "cart", "version": "v1"}
	proxies[1].Labels = map[string]string{"app": "web", "version": "v2", "canary": ""}
	var b strings.Builder
	f := proxyFlags{output: output, selector: selector}
	if err := f.show(&b, proxies, "shop"); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestSidecarsAreChosenByTheLabelsOfTheirPods(t *testing.T) {
	const cart, web = "pod/cart-6f7d8c9b5-4kq2z\n", "pod/web-7d4b9c5f6-x2x9z\n"
	for selector, want := range map[string]string{
		"":                        cart + web,
		"app=web":                 web,
		"app==web":                web,
		"app!=web":                cart,
		"canary":                  web,
		"!canary":                 cart,
		"version in (v1, v2)":     cart + web,
		"version notin (v1)":      web,
		"app=cart,version=v2":     "",
		"app in (web,cart),!none": cart + web,
	} {
		if got := shown(t, "name", selector); got != want {
			t.Errorf("-l %q: %q, want %q", selector, got, want)
		}
	}
	if got, want := shown(t, "table", "app=none"), "No sidecar of a pod with labels app=none is connected in namespace shop; -A looks in all\n"; got != want {
		t.Errorf("a table of nothing: %q, want %q", got, want)
	}
	if got := shown(t, "wide", "app=web"); !strings.Contains(got, "web-7d4b9c5f6-x2x9z") || strings.Contains(got, "cart") {
		t.Errorf("a table of some:\n%s", got)
	}
}

func TestYAMLOfSidecarsSaysWhatTheirJSONSays(t *testing.T) {
	var fromJSON, fromYAML []api.Proxy
	if err := json.Unmarshal([]byte(shown(t, "json", "app=web")), &fromJSON); err != nil {
		t.Fatal(err)
	}
	text := shown(t, "yaml", "app=web")
	if err := yaml.UnmarshalStrict([]byte(text), &fromYAML); err != nil {
		t.Fatalf("%v:\n%s", err, text)
	}
	if diff := cmp.Diff(fromJSON, fromYAML); diff != "" || len(fromJSON) != 1 || fromJSON[0].Labels["app"] != "web" {
		t.Errorf("JSON has %+v (-json +yaml):\n%s", fromJSON, diff)
	}
	if got := shown(t, "yaml", "app=none"); got != "[]\n" {
		t.Errorf("without a sidecar: %q", got)
	}
}
