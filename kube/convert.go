package kube

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/heddle-mesh/heddle/model"
)

// defaultAffinity is how long sessionAffinity ClientIP lasts if the Service does not say (3 hours).
const defaultAffinity = time.Duration(corev1.DefaultClientIPServiceAffinitySeconds) * time.Second

// ServiceOf makes the fact of a Service. What is missing has the API's default, so that a manifest that never met an
// API server means the same.
func ServiceOf(s *corev1.Service) (*model.Service, error) {
	f := &model.Service{
		Key:      keyOf(s),
		UID:      string(s.UID),
		Created:  s.CreationTimestamp.UTC(),
		Selector: model.LabelsOf(s.Spec.Selector),
		Unready:  s.Spec.PublishNotReadyAddresses,
		Prefer:   preferenceOf(s.Spec.TrafficDistribution),
	}
	var errs []error
	var err error
	if f.Ports, f.Ignored, err = portsOf(s.Spec.Ports); err != nil {
		errs = append(errs, err)
	}
	addresses := s.Spec.ClusterIPs
	if len(addresses) == 0 && s.Spec.ClusterIP != "" {
		addresses = []string{s.Spec.ClusterIP}
	}
	switch {
	case s.Spec.Type == corev1.ServiceTypeExternalName:
		f.Kind, f.ExternalName = model.ExternalName, s.Spec.ExternalName
	case slices.Equal(addresses, []string{corev1.ClusterIPNone}):
		f.Kind = model.Headless
	default:
		if f.Addresses, err = addressesOf(addresses); err != nil {
			errs = append(errs, fmt.Errorf("spec.clusterIPs: %w", err))
		}
	}
	if s.Spec.SessionAffinity == corev1.ServiceAffinityClientIP {
		f.Affinity = defaultAffinity
		if c := s.Spec.SessionAffinityConfig; c != nil && c.ClientIP != nil && c.ClientIP.TimeoutSeconds != nil {
			f.Affinity = time.Duration(*c.ClientIP.TimeoutSeconds) * time.Second
		}
	}
	if p := s.Spec.InternalTrafficPolicy; p != nil && *p == corev1.ServiceInternalTrafficPolicyLocal {
		f.NodeLocal = true
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("read Service %s: %w", f.Key, err)
	}
	f.Hash = hashOf(f)
	return f, nil
}

// portsOf gives the TCP ports by number, and names the others.
func portsOf(ports []corev1.ServicePort) (tcp []model.Port, ignored []string, err error) {
	for _, p := range ports {
		number, err := portNumber(p.Port)
		if err != nil {
			return nil, nil, fmt.Errorf("spec.ports, port %q: %w", p.Name, err)
		}
		if p.Protocol != "" && p.Protocol != corev1.ProtocolTCP {
			ignored = append(ignored, fmt.Sprintf("%d/%s", number, p.Protocol))
			continue
		}
		proto, declared := ProtocolOf(p)
		if slices.ContainsFunc(tcp, func(o model.Port) bool { return o.Number == number }) {
			return nil, nil, fmt.Errorf("spec.ports, port %q: %d/TCP is there twice", p.Name, number)
		}
		port := model.Port{Name: p.Name, Number: number, Protocol: proto, Declared: declared,
			Greets: proto == model.TCP && SpeaksFirst(p), Target: number}
		if t := p.TargetPort; t.Type == intstr.String && t.StrVal != "" {
			port.Target, port.TargetName = 0, t.StrVal
		} else if t.IntVal > 0 && t.IntVal <= math.MaxUint16 {
			port.Target = uint16(t.IntVal)
		}
		tcp = append(tcp, port)
	}
	slices.SortStableFunc(tcp, func(a, b model.Port) int { return int(a.Number) - int(b.Number) })
	slices.Sort(ignored)
	return tcp, ignored, nil
}

// preferenceOf reads spec.trafficDistribution. A value from a later Kubernetes prefers nothing, as the API asks of
// implementations that do not know it.
func preferenceOf(distribution *string) model.Preference {
	if distribution == nil {
		return model.PreferNone
	}
	switch *distribution {
	case corev1.ServiceTrafficDistributionPreferClose, corev1.ServiceTrafficDistributionPreferSameZone:
		return model.PreferZone
	case corev1.ServiceTrafficDistributionPreferSameNode:
		return model.PreferNode
	}
	return model.PreferNone
}

