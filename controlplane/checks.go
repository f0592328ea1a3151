package controlplane

import (
	"context"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	healthv3 "github.com/envoyproxy/go-control-plane/envoy/service/health/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/heddle-mesh/heddle/model"
	"github.com/heddle-mesh/heddle/translator"
	"github.com/heddle-mesh/heddle/xds/hds"
)

// checker is a sidecar that asks what to check of its application.
type checker struct {
	who     peer
	over    chan struct{} // closed when it is no longer of the pod that it was made for
	capture translator.Capture
	told    *healthv3.HealthCheckSpecifier
	checks  chan *healthv3.HealthCheckSpecifier // holds the newest only
}

// connectChecker tells the HDS server whose stream it is.
func (p *Plane) connectChecker(ctx context.Context, node *corev3.Node) (hds.Session, error) {
	who, capture, err := p.identify(ctx, node)
	if err != nil {
		return hds.Session{}, err
	}
	c := &checker{who: who, over: make(chan struct{}), capture: capture, checks: make(chan *healthv3.HealthCheckSpecifier, 1)}
	if callErr := p.call(ctx, func() { err = p.publisher.addChecker(c) }); callErr != nil {
		return hds.Session{}, callErr
	}
	if err != nil {
		return hds.Session{}, err
	}
	return hds.Session{
		Checks: c.checks,
		Over:   c.over,
		Second: p.secondNode,
		Report: func(cluster string, status hds.Status) {
			if port, ok := translator.CheckedPort(cluster); ok {
				health{p, p.log}.Checked(who.pod, port, status)
			}
		},
		Close: func() { p.post(func() { p.publisher.removeChecker(c) }) },
	}, nil
}

func (p *publisher) addChecker(c *checker) error {
	pod, err := p.admit(c.who)
	if err != nil {
		return err
	}
	c.who.uid = pod.UID
	p.checkers[pod.Key] = append(p.checkers[pod.Key], c)
	p.tellChecks(pod.Key)
	return nil
}

func (p *publisher) removeChecker(c *checker) {
	var left []*checker
	for _, o := range p.checkers[c.who.pod] {
		if o != c {
			left = append(left, o)
		}
	}
	p.keepCheckers(c.who.pod, left)
}

func (p *publisher) keepCheckers(pod model.Key, left []*checker) {
	if len(left) == 0 {
		delete(p.checkers, pod)
		return
	}
	p.checkers[pod] = left
}

// noChecks takes back what was to be checked: Envoy wants an interval all the same.
func noChecks() *healthv3.HealthCheckSpecifier {
	return &healthv3.HealthCheckSpecifier{Interval: durationpb.New(time.Minute)}
}

// tellChecks tells a pod's sidecar what to check, if that changed.
func (p *publisher) tellChecks(pod model.Key) {
	for _, c := range p.checkers[pod] {
		spec := noChecks()
		if w := p.state.Workload(pod); w != nil {
			if checks := translator.HealthChecks(w, c.capture); checks != nil {
				spec = checks
			}
		}
		if c.told != nil && proto.Equal(c.told, spec) {
			continue
		}
		c.told = spec
		select {
		case <-c.checks: // not read yet, and out of date
		default:
		}
		c.checks <- spec
	}
}
