package sidecar

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"

	"github.com/heddle-mesh/heddle/identity"
	"github.com/heddle-mesh/heddle/identity/client"
	"github.com/heddle-mesh/heddle/test/wait"
)

// late is a proxy that serves when it is told to.
type late struct {
	*idle
	serves chan struct{}
}

func (p late) Ready(ctx context.Context) error {
	select {
	case <-p.serves:
		return nil
	case <-ctx.Done():
		return errors.New("Envoy does not serve yet")
	}
}

func TestTheKubeletIsAnsweredAsSoonAsTheAgentIsReady(t *testing.T) {
	s := newSigner(t, "web", time.Hour)
	s.SetAway(errAway)
	o, p := options(t, s, shortDir(t)), late{newIdle(), make(chan struct{})}
	o.Proxy, o.Kubelet.Patience = p, time.Hour // it ends with what it waits for, or the test does not end
	a := run(t, o)
	if got := a.Status(t.Context()); got.Ready {
		t.Fatal("it is ready without a certificate")
	}
	answer := make(chan Status, 1)
	go func() { answer <- a.answerKubelet(t.Context()) }()
	s.SetAway(nil)
	<-p.started
	select {
	case got := <-answer:
		t.Fatalf("the answer came before Envoy serves: %+v", got)
	default:
	}
	close(p.serves)
	if got := <-answer; !got.Ready || got.Expires == nil {
		t.Errorf("the answer: %+v", got)
	}
}

func TestTheKubeletIsToldWhyNotWhenItsPatienceEnds(t *testing.T) {
	s := newSigner(t, "web", time.Hour)
	o, p := options(t, s, shortDir(t)), late{newIdle(), make(chan struct{})}
	o.Proxy, o.Kubelet.Patience = p, 4*time.Second
	synctest.Test(t, func(t *testing.T) {
		a := must(New(o)) // it does not run: it has no certificate
		begun := time.Now()
		got := a.answerKubelet(t.Context())
		if took := time.Since(begun); took != o.Kubelet.Patience || got.Ready || !strings.Contains(strings.Join(got.Reasons, " "), "no certificate") {
			t.Errorf("after %s: %+v", took, got)
		}
	})
	// With a certificate it is Envoy that is waited for.
	a := run(t, o)
	<-p.started
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if got := a.answerKubelet(ctx); got.Ready || got.Bundle != identity.Fingerprint(s.Trusted()) || !strings.Contains(strings.Join(got.Reasons, " "), "does not serve yet") {
		t.Errorf("%+v", got)
	}
}

func TestNothingIsAskedOfTheSignerBeforeTheAgentIsPrepared(t *testing.T) {
	s := newSigner(t, "web", time.Hour)
	o, prepared := options(t, s, shortDir(t)), make(chan struct{})
	o.Connect = func(Trust) Signer {
		return asked{s, func() {
			select {
			case <-prepared:
			default:
				t.Error("the signer is asked")
			}
		}}
	}
	o.Preparing = "the pod's traffic is not redirected yet"
	o.Prepare = func(ctx context.Context) error {
		select {
		case <-prepared:
		case <-ctx.Done():
		}
		return ctx.Err()
	}
	a := run(t, o)
	if got := a.Status(t.Context()); got.Ready || !slices.Contains(got.Reasons, o.Preparing) {
		t.Errorf("before, it says %+v", got)
	}
	close(prepared)
	wait.Until(t, patience, "the agent is ready", func() bool { return a.Status(t.Context()).Ready })
}

// asked calls a function whenever a signer is asked.
type asked struct {
	Signer
	tell func()
}

func (a asked) SVID(ctx context.Context, token string, csr []byte) (client.SVID, error) {
	a.tell()
	return a.Signer.SVID(ctx, token, csr)
}

func (a asked) Bundle(ctx context.Context, after string, uses client.Uses) (*spiffebundle.Bundle, error) {
	a.tell()
	return a.Signer.Bundle(ctx, after, uses)
}

func TestWhatCannotBePreparedEndsTheAgent(t *testing.T) {
	o := options(t, newSigner(t, "web", time.Hour), shortDir(t))
	o.Prepare = func(context.Context) error { return errors.New("no Envoy found") }
	wantError(t, must(New(o)).Run(t.Context()), "prepare the sidecar: no Envoy found")
}
