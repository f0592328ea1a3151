package kube

import (
	"context"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/heddle-mesh/heddle/model"
	kubetest "github.com/heddle-mesh/heddle/test/kubernetes"
)

var api = kubetest.New()

func TestMain(m *testing.M) { os.Exit(api.Main(m)) }

// watchCluster runs a Cluster and gives what it says of one namespace, and of nodes and namespaces whose names begin
// with its name.
func watchCluster(t *testing.T, config *rest.Config, namespace string) (*watching, *Cluster) {
	t.Helper()
	config.ContentType = "application/vnd.kubernetes.protobuf"
	c, err := NewCluster(ClusterOptions{Config: config})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	w := &watching{t: t, batches: make(chan []model.Event, 1000)}
	synced := make(chan struct{})
	ended := make(chan error, 1)
	go func() {
		ended <- c.Run(ctx, func(events []model.Event) {
			var ours []model.Event
			for _, e := range events {
				s := subjectOf(e)
				switch {
				case e.Synced:
					close(synced) // twice would panic
				case s.key.Namespace == namespace, s.key.Namespace == "" && strings.HasPrefix(s.key.Name, namespace):
					ours = append(ours, e)
				}
			}
			if len(ours) > 0 {
				w.batches <- ours
			}
		})
	}()
	w.stop = func() {
		if ctx.Err() == nil {
			cancel()
			if err := <-ended; err != nil {
				t.Errorf("Run: %v", err)
			}
		}
	}
	t.Cleanup(w.stop)
	select {
	case <-synced:
	case err := <-ended:
		t.Fatalf("Run ended: %v", err)
	case <-time.After(time.Minute):
		t.Fatal("not synced within a minute")
	}
	return w, c
}

// objects makes, changes and deletes the objects of one test.
type objects struct {
	t         *testing.T
	client    kubernetes.Interface
	namespace string
}

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func (o objects) service(name string) *corev1.Service {
	o.t.Helper()
	return must[*corev1.Service](o.t)(o.client.CoreV1().Services(o.namespace).Create(o.t.Context(), &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: "http", Port: 80}}},
	}, metav1.CreateOptions{}))
}

func (o objects) deleteService(name string) {
	o.t.Helper()
	do(o.t, o.client.CoreV1().Services(o.namespace).Delete(o.t.Context(), name, metav1.DeleteOptions{}))
}

func (o objects) slice(name, service string, ips ...string) *discoveryv1.EndpointSlice {
	o.t.Helper()
	s := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: name, Labels: map[string]string{discoveryv1.LabelServiceName: service}},
		AddressType: discoveryv1.AddressTypeIPv4, Ports: []discoveryv1.EndpointPort{{Name: new("http"), Port: new(int32(8080))}},
	}
	for _, ip := range ips {
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{Addresses: []string{ip}})
	}
	return must[*discoveryv1.EndpointSlice](o.t)(o.client.DiscoveryV1().EndpointSlices(o.namespace).Create(o.t.Context(), s, metav1.CreateOptions{}))
}

func (o objects) policy(name string) *corev1.ConfigMap {
	o.t.Helper()
	return must[*corev1.ConfigMap](o.t)(o.client.CoreV1().ConfigMaps(o.namespace).Create(o.t.Context(), &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{model.PolicyLabel: "true"}},
		Data:       map[string]string{"traffic.yaml": "kind: Traffic\n"},
	}, metav1.CreateOptions{}))
}

func (o objects) pod(name string) *corev1.Pod {
	o.t.Helper()
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "a", Image: "a"}}}}
	return must[*corev1.Pod](o.t)(o.client.CoreV1().Pods(o.namespace).Create(o.t.Context(), pod, metav1.CreateOptions{}))
}

func (o objects) patch(kind, name, patch string) {
	o.t.Helper()
	ctx, merge, options := o.t.Context(), types.MergePatchType, metav1.PatchOptions{}
	var err error
	switch kind {
	case "Service":
		_, err = o.client.CoreV1().Services(o.namespace).Patch(ctx, name, merge, []byte(patch), options)
	case "EndpointSlice":
		_, err = o.client.DiscoveryV1().EndpointSlices(o.namespace).Patch(ctx, name, merge, []byte(patch), options)
	case "ConfigMap":
		_, err = o.client.CoreV1().ConfigMaps(o.namespace).Patch(ctx, name, merge, []byte(patch), options)
	case "Pod status":
		_, err = o.client.CoreV1().Pods(o.namespace).Patch(ctx, name, merge, []byte(patch), options, "status")
	case "Node":
		_, err = o.client.CoreV1().Nodes().Patch(ctx, name, merge, []byte(patch), options)
	case "Namespace":
		_, err = o.client.CoreV1().Namespaces().Patch(ctx, name, merge, []byte(patch), options)
	}
	do(o.t, err)
}

