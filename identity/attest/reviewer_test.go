package attest

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/time/rate"
	authenticationv1 "k8s.io/api/authentication/v1"

	"github.com/heddle-mesh/heddle/identity"
)

func TestARunningPodIsWhoItsTokenSays(t *testing.T) {
	w := newWorld()
	got, err := w.reviewer.Attest(t.Context(), w.token(time.Hour))
	want := identity.Workload{Namespace: "shop", Account: "web", Pod: "web-1", PodUID: "uid-1", Node: "node-1"}
	if err != nil || got != want {
		t.Errorf("got %+v, %v", got, err)
	}
	if asked := w.last.Load().Spec; len(asked.Audiences) != 1 || asked.Audiences[0] != DefaultAudience {
		t.Errorf("asked about audiences %q", asked.Audiences)
	}
}

func TestATokenIsRefusedUnlessTheAPIServerSaysEverythingOnce(t *testing.T) {
	type status = authenticationv1.TokenReviewStatus
	extra := func(key string, values ...string) func(*status) {
		return func(s *status) { s.User.Extra[key] = values }
	}
	user := func(name string) func(*status) { return func(s *status) { s.User.Username = name } }
	for name, c := range map[string]struct {
		change func(*status)
		want   Reason
	}{
		"not authenticated":              {func(s *status) { s.Authenticated = false }, TokenRefused},
		"an error beside authenticated":  {func(s *status) { s.Error = "odd" }, TokenRefused},
		"no audience":                    {func(s *status) { s.Audiences = nil }, WrongAudience},
		"another audience":               {func(s *status) { s.Audiences = []string{"api"} }, WrongAudience},
		"an audience that begins so":     {func(s *status) { s.Audiences = []string{"heddle2"} }, WrongAudience},
		"a person":                       {user("alice"), NotServiceAccount},
		"a node":                         {user("system:node:node-1"), NotServiceAccount},
		"no account":                     {user("system:serviceaccount:shop"), NotServiceAccount},
		"an empty account":               {user("system:serviceaccount:shop:"), NotServiceAccount},
		"an empty namespace":             {user("system:serviceaccount::web"), NotServiceAccount},
		"one segment more":               {user("system:serviceaccount:shop:web:x"), NotServiceAccount},
		"a prefix before":                {user("x:system:serviceaccount:shop:web"), NotServiceAccount},
		"a slash in the namespace":       {user("system:serviceaccount:shop/ns:web"), NotServiceAccount},
		"a dotted namespace":             {user("system:serviceaccount:shop.a:web"), NotServiceAccount},
		"no extras":                      {func(s *status) { s.User.Extra = nil }, NotPodBound},
		"no pod name":                    {extra(extraPodName), NotPodBound},
		"two pod names":                  {extra(extraPodName, "web-1", "web-2"), NotPodBound},
		"an empty pod name":              {extra(extraPodName, ""), NotPodBound},
		"a pod name with a namespace":    {extra(extraPodName, "shop/web-1"), NotPodBound},
		"no pod UID":                     {extra(extraPodUID), NotPodBound},
		"two pod UIDs":                   {extra(extraPodUID, "uid-1", "uid-1"), NotPodBound},
		"no node":                        {extra(extraNodeName), NotPodBound},
		"two nodes":                      {extra(extraNodeName, "node-1", "node-2"), NotPodBound},
		"another pod's name":             {extra(extraPodName, "web-9"), PodUnknown},
		"a pod of another namespace":     {user("system:serviceaccount:bank:web"), PodUnknown},
		"another account of the pod's":   {user("system:serviceaccount:shop:admin"), AccountMismatch},
		"the UID of an earlier pod":      {extra(extraPodUID, "uid-0"), PodReplaced},
		"another node than the pod's":    {extra(extraNodeName, "node-2"), NodeMismatch},
		"a node that differs in its end": {extra(extraNodeName, "node-10"), NodeMismatch},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			c.change(&w.answer)
			_, err := w.reviewer.Attest(t.Context(), w.token(time.Hour))
			wantReason(t, err, c.want)
		})
	}
}

