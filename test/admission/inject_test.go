package admission

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"
	admissionv1 "k8s.io/api/admission/v1"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/heddle-mesh/heddle/admission"
	patching "github.com/heddle-mesh/heddle/injector"
	"github.com/heddle-mesh/heddle/kube"
	"github.com/heddle-mesh/heddle/model"
	"github.com/heddle-mesh/heddle/test/certs"
)

// injector is the real webhook.
func injector(t testing.TB, client kubernetes.Interface) http.Handler {
	t.Helper()
	return admission.NewHandler(admission.Options{Injector: sidecars(t), Namespaces: kube.NewNamespaces(client), Log: zerolog.Nop()})
}

func sidecars(t testing.TB) *admission.Sidecars {
	t.Helper()
	s, err := admission.NewSidecars(patching.Options{Image: "example/heddle-proxy"})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// pod makes one, as a dry run if dry says so, and says what became of it.
type pod struct {
	namespace   string
	annotations map[string]string
	change      func(*corev1.Pod)
}

func (p pod) create(ctx context.Context, client kubernetes.Interface, dry ...string) (*corev1.Pod, error) {
	o := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "app-", Annotations: p.annotations},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "example/app"}}},
	}
	if p.change != nil {
		p.change(o)
	}
	return client.CoreV1().Pods(p.namespace).Create(ctx, o, metav1.CreateOptions{DryRun: dry})
}

func meshed(p *corev1.Pod) bool { return p != nil && p.Labels[model.SidecarLabel] == "true" }

// sidecarsIn counts our containers.
func sidecarsIn(p *corev1.Pod) (n int) {
	for _, c := range p.Spec.InitContainers {
		if c.Name == patching.SidecarContainer {
			n++
		}
	}
	return n
}

// inForce waits until the API server asks the webhooks: it takes a moment to know of them.
func inForce(t testing.TB, client kubernetes.Interface, s *hooks) {
	t.Helper()
	probe := pod{namespace: labelled(t, client, "enabled")}
	eventually(t, "the API server asks the webhook", func() bool {
		before := s.asked.Load()
		_, _ = probe.create(t.Context(), client, metav1.DryRunAll) // what becomes of it is not what this is about
		return s.asked.Load() > before
	})
}

// enabled and disabled are what pods say of themselves.
func says(value string) map[string]string { return map[string]string{"heddle.dev/inject": value} }

