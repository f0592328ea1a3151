package check

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/url"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heddle-mesh/heddle/buildinfo"
	"github.com/heddle-mesh/heddle/controlplane/api"
	"github.com/heddle-mesh/heddle/identity"
	"github.com/heddle-mesh/heddle/identity/keep"
	"github.com/heddle-mesh/heddle/identity/service"
)

const ownVersion = "v1.2.3"

// noon is when everything here is looked at.
func noon() time.Time { return time.Date(2027, 1, 1, 12, 0, 0, 0, time.UTC) }

// authority is a CA for tests.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newKey(t *testing.T, curve elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func sign(t *testing.T, template, parent *x509.Certificate, public crypto.PublicKey, by *ecdsa.PrivateKey) *x509.Certificate {
	t.Helper()
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, by)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// newAuthority makes a root that lasts for life from a year before noon on.
func newAuthority(t *testing.T, name string, curve elliptic.Curve, until time.Duration) *authority {
	t.Helper()
	key := newKey(t, curve)
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, NotBefore: noon().Add(-365 * 24 * time.Hour), NotAfter: noon().Add(until),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign, URIs: []*url.URL{{Scheme: "spiffe", Host: "cluster.local"}},
	}
	return &authority{t, sign(t, template, template, &key.PublicKey, key), key}
}

// serving makes a certificate of a day for the webhooks, of which so much is left.
func (a *authority) serving(left time.Duration) []*x509.Certificate {
	key := newKey(a.t, elliptic.P256())
	return []*x509.Certificate{sign(a.t, &x509.Certificate{
		DNSNames: []string{"heddle.heddle-system.svc"}, NotBefore: noon().Add(left - 24*time.Hour), NotAfter: noon().Add(left),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, a.cert, &key.PublicKey, a.key)}
}

func (a *authority) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})
}

func (a *authority) anchor() service.Anchor {
	return service.Anchor{
		Name: identity.CertificateName(a.cert), Subject: a.cert.Subject.String(), Algorithm: "ECDSA P-256",
		NotBefore: a.cert.NotBefore, NotAfter: a.cert.NotAfter,
	}
}

func bundleDocument(t *testing.T, all ...*authority) string {
	t.Helper()
	b := spiffebundle.New(spiffeid.RequireTrustDomainFromString("cluster.local"))
	for _, a := range all {
		b.AddX509Authority(a.cert)
	}
	text, err := b.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func deployment(name string) *appsv1.Deployment {
	one := int32(1)
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: appsv1.DeploymentSpec{Replicas: &one},
		Status: appsv1.DeploymentStatus{UpdatedReplicas: 1, ReadyReplicas: 1},
	}
}

func pod(namespace, name, account, container string) corev1.Pod {
	return corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Spec: corev1.PodSpec{ServiceAccountName: account},
		Status: corev1.PodStatus{
			Phase:             corev1.PodRunning,
			Conditions:        []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}},
			ContainerStatuses: []corev1.ContainerStatus{{Name: container, Ready: true}},
		},
	}
}

// newOnes are rules by which the API server asks about new objects.
func newOnes(resource string) []admissionv1.RuleWithOperations {
	return []admissionv1.RuleWithOperations{{
		Operations: []admissionv1.OperationType{admissionv1.Create}, Rule: admissionv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{resource}},
	}}
}

func webhookClient(ca *authority) admissionv1.WebhookClientConfig {
	return admissionv1.WebhookClientConfig{
		Service: &admissionv1.ServiceReference{Namespace: "heddle-system", Name: "heddle"}, CABundle: ca.pem(),
	}
}

func binding(account string) rbacv1.ClusterRoleBinding {
	return rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: account}, RoleRef: rbacv1.RoleRef{Kind: "ClusterRole", Name: account},
		Subjects: []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: "heddle-system", Name: account}},
	}
}

// denying is a ValidatingAdmissionPolicy as it should be.
func denying() AdmissionPolicy {
	return AdmissionPolicy{&admissionv1.ValidatingAdmissionPolicy{}, []admissionv1.ValidatingAdmissionPolicyBinding{{
		Spec: admissionv1.ValidatingAdmissionPolicyBindingSpec{ValidationActions: []admissionv1.ValidationAction{admissionv1.Audit, admissionv1.Deny}},
	}}}
}

