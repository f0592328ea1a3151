package kube

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/heddle-mesh/heddle/model"
)

// SliceOf makes the fact of an EndpointSlice, nil if it belongs to no Service or lists host names, which no proxy of
// the cluster follows either.
func SliceOf(s *discoveryv1.EndpointSlice) (*model.Slice, error) {
	f := &model.Slice{Key: keyOf(s), Service: s.Labels[discoveryv1.LabelServiceName]}
	if f.Service == "" || s.AddressType == discoveryv1.AddressTypeFQDN {
		return nil, nil
	}
	for _, p := range s.Ports {
		// A port without a number stands for nothing that can be called.
		if p.Port == nil || p.Protocol != nil && *p.Protocol != corev1.ProtocolTCP {
			continue
		}
		number, err := portNumber(*p.Port)
		if err != nil {
			return nil, fmt.Errorf("read EndpointSlice %s: ports: %w", f.Key, err)
		}
		f.Ports = append(f.Ports, model.SlicePort{Name: deref(p.Name, ""), Number: number})
	}
	f.Endpoints = make([]model.SliceEndpoint, 0, len(s.Endpoints))
	for i := range s.Endpoints {
		e, err := endpointOf(&s.Endpoints[i], s.Namespace)
		if err != nil {
			return nil, fmt.Errorf("read EndpointSlice %s: endpoints[%d]: %w", f.Key, i, err)
		}
		if e.Address.Is4() != (s.AddressType == discoveryv1.AddressTypeIPv4) {
			return nil, fmt.Errorf("read EndpointSlice %s: endpoints[%d]: %s is no address of addressType %q", f.Key, i, e.Address, s.AddressType)
		}
		f.Endpoints = append(f.Endpoints, e)
	}
	return f, nil
}

// endpointOf reads one endpoint. Only its first address has a meaning (API reference, Endpoint.addresses), and absent
// conditions count as the API says.
func endpointOf(e *discoveryv1.Endpoint, namespace string) (model.SliceEndpoint, error) {
	if len(e.Addresses) == 0 {
		return model.SliceEndpoint{}, fmt.Errorf("no address")
	}
	address, err := addressOf(e.Addresses[0])
	if err != nil {
		return model.SliceEndpoint{}, err
	}
	f := model.SliceEndpoint{
		Address:     address,
		Ready:       deref(e.Conditions.Ready, true),
		Terminating: deref(e.Conditions.Terminating, false),
		Node:        deref(e.NodeName, ""),
		Zone:        deref(e.Zone, ""),
		Hostname:    deref(e.Hostname, ""),
	}
	f.Serving = deref(e.Conditions.Serving, f.Ready)
	if r := e.TargetRef; r != nil && r.Kind == "Pod" && (r.Namespace == "" || r.Namespace == namespace) {
		f.Pod, f.PodUID = r.Name, string(r.UID)
	}
	if e.Hints != nil {
		for _, z := range e.Hints.ForZones {
			f.ForZones = append(f.ForZones, z.Name)
		}
		for _, n := range e.Hints.ForNodes {
			f.ForNodes = append(f.ForNodes, n.Name)
		}
	}
	return f, nil
}

func deref[T any](p *T, absent T) T {
	if p == nil {
		return absent
	}
	return *p
}