func TestEveryKindFlowsFromTheAPIServer(t *testing.T) {
	ns := api.Namespace(t)
	o := objects{t, api.Client(t), ns}
	o.service("early")
	w, _ := watchCluster(t, api.Config(t), ns)
	w.wants("Namespace "+ns, "Service "+ns+"/early")

	svc := o.service("catalog")
	got := w.wants("Service " + ns + "/catalog")[0].Service
	if got.UID != string(svc.UID) || got.Addresses[0].String() != svc.Spec.ClusterIP || got.Ports[0].Protocol != model.HTTP {
		t.Errorf("got %+v of %+v", got, svc)
	}
	o.patch("Service", "catalog", `{"spec":{"ports":[{"name":"http","port":81}]}}`)
	w.wants("Service " + ns + "/catalog")

	o.slice("catalog-1", "catalog", "10.0.0.1")
	w.wants("EndpointSlice " + ns + "/catalog-1")
	o.slice("catalog-2", "catalog", "10.0.0.2", "10.0.0.3")
	w.wants("EndpointSlice " + ns + "/catalog-2")
	o.patch("EndpointSlice", "catalog-1", `{"endpoints":[{"addresses":["10.0.0.1"],"conditions":{"ready":false}}]}`)
	if e := w.wants("EndpointSlice " + ns + "/catalog-1")[0].Slice.Endpoints[0]; e.Ready {
		t.Errorf("got %+v, want it not ready", e)
	}

	o.pod("web-0")
	w.wants("Pod " + ns + "/web-0")
	o.patch("Pod status", "web-0", `{"status":{"podIP":"10.0.0.1","podIPs":[{"ip":"10.0.0.1"}]}}`)
	diff(t, addresses("10.0.0.1"), w.wants("Pod " + ns + "/web-0")[0].Pod.Addresses)

	o.policy("catalog")
	diff(t, []model.PolicyDocument{{Item: "traffic.yaml", Text: "kind: Traffic\n"}}, w.wants("ConfigMap " + ns + "/catalog")[0].Policy.Documents)
	o.patch("ConfigMap", "catalog", `{"data":{"traffic.yaml":"kind: Mesh\n"}}`)
	w.wants("ConfigMap " + ns + "/catalog")

	node := ns + "-node"
	must[*corev1.Node](t)(o.client.CoreV1().Nodes().Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: node}}, metav1.CreateOptions{}))
	w.wants("Node " + node)
	o.patch("Node", node, `{"metadata":{"labels":{"topology.kubernetes.io/zone":"z1"}}}`)
	if got := w.wants("Node " + node)[0].Node; got.Zone != "z1" {
		t.Errorf("got %+v, want zone z1", got)
	}
	o.patch("Namespace", ns, `{"metadata":{"labels":{"a":"b"}}}`)
	w.wants("Namespace " + ns)

	now := metav1.DeleteOptions{GracePeriodSeconds: new(int64)}
	o.deleteService("catalog")
	w.wants("-Service " + ns + "/catalog")
	do(t, o.client.DiscoveryV1().EndpointSlices(ns).Delete(t.Context(), "catalog-2", now))
	w.wants("-EndpointSlice " + ns + "/catalog-2")
	do(t, o.client.CoreV1().Pods(ns).Delete(t.Context(), "web-0", now))
	if e := w.next()[0]; !e.Gone && !e.Pod.Deleted { // it may be marked as deleted first
		t.Errorf("got %+v, want the pod deleted", e)
	}
	do(t, o.client.CoreV1().ConfigMaps(ns).Delete(t.Context(), "catalog", now))
	do(t, o.client.CoreV1().Nodes().Delete(t.Context(), node, now))
	for gone := []string{}; !slices.Contains(gone, "-ConfigMap "+ns+"/catalog") || !slices.Contains(gone, "-Node "+node); {
		gone = append(gone, namesOf(w.next())...)
	}
}

