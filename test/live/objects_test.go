package live

import (
	"fmt"
	"net/netip"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/heddle-mesh/heddle/model"
)

func (w *world) createPod(name string, at netip.Addr, labels ...string) {
	w.t.Helper()
	o := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{model.SidecarLabel: "true"}},
		Spec: corev1.PodSpec{NodeName: "node-1", ServiceAccountName: w.account(name), Containers: []corev1.Container{{
			Name: "app", Image: "example/app", Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: appPort}},
		}}},
	}
	if w.tcp {
		c := &o.Spec.Containers[0]
		c.Ports = append(c.Ports, corev1.ContainerPort{Name: "tcp", ContainerPort: appPortTCP})
	}
	for _, l := range labels {
		key, value, _ := strings.Cut(l, "=")
		o.Labels[key] = value
	}
	pods := w.client.CoreV1().Pods(w.Namespace)
	o, err := pods.Create(w.t.Context(), o, metav1.CreateOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
	o.Status = corev1.PodStatus{Phase: corev1.PodRunning, PodIP: at.String(), PodIPs: []corev1.PodIP{{IP: at.String()}}}
	if _, err := pods.UpdateStatus(w.t.Context(), o, metav1.UpdateOptions{}); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) deletePod(name string) {
	w.t.Helper()
	now := metav1.DeleteOptions{GracePeriodSeconds: new(int64)}
	if err := w.client.CoreV1().Pods(w.Namespace).Delete(w.t.Context(), name, now); err != nil {
		w.t.Fatal(err)
	}
}

// service makes a Service with one port, named http, or replaces it, and gives its address.
func (w *world) service(name string, change ...func(*corev1.Service)) netip.Addr {
	w.t.Helper()
	o := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: "http", Port: servicePort}}},
	}
	for _, c := range change {
		c(o)
	}
	services := w.client.CoreV1().Services(w.Namespace)
	made, err := services.Create(w.t.Context(), o, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		made, err = services.Update(w.t.Context(), o, metav1.UpdateOptions{})
	}
	if err != nil {
		w.t.Fatal(err)
	}
	return netip.MustParseAddr(made.Spec.ClusterIP)
}

// servicePort is the port of every Service, above those that need root to be bound.
const servicePort = 8000

func addressed(a netip.Addr) func(*corev1.Service) {
	return func(s *corev1.Service) { s.Spec.ClusterIP = a.String() }
}

// selecting makes a Service one for pods with a label, before slices list them.
func selecting(app string) func(*corev1.Service) {
	return func(s *corev1.Service) {
		s.Spec.Selector = map[string]string{"app": app}
		s.Spec.Ports[0].TargetPort = intstr.FromInt32(appPort)
	}
}

func (w *world) deleteService(name string) {
	w.t.Helper()
	if err := w.client.CoreV1().Services(w.Namespace).Delete(w.t.Context(), name, metav1.DeleteOptions{}); err != nil {
		w.t.Fatal(err)
	}
}

// endpoint is a pod as a slice lists it.
type endpoint struct {
	*pod
	terminating bool
}

func ready(pods ...*pod) (list []endpoint) {
	for _, p := range pods {
		list = append(list, endpoint{pod: p})
	}
	return list
}

// ending are pods that get no new requests while another is ready, and still could.
func ending(pods ...*pod) (list []endpoint) {
	for _, p := range pods {
		list = append(list, endpoint{pod: p, terminating: true})
	}
	return list
}

// slice writes the EndpointSlice SERVICE-http for a Service's port http, or replaces it.
func (w *world) slice(service string, endpoints []endpoint) {
	w.t.Helper()
	w.sliceNamed(service+"-http", service, "http", endpoints)
}

func (w *world) sliceNamed(name, service, port string, endpoints []endpoint) {
	w.t.Helper()
	number := int32(appPort)
	if port == "tcp" {
		number = appPortTCP
	}
	o := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Name: name, Labels: map[string]string{discoveryv1.LabelServiceName: service},
		},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: &port, Port: &number, Protocol: new(corev1.ProtocolTCP)}},
	}
	for _, e := range endpoints {
		o.Endpoints = append(o.Endpoints, discoveryv1.Endpoint{
			Addresses:  []string{e.address.String()},
			Conditions: discoveryv1.EndpointConditions{Ready: new(!e.terminating), Serving: new(true), Terminating: new(e.terminating)},
			TargetRef:  &corev1.ObjectReference{Kind: "Pod", Namespace: w.Namespace, Name: e.name},
		})
	}
	slices := w.client.DiscoveryV1().EndpointSlices(w.Namespace)
	_, err := slices.Update(w.t.Context(), o, metav1.UpdateOptions{})
	if apierrors.IsNotFound(err) {
		_, err = slices.Create(w.t.Context(), o, metav1.CreateOptions{})
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) deleteSlice(name string) {
	w.t.Helper()
	if err := w.client.DiscoveryV1().EndpointSlices(w.Namespace).Delete(w.t.Context(), name, metav1.DeleteOptions{}); err != nil {
		w.t.Fatal(err)
	}
}

func everything() metav1.ListOptions { return metav1.ListOptions{} }

// policyItem is the key in the data of a policy ConfigMap.
const policyItem = "traffic.yaml"

// policy writes a Traffic document about a Service into the ConfigMap of that name, or replaces it.
func (w *world) policy(service, text string) {
	w.t.Helper()
	w.document(service, "kind: Traffic\nservice: "+service+"\n"+text)
}

// document writes a policy document into a ConfigMap, or replaces it.
func (w *world) document(configMap, text string) {
	w.t.Helper()
	o := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: configMap, Labels: map[string]string{model.PolicyLabel: "true"}},
		Data:       map[string]string{policyItem: text},
	}
	maps := w.client.CoreV1().ConfigMaps(w.Namespace)
	_, err := maps.Update(w.t.Context(), o, metav1.UpdateOptions{})
	if apierrors.IsNotFound(err) {
		_, err = maps.Create(w.t.Context(), o, metav1.CreateOptions{})
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) deletePolicy(service string) {
	w.t.Helper()
	if err := w.client.CoreV1().ConfigMaps(w.Namespace).Delete(w.t.Context(), service, metav1.DeleteOptions{}); err != nil {
		w.t.Fatal(err)
	}
}

// generation is a policy that answers tell apart, by the header x-generation.
func generation(n int, text ...string) string {
	return strings.Join(text, "\n") + fmt.Sprintf("\nroutes: [{name: all, responseHeaders: {set: {x-generation: \"%d\"}}}]", n)
}

// free is an address for a Service that no other test asks for.
func (w *world) free(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, 96, byte(241 + i/250), byte(1 + i%250)})
}
