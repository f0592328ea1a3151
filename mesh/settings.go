package mesh

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"reflect"
	"time"

	"github.com/heddle-mesh/heddle/model"
	"github.com/heddle-mesh/heddle/policy"
)

// trustDomain is whose identities sidecars have unless Options say otherwise.
const trustDomain = "cluster.local"

// DefaultConnectionAge is how old an HTTP connection between sidecars may become before it is replaced.
const DefaultConnectionAge = time.Hour

// clusterDomain is the DNS suffix of Services unless the cluster was set up otherwise.
const clusterDomain = "cluster.local"

// The fields of a Mesh document that Settings has.
const (
	fieldDetectionTimeout    model.Field = "detectionTimeout"
	fieldUnknownDestinations model.Field = "unknownDestinations"
)

// atDefaults is where a Mesh document has what holds for every Service.
const atDefaults policy.Path = "defaults.traffic"

// updateDefaults joins the Mesh documents, and marks everything if what holds for everybody changed.
func (s *State) updateDefaults(ch *Changes) {
	var l level
	for r := range s.meshDocuments {
		d := s.documents[r]
		src := source{document: d, at: atDefaults, written: &policy.Traffic{}, filled: &policy.Traffic{}}
		if m := d.inForce().Mesh; m.Defaults != nil && m.Defaults.Traffic != nil {
			src.written.TrafficSettings = *m.Defaults.Traffic
			src.filled.TrafficSettings = policy.WithDefaults(*m.Defaults.Traffic)
		}
		l = append(l, src)
	}
	l.sort()
	j := newJoin(s)
	j.tellConflicts(l)
	settings := j.settings(l)
	s.updateAccessDefaults(j, l)
	j.deliver(l)

	if !reflect.DeepEqual(s.settings, settings) {
		s.settings, ch.Settings = settings, true
		for key := range s.services {
			s.dirty.outbounds.add(key)
		}
		for key := range s.workloads {
			s.dirty.workloads.add(key)
		}
	}
	s.meshLevel = l
	if defaults := s.resolveDefaults(); !reflect.DeepEqual(s.defaults, defaults) {
		s.defaults = defaults
		for key := range s.services {
			s.dirty.traffic.add(key)
		}
	}
}

// settings merges the Mesh documents' own fields.
func (j *join) settings(l level) *model.Settings {
	builtin := policy.WithDefaults(policy.Mesh{})
	settings := &model.Settings{
		DetectionTimeout: span(builtin.DetectionTimeout),
		RefuseUnknown:    builtin.UnknownDestinations == policy.UnknownRefuse,
		ClusterDomain:    clusterDomain,
		TrustDomain:      cmp.Or(j.state.options.TrustDomain, trustDomain),
		ConnectionAge:    cmp.Or(j.state.options.ConnectionAge, DefaultConnectionAge),
		Origins:          map[model.Field]model.Origin{},
	}
	take := func(src source, f model.Field) bool {
		if winner, taken := settings.Origins[f]; taken {
			j.tellConflict(src, policy.Path(f), winner.Key, winner.Item)
			return false
		}
		settings.Origins[f] = src.document.origin(policy.Path(f))
		return true
	}
	for _, src := range l {
		m := src.document.inForce().Mesh
		if m.DetectionTimeout != nil && take(src, fieldDetectionTimeout) {
			settings.DetectionTimeout = span(m.DetectionTimeout)
		}
		if m.UnknownDestinations != "" && take(src, fieldUnknownDestinations) {
			settings.RefuseUnknown = m.UnknownDestinations == policy.UnknownRefuse
		}
	}
	return settings
}

// hashDefaults adds the hash of each field below atDefaults, by the names that the language gives them.
func hashDefaults(parts map[policy.Path]string, settings *policy.TrafficSettings) {
	text, err := json.Marshal(settings)
	var fields map[string]json.RawMessage
	if err == nil {
		err = json.Unmarshal(text, &fields)
	}
	if err != nil {
		panic(fmt.Sprintf("hash of defaults: %v", err)) // they are plain data, which always has a JSON form
	}
	for name, value := range fields {
		parts[atDefaults.Field(name)] = hashOf(value)
	}
}

// hashOf identifies bytes.
func hashOf(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:12])
}
