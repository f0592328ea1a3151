package service

import (
	"testing"
	"time"

	"github.com/heddle-mesh/heddle/identity"
	"github.com/heddle-mesh/heddle/identity/attest"
)

func TestPeopleAreToldWhoSignsUntilWhenAndForWhom(t *testing.T) {
	now := time.Now()
	s, tokens := forFiles(t)
	signing := s.ca.signing
	next := newRoot(t)
	s.server.options.Issuers = func() []*identity.Authority { return []*identity.Authority{signing, next} }
	join := tokens.Hand(identity.Workload{Namespace: "shop", Account: "web", Pod: "web-1"})
	svid, err := s.client(nil).SVID(t.Context(), join, csrOf(t, newKey(t)))
	if err != nil {
		t.Fatal(err)
	}
	f, err := s.server.Facts()
	if err != nil {
		t.Fatal(err)
	}
	if len(f.Issuers) != 2 || !f.Issuers[0].Signs || f.Issuers[1].Signs || f.Issuers[0].Given || f.Issuers[0].Algorithm != "ECDSA P-256" ||
		f.Issuers[0].Name != signing.Name() || f.Issuers[0].Anchors[0] != f.Anchors[0].Name || !f.Issuers[0].Expires.After(now.Add(time.Hour)) {
		t.Errorf("issuers: %+v", f.Issuers)
	}
	if len(f.ControlPlane) != 1 || f.ControlPlane[0].ID != signerID(t).String() || f.ControlPlane[0].Authority != signing.Name() {
		t.Errorf("the signer's own: %+v", f.ControlPlane)
	}
	if len(f.Sidecars) != 1 || f.Sidecars[0].ID != "spiffe://cluster.local/ns/shop/sa/web" || !f.Sidecars[0].Connected {
		t.Errorf("sidecars: %+v", f.Sidecars)
	}
	if got, want := s.gauge("heddle_identity_sidecar_expiry_seconds"), float64(svid.Chain[0].NotAfter.Unix()); got != want {
		t.Errorf("the first certificate expires at %v by the metric, and at %v", got, want)
	}
}

func TestWithoutSidecarsNoneExpires(t *testing.T) {
	s := run(t, func(o Options) *Server { return ForFiles(o, attest.NewJoinTokens(nil, nil)) })
	if got := s.gauge("heddle_identity_sidecar_expiry_seconds"); got != 0 {
		t.Errorf("the first certificate expires at %v", got)
	}
}

// gauge reads a metric without labels.
func (s *signer) gauge(name string) float64 {
	s.t.Helper()
	families, err := s.registry.Gather()
	if err != nil {
		s.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetGauge().GetValue()
		}
	}
	s.t.Fatalf("there is no metric %s", name)
	return 0
}
