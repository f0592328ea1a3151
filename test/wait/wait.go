// Package wait is for tests of what takes its time: [Until] waits for what must come, and [Background] runs what lasts
// until the test ends.
//
//	wait.Background(t, "control plane", plane.Run)
//	wait.Until(t, 30*time.Second, "it is ready", func() bool { return plane.Ready() == nil })
package wait

import (
	"context"
	"sync"
	"testing"
	"time"
)

// Pauses between two looks: what comes at once is seen at once, and what takes long is not looked at all the time.
const (
	shortest = 2 * time.Millisecond
	longest  = 20 * time.Millisecond
)

// Until waits for ok to hold, asking it again and again, and ends the test if it does not within limit. It asks once more
// when the time is over.
func Until(t testing.TB, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	end := time.Now().Add(limit)
	for pause := shortest; !ok(); pause = min(2*pause, longest) {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", limit, what)
		}
		<-time.After(pause)
	}
}

// Background runs f until stop is called, or the test ends, and waits for its end. An error of f fails the test.
func Background(t testing.TB, what string, f func(context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	return Lastly(t, func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("%s: %v", what, err)
		}
	})
}

// Lastly gives what is done once, at the test's end if not before.
func Lastly(t testing.TB, f func()) func() {
	t.Helper()
	once := sync.OnceFunc(f)
	t.Cleanup(once)
	return once
}
