package gather

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heddle-mesh/heddle/check"
	"github.com/heddle-mesh/heddle/deploy"
)

// objects reads what an installation has.
func (g *gatherer) objects(ctx context.Context) {
	f, core, get, all := g.facts, g.client.CoreV1(), metav1.GetOptions{}, metav1.ListOptions{}
	f.Namespace = found(core.Namespaces().Get(ctx, g.ControlPlane, get))
	if f.Namespace.Err == nil && f.Namespace.Value == nil {
		return // nothing is in it, and the rest would be noise
	}
	g.deployments(ctx)
	pods, err := core.Pods(g.ControlPlane).List(ctx, all)
	f.Pods.Err = err
	if err == nil {
		f.Pods.Value = pods.Items
	}
	accounts, err := core.ServiceAccounts(g.ControlPlane).List(ctx, all)
	f.Accounts = names(items(accounts, err, func(l *corev1.ServiceAccountList) []corev1.ServiceAccount { return l.Items }), err, func(a *corev1.ServiceAccount) string { return a.Name })
	services, err := core.Services(g.ControlPlane).List(ctx, all)
	f.Services = names(items(services, err, func(l *corev1.ServiceList) []corev1.Service { return l.Items }), err, func(s *corev1.Service) string { return s.Name })
	bindings, err := g.client.RbacV1().ClusterRoleBindings().List(ctx, all)
	f.Bindings = fact(items(bindings, err, func(l *rbacv1.ClusterRoleBindingList) []rbacv1.ClusterRoleBinding { return l.Items }), err)
	roles, err := g.client.RbacV1().ClusterRoles().List(ctx, all)
	f.ClusterRoles = names(items(roles, err, func(l *rbacv1.ClusterRoleList) []rbacv1.ClusterRole { return l.Items }), err, func(r *rbacv1.ClusterRole) string { return r.Name })
	admission := g.client.AdmissionregistrationV1()
	f.Mutating = found(admission.MutatingWebhookConfigurations().Get(ctx, check.InjectorWebhook, get))
	f.Validating = found(admission.ValidatingWebhookConfigurations().Get(ctx, check.PolicyWebhook, get))
	f.AdmissionPolicies = g.admissionPolicies(ctx)
	g.webhookAnswers(ctx)
	config := found(core.ConfigMaps(g.ControlPlane).Get(ctx, check.ConfigMap, get))
	f.Configuration = check.Fact[bool]{Value: config.Value != nil, Err: config.Err}
	trust := found(core.ConfigMaps(g.ControlPlane).Get(ctx, check.TrustConfigMap, get))
	if f.Trust.Err = trust.Err; trust.Value != nil {
		f.Trust.Value = trust.Value.Data[trustItem]
	}
}

// items are those of a list, none if it could not be read.
func items[L, T any](list *L, err error, of func(*L) []T) []T {
	if err != nil {
		return nil
	}
	return of(list)
}

func (g *gatherer) deployments(ctx context.Context) {
	g.facts.Deployments.Value = map[string]*appsv1.Deployment{}
	for _, name := range []string{check.ServerName, check.SignerName} {
		d := found(g.client.AppsV1().Deployments(g.ControlPlane).Get(ctx, name, metav1.GetOptions{}))
		g.facts.Deployments.Err = errors.Join(g.facts.Deployments.Err, d.Err)
		if d.Value != nil {
			g.facts.Deployments.Value[name] = d.Value
		}
	}
}

// chartPolicies are the names of the ValidatingAdmissionPolicies that an installation has: the chart knows them.
func (g *gatherer) chartPolicies() ([]string, error) {
	text, err := deploy.Render(deploy.Release{Namespace: g.ControlPlane})
	if err != nil {
		return nil, err
	}
	objects, err := deploy.Objects(text)
	if err != nil {
		return nil, err
	}
	var policies []string
	for _, o := range objects {
		if o.Kind == "ValidatingAdmissionPolicy" {
			policies = append(policies, o.Metadata.Name)
		}
	}
	if len(policies) == 0 {
		return nil, errors.New("the chart has none")
	}
	return policies, nil
}

// admissionPolicies reads those policies, and all that binds them.
func (g *gatherer) admissionPolicies(ctx context.Context) check.Fact[map[string]check.AdmissionPolicy] {
	admission, all := g.client.AdmissionregistrationV1(), map[string]check.AdmissionPolicy{}
	policies, err := g.chartPolicies()
	if err != nil {
		return check.Fact[map[string]check.AdmissionPolicy]{Err: err}
	}
	bindings, err := admission.ValidatingAdmissionPolicyBindings().List(ctx, metav1.ListOptions{})
	if err != nil {
		return check.Fact[map[string]check.AdmissionPolicy]{Err: err}
	}
	for _, name := range policies {
		p := found(admission.ValidatingAdmissionPolicies().Get(ctx, name, metav1.GetOptions{}))
		if p.Err != nil {
			return check.Fact[map[string]check.AdmissionPolicy]{Err: p.Err}
		}
		has := check.AdmissionPolicy{Policy: p.Value}
		for _, b := range bindings.Items {
			if b.Spec.PolicyName == name {
				has.Bindings = append(has.Bindings, b)
			}
		}
		all[name] = has
	}
	return check.Fact[map[string]check.AdmissionPolicy]{Value: all}
}