func TestAPodIsRefusedUnlessItRunsWithASidecar(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Pod)
		want   Reason
	}{
		"finished":      {func(p *Pod) { p.Finished = true }, PodTerminal},
		"gone":          {func(p *Pod) { p.Gone = true }, PodTerminal},
		"not scheduled": {func(p *Pod) { p.Node = "" }, NodeMismatch},
		"not injected":  {func(p *Pod) { p.Meshed = false }, NotMeshed},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			p := running()
			c.change(&p)
			w.pods["shop/web-1"] = p
			_, err := w.reviewer.Attest(t.Context(), w.token(time.Hour))
			wantReason(t, err, c.want)
		})
	}
}

func TestTheControlPlaneNeedsNoSidecar(t *testing.T) {
	for own, want := range map[string]Reason{"shop/web": "", "shop/we": NotMeshed, "": NotMeshed} {
		w := newWorld(func(o *ReviewerOptions) { o.ControlPlane = own })
		p := running()
		p.Meshed = false
		w.pods["shop/web-1"] = p
		if _, err := w.reviewer.Attest(t.Context(), w.token(time.Hour)); ReasonOf(err) != want {
			t.Errorf("with control plane %q: %v", own, err)
		}
	}
}

func TestATokenThatCannotBeGoodIsRefusedWithoutAskingAnybody(t *testing.T) {
	w := newWorld()
	later := w.Now().Add(time.Hour).Unix()
	for name, c := range map[string]struct {
		token string
		want  Reason
	}{
		"none":                  {"", NoToken},
		"no JWT":                {"secret", TokenMalformed},
		"no base64":             {"a.!!.c", TokenMalformed},
		"no JSON":               {"a.YQ.c", TokenMalformed},
		"too long":              {strings.Repeat("a", maxToken) + ".e30.c", TokenMalformed},
		"no expiry":             {tokenOf(map[string]any{"aud": "heddle"}), TokenMalformed},
		"expired this second":   {tokenOf(map[string]any{"aud": "heddle", "exp": w.Now().Unix()}), TokenExpired},
		"for another audience":  {tokenOf(map[string]any{"aud": []string{"api"}, "exp": later}), WrongAudience},
		"for no audience":       {tokenOf(map[string]any{"exp": later}), WrongAudience},
		"audience is no string": {tokenOf(map[string]any{"aud": 7, "exp": later}), TokenMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := w.reviewer.Attest(t.Context(), c.token)
			wantReason(t, err, c.want)
			if strings.Contains(fmt.Sprint(err), c.token) && c.token != "" {
				t.Errorf("the refusal holds the token: %v", err)
			}
		})
	}
	if n := w.asked.Load(); n != 0 {
		t.Errorf("the API server was asked %d times", n)
	}
}

func TestAGoodAnswerIsKeptForAMinuteAndNotPastTheToken(t *testing.T) {
	w := newWorld()
	long, short := w.token(time.Hour), w.token(30*time.Second)
	ask := func(token string, want int32) {
		t.Helper()
		before := w.asked.Load()
		if _, err := w.reviewer.Attest(t.Context(), token); err != nil {
			t.Fatal(err)
		}
		if got := w.asked.Load() - before; got != want {
			t.Errorf("the API server was asked %d times, want %d", got, want)
		}
	}
	ask(long, 1)
	ask(long, 0)
	ask(short, 1)
	w.pass(29 * time.Second)
	ask(short, 0)
	w.pass(time.Second)
	_, err := w.reviewer.Attest(t.Context(), short)
	wantReason(t, err, TokenExpired)
	ask(long, 0)
	w.pass(30 * time.Second)
	ask(long, 1)
}

func TestAPodThatEndsLosesItsIdentityWhateverIsKept(t *testing.T) {
	w := newWorld()
	token := w.token(time.Hour)
	if _, err := w.reviewer.Attest(t.Context(), token); err != nil {
		t.Fatal(err)
	}
	delete(w.pods, "shop/web-1")
	_, err := w.reviewer.Attest(t.Context(), token)
	wantReason(t, err, PodUnknown)
}

func TestARefusalIsNotKept(t *testing.T) {
	w := newWorld()
	token := w.token(time.Hour)
	w.answer.Authenticated = false
	_, err := w.reviewer.Attest(t.Context(), token)
	wantReason(t, err, TokenRefused)
	w.answer.Authenticated, w.err = true, errAway
	_, err = w.reviewer.Attest(t.Context(), token)
	wantReason(t, err, ReviewUnavailable)
	w.err = nil
	if _, err := w.reviewer.Attest(t.Context(), token); err != nil {
		t.Error(err)
	}
}