// healthy are the facts of a mesh in which nothing is wrong.
func healthy(t *testing.T) (*Facts, *authority) {
	t.Helper()
	ca := newAuthority(t, "root", elliptic.P256(), 3650*24*time.Hour)
	both := map[string]bool{"heddle": true, "heddle-signer": true, "heddle-view": true, "heddle-tap": true}
	day := api.Certificate{NotBefore: noon().Add(-6 * time.Hour), NotAfter: noon().Add(18 * time.Hour)}
	f := &Facts{
		ControlPlane: "heddle-system",
		Server:       Fact[string]{Value: "v1.36.3"}, Kubectl: Fact[string]{Value: "v1.36.0"}, Latest: Fact[string]{Value: ownVersion},
		NetAdmin:    map[string]error{"default": nil},
		Namespace:   Fact[*corev1.Namespace]{Value: &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "heddle-system", Labels: map[string]string{enforceLabel: "restricted"}}}},
		Deployments: Fact[map[string]*appsv1.Deployment]{Value: map[string]*appsv1.Deployment{"heddle": deployment("heddle"), "heddle-signer": deployment("heddle-signer")}},
		Pods:        Fact[[]corev1.Pod]{Value: []corev1.Pod{pod("heddle-system", "heddle-1", "heddle", "heddle"), pod("heddle-system", "heddle-signer-1", "heddle-signer", "heddle")}},
		Accounts:    Fact[map[string]bool]{Value: both}, Services: Fact[map[string]bool]{Value: both}, ClusterRoles: Fact[map[string]bool]{Value: both},
		Bindings:          Fact[[]rbacv1.ClusterRoleBinding]{Value: []rbacv1.ClusterRoleBinding{binding("heddle"), binding("heddle-signer")}},
		AdmissionPolicies: Fact[map[string]AdmissionPolicy]{Value: map[string]AdmissionPolicy{"heddle-status-writer": denying(), "heddle-last-good": denying()}},
		InjectorAnswers:   []Answer{{Namespace: "shop", Met: true}},
		PolicyAnswers:     []Answer{{Namespace: "heddle-system", Met: true}},
		Configuration:     Fact[bool]{Value: true},
		Trust:             Fact[string]{Value: bundleDocument(t, ca)},
		Mutating: Fact[*admissionv1.MutatingWebhookConfiguration]{Value: &admissionv1.MutatingWebhookConfiguration{
			Webhooks: []admissionv1.MutatingWebhook{{Name: "pod.inject.heddle.dev", ClientConfig: webhookClient(ca), Rules: newOnes("pods")}},
		}},
		Validating: Fact[*admissionv1.ValidatingWebhookConfiguration]{Value: &admissionv1.ValidatingWebhookConfiguration{
			Webhooks: []admissionv1.ValidatingWebhook{{Name: "policy.heddle.dev", ClientConfig: webhookClient(ca), Rules: newOnes("configmaps")}},
		}},
		Served: map[string]Fact[[]*x509.Certificate]{"heddle-1": {Value: ca.serving(18 * time.Hour)}},
		Identity: Fact[*Identities]{Value: &Identities{
			Facts: service.Facts{
				Anchors:      []service.Anchor{ca.anchor()},
				Issuers:      []service.Issuer{{Anchor: ca.anchor(), Signs: true, Expires: ca.cert.NotAfter, Anchors: []string{ca.anchor().Name}}},
				ControlPlane: []service.Leaf{{ID: "spiffe://cluster.local/ns/heddle-system/sa/heddle", NotBefore: day.NotBefore, NotAfter: day.NotAfter}},
			},
			Rotation: keep.Progress{Phase: identity.Steady, Leading: true},
		}},
		Replicas: Fact[[]Replica]{Value: []Replica{{Pod: "heddle-1", Version: buildinfo.Info{Version: ownVersion}, Health: api.Health{Ready: true, Source: true}}}},
		Proxies: Fact[[]api.Proxy]{Value: []api.Proxy{{
			Namespace: "shop", Pod: "web-1", Agent: ownVersion, Synced: true, Certificate: day,
			Types: []api.Type{{Type: "listener", Resources: 3, Synced: true}},
		}}},
		SidecarPods: Fact[[]corev1.Pod]{Value: []corev1.Pod{pod("shop", "web-1", "default", ProxyContainer)}},
		TrustCopies: Fact[map[string]string]{Value: map[string]string{"shop": bundleDocument(t, ca)}},
	}
	for _, r := range Needs("heddle-system") {
		r.Allowed = true
		f.Rights = append(f.Rights, r)
	}
	return f, ca
}

func (r Report) find(t *testing.T, name string) Result {
	t.Helper()
	for _, s := range r.Sections {
		for _, c := range s.Checks {
			if c.Name == name {
				return c
			}
		}
	}
	t.Fatalf("there is no check %s", name)
	return Result{}
}

// unwell lists the checks that did not pass, but for those that are skipped behind another, as NAME=RESULT.
func (r Report) unwell() []string {
	list := []string{}
	for _, s := range r.Sections {
		for _, c := range s.Checks {
			if c.Status != Passed && c.Behind == "" {
				list = append(list, fmt.Sprintf("%s=%s", c.Name, c.Status))
			}
		}
	}
	return list
}
