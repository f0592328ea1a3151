package controlplane

import (
	"time"

	"github.com/rs/zerolog"

	"github.com/heddle-mesh/heddle/model"
	"github.com/heddle-mesh/heddle/xds/hds"
)

// health brings what sidecars find out about their own applications to every caller: results of active checks, and
// streaks of failed requests. A streak has no end that a sidecar could see, since callers stay away; it ends by time,
// as an ejection does.
type health struct {
	plane *Plane
	log   zerolog.Logger
}

// Streak hears that a sidecar's application failed several times in a row (observe.StreakListener).
func (h health) Streak(node string, port uint16) {
	pod, ok := podNamed(node)
	if !ok {
		return
	}
	h.plane.post(func() {
		ejection := h.ejection(pod, port)
		if ejection == 0 {
			return
		}
		h.report(model.HealthReport{Pod: pod, Port: port, Reason: model.FailureStreak})
		h.endAfter(ejection, model.HealthReport{Pod: pod, Port: port, Healthy: true, Reason: model.FailureStreak})
	})
}

// endAfter reports the end of a streak. A further streak counts from its own beginning, so one timer is enough.
func (h health) endAfter(ejection time.Duration, end model.HealthReport) {
	streaks := h.plane.publisher.streaks
	if earlier := streaks[end]; earlier != nil {
		earlier.Stop()
	}
	var own *time.Timer
	own = time.AfterFunc(ejection, func() {
		h.plane.post(func() {
			if streaks[end] == own {
				delete(streaks, end)
				h.report(end)
			}
		})
	})
	streaks[end] = own
}

// ejection is for how long callers leave a pod's port alone after a streak; 0 if policy does not ask for that.
func (h health) ejection(pod model.Key, port uint16) time.Duration {
	w := h.plane.publisher.state.Workload(pod)
	if w == nil {
		return 0
	}
	for _, p := range w.Ports {
		if p.Number == port {
			return p.Ejection
		}
	}
	return 0
}

// Checked hears the result of an active check.
func (h health) Checked(pod model.Key, port uint16, status hds.Status) {
	h.plane.post(func() {
		h.report(model.HealthReport{Pod: pod, Port: port, Healthy: status == hds.Healthy, Reason: model.ActiveCheck})
	})
}

// calm is how long a finding about a pod's port stands before the next one counts: each is pushed to every caller.
const calm = time.Second

// report runs on the loop. Of what comes while an earlier report stands only the last counts.
func (h health) report(r model.HealthReport) {
	about, standing := r, h.plane.publisher.standing
	about.Healthy = false
	if _, stands := standing[about]; stands {
		standing[about] = &r
		return
	}
	standing[about] = nil
	time.AfterFunc(calm, func() {
		h.plane.post(func() {
			next := standing[about]
			delete(standing, about)
			if next != nil {
				h.report(*next)
			}
		})
	})
	h.take(r)
}

func (h health) take(r model.HealthReport) {
	h.log.Info().Stringer("pod", r.Pod).Uint16("port", r.Port).Bool("healthy", r.Healthy).Str("reason", string(r.Reason)).Msg("health")
	h.plane.publisher.metrics.reported(r)
	h.plane.apply(batch{events: []model.Event{{Health: &r}}, at: time.Now()})
}