func TestAPodThatIsBeingDeletedSaysSo(t *testing.T) {
	ns := api.Namespace(t)
	o := objects{t, api.Client(t), ns}
	o.pod("web-0")
	// Only a pod that runs somewhere is given time.
	do(t, o.client.CoreV1().Pods(ns).Bind(t.Context(), &corev1.Binding{
		ObjectMeta: metav1.ObjectMeta{Name: "web-0"}, Target: corev1.ObjectReference{Kind: "Node", Name: "n1"},
	}, metav1.CreateOptions{}))
	w, _ := watchCluster(t, api.Config(t), ns)
	w.wants("Namespace "+ns, "Pod "+ns+"/web-0")
	do(t, o.client.CoreV1().Pods(ns).Delete(t.Context(), "web-0", metav1.DeleteOptions{}))
	if got := w.wants("Pod " + ns + "/web-0")[0].Pod; !got.Deleted || got.Node != "n1" {
		t.Errorf("got %+v, want it deleted, on n1", got)
	}
}

func TestAConfigMapWithoutItsLabelIsNoPolicyAnyMore(t *testing.T) {
	ns := api.Namespace(t)
	o := objects{t, api.Client(t), ns}
	o.policy("p")
	w, _ := watchCluster(t, api.Config(t), ns)
	w.wants("ConfigMap "+ns+"/p", "Namespace "+ns)
	o.patch("ConfigMap", "p", `{"metadata":{"labels":{"heddle.dev/policy":null}}}`)
	w.wants("-ConfigMap " + ns + "/p")
	o.patch("ConfigMap", "p", `{"metadata":{"labels":{"heddle.dev/policy":"true"}}}`)
	w.wants("ConfigMap " + ns + "/p")
}

func TestChangesThatTheMeshHasNoUseForAreNotHandedOn(t *testing.T) {
	ns := api.Namespace(t)
	o := objects{t, api.Client(t), ns}
	o.service("catalog")
	o.slice("catalog-1", "catalog", "10.0.0.1")
	w, _ := watchCluster(t, api.Config(t), ns)
	w.wants("EndpointSlice "+ns+"/catalog-1", "Namespace "+ns, "Service "+ns+"/catalog")
	for _, kind := range []string{"Service", "EndpointSlice"} {
		name := map[string]string{"Service": "catalog", "EndpointSlice": "catalog-1"}[kind]
		o.patch(kind, name, `{"metadata":{"annotations":{"a":"b"}}}`)
	}
	o.patch("EndpointSlice", "catalog-1", `{"metadata":{"labels":{"kubernetes.io/service-name":null}}}`) // belongs to nobody
	w.wants("-EndpointSlice " + ns + "/catalog-1")
	o.patch("Service", "catalog", `{"spec":{"sessionAffinity":"ClientIP"}}`)
	w.wants("Service " + ns + "/catalog")
}

func TestAServiceThatIsMadeAgainIsAnotherOne(t *testing.T) {
	ns := api.Namespace(t)
	o := objects{t, api.Client(t), ns}
	old := o.service("catalog")
	w, _ := watchCluster(t, api.Config(t), ns)
	w.wants("Namespace "+ns, "Service "+ns+"/catalog")
	o.deleteService("catalog")
	again := o.service("catalog")
	got := w.wants("-Service "+ns+"/catalog", "Service "+ns+"/catalog")
	if uid := got[len(got)-1].Service.UID; uid != string(again.UID) || uid == string(old.UID) {
		t.Errorf("the last one has UID %s, want %s", uid, again.UID)
	}
}

// line is a connection to the API server that can be cut.
type line struct {
	listener net.Listener
	target   string
	cut      func()
}

// throughLine changes a configuration so that its connections go through a line.
func throughLine(t *testing.T, config *rest.Config) *line {
	t.Helper()
	l := &line{target: strings.TrimPrefix(config.Host, "https://")}
	l.open(t, "127.0.0.1:0")
	config.Host = "https://" + l.listener.Addr().String()
	t.Cleanup(func() { l.cut() })
	return l
}

// open lets connections through until cut.
func (l *line) open(t *testing.T, address string) {
	t.Helper()
	var err error
	if l.listener, err = net.Listen("tcp", address); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	listener := l.listener
	l.cut = func() {
		cancel()
		listener.Close()
	}
	go func() {
		for {
			in, err := listener.Accept()
			if err != nil {
				return
			}
			go l.join(ctx, in)
		}
	}()
}

