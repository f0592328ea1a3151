package envoy

import (
	"context"
	"time"
)

// underWay are the requests and TCP connections that Envoy carries, to the application and from it. What it asks the control
// plane and the agent never ends.
const underWay = `cluster\.(?:(?:ob|in)\|[^.]*|passthrough)\.upstream_rq_active`

// drain returns when nothing is under way any more, or when the grace period is over, or when Envoy has ended by itself.
func (p *Proxy) drain(running context.Context) {
	if p.options.Grace == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(running, p.options.Grace)
	defer cancel()
	// Callers are told to take their next requests elsewhere. Nothing is closed by it: that is after DrainTime.
	if _, err := p.admin.do(ctx, "POST", "/drain_listeners?graceful&skip_exit"); err != nil {
		p.options.Log.Warn().Err(err).Msg("Envoy does not drain and is ended")
		return
	}
	p.options.Log.Info().Dur("grace", p.options.Grace).Msg("told to end: what is under way goes on, for at most the grace period")
	// Envoy tells nobody when it is idle; it can only be asked.
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	var last uint64
	for {
		n, err := p.count(ctx)
		switch {
		case running.Err() != nil:
			return
		case ctx.Err() != nil:
			p.options.Log.Warn().Uint64("under_way", last).Dur("grace", p.options.Grace).Msg("what is still under way is cut")
			return
		case err != nil:
			p.options.Log.Warn().Err(err).Msg("what Envoy has under way is not known, so it is ended")
			return
		case n == 0:
			return
		}
		last = n
		select {
		case <-ctx.Done():
		case <-p.ended:
			return
		case <-tick.C:
		}
	}
}

// count adds up what is under way.
func (p *Proxy) count(ctx context.Context) (n uint64, err error) {
	stats, err := p.Stats(ctx, underWay)
	for _, v := range stats {
		n += v
	}
	return n, err
}