func TestTheAPIServerAsksAboutPodsThatAreToBeInTheMeshAndNoOthers(t *testing.T) {
	client := api.Client(t)
	ca := certs.New(t)
	s := listen(t, ca, injector(t, client))
	injection(t, client, s, ca.PEM())
	inForce(t, client, s)
	plain, on, off, system := api.Namespace(t), labelled(t, client, "enabled"), labelled(t, client, "disabled"), home(t, client)
	relabel(t, client, system, "enabled")
	relabel(t, client, "kube-system", "enabled")
	api.Account(t, "kube-system", "default")
	mirrored := map[string]string{corev1.MirrorPodAnnotationKey: "a", "heddle.dev/inject": "enabled"}
	for name, c := range map[string]struct {
		pod    pod
		asked  int64
		meshed bool
	}{
		"labelled namespace":                        {pod{namespace: on}, 1, true},
		"labelled namespace and annotated pod":      {pod{namespace: on, annotations: says("enabled")}, 1, true},
		"labelled namespace, the pod says no":       {pod{namespace: on, annotations: says("disabled")}, 0, false},
		"no label":                                  {pod{namespace: plain}, 0, false},
		"no label, other annotations":               {pod{namespace: plain, annotations: map[string]string{"a": "b"}}, 0, false},
		"no label, annotated pod":                   {pod{namespace: plain, annotations: says("enabled")}, 1, true},
		"no label, the pod says no":                 {pod{namespace: plain, annotations: says("disabled")}, 0, false},
		"the namespace says no":                     {pod{namespace: off}, 0, false},
		"the namespace says no, the pod yes":        {pod{namespace: off, annotations: says("enabled")}, 1, true},
		"labelled namespace, on the node's network": {pod{namespace: on, change: onNetwork}, 0, false},
		"annotated pod, on its node's network":      {pod{namespace: plain, annotations: says("enabled"), change: onNetwork}, 0, false},
		"labelled namespace, Windows":               {pod{namespace: on, change: onWindows}, 0, false},
		"kube-system":                               {pod{namespace: "kube-system"}, 0, false},
		"kube-system, annotated pod":                {pod{namespace: "kube-system", annotations: says("enabled")}, 0, false},
		"the control plane's own":                   {pod{namespace: system}, 0, false},
		"the control plane's own, annotated pod":    {pod{namespace: system, annotations: says("enabled")}, 0, false},
		"a static pod":                              {pod{namespace: on, annotations: mirrored, change: onNode}, 0, false},
		"a static pod outside labelled namespaces":  {pod{namespace: plain, annotations: mirrored, change: onNode}, 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			before := s.asked.Load()
			p, err := c.pod.create(t.Context(), client, metav1.DryRunAll)
			if err != nil {
				t.Fatal(err)
			}
			if asked := s.asked.Load() - before; asked != c.asked {
				t.Errorf("the webhook is asked %d times, want %d", asked, c.asked)
			}
			if meshed(p) != c.meshed || (sidecarsIn(p) == 1) != c.meshed {
				t.Errorf("the pod is in the mesh: %v, want %v; it has %d sidecars", meshed(p), c.meshed, sidecarsIn(p))
			}
		})
	}
}

func onNetwork(p *corev1.Pod) { p.Spec.HostNetwork = true }

func onWindows(p *corev1.Pod) { p.Spec.OS = &corev1.PodOS{Name: corev1.Windows} }

// onNode is what the API server wants of a static pod.
func onNode(p *corev1.Pod) { p.Name, p.Spec.NodeName = "static-node-1", "node-1" }

func TestAMisspeltValueIsRefusedWithTheRemedy(t *testing.T) {
	client := api.Client(t)
	ca := certs.New(t)
	s := listen(t, ca, injector(t, client))
	injection(t, client, s, ca.PEM())
	inForce(t, client, s)
	wrong := labelled(t, client, "yes")
	for where, p := range map[string]pod{
		"annotation heddle.dev/inject":                  {namespace: api.Namespace(t), annotations: says("yes")},
		"label heddle.dev/inject of namespace " + wrong: {namespace: wrong},
	} {
		_, err := p.create(t.Context(), client)
		if want := where + `: "yes" is not understood; write enabled or disabled`; err == nil || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("the answer is %v, want one that ends with %s", err, want)
		}
	}
	if _, err := (pod{namespace: wrong, annotations: says("disabled")}).create(t.Context(), client); err != nil {
		t.Errorf("a pod there that says no: %v", err)
	}
}

func TestWithTheWebhookDownPodsOfTheMeshAreRefusedAndAllOthersStart(t *testing.T) {
	client := api.Client(t)
	ca := certs.New(t)
	s := listen(t, ca, injector(t, client))
	injection(t, client, s, ca.PEM())
	inForce(t, client, s)
	plain, on := api.Namespace(t), labelled(t, client, "enabled")
	s.stop()
	for name, p := range map[string]pod{
		"namespace.inject.heddle.dev": {namespace: on},
		"pod.inject.heddle.dev":       {namespace: plain, annotations: says("enabled")},
	} {
		_, err := p.create(t.Context(), client)
		if err == nil || !strings.Contains(err.Error(), `failed calling webhook "`+name+`"`) || !strings.Contains(err.Error(), "connection refused") {
			t.Errorf("a pod that %s is asked about: %v", name, err)
		}
	}
	for _, p := range []pod{
		{namespace: plain}, {namespace: on, annotations: says("disabled")}, {namespace: on, change: onNetwork}, {namespace: "kube-system"}, {namespace: home(t, client)},
	} {
		if _, err := p.create(t.Context(), client, metav1.DryRunAll); err != nil {
			t.Errorf("a pod outside of the mesh, %+v: %v", p, err)
		}
	}
}