// PodOf makes the fact of a Pod.
func PodOf(p *corev1.Pod) (*model.Pod, error) {
	f := &model.Pod{
		Key:            keyOf(p),
		UID:            string(p.UID),
		ServiceAccount: p.Spec.ServiceAccountName,
		Node:           p.Spec.NodeName,
		Labels:         model.LabelsOf(p.Labels),
		Meshed:         p.Labels[model.SidecarLabel] == "true",
		HostNetwork:    p.Spec.HostNetwork,
		Deleted:        p.DeletionTimestamp != nil,
		Finished:       p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed,
	}
	if f.ServiceAccount == "" {
		f.ServiceAccount = "default"
	}
	var addresses []string
	for _, ip := range p.Status.PodIPs {
		addresses = append(addresses, ip.IP)
	}
	if len(addresses) == 0 && p.Status.PodIP != "" {
		addresses = []string{p.Status.PodIP}
	}
	var err error
	if f.Addresses, err = addressesOf(addresses); err != nil {
		return nil, fmt.Errorf("read Pod %s: status.podIPs: %w", f.Key, err)
	}
	if f.Ports, err = podPortsOf(&p.Spec); err != nil {
		return nil, fmt.Errorf("read Pod %s: %w", f.Key, err)
	}
	// A pod is not injected with what cannot be read; one that was edited afterwards is redirected as it was before.
	f.Skipped, _ = model.ParsePorts(p.Annotations[model.SkipInboundAnnotation])
	return f, nil
}

// podPortsOf gives the TCP ports that containers declare, by number. An init container counts if it stays, as
// sidecars do.
func podPortsOf(spec *corev1.PodSpec) ([]model.PodPort, error) {
	containers := slices.Clone(spec.Containers)
	for _, c := range spec.InitContainers {
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			containers = append(containers, c)
		}
	}
	var ports []model.PodPort
	for _, c := range containers {
		for _, p := range c.Ports {
			if p.Protocol != "" && p.Protocol != corev1.ProtocolTCP {
				continue
			}
			number, err := portNumber(p.ContainerPort)
			if err != nil {
				return nil, fmt.Errorf("container %s: %w", c.Name, err)
			}
			proto, declared := protocolByNameOrNumber(p.Name, p.ContainerPort)
			ports = append(ports, model.PodPort{Name: p.Name, Number: number, Protocol: proto, Declared: declared})
		}
	}
	slices.SortStableFunc(ports, func(a, b model.PodPort) int { return int(a.Number) - int(b.Number) })
	return ports, nil
}

// NamespaceOf makes the fact of a Namespace.
func NamespaceOf(n *corev1.Namespace) *model.Namespace {
	return &model.Namespace{Name: n.Name, Labels: model.LabelsOf(n.Labels)}
}

// NodeOf makes the fact of a Node: its place, by the well-known labels.
func NodeOf(n *corev1.Node) *model.Node {
	return &model.Node{
		Name:   n.Name,
		Zone:   n.Labels[corev1.LabelTopologyZone],
		Region: n.Labels[corev1.LabelTopologyRegion],
	}
}

// PolicyOf makes the fact of a policy ConfigMap, nil if it is not labelled as one. The keys that end in .yaml hold a
// document each.
func PolicyOf(c *corev1.ConfigMap) *model.PolicyText {
	if c.Labels[model.PolicyLabel] != "true" {
		return nil
	}
	f := &model.PolicyText{Key: keyOf(c), UID: string(c.UID), Created: c.CreationTimestamp.UTC()}
	for item, text := range c.Data {
		if strings.HasSuffix(item, ".yaml") {
			f.Documents = append(f.Documents, model.PolicyDocument{Item: item, Text: text})
		}
	}
	slices.SortFunc(f.Documents, func(a, b model.PolicyDocument) int { return strings.Compare(a.Item, b.Item) })
	return f
}

func keyOf(o metav1.Object) model.Key {
	return model.Key{Namespace: o.GetNamespace(), Name: o.GetName()}
}

func portNumber(n int32) (uint16, error) {
	if n < 1 || n > 65535 {
		return 0, fmt.Errorf("%d is not a port; write 1 to 65535", n)
	}
	return uint16(n), nil
}

func addressesOf(texts []string) ([]netip.Addr, error) {
	var all []netip.Addr
	for _, t := range texts {
		a, err := addressOf(t)
		if err != nil {
			return nil, err
		}
		all = append(all, a)
	}
	return all, nil
}

// addressOf reads an IP address. ::ffff:10.0.0.1 is 10.0.0.1, so that one address has one form.
func addressOf(text string) (netip.Addr, error) {
	a, err := netip.ParseAddr(text)
	if err != nil || a.Zone() != "" {
		return netip.Addr{}, fmt.Errorf("%q is not an IP address", text)
	}
	return a.Unmap(), nil
}

// hashOf identifies content: equal values have equal hashes, on every replica and after a restart.
func hashOf(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("hash %T: %v", v, err)) // facts are plain data, which always has a JSON form
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:8])
}
