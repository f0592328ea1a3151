package gather

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/scheme"

	"github.com/heddle-mesh/heddle/check"
	"github.com/heddle-mesh/heddle/injector"
)

// askIn is in how many namespaces with injection the injector is asked, until it answers in one.
const askIn = 2

// webhookAnswers asks the webhooks as everybody does, by the API server. Nothing is made.
func (g *gatherer) webhookAnswers(ctx context.Context) {
	if g.facts.Validating.Value != nil {
		g.facts.PolicyAnswers = []check.Answer{g.askValidator(ctx)}
	}
	if g.facts.Mutating.Value == nil {
		return
	}
	for _, namespace := range g.whereToInject(ctx) {
		a := g.askInjector(ctx, namespace)
		g.facts.InjectorAnswers = append(g.facts.InjectorAnswers, a)
		if a.Met || a.Lost() {
			return
		}
	}
}

// whereToInject are namespaces in which the injector can be asked: the one that was named, or those with injection and, since
// there may be none yet, default.
func (g *gatherer) whereToInject(ctx context.Context) []string {
	rule := asking{system: g.ControlPlane, hooks: g.facts.Mutating.Value}
	where := func(names ...string) []string {
		return slices.DeleteFunc(names, func(name string) bool { return injector.IsSystem(name, g.ControlPlane) || rule.excluded(name) })
	}
	if g.Namespace != "" {
		return where(g.Namespace)
	}
	enabled, _ := g.meshedNamespaces(ctx) // default will do for who may not list them
	delete(enabled, corev1.NamespaceDefault)
	some := where(slices.Sorted(maps.Keys(enabled))...)
	return append(some[:min(len(some), askIn)], where(corev1.NamespaceDefault)...)
}

// askInjector asks for a Pod that is to have a sidecar.
func (g *gatherer) askInjector(ctx context.Context, namespace string) check.Answer {
	pod, user := redirected(), int64(65532)
	pod.Annotations[check.InjectLabel] = check.Enabled
	pod.Spec.InitContainers = nil
	pod.Spec.Containers[0].SecurityContext.RunAsUser = &user // not the sidecar's
	made, err := g.client.CoreV1().Pods(namespace).Create(ctx, pod, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	return check.Answer{Namespace: namespace, Err: err, Met: err == nil && made.Labels[sidecarLabel] == "true"}
}

// askValidator asks for a ConfigMap whose label is one that the validator warns of: that shows an answer where the API server
// hides that there is none, and counts as no policy, nor as one that was refused.
func (g *gatherer) askValidator(ctx context.Context) check.Answer {
	var told heard
	err := g.client.CoreV1().RESTClient().Post().Namespace(g.ControlPlane).Resource("configmaps").
		VersionedParams(&metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}}, scheme.ParameterCodec).
		Body(&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{GenerateName: "heddle-check-", Labels: map[string]string{check.PolicyLabel: "heddle-check"}}}).
		WarningHandler(&told).Do(ctx).Error()
	return check.Answer{Namespace: g.ControlPlane, Err: err, Met: err == nil && told.of(check.PolicyLabel)}
}

// heard are the warnings that came with an answer.
type heard struct {
	mu  sync.Mutex
	all []string
}

func (h *heard) HandleWarningHeader(_ int, _ string, text string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.all = append(h.all, text)
}

func (h *heard) of(what string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.ContainsFunc(h.all, func(text string) bool { return strings.Contains(text, what) })
}
