package kube

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heddle-mesh/heddle/model"
	"github.com/heddle-mesh/heddle/policy"
)

// factsOf reads manifests that must be good.
func factsOf(t *testing.T, text string) []model.Event {
	t.Helper()
	m := parseManifest("test.yaml", []byte(text))
	if policy.Failed(m.problems) {
		t.Fatalf("the manifest has problems: %v", m.problems)
	}
	var events []model.Event
	for _, o := range m.objects {
		events = append(events, o.event)
	}
	return events
}

// oneFact reads a manifest with one object.
func oneFact(t *testing.T, text string) model.Event {
	t.Helper()
	events := factsOf(t, text)
	if len(events) != 1 {
		t.Fatalf("got %d facts, want 1", len(events))
	}
	return events[0]
}

func diff(t *testing.T, want, got any, options ...cmp.Option) {
	t.Helper()
	options = append(options, cmp.Comparer(func(a, b netip.Addr) bool { return a == b }))
	if d := cmp.Diff(want, got, options...); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func addresses(texts ...string) []netip.Addr {
	var all []netip.Addr
	for _, t := range texts {
		all = append(all, netip.MustParseAddr(t))
	}
	return all
}

func TestServicesKeepWhatTheMeshNeedsOfThem(t *testing.T) {
	const head = "apiVersion: v1\nkind: Service\nmetadata: {name: catalog, namespace: shop}\n"
	key := model.Key{Namespace: "shop", Name: "catalog"}
	for _, c := range []struct {
		why, spec string
		want      model.Service
	}{
		{"several named ports, by number", `spec:
  clusterIP: 10.96.0.1
  selector: {app: catalog}
  ports: [{name: metrics, port: 9090}, {name: http, port: 80, targetPort: web}, {name: grpc, port: 81, appProtocol: grpc}]`,
			model.Service{
				Addresses: addresses("10.96.0.1"), Selector: model.Labels{{Key: "app", Value: "catalog"}},
				Ports: []model.Port{
					{Name: "http", Number: 80, Protocol: model.HTTP, Declared: true},
					{Name: "grpc", Number: 81, Protocol: model.GRPC, Declared: true},
					{Name: "metrics", Number: 9090},
				}}},
		{"headless", `spec: {clusterIP: None, selector: {app: a}, ports: [{port: 80}]}`,
			model.Service{Kind: model.Headless, Selector: model.Labels{{Key: "app", Value: "a"}}, Ports: []model.Port{{Number: 80}}}},
		{"headless with no selector and no ports", `spec: {clusterIP: None}`, model.Service{Kind: model.Headless}},
		{"ExternalName", `spec: {type: ExternalName, externalName: db.example.com, ports: [{port: 5432}]}`,
			model.Service{Kind: model.ExternalName, ExternalName: "db.example.com", Ports: []model.Port{{Number: 5432, Protocol: model.TCP}}}},
		{"without selector", `spec: {clusterIP: 10.96.0.1, ports: [{port: 80}]}`,
			model.Service{Addresses: addresses("10.96.0.1"), Ports: []model.Port{{Number: 80}}}},
		{"dual stack keeps the order", `spec: {clusterIP: "fd00::1", clusterIPs: ["fd00::1", 10.96.0.1], ports: [{port: 80}]}`,
			model.Service{Addresses: addresses("fd00::1", "10.96.0.1"), Ports: []model.Port{{Number: 80}}}},
		{"NodePort has a cluster side", `spec: {type: NodePort, clusterIP: 10.96.0.1, ports: [{port: 80, nodePort: 30080}]}`,
			model.Service{Addresses: addresses("10.96.0.1"), Ports: []model.Port{{Number: 80}}}},
		{"LoadBalancer has a cluster side", `spec: {type: LoadBalancer, clusterIP: 10.96.0.1, ports: [{port: 80}]}`,
			model.Service{Addresses: addresses("10.96.0.1"), Ports: []model.Port{{Number: 80}}}},
		{"UDP and SCTP are left alone and named", `spec: {clusterIP: 10.96.0.1, ports: [{name: s, port: 99, protocol: SCTP}, {name: u, port: 53, protocol: UDP}, {name: t, port: 53, protocol: TCP}]}`,
			model.Service{Addresses: addresses("10.96.0.1"), Ports: []model.Port{{Name: "t", Number: 53}}, Ignored: []string{"53/UDP", "99/SCTP"}}},
		{"publishNotReadyAddresses", `spec: {clusterIP: None, publishNotReadyAddresses: true}`, model.Service{Kind: model.Headless, Unready: true}},
		{"session affinity lasts three hours", `spec: {clusterIP: None, sessionAffinity: ClientIP}`,
			model.Service{Kind: model.Headless, Affinity: 3 * time.Hour}},
		{"session affinity with a time", `spec: {clusterIP: None, sessionAffinity: ClientIP, sessionAffinityConfig: {clientIP: {timeoutSeconds: 60}}}`,
			model.Service{Kind: model.Headless, Affinity: time.Minute}},
		{"internalTrafficPolicy Local", `spec: {clusterIP: None, internalTrafficPolicy: Local}`, model.Service{Kind: model.Headless, NodeLocal: true}},
		{"internalTrafficPolicy Cluster", `spec: {clusterIP: None, internalTrafficPolicy: Cluster}`, model.Service{Kind: model.Headless}},
		{"PreferClose", `spec: {clusterIP: None, trafficDistribution: PreferClose}`, model.Service{Kind: model.Headless, Prefer: model.PreferZone}},
		{"PreferSameZone", `spec: {clusterIP: None, trafficDistribution: PreferSameZone}`, model.Service{Kind: model.Headless, Prefer: model.PreferZone}},
		{"PreferSameNode", `spec: {clusterIP: None, trafficDistribution: PreferSameNode}`, model.Service{Kind: model.Headless, Prefer: model.PreferNode}},
		{"a preference of the future", `spec: {clusterIP: None, trafficDistribution: PreferSameRack}`, model.Service{Kind: model.Headless}},
	} {
		t.Run(c.why, func(t *testing.T) {
			c.want.Key = key
			got := oneFact(t, head+c.spec).Service
			diff(t, &c.want, got, cmpopts.IgnoreFields(model.Service{}, "UID", "Hash"), cmpopts.IgnoreFields(model.Port{}, "Target", "TargetName"))
		})
	}
}

func TestServicePortsSayWhichPortOfThePodTheyLeadTo(t *testing.T) {
	got := oneFact(t, "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {clusterIP: None, ports: ["+
		"{name: a, port: 80}, {name: b, port: 81, targetPort: 8080}, {name: c, port: 82, targetPort: main}]}").Service
	diff(t, []model.Port{{Name: "a", Number: 80, Target: 80}, {Name: "b", Number: 81, Target: 8080}, {Name: "c", Number: 82, TargetName: "main"}}, got.Ports)
}

func TestServicesOfOneContentHaveOneHash(t *testing.T) {
	read := func(spec string) string {
		return oneFact(t, "apiVersion: v1\nkind: Service\nmetadata: {name: a, uid: u, creationTimestamp: '2026-01-02T03:04:05Z'}\nspec: "+spec).Service.Hash
	}
	a, same, other := read("{clusterIP: 10.96.0.1, ports: [{port: 80}]}"), read("{ports: [{port: 80}], clusterIPs: [10.96.0.1], clusterIP: 10.96.0.1}"),
		read("{clusterIP: 10.96.0.2, ports: [{port: 80}]}")
	if a != same {
		t.Errorf("the same content has the hashes %s and %s", a, same)
	}
	if a == other {
		t.Errorf("another address has the same hash %s", a)
	}
}

func TestServicesKeepTheirAge(t *testing.T) {
	got := oneFact(t, "apiVersion: v1\nkind: Service\nmetadata: {name: a, uid: u1, creationTimestamp: '2026-01-02T03:04:05Z'}\nspec: {clusterIP: None}").Service
	if want := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC); !got.Created.Equal(want) || got.UID != "u1" {
		t.Errorf("got %s, created %v; want u1, %v", got.UID, got.Created, want)
	}
}

