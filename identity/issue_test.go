package identity

import (
	"crypto/x509"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

func TestALeafHasWhatSPIFFEAndEnvoyAskForAndNoMore(t *testing.T) {
	ca, r := root(t), request(t)
	chain := must[[]*x509.Certificate](t)(ca.Issue(t.Context(), r))

	if len(chain) != 1 {
		t.Fatalf("%d certificates: the root must not be among them", len(chain))
	}
	leaf := chain[0]
	if id := must[spiffeid.ID](t)(VerifyLeaf(chain, ca.Bundle(), time.Now())); id != r.ID {
		t.Errorf("it is of %s", id)
	}
	got := must[Workload](t)(VerifyPod(chain, ca.Bundle(), time.Now()))
	if want := (Workload{Namespace: "shop", Account: "web", Pod: r.Pod, PodUID: r.PodUID}); got != want {
		t.Errorf("it is for %+v, want %+v", got, want)
	}
	if life := leaf.NotAfter.Sub(leaf.NotBefore); life < DefaultLifetime+BackDate || life > DefaultLifetime+BackDate+2*time.Second {
		t.Errorf("it is valid for %s", life)
	}
	if len(leaf.URIs) != 1 || len(leaf.DNSNames) != 0 || leaf.KeyUsage != x509.KeyUsageDigitalSignature || leaf.IsCA {
		t.Errorf("URIs %v, DNS names %v, usage %b, CA %t", leaf.URIs, leaf.DNSNames, leaf.KeyUsage, leaf.IsCA)
	}
}
