package kube

import (
	"context"
	"sync"
	"time"

	"github.com/heddle-mesh/heddle/model"
)

// queue brings the events of several goroutines to the one that hands them on, in batches of whatever is ready.
type queue struct {
	wake chan struct{} // holds a token while there may be something to take

	mu       sync.Mutex
	events   []model.Event
	oldest   time.Time // arrival of events[0]
	unsynced int       // sources that have not said everything they knew at their start
}

func newQueue(sources int) *queue {
	return &queue{wake: make(chan struct{}, 1), unsynced: sources}
}

func (q *queue) push(events ...model.Event) {
	if len(events) == 0 {
		return
	}
	q.mu.Lock()
	if len(q.events) == 0 {
		q.oldest = time.Now()
	}
	q.events = append(q.events, events...)
	q.mu.Unlock()
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// synced is called once by each source, after its first listing. The last one completes the queue's own.
func (q *queue) synced() {
	q.mu.Lock()
	q.unsynced--
	last := q.unsynced == 0
	q.mu.Unlock()
	if last {
		q.push(model.Event{Synced: true})
	}
}

// len is how many events wait.
func (q *queue) len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.events)
}

func (q *queue) take() (events []model.Event, oldest time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	events, q.events = q.events, nil
	return events, q.oldest
}

// run hands on what comes in until ctx ends.
func (q *queue) run(ctx context.Context, out func([]model.Event), observe func(Delivery)) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-q.wake:
		}
		events, oldest := q.take()
		if len(events) == 0 {
			continue
		}
		if observe != nil {
			observe(Delivery{Events: len(events), Waited: time.Since(oldest)})
		}
		out(events)
	}
}