func TestEndpointsKeepTheirConditionsAndPlace(t *testing.T) {
	got := oneFact(t, `
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: catalog-1, namespace: shop, labels: {kubernetes.io/service-name: catalog}}
addressType: IPv4
ports: [{name: http, port: 8080}, {name: dns, port: 53, protocol: UDP}, {name: none}, {port: 9090, protocol: TCP}]
endpoints:
- addresses: [10.0.0.1, 10.0.0.99]
- addresses: [10.0.0.2]
  conditions: {ready: false}
- addresses: [10.0.0.3]
  conditions: {ready: false, serving: true, terminating: true}
- addresses: [10.0.0.4]
  conditions: {ready: true}
  nodeName: n1
  zone: z1
  hostname: web-0
  targetRef: {kind: Pod, name: web-0, namespace: shop, uid: u1}
  hints: {forZones: [{name: z1}, {name: z2}], forNodes: [{name: n1}]}
- addresses: [10.0.0.5]
  targetRef: {kind: VirtualMachine, name: vm}
- addresses: [10.0.0.6]
  targetRef: {kind: Pod, name: web-0, namespace: elsewhere}
`).Slice
	diff(t, &model.Slice{
		Key: model.Key{Namespace: "shop", Name: "catalog-1"}, Service: "catalog",
		Ports: []model.SlicePort{{Name: "http", Number: 8080}, {Number: 9090}},
		Endpoints: []model.SliceEndpoint{
			{Address: netip.MustParseAddr("10.0.0.1"), Ready: true, Serving: true}, // absent is ready; the second address has no meaning
			{Address: netip.MustParseAddr("10.0.0.2")},                             // serving follows ready
			{Address: netip.MustParseAddr("10.0.0.3"), Serving: true, Terminating: true},
			{Address: netip.MustParseAddr("10.0.0.4"), Ready: true, Serving: true, Node: "n1", Zone: "z1", Hostname: "web-0",
				Pod: "web-0", PodUID: "u1", ForZones: []string{"z1", "z2"}, ForNodes: []string{"n1"}},
			{Address: netip.MustParseAddr("10.0.0.5"), Ready: true, Serving: true}, // what is no pod of ours has no pod
			{Address: netip.MustParseAddr("10.0.0.6"), Ready: true, Serving: true},
		},
	}, got)
}

