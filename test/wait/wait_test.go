package wait

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// told is a test that notes what it is told.
type told struct {
	testing.TB
	said     []string
	cleanups []func()
}

func (*told) Helper()            {}
func (o *told) Cleanup(f func()) { o.cleanups = append(o.cleanups, f) }

func (o *told) Errorf(format string, args ...any) {
	o.said = append(o.said, fmt.Sprintf(format, args...))
}

func (o *told) Fatalf(format string, args ...any) {
	o.Errorf(format, args...)
	panic(o)
}

func TestWhatComesIsWaitedForAndWhatDoesNotEndsTheTest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		Until(t, time.Minute, "ten seconds are over", func() bool { return time.Since(begin) >= 10*time.Second })
		if took := time.Since(begin); took > 10*time.Second+longest {
			t.Errorf("it was seen after %v", took)
		}
		o := &told{}
		defer func() {
			if recover() == nil || strings.Join(o.said, "\n") != "not within 1m0s: it rains" {
				t.Errorf("told %q", o.said)
			}
		}()
		Until(o, time.Minute, "it rains", func() bool { return false })
	})
}

func TestWhatRunsInTheBackgroundEndsOnceAndItsErrorIsTold(t *testing.T) {
	o, runs := &told{}, 0
	stop := Background(o, "the mill", func(ctx context.Context) error {
		runs++
		<-ctx.Done()
		return errors.New("out of grain")
	})
	stop()
	for _, f := range o.cleanups {
		f()
	}
	if runs != 1 || len(o.cleanups) != 1 || strings.Join(o.said, "\n") != "the mill: out of grain" {
		t.Errorf("%d runs, %d clean-ups, told %q", runs, len(o.cleanups), o.said)
	}
}
