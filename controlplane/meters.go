package controlplane

import (
	"context"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"

	"github.com/heddle-mesh/heddle/model"
	"github.com/heddle-mesh/heddle/observe"
)

// meter is a stream on which a sidecar says what it counts.
type meter struct {
	who  peer
	over chan struct{} // closed when it is no longer of the pod that it was opened for
}

// connectMeter says whose statistics a stream brings, and for how long they are.
func (p *Plane) connectMeter(ctx context.Context, node *corev3.Node) (observe.Session, error) {
	who, err := p.who(ctx, node)
	if err != nil {
		return observe.Session{}, err
	}
	select { // until then no pod is known
	case <-p.store.Synced():
	case <-ctx.Done():
		return observe.Session{}, ctx.Err()
	}
	m := &meter{who: who, over: make(chan struct{})}
	if callErr := p.call(ctx, func() { err = p.publisher.addMeter(m) }); callErr != nil {
		return observe.Session{}, callErr
	}
	if err != nil {
		return observe.Session{}, err
	}
	return observe.Session{
		Node: who.pod.String(), Over: m.over,
		Close: func() { p.post(func() { p.publisher.removeMeter(m) }) },
	}, nil
}

func (p *publisher) addMeter(m *meter) error {
	pod, err := p.admit(m.who)
	if err != nil {
		return err
	}
	m.who.uid = pod.UID
	if p.meters[pod.Key] == nil {
		p.meters[pod.Key] = map[*meter]bool{}
	}
	p.meters[pod.Key][m] = true
	return nil
}

func (p *publisher) removeMeter(m *meter) {
	delete(p.meters[m.who.pod], m)
	if len(p.meters[m.who.pod]) == 0 {
		delete(p.meters, m.who.pod)
	}
}

// reviewMeters ends the streams that were opened for what is no longer so. pod is nil if there is none of that name.
func (p *publisher) reviewMeters(key model.Key, pod *model.Pod) {
	for m := range p.meters[key] {
		if pod == nil || !m.who.is(pod) {
			close(m.over)
			p.removeMeter(m)
		}
	}
}