func TestSlicesThatNoServiceHasAreNoFacts(t *testing.T) {
	for _, text := range []string{
		"metadata: {name: a}\naddressType: IPv4\nendpoints: [{addresses: [10.0.0.1]}]",
		"metadata: {name: a, labels: {kubernetes.io/service-name: s}}\naddressType: FQDN\nendpoints: [{addresses: [a.example.com]}]",
	} {
		if got := factsOf(t, "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n"+text); got != nil {
			t.Errorf("got %v of\n%s", got, text)
		}
	}
}

func TestSlicesOfBothFamiliesAreRead(t *testing.T) {
	got := oneFact(t, `
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: a, labels: {kubernetes.io/service-name: s}}
addressType: IPv6
endpoints: [{addresses: ["fd00::1"]}]`).Slice
	diff(t, addresses("fd00::1"), []netip.Addr{got.Endpoints[0].Address})
}

func TestPodsKeepWhatTheirSidecarAndCallersNeed(t *testing.T) {
	got := oneFact(t, `
apiVersion: v1
kind: Pod
metadata:
  name: web-0
  namespace: shop
  uid: u1
  labels: {app: web, heddle.dev/sidecar: "true"}
  deletionTimestamp: "2026-01-02T03:04:05Z"
spec:
  serviceAccountName: web
  nodeName: n1
  hostNetwork: true
  initContainers:
  - {name: setup, ports: [{containerPort: 1}]}
  - {name: proxy, restartPolicy: Always, ports: [{name: http-proxy, containerPort: 15000}]}
  containers:
  - {name: app, ports: [{name: http, containerPort: 8080}, {containerPort: 53, protocol: UDP}, {containerPort: 3306}]}
status:
  phase: Running
  podIP: 10.0.0.1
  podIPs: [{ip: 10.0.0.1}, {ip: "fd00::1"}]
`).Pod
	diff(t, &model.Pod{
		Key: model.Key{Namespace: "shop", Name: "web-0"}, UID: "u1", ServiceAccount: "web", Node: "n1",
		Addresses: addresses("10.0.0.1", "fd00::1"),
		Labels:    model.Labels{{Key: "app", Value: "web"}, {Key: "heddle.dev/sidecar", Value: "true"}},
		Ports: []model.PodPort{
			{Number: 3306, Protocol: model.TCP},
			{Name: "http", Number: 8080, Protocol: model.HTTP, Declared: true},
			{Name: "http-proxy", Number: 15000, Protocol: model.HTTP, Declared: true},
		},
		Meshed: true, HostNetwork: true, Deleted: true,
	}, got)
}

