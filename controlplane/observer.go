package controlplane

import (
	"github.com/heddle-mesh/heddle/model"
	"github.com/heddle-mesh/heddle/translator"
	"github.com/heddle-mesh/heddle/xds"
)

// observer turns what the ADS server saw into metrics and log lines, and a version that enough proxies refused into an
// event: the policies behind it go back to their last good version.
type observer struct{ plane *Plane }

// Observe implements xds.Observer.
func (o observer) Observe(e xds.Event) {
	p, m := o.plane, o.plane.publisher.metrics
	switch e.Kind {
	case xds.Connected:
		m.proxies.Inc()
		p.log.Info().Str("proxy", e.Proxy).Msg("connected")
	case xds.Disconnected:
		m.proxies.Dec()
		p.log.Info().Str("proxy", e.Proxy).Msg("disconnected")
	case xds.Sent:
		m.pushes.WithLabelValues(e.Type.String()).Inc()
		p.log.Debug().Str("proxy", e.Proxy).Stringer("type", e.Type).Int("resources", e.Resources).Int("bytes", e.Bytes).Msg("sent")
	case xds.Acked:
		m.acks.WithLabelValues(e.Type.String()).Inc()
	case xds.Refused:
		m.nacks.WithLabelValues(e.Type.String()).Inc()
		p.log.Warn().Str("proxy", e.Proxy).Stringer("type", e.Type).Str("reason", e.Reason).Msg("a proxy refused a response")
	case xds.Condemned:
		p.log.Warn().Str("proxy", e.Proxy).Stringer("resource", e.Verdict.Resource.Ref).Str("version", e.Verdict.Resource.Version).
			Str("reason", e.Reason).Msg("a proxy refused a resource; it keeps the one before")
	case xds.Withdrawn:
		o.withdrawn(e)
	case xds.SecondNode:
		p.secondNode()
	}
	if p.options.Observer != nil {
		p.options.Observer.Observe(e)
	}
}

func (o observer) withdrawn(e xds.Event) {
	p, v := o.plane, e.Verdict
	serving, innocent := "nothing", map[model.Origin]bool{}
	if v.Good != nil {
		serving = v.Good.Version
		for _, origin := range o.origins(v.Good) {
			innocent[origin] = true // was in what proxies accept, so it is not what they refuse
		}
	}
	p.log.Error().Stringer("resource", v.Resource.Ref).Str("version", v.Resource.Version).Int("proxies", v.Proxies).
		Str("serving", serving).Str("reason", e.Reason).Msg("proxies refused a resource; everybody gets the last good one")
	for _, origin := range o.origins(v.Resource) {
		if origin.Kind == "ConfigMap" && !innocent[origin] {
			o.refuse(model.Refusal{Policy: origin.Key, Item: origin.Item, Hash: origin.Hash, Reason: e.Reason})
		}
	}
}

// origins reads where a resource came from.
func (o observer) origins(r *xds.Resource) []model.Origin {
	m, err := r.Message()
	if err != nil {
		o.plane.log.Error().Err(err).Stringer("resource", r.Ref).Msg("reading where a resource came from")
		return nil
	}
	return translator.OriginsOf(m)
}

// refuse hands a refusal to the loop. It must not wait: the loop may be publishing to the very stream that reports.
func (o observer) refuse(r model.Refusal) {
	select {
	case o.plane.refusals <- model.Event{Refused: &r}:
	default:
		o.plane.log.Error().Stringer("policy", r.Policy).Str("reason", r.Reason).
			Msg("too many refusals at once: the resource is back at its last good version, the policy's status does not say so")
	}
}
