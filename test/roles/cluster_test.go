package roles

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/heddle-mesh/heddle/identity/attest"
	"github.com/heddle-mesh/heddle/identity/keep"
	"github.com/heddle-mesh/heddle/kube/webhooks"
	"github.com/heddle-mesh/heddle/test/wait"
)

// account makes a ServiceAccount with these rights and no others.
func (w *town) account(name string, r Rights) *rest.Config {
	w.t.Helper()
	api.Account(w.t, w.system, name)
	ctx, rbac := w.t.Context(), w.client.RbacV1()
	unique := metav1.ObjectMeta{Name: w.system + "-" + name}
	subjects := []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: w.system, Name: name}}
	_, err1 := rbac.ClusterRoles().Create(ctx, &rbacv1.ClusterRole{ObjectMeta: unique, Rules: r.Cluster}, metav1.CreateOptions{})
	_, err2 := rbac.ClusterRoleBindings().Create(ctx, &rbacv1.ClusterRoleBinding{
		ObjectMeta: unique, Subjects: subjects, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: unique.Name},
	}, metav1.CreateOptions{})
	_, err3 := rbac.Roles(w.system).Create(ctx, &rbacv1.Role{ObjectMeta: unique, Rules: r.Namespace}, metav1.CreateOptions{})
	_, err4 := rbac.RoleBindings(w.system).Create(ctx, &rbacv1.RoleBinding{
		ObjectMeta: unique, Subjects: subjects, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: unique.Name},
	}, metav1.CreateOptions{})
	token, err5 := w.client.CoreV1().ServiceAccounts(w.system).CreateToken(ctx, name, &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	if err := errors.Join(err1, err2, err3, err4, err5); err != nil {
		w.t.Fatal(err)
	}
	w.scan.Know("a token of "+name, []byte(token.Status.Token))
	config := rest.AnonymousClientConfig(api.Config(w.t))
	config.BearerToken = token.Status.Token
	return config
}

// kubeconfig writes down what a process needs to be an account.
func (w *town) kubeconfig(name string, config *rest.Config) string {
	w.t.Helper()
	path := filepath.Join(w.dir, name+".kubeconfig")
	err := clientcmd.WriteToFile(clientapi.Config{
		Clusters:       map[string]*clientapi.Cluster{"test": {Server: config.Host, CertificateAuthority: config.CAFile}},
		AuthInfos:      map[string]*clientapi.AuthInfo{"test": {Token: config.BearerToken}},
		Contexts:       map[string]*clientapi.Context{"test": {Cluster: "test", AuthInfo: "test"}},
		CurrentContext: "test",
	}, path)
	if err != nil {
		w.t.Fatal(err)
	}
	return path
}

// pod makes a running pod.
func (w *town) pod(namespace, name, account string, labels map[string]string) *corev1.Pod {
	w.t.Helper()
	pods := w.client.CoreV1().Pods(namespace)
	p, err := pods.Create(w.t.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels},
		Spec:       corev1.PodSpec{NodeName: "node-1", ServiceAccountName: account, Containers: []corev1.Container{{Name: "app", Image: "example/app"}}},
	}, metav1.CreateOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
	p.Status.Phase = corev1.PodRunning
	if p, err = pods.UpdateStatus(w.t.Context(), p, metav1.UpdateOptions{}); err != nil {
		w.t.Fatal(err)
	}
	return p
}