func TestPodsThatEndedAreFinished(t *testing.T) {
	for phase, want := range map[string]bool{"Pending": false, "Running": false, "Succeeded": true, "Failed": true, "Unknown": false} {
		got := oneFact(t, "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nstatus: {podIP: 10.0.0.1, phase: "+phase+"}").Pod
		if got.Finished != want {
			t.Errorf("phase %s: finished %v, want %v", phase, got.Finished, want)
		}
		if got.Meshed || got.ServiceAccount != "default" || got.Key.Namespace != "default" {
			t.Errorf("defaults are not those of an API server: %+v", got)
		}
		diff(t, addresses("10.0.0.1"), got.Addresses)
	}
}

func TestNodesAndNamespacesKeepTheirLabels(t *testing.T) {
	got := factsOf(t, `
apiVersion: v1
kind: Node
metadata: {name: n1, labels: {topology.kubernetes.io/zone: z1, topology.kubernetes.io/region: r1, other: x}}
---
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {heddle.dev/inject: enabled}}
`)
	diff(t, []model.Event{
		{Node: &model.Node{Name: "n1", Zone: "z1", Region: "r1"}},
		{Namespace: &model.Namespace{Name: "shop", Labels: model.Labels{{Key: "heddle.dev/inject", Value: "enabled"}}}},
	}, got)
}

func TestOnlyLabelledConfigMapsArePolicies(t *testing.T) {
	const text = `
apiVersion: v1
kind: ConfigMap
metadata: {name: catalog, namespace: shop, uid: u1, creationTimestamp: "2026-01-02T03:04:05Z", labels: {heddle.dev/policy: "%s"}}
data:
  b.yaml: "kind: Traffic"
  a.yaml: |
    kind: Access
  README.md: not a policy
`
	labelled := fmt.Sprintf(text, "true")
	got := oneFact(t, labelled).Policy
	diff(t, &model.PolicyText{
		Key: model.Key{Namespace: "shop", Name: "catalog"}, UID: "u1", Created: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
		Documents: []model.PolicyDocument{
			{Item: "a.yaml", Text: "kind: Access\n", File: "test.yaml", Line: 8, Column: 4},
			{Item: "b.yaml", Text: "kind: Traffic", File: "test.yaml", Line: 6, Column: 3, Pinned: true},
		},
	}, got)
	if got := factsOf(t, fmt.Sprintf(text, "false")); got != nil {
		t.Errorf("a ConfigMap without the label gives %v", got)
	}
}

func TestPortsThatRedirectionLeavesAloneAreKnownOfAPod(t *testing.T) {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Namespace: "shop", Name: "web", Annotations: map[string]string{model.SkipInboundAnnotation: "9100, 8000-8010"},
	}}
	got, err := PodOf(pod)
	if err != nil {
		t.Fatal(err)
	}
	for port, want := range map[uint16]bool{9100: true, 8000: true, 8010: true, 8011: false, 9101: false, 80: false} {
		if got.Skips(port) != want {
			t.Errorf("port %d is skipped: %t, want %t", port, !want, want)
		}
	}
	pod.Annotations[model.SkipInboundAnnotation] = "9100, all"
	if got, err = PodOf(pod); err != nil || got.Skips(9100) {
		t.Errorf("of what cannot be read %v is made, %v; want no port, and the pod all the same", got.Skipped, err)
	}
}
