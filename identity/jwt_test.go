package identity

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"
)

func TestTokensAreAcceptedByGoSPIFFEForTheirAudienceAndTimeOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := root(t)
		token := must[string](t)(ca.Mint(t.Context(), web(t), []string{"orders", "billing"}, 0))

		for _, audience := range []string{"orders", "billing"} {
			svid := must[*jwtsvid.SVID](t)(jwtsvid.ParseAndValidate(token, ca.Bundle(), []string{audience}))
			if svid.ID != web(t) || !svid.Expiry.Equal(time.Now().Add(DefaultTokenLifetime).Truncate(time.Second)) {
				t.Errorf("it is of %s until %s", svid.ID, svid.Expiry)
			}
			if svid.Claims["iat"] != float64(time.Now().Unix()) {
				t.Errorf("issued at %v", svid.Claims["iat"])
			}
		}
		if _, err := jwtsvid.ParseAndValidate(token, ca.Bundle(), []string{"stock"}); err == nil {
			t.Error("accepted for another audience")
		}
		if _, err := jwtsvid.ParseAndValidate(token, root(t).Bundle(), []string{"orders"}); err == nil {
			t.Error("accepted with the bundle of another CA")
		}
		head, rest, _ := strings.Cut(token, ".")
		if _, err := jwtsvid.ParseAndValidate(head+"."+strings.Replace(rest, rest[:4], "eyJh", 1)+"x", ca.Bundle(), []string{"orders"}); err == nil {
			t.Error("accepted with another text")
		}
		// Verifiers grant a minute (go-jose's DefaultLeeway); after it, it is over.
		time.Sleep(DefaultTokenLifetime + time.Minute + time.Second)
		if _, err := jwtsvid.ParseAndValidate(token, ca.Bundle(), []string{"orders"}); err == nil {
			t.Error("accepted after its time")
		}
	})
}

func TestManyTokensAllHaveSignaturesOfFullLength(t *testing.T) {
	ca := root(t)
	for range 600 { // one in 128 has a number with a zero at the front
		token := must[string](t)(ca.Mint(t.Context(), web(t), []string{"a"}, time.Minute))
		must[*jwtsvid.SVID](t)(jwtsvid.ParseAndValidate(token, ca.Bundle(), []string{"a"}))
	}
}

func TestTokensThatSayTooLittleOrLiveTooLongAreNotSigned(t *testing.T) {
	ca := root(t)
	theirs := must[spiffeid.ID](t)(ID(must2(t, otherDomain), "shop", "web"))
	for name, c := range map[string]struct {
		id       spiffeid.ID
		audience []string
		lifetime time.Duration
		want     Code
	}{
		"no audience":          {web(t), nil, 0, CodeAudience},
		"an empty audience":    {web(t), []string{""}, 0, CodeAudience},
		"one of two empty":     {web(t), []string{"a", ""}, 0, CodeAudience},
		"many audiences":       {web(t), make([]string, maxAudiences+1), 0, CodeAudience},
		"a long audience":      {web(t), []string{strings.Repeat("a", maxAudience+1)}, 0, CodeAudience},
		"a long life":          {web(t), []string{"a"}, MaxTokenLifetime + 1, CodeLifetime},
		"a life that is past":  {web(t), []string{"a"}, -time.Minute, CodeLifetime},
		"less than a second":   {web(t), []string{"a"}, time.Millisecond, CodeLifetime},
		"another trust domain": {theirs, []string{"a"}, 0, CodeTrustDomain},
		"the trust domain":     {domain(t).ID(), []string{"a"}, 0, CodeIDShape},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ca.Mint(t.Context(), c.id, c.audience, c.lifetime)
			wantCode(t, err, c.want)
		})
	}
}
