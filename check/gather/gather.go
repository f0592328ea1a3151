// Package gather asks a cluster for the facts that package check judges. What cannot be read is a fact too: its error.
package gather

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/version"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/heddle-mesh/heddle/check"
	"github.com/heddle-mesh/heddle/controlplane/api"
	"github.com/heddle-mesh/heddle/controlplane/operator"
	"github.com/heddle-mesh/heddle/controlplane/reach"
	"github.com/heddle-mesh/heddle/injector"
)

// Options say whom to ask for what. Config, or ConfigErr, is required.
type Options struct {
	Config       *rest.Config
	ConfigErr    error  // why there is no Config
	ControlPlane string // namespace; default heddle-system
	Namespace    string // whose sidecars; empty for all
	Mode         check.Mode
	DataPlane    check.DataPlane
	Dialer       reach.Dialer // to pods; default: port-forward
	Port         int          // of the control plane's API; default api.Port
	WebhookPort  int          // default 15017
	// Kubectl and Latest give versions; nil: nobody is asked.
	Kubectl, Latest func(context.Context) (string, error)
}

// patience is how long one question to the API server may take.
const patience = 15 * time.Second

// gatherer is one round of questions.
type gatherer struct {
	Options
	client kubernetes.Interface
	facts  *check.Facts
}

// Facts asks everything, once.
func Facts(ctx context.Context, o Options) *check.Facts {
	o.ControlPlane, o.WebhookPort = cmp.Or(o.ControlPlane, "heddle-system"), cmp.Or(o.WebhookPort, 15017)
	g := &gatherer{Options: o, facts: &check.Facts{ControlPlane: o.ControlPlane, Client: o.ConfigErr}}
	if o.Kubectl != nil {
		g.facts.Kubectl = fact(o.Kubectl(ctx))
	}
	if o.Latest != nil {
		g.facts.Latest = fact(o.Latest(ctx))
	}
	if o.ConfigErr != nil {
		return g.facts
	}
	config := rest.CopyConfig(o.Config)
	config.Timeout = patience
	config.WarningHandler = rest.NoWarnings{} // of a pod that is only tried, they would be misread
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		g.facts.Client = err
		return g.facts
	}
	g.client = client
	if g.facts.Server = fact(serverVersion(ctx, client.Discovery())); g.facts.Server.Err != nil {
		g.facts.Server.Err = fmt.Errorf("ask the API server %s for its version: %w", config.Host, g.facts.Server.Err)
		return g.facts
	}
	if o.Mode == check.Pre {
		g.beforehand(ctx)
		return g.facts
	}
	g.objects(ctx)
	g.answers(ctx)
	if o.DataPlane == check.WithDataPlane {
		g.dataPlane(ctx)
	}
	return g.facts
}

func serverVersion(ctx context.Context, d discovery.DiscoveryInterface) (string, error) {
	text, err := d.RESTClient().Get().AbsPath("/version").Do(ctx).Raw()
	if err != nil {
		return "", err
	}
	var v version.Info
	if err := json.Unmarshal(text, &v); err != nil {
		return "", fmt.Errorf("read what /version answers: %w", err)
	}
	return v.GitVersion, nil
}

func fact[T any](v T, err error) check.Fact[T] { return check.Fact[T]{Value: v, Err: err} }

// found is a fact of one object, nil if it does not exist.
func found[T any](v *T, err error) check.Fact[*T] {
	if err != nil {
		v = nil
	}
	if apierrors.IsNotFound(err) {
		err = nil
	}
	return check.Fact[*T]{Value: v, Err: err}
}

// names are those of a list of objects.
func names[T any](items []T, err error, name func(*T) string) check.Fact[map[string]bool] {
	have := map[string]bool{}
	for i := range items {
		have[name(&items[i])] = true
	}
	return check.Fact[map[string]bool]{Value: have, Err: err}
}

// answers asks the control plane itself.
func (g *gatherer) answers(ctx context.Context) {
	cp, err := reach.Open(ctx, reach.Options{
		Config: g.Config, Client: g.client, ControlPlane: g.ControlPlane, Namespace: g.Namespace, Dialer: g.Dialer, Port: g.Port,
	})
	if err != nil {
		g.facts.Replicas.Err, g.facts.Proxies.Err, g.facts.Identity.Err, g.facts.WebhooksUnreadable = err, err, err, err
		return
	}
	g.facts.Served = map[string]check.Fact[[]*x509.Certificate]{}
	var askers []reach.Asker
	for _, r := range cp.Replicas() {
		askers = append(askers, r)
		told := check.Replica{Pod: r.Pod}
		if told.Err = r.Get(ctx, api.VersionPath, &told.Version); told.Err == nil {
			told.Err = r.Get(ctx, api.HealthPath, &told.Health)
		}
		g.facts.Replicas.Value = append(g.facts.Replicas.Value, told)
		g.facts.Served[r.Pod] = fact(shown(ctx, r, g.WebhookPort, "heddle."+g.ControlPlane+".svc"))
		g.identities(ctx, r)
	}
	if g.DataPlane == check.WithDataPlane {
		g.facts.Proxies = fact(reach.Proxies(ctx, askers, g.Namespace))
	}
}