func TestWithFailurePolicyIgnoreAPodStartsWithoutASidecarWhileTheWebhookIsDown(t *testing.T) {
	client := api.Client(t)
	ca := certs.New(t)
	s := listen(t, ca, injector(t, client))
	ignore := admissionregistrationv1.Ignore
	injection(t, client, s, ca.PEM(), func(w *admissionregistrationv1.MutatingWebhook) { w.FailurePolicy = &ignore })
	inForce(t, client, s)
	on := labelled(t, client, "enabled")
	if p, err := (pod{namespace: on}).create(t.Context(), client); err != nil || !meshed(p) {
		t.Errorf("while the webhook answers the pod is %v, %v", p, err)
	}
	s.stop()
	if p, err := (pod{namespace: on}).create(t.Context(), client); err != nil || meshed(p) {
		t.Errorf("while the webhook is down the pod is %v, %v", p, err)
	}
}

func TestAWebhookThatDoesNotAnswerIsGivenUpAfterItsTimeout(t *testing.T) {
	client := api.Client(t)
	ca := certs.New(t)
	var slow atomic.Bool
	h := injector(t, client)
	s := listen(t, ca, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if slow.Load() {
			<-r.Context().Done()
		}
		h.ServeHTTP(w, r)
	}))
	injection(t, client, s, ca.PEM())
	inForce(t, client, s)
	slow.Store(true)
	begun := time.Now()
	_, err := pod{namespace: labelled(t, client, "enabled")}.create(t.Context(), client)
	if err == nil || !strings.Contains(err.Error(), `failed calling webhook "namespace.inject.heddle.dev"`) {
		t.Errorf("the pod: %v", err)
	}
	if took := time.Since(begun); took < 4*time.Second || took > 25*time.Second {
		t.Errorf("it took %v, want the 5 s of timeoutSeconds", took)
	}
}

func TestAPodThatOthersChangeAfterwardsGetsOneSidecar(t *testing.T) {
	client := api.Client(t)
	ca := certs.New(t)
	ours := injector(t, client)
	s := listen(t, ca, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/later" {
			later(w, r)
			return
		}
		ours.ServeHTTP(w, r)
	}))
	again := admissionregistrationv1.IfNeededReinvocationPolicy // as somebody may set it
	injection(t, client, s, ca.PEM(), func(w *admissionregistrationv1.MutatingWebhook) { w.ReinvocationPolicy = &again })
	inForce(t, client, s)
	on := labelled(t, client, "enabled")
	other := &admissionregistrationv1.MutatingWebhookConfiguration{}
	installed(t, "MutatingWebhookConfiguration", "heddle-injector", other)
	other.Name, other.Webhooks = "zz-later", other.Webhooks[:1]
	other.Webhooks[0].Name, other.Webhooks[0].MatchConditions = "later.example.com", nil
	at(s.address, &other.Webhooks[0].ClientConfig, ca.PEM())
	*other.Webhooks[0].ClientConfig.URL = s.address + "/later"
	all := client.AdmissionregistrationV1().MutatingWebhookConfigurations()
	if _, err := all.Create(t.Context(), other, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = all.Delete(context.Background(), other.Name, metav1.DeleteOptions{}) })
	eventually(t, "the other webhook has its say, and ours is asked again", func() bool {
		before := s.asked.Load()
		p, err := (pod{namespace: on}).create(t.Context(), client, metav1.DryRunAll)
		if err != nil {
			t.Fatal(err)
		}
		if sidecarsIn(p) != 1 || !meshed(p) {
			t.Fatalf("the pod has %d sidecars", sidecarsIn(p))
		}
		return p.Labels["later"] == "yes" && s.asked.Load()-before >= 3
	})
}

