package demo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/heddle-mesh/heddle/observe"
)

// performance is the part of a demo in which there is load.
type performance struct {
	*stage
	shoppers *application
	output   output
	began    time.Time
	loaded   time.Duration // for how long there was load; 0 while there is
	period   time.Time     // since when the last edit is measured
	last     Report        // the one before, since the start
	history  history       // of the period
	moods    map[string]bool
}

// output shows what happens.
type output interface {
	show(s scene) error   // with every frame
	close(s *scene) error // at the end, with everything; nil if it ended too early for that
}

func newPerformance(s *stage, shoppers *application) *performance {
	return &performance{
		stage: s, shoppers: shoppers, output: newOutput(s.options), moods: map[string]bool{},
	}
}

// run keeps the load up until ctx ends or the time is up, and shows what happens.
func (p *performance) run(ctx context.Context) error {
	p.began = time.Now()
	p.period = p.began.Add(-flushEvery) // where the first slot of the load may begin
	p.mood.begin(p.began)
	loading, stop := context.WithCancel(ctx)
	defer stop()
	if p.options.For > 0 {
		loading, stop = context.WithTimeout(ctx, p.options.For)
		defer stop()
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		load(loading, p.shoppers, p.options.Rate)
	}()
	err := p.showUntil(ctx, ended)
	cut := err != nil || ctx.Err() != nil
	if cut {
		err = errors.Join(err, p.unfinished())
	}
	stop()
	<-ended
	if cut {
		return err
	}
	p.loaded = p.options.For
	return p.finish(ctx)
}

// unfinished ends a demo that was interrupted: that is nothing wrong, unless it was asked for a result. Who looked on is
// left with what there was to see.
func (p *performance) unfinished() error {
	if p.options.For > 0 {
		return errors.Join(p.output.close(nil), errInterrupted)
	}
	s := p.scene(time.Now())
	_ = s.conclude(nil) // the summary says it; requests that are under way are in no count
	return p.output.close(&s)
}

// showUntil shows a frame now and then until the load has ended, or ctx.
func (p *performance) showUntil(ctx context.Context, ended <-chan struct{}) error {
	frames := time.NewTicker(frameEvery)
	defer frames.Stop()
	for {
		select {
		case <-ended:
			return nil
		case <-ctx.Done():
			return nil
		case now := <-frames.C:
			if err := p.output.show(p.scene(now)); err != nil {
				return fmt.Errorf("show what happens: %w", err)
			}
		}
	}
}

// allPushed is how long it takes until every sidecar has pushed what it counted, busy as it may be.
const allPushed = 3 * flushEvery

// finish waits for the last statistics and gives the verdict.
func (p *performance) finish(ctx context.Context) error {
	pushed := time.NewTimer(allPushed)
	defer pushed.Stop()
	select {
	case <-pushed.C:
	case <-ctx.Done():
		return errors.Join(p.output.close(nil), errInterrupted)
	}
	s := p.scene(time.Now())
	verdict := s.conclude(p.total(1).checkCounts(p.ledger.read()))
	if err := p.output.close(&s); err != nil {
		return fmt.Errorf("show the result: %w", err)
	}
	return verdict
}

// conclude makes the scene the last one, and gives the verdict: [ErrDisagree] if anything is not as wanted.
func (s *scene) conclude(counts []Disagreement) error {
	s.total.Routes = s.since.Routes // what was before an edit had other weights
	s.total.Disagreements = append(s.since.Disagreements, counts...)
	if len(s.total.Disagreements) > 0 {
		return ErrDisagree
	}
	return nil
}

// measure gives what was measured since a time, which was so many seconds of load.
func (p *performance) measure(since time.Time, seconds float64) measured {
	return p.measured(seconds, func(source func(string) string) observe.View { return p.mesh.Plane().Signals().View(since, source) })
}

// total gives what was measured since the start; there was nothing to measure before the load.
func (p *performance) total(seconds float64) measured {
	return p.measured(seconds, p.mesh.Plane().Signals().Totals)
}

func (p *performance) measured(seconds float64, view func(source func(string) string) observe.View) measured {
	source := workloads(p.pods)
	return measured{
		seconds: max(seconds, frameEvery.Seconds()), view: view(source), nodes: view(nil),
		source: source, wants: p.watcher.outbound,
	}
}

// scene gives what there is to show now, and adds to the news what is new in it.
func (p *performance) scene(now time.Time) scene {
	h := p.watcher.hear()
	if from := h.changed.Add(settle); from.After(p.period) && !now.Before(from) {
		p.period = from
		p.ledger.begin()
		p.history = nil
	}
	lasted := cmp.Or(p.loaded, now.Sub(p.began))
	since := p.measure(maxTime(p.period, h.changed.Add(settle)), 1)
	s := scene{
		now: now, elapsed: lasted, folder: p.options.Folder, sidecars: len(p.pods), rate: p.options.Rate,
		live:  p.measure(now.Add(-liveFor), min(liveFor, lasted).Seconds()).report(),
		since: since.report(),
		total: p.total(lasted.Seconds()).report(),
	}
	known := p.ledger.read()
	if p.loaded == 0 {
		known = p.history.add(now, known, allPushed)
	}
	s.since.Disagreements = since.disagreements(known)
	p.tell(now, s.total)
	s.heard = p.watcher.hear()
	return s
}

func maxTime(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// tell adds what the mesh and the shop did since the last frame to the news.
func (p *performance) tell(now time.Time, r Report) {
	for _, pod := range p.pods {
		if bad := p.mood.bad(pod, now); bad != p.moods[pod.Key.Name] {
			p.moods[pod.Key.Name] = bad
			text := pod.Key.Name + " turns bad: it answers 503"
			if !bad {
				text = pod.Key.Name + " is good again"
			}
			p.watcher.note(news{now, newsShop, text})
		}
	}
	for _, text := range changes(p.last, r) {
		p.watcher.note(news{now, newsMesh, text})
	}
	p.last = r
}

// changes says what the mesh did between two reports that begin at the same time.
func changes(before, after Report) []string {
	var out []string
	ejections := map[string]Ejections{}
	for _, e := range before.Ejections {
		ejections[arrow(e.Source, e.Destination)] = e
	}
	for _, e := range after.Ejections {
		was := ejections[arrow(e.Source, e.Destination)]
		if e.Ejected > was.Ejected {
			out = append(out, fmt.Sprintf("%s took an endpoint of %s out of use", short(e.Source), short(e.Destination)))
		}
		if e.Returned > was.Returned {
			out = append(out, fmt.Sprintf("%s gives an endpoint of %s another chance", short(e.Source), short(e.Destination)))
		}
	}
	refused := map[string]uint64{}
	for _, b := range before.Breakers {
		refused[arrow(b.Source, b.Destination)] = b.Refused
	}
	for _, b := range after.Breakers {
		if n := b.Refused - refused[arrow(b.Source, b.Destination)]; n > 0 && n <= b.Refused {
			out = append(out, fmt.Sprintf("the breaker of %s opened: %d refused", arrow(b.Source, b.Destination), n))
		}
	}
	return out
}