// identities takes the facts of the replica that signs, or else of any.
func (g *gatherer) identities(ctx context.Context, r reach.Asker) {
	if known := g.facts.Identity.Value; known != nil && known.Rotation.Leading {
		return
	}
	told := &check.Identities{}
	err := r.Get(ctx, api.IdentityPath, told)
	if p, ok := errors.AsType[*operator.Problem](err); ok && slices.Contains([]string{api.NoFacts, api.OtherNamespace}, p.Code) {
		return
	}
	if err != nil {
		if g.facts.Identity.Value == nil {
			g.facts.Identity.Err = err
		}
		return
	}
	if g.facts.Identity.Value == nil || told.Rotation.Leading {
		g.facts.Identity = check.Fact[*check.Identities]{Value: told}
	}
}

// shown is the chain that a port of a replica shows. Whether it is good is not decided here.
func shown(ctx context.Context, r reach.Replica, port int, host string) ([]*x509.Certificate, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	raw, err := r.Reach(ctx, port)
	if err != nil {
		return nil, err
	}
	defer func() { _ = raw.Close() }()
	defer context.AfterFunc(ctx, func() { _ = raw.Close() })()
	conn := tls.Client(raw, &tls.Config{ServerName: host, InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}) // it is judged later, and nothing is sent
	if err := conn.HandshakeContext(ctx); err != nil {
		return nil, fmt.Errorf("port %d: %w", port, err)
	}
	chain := conn.ConnectionState().PeerCertificates
	if len(chain) == 0 {
		return nil, fmt.Errorf("port %d: no certificate was shown", port)
	}
	return chain, nil
}

// dataPlane looks at the pods with sidecars, and at those that should have one.
func (g *gatherer) dataPlane(ctx context.Context) {
	pods, err := g.client.CoreV1().Pods(g.Namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		g.facts.SidecarPods.Err, g.facts.Uninjected.Err, g.facts.TrustCopies.Err = err, err, err
		return
	}
	enabled, err := g.meshedNamespaces(ctx)
	g.facts.Uninjected.Err = err
	rule := asking{g.ControlPlane, g.facts.Mutating.Value, enabled}
	meshed := map[string]bool{}
	for _, p := range pods.Items {
		switch {
		case p.Labels[sidecarLabel] == "true":
			g.facts.SidecarPods.Value = append(g.facts.SidecarPods.Value, p)
			meshed[p.Namespace] = true
		case rule.wants(&p):
			g.facts.Uninjected.Value = append(g.facts.Uninjected.Value, fmt.Sprintf("pod %s/%s has no sidecar", p.Namespace, p.Name))
		}
	}
	delete(meshed, g.ControlPlane)
	copies := map[string]string{}
	for namespace := range meshed {
		m, err := g.client.CoreV1().ConfigMaps(namespace).Get(ctx, check.TrustConfigMap, metav1.GetOptions{})
		if err != nil && !apierrors.IsNotFound(err) {
			g.facts.TrustCopies.Err = err
			return
		}
		copies[namespace] = m.Data[trustItem]
	}
	g.facts.TrustCopies.Value = copies
}

const (
	sidecarLabel = "heddle.dev/sidecar"
	trustItem    = "bundle.json"
)

func (g *gatherer) meshedNamespaces(ctx context.Context) (map[string]bool, error) {
	list, err := g.client.CoreV1().Namespaces().List(ctx, metav1.ListOptions{LabelSelector: check.InjectLabel + "=" + check.Enabled})
	if err != nil {
		return nil, err
	}
	enabled := map[string]bool{}
	for _, n := range list.Items {
		if n.DeletionTimestamp == nil { // one that ends takes no pods
			enabled[n.Name] = true
		}
	}
	return enabled, nil
}

// asking is what decides which pods are to have a sidecar.
type asking struct {
	system  string                                    // the control plane's namespace
	hooks   *admissionv1.MutatingWebhookConfiguration // which tells of namespaces that are excluded; may be nil
	enabled map[string]bool                           // namespaces that ask for their pods
}

// wants says that a pod asks for a sidecar, and may have one: neither the injector nor its webhook leaves it alone.
func (a asking) wants(p *corev1.Pod) bool {
	ns := injector.Namespace{Name: p.Namespace}
	if a.enabled[p.Namespace] {
		ns.Labels = map[string]string{injector.InjectKey: injector.Enabled}
	}
	return injector.LeaveAlone(p, ns, a.system) == "" && !a.excluded(p.Namespace) && p.DeletionTimestamp == nil &&
		p.Status.Phase != corev1.PodSucceeded && p.Status.Phase != corev1.PodFailed
}

// excluded says that no entry of the webhook is asked about a namespace's pods, by its name.
func (a asking) excluded(namespace string) bool {
	if a.hooks == nil || len(a.hooks.Webhooks) == 0 {
		return false
	}
	return !slices.ContainsFunc(a.hooks.Webhooks, func(w admissionv1.MutatingWebhook) bool {
		return w.NamespaceSelector == nil || !slices.ContainsFunc(w.NamespaceSelector.MatchExpressions, func(r metav1.LabelSelectorRequirement) bool {
			return r.Key == corev1.LabelMetadataName && r.Operator == metav1.LabelSelectorOpNotIn && slices.Contains(r.Values, namespace)
		})
	})
}
