package roles

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/heddle-mesh/heddle/controlplane"
	"github.com/heddle-mesh/heddle/test/transcript"
)

func TestAServerSaysWhichOfItsSettingsAreNotTheSigners(t *testing.T) {
	w := newTown(t)
	w.serveSigner(brief{leaf: time.Hour})
	logs := func(b *transcript.Buffer) zerolog.Logger { return zerolog.New(b) }
	same, longer, elsewhere := &transcript.Buffer{}, &transcript.Buffer{}, &transcript.Buffer{}
	w.serveServer("heddle-1", 15010, w.serverPod, func(o *controlplane.ServerOptions) {
		o.Lifetime, o.Plane.Log = time.Hour, logs(same)
	})
	w.serveServer("heddle-2", 16010, w.pod(w.system, "heddle-2", controlplane.ServerAccount, nil), func(o *controlplane.ServerOptions) {
		o.Lifetime, o.Plane.Log = 2*time.Hour, logs(longer)
	})
	w.serveServer("heddle-3", 17010, w.pod(w.system, "heddle-3", controlplane.ServerAccount, nil), func(o *controlplane.ServerOptions) {
		o.Plane.TrustDomain, o.Plane.Log = spiffeid.RequireTrustDomainFromString("elsewhere.example"), logs(elsewhere)
	})
	w.waitReady(15014)
	w.waitReady(16014)
	const differs = "this server's --certificate-lifetime is not the signer's"
	if text := longer.String(); strings.Count(text, differs) != 1 ||
		!strings.Contains(text, `"level":"warn"`) || !strings.Contains(text, `"signer":"1h0m0s","server":"2h0m0s"`) {
		t.Errorf("with another lifetime a server says:\n%s", text)
	}
	if text := same.String(); strings.Contains(text, differs) {
		t.Errorf("with the same lifetime a server says:\n%s", text)
	}
	const one = "all of the mesh must have the same --trust-domain"
	eventually(t, "a server of another trust domain says so", func() bool { return strings.Contains(elsewhere.String(), one) })
	code, said := w.ready(17014)
	for _, word := range []string{one, "spiffe://elsewhere.example", "spiffe://" + controlplane.DefaultTrustDomain} {
		if code != http.StatusServiceUnavailable || !strings.Contains(said, word) {
			t.Errorf("a server of another trust domain is %d: %s; want %q", code, said, word)
		}
	}
}
