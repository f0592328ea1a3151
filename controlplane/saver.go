package controlplane

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/heddle-mesh/heddle/kube"
	"github.com/heddle-mesh/heddle/model"
)

// saver writes the last good policies in the background, so that a slow API server never delays the loop. What could
// not be written is tried again, and nothing else is: the newest version of each policy only, unless it is too large ever
// to be kept.
type saver struct {
	to   LastGood // nil: nothing is kept
	log  zerolog.Logger
	wake chan struct{}

	mu      sync.Mutex // guards pending
	pending map[savedKey]model.SavedPolicy
}

type savedKey struct {
	configMap model.Key
	item      string
}

func (k savedKey) compare(o savedKey) int {
	return cmp.Or(k.configMap.Compare(o.configMap), cmp.Compare(k.item, o.item))
}

// retryAfter is how long a failed write waits.
const retryAfter = 5 * time.Second

func newSaver(to LastGood, log zerolog.Logger) *saver {
	return &saver{to: to, log: log, wake: make(chan struct{}, 1), pending: map[savedKey]model.SavedPolicy{}}
}

func (s *saver) load(ctx context.Context) ([]model.SavedPolicy, error) {
	if s.to == nil {
		return nil, nil
	}
	return s.to.Load(ctx)
}

// put queues policies; it never blocks.
func (s *saver) put(policies []model.SavedPolicy) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range policies {
		s.pending[savedKey{p.ConfigMap, p.Item}] = p
	}
	s.nudge()
}

func (s *saver) nudge() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// run writes until ctx ends; what is queued then is written before it returns.
func (s *saver) run(ctx context.Context) error {
	for {
		select {
		case <-s.wake:
			if !s.write(ctx) {
				s.retry(ctx)
			}
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
			defer cancel()
			s.write(last)
			return nil
		}
	}
}

func (s *saver) retry(ctx context.Context) {
	timer := time.NewTimer(retryAfter)
	defer timer.Stop()
	select {
	case <-timer.C:
		s.nudge()
	case <-ctx.Done():
	}
}

// write says whether everything queued is kept.
func (s *saver) write(ctx context.Context) bool {
	if s.to == nil {
		return true
	}
	s.mu.Lock()
	policies := s.pending
	s.pending = map[savedKey]model.SavedPolicy{}
	s.mu.Unlock()
	if len(policies) == 0 {
		return true
	}
	failed := map[savedKey]model.SavedPolicy{}
	var errs []error
	for _, k := range slices.SortedFunc(maps.Keys(policies), savedKey.compare) {
		switch err := s.to.Save(ctx, policies[k]); {
		case errors.Is(err, kube.ErrTooLarge):
			s.log.Error().Err(err).Msg("a policy is not kept: a restart goes back to what was kept of it before")
		case err != nil:
			failed[k] = policies[k]
			errs = append(errs, err)
		}
	}
	if len(failed) == 0 {
		return true
	}
	if ctx.Err() != context.Canceled { // else the control plane stops, and tries once more before it does
		s.log.Error().Err(errors.Join(errs...)).Int("policies", len(failed)).
			Msg("keeping the last good policies; trying again: until then a restart forgets them")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for k, p := range failed {
		if _, newer := s.pending[k]; !newer {
			s.pending[k] = p
		}
	}
	return false
}
