package service

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/heddle-mesh/heddle/identity"
	"github.com/heddle-mesh/heddle/identity/attest"
)

// reviews counts how often the API server would be asked.
type reviews struct{ asked int }

func (r *reviews) Attest(context.Context, string) (identity.Workload, error) {
	r.asked++
	return identity.Workload{}, &attest.Refusal{Reason: attest.TokenRefused, Message: "forged"}
}

func TestOneAddressCannotTakeAllReviews(t *testing.T) { synctest.Test(t, oneAddressFloods) }

// oneAddressFloods runs where no time passes, so that nothing is given back to an address in the meantime.
func oneAddressFloods(t *testing.T) {
	r := &reviews{}
	s := newServer(Options{ID: signerID(t), Authorities: newAuthorities(newRoot(t)), Log: zerolog.Nop()}, r, nil)
	ask := func(from string) string {
		q := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/v1/svid", strings.NewReader(`{"csr":""}`))
		q.RemoteAddr = from
		q.Header.Set("Content-Type", "application/json")
		q.Header.Set("Authorization", "Bearer forged")
		w := httptest.NewRecorder()
		s.ServeHTTP(w, q)
		return w.Body.String()
	}
	const flood = 4 * addressBurst
	for range flood {
		ask("192.0.2.7:4000")
		ask("[2001:db8::1]:4000")
	}
	if r.asked != 2*addressBurst {
		t.Errorf("two addresses had %d tokens reviewed of %d; want %d", r.asked, 2*flood, 2*addressBurst)
	}
	for _, from := range []string{"192.0.2.7:4001", "[2001:db8::2]:4000", "[::ffff:192.0.2.7]:4000"} {
		if got := ask(from); !strings.Contains(got, `"address-rate-limited"`) {
			t.Errorf("%s was answered %s", from, got)
		}
	}
	for _, from := range []string{"192.0.2.8:4000", "[2001:db8:1::1]:4000", "127.0.0.1:4000"} {
		if got := ask(from); !strings.Contains(got, `"token-refused"`) {
			t.Errorf("%s, which asks for the first time, was answered %s", from, got)
		}
	}
	time.Sleep(addressEvery)
	for _, want := range []string{`"token-refused"`, `"address-rate-limited"`} {
		if got := ask("192.0.2.7:4000"); !strings.Contains(got, want) {
			t.Errorf("after the time that one request takes to come back it was answered %s, want %s", got, want)
		}
	}
}
