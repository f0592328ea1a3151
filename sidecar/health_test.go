package sidecar

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/heddle-mesh/heddle/identity"
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
