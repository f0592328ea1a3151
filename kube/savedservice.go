package kube

import (
	"fmt"
	"slices"

	"github.com/heddle-mesh/heddle/model"
)

// savedService is the Service that a saved policy protects, as it is written. It has no namespace: it is in the policy's.
type savedService struct {
	Name     string            `json:"name"`
	Kind     string            `json:"kind,omitempty"` // a word of serviceKinds
	Selector map[string]string `json:"selector,omitempty"`
	Ports    []savedPort       `json:"ports,omitempty"`
}

type savedPort struct {
	Name       string `json:"name,omitempty"`
	Number     uint16 `json:"number"`
	Protocol   string `json:"protocol"` // as model.Protocol writes it
	Declared   bool   `json:"declared,omitempty"`
	Greets     bool   `json:"greets,omitempty"`
	Target     uint16 `json:"target,omitempty"`
	TargetName string `json:"targetName,omitempty"`
}

// serviceKinds are the words for a model.ServiceKind.
func serviceKinds() []string { return []string{"", "Headless", "ExternalName"} }

func serviceForm(s *model.SavedService) *savedService {
	if s == nil {
		return nil
	}
	f := &savedService{Name: s.Name, Kind: serviceKinds()[s.Kind], Selector: s.Selector.Map()}
	for _, p := range s.Ports {
		f.Ports = append(f.Ports, savedPort{p.Name, p.Number, p.Protocol.String(), p.Declared, p.Greets, p.Target, p.TargetName})
	}
	return f
}

func (f *savedService) service() (*model.SavedService, error) {
	if f == nil {
		return nil, nil
	}
	kind := slices.Index(serviceKinds(), f.Kind)
	if kind < 0 {
		return nil, fmt.Errorf("its kind is %q", f.Kind)
	}
	s := &model.SavedService{Name: f.Name, Kind: model.ServiceKind(kind), Selector: model.LabelsOf(f.Selector)}
	for _, p := range f.Ports {
		protocol, ok := protocolWritten(p.Protocol)
		if !ok {
			return nil, fmt.Errorf("port %d carries %q", p.Number, p.Protocol)
		}
		s.Ports = append(s.Ports, model.Port{Name: p.Name, Number: p.Number, Protocol: protocol, Declared: p.Declared, Greets: p.Greets,
			Target: p.Target, TargetName: p.TargetName})
	}
	return s, nil
}

// protocolWritten finds the protocol that String writes so.
func protocolWritten(word string) (model.Protocol, bool) {
	for p := model.Detect; p <= model.GRPC; p++ {
		if p.String() == word {
			return p, true
		}
	}
	return 0, false
}