// later is another's webhook, which labels pods.
func later(w http.ResponseWriter, r *http.Request) {
	var review admissionv1.AdmissionReview
	if err := json.NewDecoder(r.Body).Decode(&review); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	kind := admissionv1.PatchTypeJSONPatch
	review.Response = &admissionv1.AdmissionResponse{
		UID: review.Request.UID, Allowed: true, PatchType: &kind, Patch: []byte(`[{"op":"add","path":"/metadata/labels/later","value":"yes"}]`),
	}
	review.Request = nil
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(review)
}

func TestNoPodFailsWhileTheWebhooksMoveToAnotherCA(t *testing.T) {
	client := api.Client(t)
	before, after := certs.New(t), certs.New(t)
	s := listen(t, before, injector(t, client))
	injection(t, client, s, before.PEM())
	inForce(t, client, s)
	on := labelled(t, client, "enabled")
	failed, made := make(chan error, 1), atomic.Int64{}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	go func() {
		defer close(failed)
		for ctx.Err() == nil {
			p, err := (pod{namespace: on}).create(ctx, client, metav1.DryRunAll)
			if err == nil && !meshed(p) {
				err = fmt.Errorf("pod %s has no sidecar", p.Name)
			}
			if err != nil && ctx.Err() == nil {
				failed <- err
				return
			}
			made.Add(1)
		}
	}()
	more := func(n int64) {
		t.Helper()
		want := made.Load() + n
		eventually(t, "pods are made", func() bool { return made.Load() >= want || len(failed) > 0 })
	}
	more(20)
	trust(t, client, append(before.PEM(), after.PEM()...)) // as a rotation does: trust first
	knows(t, client, s, after)
	more(20)
	s.current.Store(after.Named("localhost"))
	more(20)
	trust(t, client, after.PEM())
	more(20)
	stop()
	if err := <-failed; err != nil {
		t.Errorf("after %d pods: %v", made.Load(), err)
	}
}

// trust sets what the API server trusts the webhooks by.
func trust(t testing.TB, client kubernetes.Interface, bundle []byte) {
	t.Helper()
	all := client.AdmissionregistrationV1().MutatingWebhookConfigurations()
	c, err := all.Get(t.Context(), "heddle-injector", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range c.Webhooks {
		c.Webhooks[i].ClientConfig.CABundle = bundle
	}
	if _, err := all.Update(t.Context(), c, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
}

// knows waits until the API server trusts a CA for the webhooks. It finds out by a configuration of its own, made after
// the one that it is about: the API server takes them in order.
func knows(t testing.TB, client kubernetes.Interface, s *hooks, ca *certs.CA) {
	t.Helper()
	probe := listen(t, ca, injector(t, client))
	c := &admissionregistrationv1.MutatingWebhookConfiguration{}
	installed(t, "MutatingWebhookConfiguration", "heddle-injector", c)
	c.Name = "probe-" + strings.TrimPrefix(s.address, "https://localhost:")
	c.Webhooks = c.Webhooks[:1]
	c.Webhooks[0].Name = "probe.example.com"
	at(probe.address, &c.Webhooks[0].ClientConfig, ca.PEM())
	name := labelled(t, client, "enabled")
	c.Webhooks[0].NamespaceSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"kubernetes.io/metadata.name": name}}
	all := client.AdmissionregistrationV1().MutatingWebhookConfigurations()
	if _, err := all.Create(t.Context(), c, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = all.Delete(context.Background(), c.Name, metav1.DeleteOptions{}) })
	eventually(t, "the API server has taken what was written before", func() bool {
		_, _ = (pod{namespace: name}).create(t.Context(), client, metav1.DryRunAll)
		return probe.asked.Load() > 0
	})
}
