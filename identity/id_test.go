package identity

import (
	"strings"
	"testing"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

func TestAnIDIsSplitIntoWhatItWasMadeOf(t *testing.T) {
	for _, c := range [][2]string{
		{"shop", "web"},
		{"a", "b"},
		{"kube-system", "system.node-1.x"},
		{strings.Repeat("n", 63), strings.Repeat("a", 253)},
		{"ns", "sa"},
		{"0", "0"},
	} {
		id := must[spiffeid.ID](t)(ID(domain(t), c[0], c[1]))
		if want := "spiffe://cluster.local/ns/" + c[0] + "/sa/" + c[1]; id.String() != want {
			t.Errorf("got %s, want %s", id, want)
		}
		namespace, account, err := Split(id)
		if err != nil || namespace != c[0] || account != c[1] {
			t.Errorf("%s: %q %q %v", id, namespace, account, err)
		}
	}
}

func TestNamesThatKubernetesRefusesMakeNoID(t *testing.T) {
	for _, c := range [][2]string{
		{"", "web"}, {"shop", ""}, {"Shop", "web"}, {"shop", "Web"}, {"sh.op", "web"}, {"shop", "a/b"}, {"shop", "a..b"},
		{"-shop", "web"}, {"shop-", "web"}, {"shop", ".web"}, {"shop", "web."}, {"..", "web"}, {"shop", ".."}, {".", "web"},
		{"shop", "w\x00eb"}, {"shop\n", "web"}, {"shop", "web\n"}, {"shop", "wéb"}, {"shop", "a_b"}, {"shop", "%61"}, {"*", "web"}, {"shop", "*"},
		{strings.Repeat("n", 64), "web"}, {"shop", strings.Repeat("a", 254)},
	} {
		if id, err := ID(domain(t), c[0], c[1]); err == nil {
			t.Errorf("namespace %q, account %q: made %s", c[0], c[1], id)
		}
	}
	if id, err := ID(spiffeid.TrustDomain{}, "shop", "web"); err == nil {
		t.Errorf("without a trust domain: made %s", id)
	}
}

// notOurs are IDs that SPIFFE allows and we do not.
func notOurs() []string {
	return []string{
		"spiffe://cluster.local",
		"spiffe://cluster.local/ns/shop",
		"spiffe://cluster.local/ns/shop/sa",
		"spiffe://cluster.local/ns/shop/sa/web/pod",
		"spiffe://cluster.local/sa/web/ns/shop",
		"spiffe://cluster.local/NS/shop/sa/web",
		"spiffe://cluster.local/ns/Shop/sa/web",
		"spiffe://cluster.local/ns/sh.op/sa/web",
		"spiffe://cluster.local/ns/shop/sa/web.",
		"spiffe://cluster.local/ns/shop/sa/web-",
		"spiffe://cluster.local/ns/shop/sa/we_b",
		"spiffe://cluster.local/ns/shop/sa/...",
		"spiffe://cluster.local/x/ns/shop/sa/web",
	}
}

func TestOnlyTheOneShapeIsAnIDOfOurs(t *testing.T) {
	for _, s := range notOurs() {
		_, _, err := Split(must[spiffeid.ID](t)(spiffeid.FromString(s)))
		wantCode(t, err, CodeIDShape)
	}
	_, _, err := Split(spiffeid.ID{})
	wantCode(t, err, CodeIDShape)
}

func TestATrustDomainHasOneSpelling(t *testing.T) {
	for _, name := range []string{"cluster.local", "a", "example_1.org", "a-b.c"} {
		if td, err := ParseTrustDomain(name); err != nil || td.Name() != name {
			t.Errorf("%q: %v %v", name, td, err)
		}
	}
	for _, name := range []string{
		"", "Cluster.local", "cluster.local.", ".cluster.local", "a..b", "spiffe://cluster.local", "spiffe://cluster.local/ns/a/sa/b",
		"a/b", "a:8443", "a b", "a\x00b", "bücher.example", "-a", "a-", strings.Repeat("a", 256),
	} {
		if td, err := ParseTrustDomain(name); err == nil {
			t.Errorf("%q: taken for trust domain %s", name, td)
		}
	}
}