// token writes what the kubelet projects into a pod, and gives its path.
func (w *town) token(p *corev1.Pod) string {
	w.t.Helper()
	r, err := w.client.CoreV1().ServiceAccounts(p.Namespace).CreateToken(w.t.Context(), p.Spec.ServiceAccountName, &authenticationv1.TokenRequest{
		Spec: authenticationv1.TokenRequestSpec{
			Audiences:      []string{attest.DefaultAudience},
			BoundObjectRef: &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: p.Name, UID: p.UID},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
	w.scan.Know("the token of "+p.Name, []byte(r.Status.Token))
	path := filepath.Join(w.dir, "token-"+p.Name)
	if err := os.WriteFile(path, []byte(r.Status.Token), 0o600); err != nil {
		w.t.Fatal(err)
	}
	return path
}

func (w *town) bundleFile() string { return filepath.Join(w.dir, keep.BundleItem) }

// mount keeps the file of the trust bundle current, as the kubelet does.
func (w *town) mount() {
	wait.Background(w.t, "kubelet", func(ctx context.Context) error {
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for last := ""; ; {
			m, err := w.client.CoreV1().ConfigMaps(w.system).Get(ctx, keep.TrustConfigMap, metav1.GetOptions{})
			if text := ""; err == nil && m.Data[keep.BundleItem] != last {
				text = m.Data[keep.BundleItem]
				temporary := w.bundleFile() + ".new"
				if err := errors.Join(os.WriteFile(temporary, []byte(text), 0o600), os.Rename(temporary, w.bundleFile())); err != nil {
					return err
				}
				last = text
			} else if err != nil && !apierrors.IsNotFound(err) && ctx.Err() == nil {
				return err
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				return nil
			}
		}
	})
}

// configureWebhooks makes both configurations as an installation does: without a caBundle.
func (w *town) configureWebhooks() {
	w.t.Helper()
	ask := func(path string) admissionregistrationv1.WebhookClientConfig {
		return admissionregistrationv1.WebhookClientConfig{Service: &admissionregistrationv1.ServiceReference{Namespace: w.system, Name: "heddle", Path: &path}}
	}
	none, ignore := admissionregistrationv1.SideEffectClassNone, admissionregistrationv1.Ignore
	nobody := &metav1.LabelSelector{MatchLabels: map[string]string{"nobody": "here"}}
	what := []admissionregistrationv1.RuleWithOperations{{
		Operations: []admissionregistrationv1.OperationType{admissionregistrationv1.Create},
		Rule:       admissionregistrationv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"pods"}},
	}}
	var entries []admissionregistrationv1.MutatingWebhook
	for _, name := range []string{"namespace.inject.heddle.dev", "pod.inject.heddle.dev"} {
		entries = append(entries, admissionregistrationv1.MutatingWebhook{
			Name: name, ClientConfig: ask("/inject"), Rules: what, FailurePolicy: &ignore, ObjectSelector: nobody, SideEffects: &none, AdmissionReviewVersions: []string{"v1"},
		})
	}
	registrations := w.client.AdmissionregistrationV1()
	_, err1 := registrations.MutatingWebhookConfigurations().Create(w.t.Context(), &admissionregistrationv1.MutatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: webhooks.Injector}, Webhooks: entries,
	}, metav1.CreateOptions{})
	_, err2 := registrations.ValidatingWebhookConfigurations().Create(w.t.Context(), &admissionregistrationv1.ValidatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: webhooks.Policy}, Webhooks: []admissionregistrationv1.ValidatingWebhook{{
			Name: "policy.heddle.dev", ClientConfig: ask("/policy"), Rules: what, FailurePolicy: &ignore, ObjectSelector: nobody, SideEffects: &none, AdmissionReviewVersions: []string{"v1"},
		}},
	}, metav1.CreateOptions{})
	if err := errors.Join(err1, err2); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		ctx := context.Background()
		if err := errors.Join(
			registrations.MutatingWebhookConfigurations().Delete(ctx, webhooks.Injector, metav1.DeleteOptions{}),
			registrations.ValidatingWebhookConfigurations().Delete(ctx, webhooks.Policy, metav1.DeleteOptions{}),
		); err != nil {
			w.t.Error(err)
		}
	})
}

// trusted gives what the API server trusts each webhook by.
func (w *town) trusted() map[string][]byte {
	w.t.Helper()
	registrations := w.client.AdmissionregistrationV1()
	injector, err1 := registrations.MutatingWebhookConfigurations().Get(w.t.Context(), webhooks.Injector, metav1.GetOptions{})
	policy, err2 := registrations.ValidatingWebhookConfigurations().Get(w.t.Context(), webhooks.Policy, metav1.GetOptions{})
	if err := errors.Join(err1, err2); err != nil {
		w.t.Fatal(err)
	}
	all := map[string][]byte{}
	for _, e := range injector.Webhooks {
		all[e.Name] = e.ClientConfig.CABundle
	}
	for _, e := range policy.Webhooks {
		all[e.Name] = e.ClientConfig.CABundle
	}
	return all
}
