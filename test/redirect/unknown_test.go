//go:build e2e

package redirect

import (
	"bytes"
	"context"
	"net/http"
	"os"
	"path/filepath"
	"testing"
)

// unknownRefused comes last: it edits a policy for the whole town.
func (w *town) unknownRefused(t *testing.T) {
	address, service := "http://"+at(w.plain.IPv4, "8080")+"/", "http://10.96.0.4/"
	w.call(t, w.web, address, http.StatusOK)

	policy := filepath.Join(w.dir, "manifests", "unknown.yaml")
	refuse := must(os.ReadFile("../../examples/unknown-destinations.yaml"))
	if err := os.WriteFile(policy, refuse, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		_, _, err := get(ctx, *w.web.Place, address)
		if ctx.Err() != nil {
			t.Fatal("an address that is no Service is still answered")
		}
		if err != nil {
			break
		}
		pause(ctx)
	}
	if status, _, err := get(t.Context(), *w.web.Place, address); err == nil {
		t.Errorf("an address that is no Service answers %d again", status)
	}
	if got := w.call(t, w.web, service, http.StatusOK); got.App != "plain" {
		t.Errorf("the Service of the same pod is answered by %+v", got)
	}
	w.call(t, w.plain, address, http.StatusOK)

	pass := bytes.ReplaceAll(refuse, []byte("Destinations: refuse"), []byte("Destinations: pass"))
	if err := os.WriteFile(policy, pass, 0o600); err != nil {
		t.Fatal(err)
	}
	w.call(t, w.web, address, http.StatusOK)
}