func TestManyWithOneTokenAskOnceEvenIfTheFirstGoesAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(func(o *ReviewerOptions) { o.PerPod = NewLimits(time.Second, 100) })
		w.gate = make(chan struct{})
		token := w.token(time.Hour)
		first, leave := context.WithCancel(t.Context())
		left := make(chan error)
		go func() {
			_, err := w.reviewer.Attest(first, token)
			left <- err
		}()
		synctest.Wait()
		var others sync.WaitGroup
		for range 20 {
			others.Go(func() {
				if _, err := w.reviewer.Attest(t.Context(), token); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		leave()
		if err := <-left; err != context.Canceled {
			t.Errorf("who went away got %v", err)
		}
		close(w.gate)
		others.Wait()
		if n := w.asked.Load(); n != 1 {
			t.Errorf("the API server was asked %d times", n)
		}
	})
}

func TestAPodThatAsksTooOftenWaitsAndNoOtherDoes(t *testing.T) {
	w := newWorld(func(o *ReviewerOptions) { o.PerPod = NewLimits(time.Second, 2) })
	token := w.token(time.Hour)
	attest := func() error {
		_, err := w.reviewer.Attest(t.Context(), token)
		return err
	}
	if err := attest(); err != nil {
		t.Fatal(err)
	}
	if err := attest(); err != nil {
		t.Fatal(err)
	}
	wantReason(t, attest(), PodRateLimited)

	w.answer.User.Extra[extraPodName], w.answer.User.Extra[extraPodUID] = []string{"web-2"}, []string{"uid-2"}
	w.pods["shop/web-2"] = Pod{UID: "uid-2", Account: "web", Node: "node-1", Meshed: true}
	if _, err := w.reviewer.Attest(t.Context(), w.token(2*time.Hour)); err != nil {
		t.Errorf("another pod: %v", err)
	}
	w.pass(time.Second)
	if err := attest(); err != nil {
		t.Errorf("a second later: %v", err)
	}
}

func TestTheAPIServerIsShieldedFromAFlood(t *testing.T) {
	w := newWorld(func(o *ReviewerOptions) { o.Global = rate.NewLimiter(1, 3) })
	w.answer.Authenticated = false
	var limited int
	for i := range 10 {
		_, err := w.reviewer.Attest(t.Context(), w.token(time.Duration(i+1)*time.Hour))
		if ReasonOf(err) == RateLimited {
			limited++
		}
	}
	if limited != 7 || w.asked.Load() != 3 {
		t.Errorf("%d of 10 were limited, the API server was asked %d times", limited, w.asked.Load())
	}
}

func TestWhatIsKeptIsBounded(t *testing.T) {
	b := newBounded[int, string](3)
	for i := range 5 {
		b.put(i, "x")
	}
	b.put(2, "y")
	b.put(5, "z")
	if len(b.items) != 3 || b.order.Len() != 3 {
		t.Errorf("holds %d and %d", len(b.items), b.order.Len())
	}
	if v, ok := b.get(2); !ok || v != "y" {
		t.Errorf("what was put anew is %q, %v", v, ok)
	}
	if _, ok := b.get(3); ok {
		t.Error("the oldest is still there")
	}
}

func TestForeignTextIsShortenedAtARune(t *testing.T) {
	if got := shorten(strings.Repeat("é", 150)); len(got) > 203 || strings.ContainsRune(got, '\uFFFD') {
		t.Errorf("got %q", got)
	}
}

func FuzzGlanceAndAccountTakeNothingOdd(f *testing.F) {
	f.Add("a.e30.c", "system:serviceaccount:shop:web")
	f.Add(tokenOf(map[string]any{"aud": "heddle", "exp": 1e300}), "system:serviceaccount:shop:web\x00")
	f.Fuzz(func(t *testing.T, token, username string) {
		if c, refusal := glance(token, DefaultAudience, time.Unix(1_800_000_000, 0)); refusal == nil && !c.expiry().After(time.Unix(1_800_000_000, 0)) {
			t.Errorf("an expired token passed: %q", token)
		}
		namespace, account, ok := accountOf(username)
		if ok && username != accountPrefix+namespace+":"+account {
			t.Errorf("%q became %q and %q", username, namespace, account)
		}
		if ok && (strings.ContainsAny(namespace, "/.:\x00") || strings.ContainsAny(account, "/:\x00")) {
			t.Errorf("%q was accepted", username)
		}
	})
}
