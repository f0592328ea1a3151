package check

import (
	"crypto/x509"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/heddle-mesh/heddle/buildinfo"
	"github.com/heddle-mesh/heddle/controlplane/api"
	"github.com/heddle-mesh/heddle/identity/keep"
	"github.com/heddle-mesh/heddle/identity/service"
)

// Names of the objects that an installation has.
const (
	ServerName      = "heddle"
	SignerName      = "heddle-signer"
	InjectorWebhook = "heddle-injector"
	PolicyWebhook   = "heddle-policy"
	ConfigMap       = "heddle-config" // the values of the installation
	TrustConfigMap  = keep.TrustConfigMap
	ProxyContainer  = "heddle-proxy"
	InjectLabel     = "heddle.dev/inject"
	Enabled         = "enabled"
	PolicyLabel     = "heddle.dev/policy"
)

// Fact is something that was read, or why it could not be. What does not exist is the zero value without an error.
type Fact[T any] struct {
	Value T
	Err   error
}

// Facts are all that checks stand on.
type Facts struct {
	ControlPlane string       // namespace
	Client       error        // why there is no client
	Server       Fact[string] // version of the API server
	Kubectl      Fact[string] // version; empty: there is none on the path

	// Before the installation.
	Rights    []Right           // that it needs
	Leftovers Fact[[]string]    // objects of an installation that exist, as Kind/name
	NetAdmin  map[string]error  // by namespace: why a pod with NET_ADMIN is refused there; nil: it is not
	Untried   map[string]string // by namespace: why that could not be tried

	// After it.
	Namespace          Fact[*corev1.Namespace]
	Configuration      Fact[bool]                          // its ConfigMap exists
	Deployments        Fact[map[string]*appsv1.Deployment] // of the control plane, by name
	Pods               Fact[[]corev1.Pod]                  // of its namespace
	Accounts           Fact[map[string]bool]               // ServiceAccounts there
	Services           Fact[map[string]bool]
	ClusterRoles       Fact[map[string]bool]
	Bindings           Fact[[]rbacv1.ClusterRoleBinding]
	Mutating           Fact[*admissionv1.MutatingWebhookConfiguration]
	Validating         Fact[*admissionv1.ValidatingWebhookConfiguration]
	AdmissionPolicies  Fact[map[string]AdmissionPolicy] // those that the chart has, by name
	InjectorAnswers    []Answer                         // to Pods, in namespaces where it applies, until one was met
	PolicyAnswers      []Answer                         // to a ConfigMap
	Trust              Fact[string]
	Identity           Fact[*Identities] // nil: nobody tells
	Served             map[string]Fact[[]*x509.Certificate]
	Replicas           Fact[[]Replica]
	Latest             Fact[string] // the newest release; empty: not asked for
	Proxies            Fact[[]api.Proxy]
	SidecarPods        Fact[[]corev1.Pod] // pods that carry the sidecar's label, in the namespaces that are looked at
	Uninjected         Fact[[]string]     // pods of namespaces with injection that have no sidecar, though they may
	TrustCopies        Fact[map[string]string]
	WebhooksUnreadable error // why the webhooks' certificates could not be looked at
}

// AdmissionPolicy is what there is of a ValidatingAdmissionPolicy that an installation has.
type AdmissionPolicy struct {
	Policy   *admissionv1.ValidatingAdmissionPolicy // nil: it does not exist
	Bindings []admissionv1.ValidatingAdmissionPolicyBinding
}

// Right is something that an installation has to be allowed.
type Right struct {
	Verb, Group, Resource, Namespace string
	Allowed                          bool
	Reason                           string // why not, as the API server says it
	Err                              error  // it could not be asked
}

// Identities are the facts of who is who.
type Identities struct {
	service.Facts
	Rotation keep.Progress `json:"rotation"`
}

// Replica is one pod of the control plane, as it answers.
type Replica struct {
	Pod     string
	Version buildinfo.Info
	Health  api.Health
	Err     error
}

// sixtyDays is how long what nobody renews by itself should last.
const sixtyDays = 60 * 24 * time.Hour

// hintOf says what to do about an error of the API server; empty for others.
func hintOf(err error) string {
	switch {
	case apierrors.IsForbidden(err):
		return "have somebody bind you a ClusterRole that may read it, such as view; kubectl auth can-i --list shows what you may do"
	}
	return FaultHint(err)
}

// FaultHint says what to do about an API server that fails, or that does not know who asks; empty for other errors.
func FaultHint(err error) string {
	switch {
	case apierrors.IsUnauthorized(err):
		return "your credentials are not accepted: renew them, or name another --context"
	case apierrors.IsInternalError(err), apierrors.IsServerTimeout(err), apierrors.IsServiceUnavailable(err):
		return "the API server has a fault of its own: kubectl get --raw '/readyz?verbose' tells of which part"
	}
	return ""
}