func (l *line) join(ctx context.Context, in net.Conn) {
	out, err := net.Dial("tcp", l.target)
	if err != nil {
		in.Close()
		return
	}
	stop := context.AfterFunc(ctx, func() { in.Close(); out.Close() })
	defer stop()
	go func() { io.Copy(out, in); out.Close() }()
	io.Copy(in, out)
	in.Close()
}

func TestALostAPIServerChangesNothingAndItsReturnBringsTheDifference(t *testing.T) {
	ns := api.Namespace(t)
	o := objects{t, api.Client(t), ns}
	for _, name := range []string{"changed", "kept", "lost", "remade"} {
		o.service(name)
	}
	config := api.Config(t)
	line := throughLine(t, config)
	w, c := watchCluster(t, config, ns)
	w.wants("Namespace "+ns, "Service "+ns+"/changed", "Service "+ns+"/kept", "Service "+ns+"/lost", "Service "+ns+"/remade")
	waitFor(t, "a connection", func() bool { return c.Status().Connected })

	line.cut()
	waitFor(t, "the loss to be noticed", func() bool { return !c.Status().Connected && c.Status().Reason != "" })
	o.patch("Service", "changed", `{"spec":{"ports":[{"name":"http","port":81}]}}`)
	o.deleteService("lost")
	o.deleteService("remade")
	remade := o.service("remade")
	o.service("new")
	// The API server forgets what happened meanwhile, so that the watch cannot be taken up where it was.
	api.Kill(t)
	api.Resume(t)
	select {
	case es := <-w.batches:
		t.Errorf("while the API server was away, %v was handed on", namesOf(es))
	default:
	}

	line.open(t, line.listener.Addr().String())
	got := w.wants("-Service "+ns+"/lost", "Service "+ns+"/changed", "Service "+ns+"/new", "Service "+ns+"/remade")
	for _, e := range got {
		if e.Service.Key.Name == "remade" && e.Service.UID != string(remade.UID) {
			t.Errorf("the Service that was made again has UID %s, want %s", e.Service.UID, remade.UID)
		}
	}
	waitFor(t, "a connection", func() bool { return c.Status().Connected })
}

func TestARestartOfTheAPIServerIsNotNoticed(t *testing.T) {
	ns := api.Namespace(t)
	o := objects{t, api.Client(t), ns}
	o.service("kept")
	w, c := watchCluster(t, api.Config(t), ns)
	w.wants("Namespace "+ns, "Service "+ns+"/kept")
	api.Kill(t)
	waitFor(t, "the loss to be noticed", func() bool { return !c.Status().Connected })
	api.Resume(t)
	o.service("new")
	w.wants("Service " + ns + "/new")
}

func TestAClusterStopsAtOnceWhileTheAPIServerIsAway(t *testing.T) {
	config := api.Config(t)
	line := throughLine(t, config)
	w, c := watchCluster(t, config, "no namespace")
	line.cut()
	waitFor(t, "the loss to be noticed", func() bool { return !c.Status().Connected })
	w.stop() // hangs if it does not
}

// waitFor waits for what nobody tells of.
func waitFor(t *testing.T, what string, is func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	timeout := time.After(time.Minute)
	for !is() {
		select {
		case <-tick.C:
		case <-timeout:
			t.Fatalf("waited a minute for %s", what)
		}
	}
}

func runToItsEnd(t *testing.T, config *rest.Config) error {
	t.Helper()
	c, err := NewCluster(ClusterOptions{Config: config})
	if err != nil {
		t.Fatal(err)
	}
	return c.Run(t.Context(), func([]model.Event) {})
}

func TestMissingRightsAreNamedAllAtOnce(t *testing.T) {
	ns := api.Namespace(t)
	all := []string{"list", "watch"}
	config := api.Limited(t, ns,
		rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"services", "pods", "namespaces"}, Verbs: all},
		rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"nodes"}, Verbs: []string{"list"}})
	err := runToItsEnd(t, config)
	want := "the right is missing to list endpointslices, watch endpointslices, watch nodes, list configmaps, watch configmaps: grant it with a ClusterRole"
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v\nwant %s", err, want)
	}
}

func TestRefusedCredentialsAreAnError(t *testing.T) {
	config := api.Config(t)
	config.BearerToken = "wrong"
	err := runToItsEnd(t, config)
	if err == nil || !strings.Contains(err.Error(), "does not accept the credentials") {
		t.Errorf("got %v, want it to say that the credentials are not accepted", err)
	}
}