// beforehand asks whether an installation would go through.
func (g *gatherer) beforehand(ctx context.Context) {
	for _, r := range check.Needs(g.ControlPlane) {
		answer, err := g.client.AuthorizationV1().SelfSubjectAccessReviews().Create(ctx, &authorizationv1.SelfSubjectAccessReview{
			Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &authorizationv1.ResourceAttributes{
				Verb: r.Verb, Group: r.Group, Resource: r.Resource, Namespace: r.Namespace,
			}},
		}, metav1.CreateOptions{})
		if r.Err = err; err == nil {
			r.Allowed, r.Reason = answer.Status.Allowed, answer.Status.Reason
		}
		g.facts.Rights = append(g.facts.Rights, r)
	}
	g.leftovers(ctx)
	g.netAdmin(ctx)
}

// leftovers looks for what an installation makes under names that do not change.
func (g *gatherer) leftovers(ctx context.Context) {
	f, get, admission := g.facts, metav1.GetOptions{}, g.client.AdmissionregistrationV1()
	look := func(name string, err error) {
		switch {
		case err == nil:
			f.Leftovers.Value = append(f.Leftovers.Value, name)
		case !apierrors.IsNotFound(err):
			f.Leftovers.Err = errors.Join(f.Leftovers.Err, err)
		}
	}
	for _, name := range []string{check.ServerName, check.SignerName} {
		_, err := g.client.AppsV1().Deployments(g.ControlPlane).Get(ctx, name, get)
		look("Deployment "+g.ControlPlane+"/"+name, err)
	}
	_, err := admission.MutatingWebhookConfigurations().Get(ctx, check.InjectorWebhook, get)
	look("MutatingWebhookConfiguration "+check.InjectorWebhook, err)
	_, err = admission.ValidatingWebhookConfigurations().Get(ctx, check.PolicyWebhook, get)
	look("ValidatingWebhookConfiguration "+check.PolicyWebhook, err)
	policies, err := g.chartPolicies()
	f.Leftovers.Err = errors.Join(f.Leftovers.Err, err)
	for _, name := range policies {
		_, err = admission.ValidatingAdmissionPolicies().Get(ctx, name, get)
		look("ValidatingAdmissionPolicy "+name, err)
	}
}

// netAdmin tries, without making anything, a pod as the injector would make it: where pods are to be injected already, and
// in the namespace that was named, or else in default.
func (g *gatherer) netAdmin(ctx context.Context) {
	f := g.facts
	f.NetAdmin, f.Untried = map[string]error{}, map[string]string{}
	enabled, err := g.meshedNamespaces(ctx)
	if enabled == nil {
		enabled = map[string]bool{}
	}
	if g.Namespace != "" || len(enabled) == 0 {
		namespace := g.Namespace
		if namespace == "" {
			namespace = corev1.NamespaceDefault
		}
		enabled[namespace] = true
	}
	if err != nil && g.Namespace == "" {
		f.Untried["with injection"] = err.Error()
	}
	for _, namespace := range slices.Sorted(maps.Keys(enabled)) {
		_, err := g.client.CoreV1().Pods(namespace).Create(ctx, redirected(), metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		switch {
		case err == nil:
			f.NetAdmin[namespace] = nil
		case strings.Contains(err.Error(), "PodSecurity") || strings.Contains(err.Error(), "NET_ADMIN"):
			f.NetAdmin[namespace] = err
		default:
			f.Untried[namespace] = err.Error()
		}
	}
}

// redirected is a pod with what redirection takes, and nothing else that anybody could mind.
func redirected() *corev1.Pod {
	root, no, yes := int64(0), false, true
	quiet := corev1.SecurityContext{
		AllowPrivilegeEscalation: &no, RunAsNonRoot: &yes, RunAsUser: new(int64),
		Capabilities:   &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
		SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
	}
	*quiet.RunAsUser = 1337
	able := *quiet.DeepCopy()
	able.RunAsUser, able.RunAsNonRoot, able.Capabilities.Add = &root, &no, []corev1.Capability{"NET_ADMIN"}
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "heddle-check-", Annotations: map[string]string{check.InjectLabel: "disabled"}},
		Spec: corev1.PodSpec{
			InitContainers: []corev1.Container{{Name: "heddle-init", Image: "heddle-proxy", SecurityContext: &able}},
			Containers:     []corev1.Container{{Name: "app", Image: "heddle-proxy", SecurityContext: &quiet}},
		},
	}
}
