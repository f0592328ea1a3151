package controlplane

import (
	"context"
	"errors"
	"time"

	"github.com/heddle-mesh/heddle/mesh"
	"github.com/heddle-mesh/heddle/model"
)

// errStopped is what a caller gets whose question comes after the loop has ended.
var errStopped = errors.New("the control plane is stopping")

// batch is events with the time at which they were handed over.
type batch struct {
	events []model.Event
	at     time.Time
}

// loop owns the state: nothing else touches p.publisher or the mesh.State in it.
func (p *Plane) loop(ctx context.Context) error {
	defer close(p.stopped)
	p.looping.Store(true)
	p.publisher.frame()
	p.publisher.flush()
	for {
		select {
		case <-ctx.Done():
			return nil
		case b := <-p.batches:
			p.apply(b)
		case e := <-p.refusals:
			p.apply(batch{events: []model.Event{e}, at: time.Now()})
		case f := <-p.calls:
			f()
		}
	}
}

// apply takes in a batch and whatever has queued up behind it: under a storm the work is done once.
func (p *Plane) apply(b batch) {
	start := time.Now()
	events := b.events
	p.publisher.metrics.lag.Observe(start.Sub(b.at).Seconds())
	for more := true; more; {
		select {
		case next := <-p.batches:
			events = append(events[:len(events):len(events)], next.events...)
		default:
			more = false
		}
	}
	p.publisher.metrics.queue.Set(float64(len(p.batches)))
	ch := p.publisher.state.Apply(events)
	p.publisher.changes(ch)
	p.publisher.metrics.applied(start)
	p.report(ch)
	for _, e := range events {
		if e.Synced {
			p.becomeReady()
		}
	}
}

// becomeReady lets sidecars in: before the first full listing the mesh is not known, and an empty mesh must never be
// served.
func (p *Plane) becomeReady() {
	p.publisher.store.MarkSynced()
	p.ready.Store(true)
	if p.judged != nil {
		p.judged.Complete()
	}
	p.log.Info().Int("services", len(p.publisher.state.Services())).Msg("serving")
}

// report hands on what a batch had to say to people and to disk.
func (p *Plane) report(ch mesh.Changes) {
	for _, n := range ch.Notices {
		p.log.Warn().Str("kind", n.Kind).Stringer("object", n.Key).Msg(n.Text)
	}
	if len(ch.Save) > 0 {
		p.saver.put(ch.Save)
	}
	p.reportPolicies(ch.Policies)
	if p.options.Observer != nil {
		p.options.Observer.Applied(ch)
	}
}

// receive is where the source puts its events. It blocks while the loop is behind, which is what slows the source.
func (p *Plane) receive(ctx context.Context) func([]model.Event) {
	return func(events []model.Event) {
		select {
		case p.batches <- batch{events: events, at: time.Now()}:
		case <-ctx.Done():
		}
	}
}

// call has the loop run f and waits for it.
func (p *Plane) call(ctx context.Context, f func()) error {
	done := make(chan struct{})
	select {
	case p.calls <- func() { f(); close(done) }:
	case <-ctx.Done():
		return ctx.Err()
	case <-p.stopped:
		return errStopped
	}
	select {
	case <-done:
		return nil
	case <-p.stopped:
		return errStopped
	}
}

// post has the loop run f some time soon, unless it has ended.
func (p *Plane) post(f func()) {
	select {
	case p.calls <- f:
	case <-p.stopped:
	}
}
