package check

import (
	"crypto/elliptic"
	"crypto/x509"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/heddle-mesh/heddle/controlplane/api"
	"github.com/heddle-mesh/heddle/identity"
	"github.com/heddle-mesh/heddle/identity/keep"
	"github.com/heddle-mesh/heddle/identity/service"
)

func everything() Options {
	return Options{Now: noon(), DataPlane: WithDataPlane, Version: ownVersion}
}

func forbidden(resource string) error {
	return apierrors.NewForbidden(schema.GroupResource{Resource: resource}, "", errors.New("no right"))
}

func TestAHealthyMeshPassesEveryCheck(t *testing.T) {
	f, _ := healthy(t)
	for _, o := range []Options{everything(), {Now: noon(), Mode: Pre, Version: ownVersion}} {
		r := Evaluate(f, o)
		if got := r.unwell(); len(got) > 0 || !r.Success || r.Status != Passed {
			t.Errorf("mode %q: %v, success %v, %s", o.Mode, got, r.Success, r.Status)
		}
	}
}

// ill is one thing that is wrong, with the one check that is to find it.
type ill struct {
	check  string
	want   Status
	reason string // part of it
	spoil  func(f *Facts, ca *authority)
}

func TestWhatExpiresByAGivenTimeFailsThenAndNotNow(t *testing.T) {
	f, _ := healthy(t)
	soon := newAuthority(t, "soon", elliptic.P256(), 70*24*time.Hour)
	f.Trust.Value = bundleDocument(t, soon)
	f.TrustCopies.Value["shop"] = f.Trust.Value
	f.Mutating.Value.Webhooks[0].ClientConfig, f.Validating.Value.Webhooks[0].ClientConfig = webhookClient(soon), webhookClient(soon)
	f.Served["heddle-1"] = Fact[[]*x509.Certificate]{Value: soon.serving(18 * time.Hour)}
	issuer := &f.Identity.Value.Issuers[0]
	f.Identity.Value.Anchors[0], issuer.Anchors[0], issuer.Expires = soon.anchor(), soon.anchor().Name, soon.cert.NotAfter
	for ahead, want := range map[time.Duration][]string{
		0:                    {},
		45 * 24 * time.Hour:  {"anchors-60-days=warning", "issuers-60-days=warning"},
		100 * 24 * time.Hour: {"anchors-validity=error", "issuers-validity=error"},
	} {
		o := everything()
		o.At = o.Now.Add(ahead)
		r := Evaluate(f, o)
		if got := r.unwell(); !slices.Equal(got, want) {
			t.Errorf("in %v: %v; want %v", ahead, got, want)
		}
	}
	o := everything()
	o.At = o.Now.Add(100 * 24 * time.Hour)
	r := Evaluate(f, o)
	if got := r.find(t, "anchors-validity").Reason; !strings.Contains(got, "will have expired by then: on 2027-03-12") {
		t.Errorf("the reason is %q", got)
	}
}

func TestEachCheckFailsForItsReason(t *testing.T) {
	covered := map[string]bool{"anchors-validity": true} // by the test above, since an expired anchor breaks the issuer too
	cases := slices.Concat(clusterIlls(), existenceIlls(), configIlls(), identityIlls(t), webhookIlls(t), answerIlls(), controlPlaneIlls(), dataPlaneIlls())
	for _, c := range cases {
		t.Run(c.check+" "+c.reason, func(t *testing.T) {
			covered[c.check] = true
			f, ca := healthy(t)
			c.spoil(f, ca)
			r := Evaluate(f, everything())
			if got, want := r.unwell(), []string{c.check + "=" + string(c.want)}; !slices.Equal(got, want) {
				t.Fatalf("not passed: %v; want %v alone", got, want)
			}
			found := r.find(t, c.check)
			if !strings.Contains(found.Reason, c.reason) {
				t.Errorf("the reason is %q; want %q in it", found.Reason, c.reason)
			}
			if found.Hint == "" && found.Status != Skipped {
				t.Error("there is no hint")
			}
			if r.Success != (c.want != Failed) {
				t.Errorf("success is %v", r.Success)
			}
		})
	}
	f, _ := healthy(t)
	for _, s := range Evaluate(f, everything()).Sections {
		for _, c := range s.Checks {
			if !covered[c.Name] {
				t.Errorf("no case makes check %s fail", c.Name)
			}
		}
	}
}

func clusterIlls() []ill {
	return []ill{
		{"client", Failed, "no kubeconfig", func(f *Facts, _ *authority) { f.Client = errors.New("there is no kubeconfig") }},
		{"api-query", Failed, "connection refused", func(f *Facts, _ *authority) { f.Server.Err = errors.New("dial tcp: connection refused") }},
		{"kubernetes-version", Failed, "v1.29.4, and 1.30.0 is needed", func(f *Facts, _ *authority) { f.Server.Value = "v1.29.4" }},
		{"kubernetes-version", Warned, "which is none", func(f *Facts, _ *authority) { f.Server.Value = "mine" }},
		{"kubectl-version", Warned, "kubectl is v1.24.0", func(f *Facts, _ *authority) { f.Kubectl.Value = "v1.24.0" }},
		{"kubectl-version", Skipped, "no kubectl on the path", func(f *Facts, _ *authority) { f.Kubectl.Value = "" }},
		{"cli-latest", Skipped, "offline", func(f *Facts, _ *authority) { f.Latest = Fact[string]{Err: errors.New("no such host")} }},
		{"cli-latest", Warned, "latest release is v9", func(f *Facts, _ *authority) { f.Latest.Value = "v9" }},
	}
}

func existenceIlls() []ill {
	return []ill{
		{"namespace", Failed, "there is no Namespace heddle-system", func(f *Facts, _ *authority) { f.Namespace.Value = nil }},
		{"namespace", Failed, "cannot read Namespace heddle-system: ", func(f *Facts, _ *authority) { f.Namespace.Err = forbidden("namespaces") }},
		{"namespace", Failed, "is being deleted", func(f *Facts, _ *authority) { f.Namespace.Value.DeletionTimestamp = &metav1.Time{Time: noon()} }},
		{"configuration", Failed, "there is no ConfigMap heddle-system/heddle-config", func(f *Facts, _ *authority) { f.Configuration.Value = false }},
		{"deployments", Failed, "there is no Deployment heddle-system/heddle-signer", func(f *Facts, _ *authority) { delete(f.Deployments.Value, "heddle-signer") }},
		{"replica-sets", Failed, "0 of 1 replicas are ready", func(f *Facts, _ *authority) { f.Deployments.Value["heddle"].Status.ReadyReplicas = 0 }},
		{"replica-sets", Failed, "exceeded quota", func(f *Facts, _ *authority) {
			d := f.Deployments.Value["heddle"]
			d.Status.ReadyReplicas = 0
			d.Status.Conditions = []appsv1.DeploymentCondition{{Type: appsv1.DeploymentReplicaFailure, Status: corev1.ConditionTrue, Message: "exceeded quota"}}
		}},
		{"replica-sets", Failed, "scaled to zero", func(f *Facts, _ *authority) { *f.Deployments.Value["heddle"].Spec.Replicas = 0 }},
		{"unschedulable-pods", Failed, "Insufficient memory", func(f *Facts, _ *authority) {
			f.Pods.Value[0].Status.Conditions = append(f.Pods.Value[0].Status.Conditions, corev1.PodCondition{
				Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: corev1.PodReasonUnschedulable, Message: "0/1 nodes: Insufficient memory",
			})
		}},
		{"control-plane-pods", Failed, "ImagePullBackOff", func(f *Facts, _ *authority) {
			extra := pod("heddle-system", "heddle-2", "heddle", "heddle")
			extra.Status.ContainerStatuses[0] = corev1.ContainerStatus{Name: "heddle", State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ImagePullBackOff"}}}
			f.Pods.Value = append(f.Pods.Value, extra)
		}},
		{"control-plane-pods", Failed, "no pod of Deployment heddle-system/heddle-signer is ready", func(f *Facts, _ *authority) { f.Pods.Value = f.Pods.Value[:1] }},
	}
}

func configIlls() []ill {
	return []ill{
		{"namespace-labels", Warned, "Pod Security restricted", func(f *Facts, _ *authority) { f.Namespace.Value.Labels = nil }},
		{"namespace-labels", Failed, "would wait for itself", func(f *Facts, _ *authority) { f.Namespace.Value.Labels[InjectLabel] = Enabled }},
		{"cluster-roles", Failed, "ClusterRole heddle-signer that does not exist", func(f *Facts, _ *authority) { f.ClusterRoles.Value = map[string]bool{"heddle": true} }},
		{"cluster-roles", Failed, "no ClusterRoleBinding is for ServiceAccount heddle-system/heddle-signer", func(f *Facts, _ *authority) { f.Bindings.Value = f.Bindings.Value[:1] }},
		{"service-accounts", Failed, "there is no ServiceAccount heddle-system/heddle-view", func(f *Facts, _ *authority) {
			f.Accounts.Value = map[string]bool{"heddle": true, "heddle-signer": true}
		}},
		{"services", Failed, "there is no Service heddle-system/heddle-signer", func(f *Facts, _ *authority) { f.Services.Value = map[string]bool{"heddle": true} }},
		{"services", Failed, "cannot read Services", func(f *Facts, _ *authority) { f.Services.Err = forbidden("services") }},
		{"mutating-webhook", Failed, "no pod gets a sidecar", func(f *Facts, _ *authority) { f.Mutating.Value = nil }},
		{"mutating-webhook", Failed, "is not asked about new pods", func(f *Facts, _ *authority) { f.Mutating.Value.Webhooks[0].Rules = nil }},
		{"mutating-webhook", Failed, "is not asked about new pods", func(f *Facts, _ *authority) { f.Mutating.Value.Webhooks[0].Rules = newOnes("services") }},
		{"validating-webhook", Failed, "is not asked about new ConfigMaps", func(f *Facts, _ *authority) { f.Validating.Value.Webhooks[0].Rules = nil }},
		{"validating-webhook", Failed, "heddle-policy", func(f *Facts, _ *authority) { f.Validating.Value = nil }},
		{"admission-policy", Failed, "cannot read ValidatingAdmissionPolicies", func(f *Facts, _ *authority) { f.AdmissionPolicies.Err = forbidden("validatingadmissionpolicies") }},
		{"admission-policy", Failed, "ValidatingAdmissionPolicy heddle-last-good does not exist", admissionPolicy(func(p *AdmissionPolicy) { p.Policy = nil })},
		{"admission-policy", Failed, "ValidatingAdmissionPolicy heddle-last-good has no binding: ", admissionPolicy(func(p *AdmissionPolicy) { p.Bindings = nil })},
		{"admission-policy", Failed, "heddle-last-good has no binding that denies", admissionPolicy(func(p *AdmissionPolicy) {
			p.Bindings[0].Spec.ValidationActions = []admissionv1.ValidationAction{admissionv1.Audit}
		})},
		{"admission-policy", Failed, "heddle-last-good denies some objects only", admissionPolicy(func(p *AdmissionPolicy) {
			p.Bindings[0].Spec.MatchResources = &admissionv1.MatchResources{}
		})},
		{"admission-policy", Failed, "warns of, spec.validations[0].expression: apps/v1: ERROR: undefined field 'labls'", admissionPolicy(func(p *AdmissionPolicy) {
			p.Policy.Status.TypeChecking = &admissionv1.TypeChecking{ExpressionWarnings: []admissionv1.ExpressionWarning{
				{FieldRef: "spec.validations[0].expression", Warning: "apps/v1:\n ERROR: undefined field 'labls'"},
			}}
		})},
	}
}

// admissionPolicy changes one of the two.
func admissionPolicy(change func(*AdmissionPolicy)) func(*Facts, *authority) {
	return func(f *Facts, _ *authority) {
		p := f.AdmissionPolicies.Value["heddle-last-good"]
		change(&p)
		f.AdmissionPolicies.Value["heddle-last-good"] = p
	}
}

func identityIlls(t *testing.T) []ill {
	// another puts a root in the place of the one there is, everywhere.
	another := func(curve elliptic.Curve, left time.Duration, algorithm string) func(*Facts, *authority) {
		return func(f *Facts, _ *authority) {
			ca := newAuthority(t, "other", curve, left)
			f.Trust.Value, f.TrustCopies.Value["shop"] = bundleDocument(t, ca), bundleDocument(t, ca)
			f.Mutating.Value.Webhooks[0].ClientConfig, f.Validating.Value.Webhooks[0].ClientConfig = webhookClient(ca), webhookClient(ca)
			f.Served["heddle-1"] = Fact[[]*x509.Certificate]{Value: ca.serving(18 * time.Hour)}
			issuer := &f.Identity.Value.Issuers[0]
			f.Identity.Value.Anchors[0], issuer.Anchors[0], issuer.Algorithm = ca.anchor(), ca.anchor().Name, algorithm
		}
	}
	issuer := func(change func(*service.Issuer)) func(*Facts, *authority) {
		return func(f *Facts, _ *authority) { change(&f.Identity.Value.Issuers[0]) }
	}
	return []ill{
		{"trust-bundle", Failed, "no sidecar can start", func(f *Facts, _ *authority) { f.Trust.Value = "" }},
		{"trust-bundle", Failed, "ConfigMap heddle-system/heddle-trust: ", func(f *Facts, _ *authority) { f.Trust.Value = "{" }},
		{"anchors-algorithm", Failed, "curve of 521 bits", another(elliptic.P521(), 3650*24*time.Hour, "ECDSA P-256")},
		{"anchors-60-days", Warned, "30 days later", another(elliptic.P256(), 30*24*time.Hour, "ECDSA P-256")},
		{"signing", Failed, "nothing is signed: the CA is gone", func(f *Facts, _ *authority) { f.Identity.Value.Rotation.Fault = "the CA is gone" }},
		{"signing", Warned, "in phase introducing", func(f *Facts, _ *authority) { f.Identity.Value.Rotation.Phase = identity.Introducing }},
		{"trust-copied", Warned, "namespace bank, since 2027-01-01T12:00:00Z (invalid): write ConfigMap bank/heddle-trust: it is immutable", func(f *Facts, _ *authority) {
			f.Identity.Value.Rotation.Uncopied = []keep.Uncopied{{
				Namespace: "bank", Since: noon(), Reason: keep.CopyInvalid, Error: "write ConfigMap bank/heddle-trust: it is immutable",
			}}
		}},
		{"issuers-algorithm", Failed, "RSA 1024", issuer(func(i *service.Issuer) { i.Algorithm = "RSA 1024" })},
		{"issuers-validity", Failed, "has expired on 2026-12-31", issuer(func(i *service.Issuer) { i.Expires = noon().Add(-24 * time.Hour) })},
		{"issuers-validity", Failed, "is not valid before", issuer(func(i *service.Issuer) { i.NotBefore = noon().Add(time.Hour) })},
		{"issuers-60-days", Warned, "expires on 2027-01-11, 10 days later", issuer(func(i *service.Issuer) { i.Expires = noon().Add(240 * time.Hour) })},
		{"issuers-chain", Failed, "leads to no anchor", issuer(func(i *service.Issuer) { i.Anchors = []string{"elsewhere"} })},
		{"trust-published", Failed, "is trusted by the signer and not in ConfigMap", func(f *Facts, _ *authority) {
			f.Identity.Value.Anchors = append(f.Identity.Value.Anchors, service.Anchor{Name: "0123456789abcdef", Subject: "CN=new"})
		}},
	}
}

func webhookIlls(t *testing.T) []ill {
	return []ill{
		{"injector-trust", Failed, "has no caBundle", func(f *Facts, _ *authority) { f.Mutating.Value.Webhooks[0].ClientConfig.CABundle = nil }},
		{"injector-trust", Failed, "trusts none of the mesh's anchors", func(f *Facts, _ *authority) {
			f.Mutating.Value.Webhooks[0].ClientConfig = webhookClient(newAuthority(t, "stranger", elliptic.P256(), time.Hour))
		}},
		{"policy-trust", Failed, "has no caBundle", func(f *Facts, _ *authority) { f.Validating.Value.Webhooks[0].ClientConfig.CABundle = []byte("x") }},
		{"injector-certificate", Failed, "is valid for heddle.heddle-system.svc, not other", func(f *Facts, _ *authority) {
			f.Mutating.Value.Webhooks[0].ClientConfig.Service.Name = "other"
		}},
		{"policy-certificate", Failed, "is valid for heddle.heddle-system.svc, not other", func(f *Facts, _ *authority) {
			f.Validating.Value.Webhooks[0].ClientConfig.Service.Name = "other"
		}},
	}
}

func controlPlaneIlls() []ill {
	replica := func(change func(*Replica)) func(*Facts, *authority) {
		return func(f *Facts, _ *authority) { change(&f.Replicas.Value[0]) }
	}
	return []ill{
		{"control-plane-api", Failed, "pod heddle-system/heddle-1: no answer", replica(func(r *Replica) { r.Err = errors.New("no answer") })},
		{"control-plane-api", Failed, "you may not", func(f *Facts, _ *authority) { f.Replicas.Err = errors.New("you may not") }},
		{"control-plane-ready", Failed, "has not read the whole mesh", replica(func(r *Replica) { r.Health.Ready = false })},
		{"control-plane-kubernetes", Failed, "connection refused", replica(func(r *Replica) { r.Health.Source, r.Health.Reason = false, "connection refused" })},
		{"control-plane-certificates", Failed, "expires in 3 hours, of 21 hours", func(f *Facts, _ *authority) {
			f.Identity.Value.ControlPlane[0].NotAfter = noon().Add(3 * time.Hour)
			f.Identity.Value.ControlPlane[0].NotBefore = noon().Add(-18*time.Hour - identity.BackDate)
		}},
		{"control-plane-replicas", Warned, "pod heddle-system/heddle-2 is v1.0.0 and others are v1.2.3", func(f *Facts, _ *authority) {
			old := f.Replicas.Value[0]
			old.Pod, old.Version.Version = "heddle-2", "v1.0.0"
			f.Replicas.Value = append(f.Replicas.Value, old)
		}},
		{"control-plane-version", Warned, "the control plane is v1.0.0 and this heddle is v1.2.3", func(f *Facts, _ *authority) {
			f.Replicas.Value[0].Version.Version, f.Proxies.Value[0].Agent = "v1.0.0", "v1.0.0"
		}},
	}
}

func TestALeafOfAMinuteIsNotLateWhileItIsNew(t *testing.T) {
	for left, want := range map[time.Duration]bool{58 * time.Second: false, 16 * time.Second: false, 14 * time.Second: true, 0: true} {
		until := noon().Add(left)
		from := until.Add(-time.Minute - identity.BackDate)
		if why := unrenewed(lifeOf(from, until), until, noon()); (why != "") != want {
			t.Errorf("with %s left: %q", left, why)
		}
	}
}

func dataPlaneIlls() []ill {
	proxy := func(change func(*api.Proxy)) func(*Facts, *authority) {
		return func(f *Facts, _ *authority) { change(&f.Proxies.Value[0]) }
	}
	return []ill{
		{"proxies-ready", Failed, "container heddle-proxy is not ready: CrashLoopBackOff", func(f *Facts, _ *authority) {
			f.SidecarPods.Value[0].Status.ContainerStatuses[0] = corev1.ContainerStatus{Name: ProxyContainer, State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}}}
		}},
		{"proxies-ready", Failed, "has no container heddle-proxy", func(f *Facts, _ *authority) { f.SidecarPods.Value[0].Status.ContainerStatuses = nil }},
		{"injected", Warned, "pod shop/old has no sidecar", func(f *Facts, _ *authority) { f.Uninjected.Value = []string{"pod shop/old has no sidecar"} }},
		{"trust-copies", Failed, "there is no ConfigMap shop/heddle-trust", func(f *Facts, _ *authority) { f.TrustCopies.Value["shop"] = "" }},
		{"trust-copies", Failed, "ConfigMap shop/heddle-trust is not the current", func(f *Facts, _ *authority) { f.TrustCopies.Value["shop"] = "old" }},
		{"proxies-listed", Failed, "pod shop/web-2 is not connected", func(f *Facts, _ *authority) {
			f.SidecarPods.Value = append(f.SidecarPods.Value, pod("shop", "web-2", "default", ProxyContainer))
		}},
		{"proxies-synced", Failed, "pod shop/web-1 has not confirmed all of its configuration: listener", proxy(func(p *api.Proxy) { p.Synced, p.Types[0].Synced = false, false })},
		{"proxies-accept", Failed, "refused listener in: bad filter", proxy(func(p *api.Proxy) { p.Types[0].Refused = []api.Nack{{Resource: "in", Reason: "bad filter"}} })},
		{"proxies-certificates", Failed, "should have been renewed", proxy(func(p *api.Proxy) { p.Certificate.NotAfter = noon().Add(time.Hour) })},
		{"proxies-version", Warned, "has a sidecar of v0.9", proxy(func(p *api.Proxy) { p.Agent = "v0.9" })},
	}
}

func TestALookBeforehandFailsForItsReason(t *testing.T) {
	for _, c := range []ill{
		{"can-create-clusterroles", Failed, "you may not create clusterroles: not bound", func(f *Facts, _ *authority) {
			for i := range f.Rights {
				if f.Rights[i].Resource == "clusterroles" {
					f.Rights[i].Allowed, f.Rights[i].Reason = false, "not bound"
				}
			}
		}},
		{"can-create-services", Failed, "cannot ask whether you may create services in namespace heddle-system", func(f *Facts, _ *authority) {
			for i := range f.Rights {
				if f.Rights[i].Resource == "services" {
					f.Rights[i].Err = forbidden("selfsubjectaccessreviews")
				}
			}
		}},
		{"no-leftovers", Failed, "there is MutatingWebhookConfiguration heddle-injector", func(f *Facts, _ *authority) {
			f.Leftovers.Value = []string{"MutatingWebhookConfiguration heddle-injector"}
		}},
		{"no-leftovers", Failed, "cannot read what is installed", func(f *Facts, _ *authority) { f.Leftovers.Err = forbidden("deployments") }},
		{"net-admin", Failed, "namespace shop: violates PodSecurity", func(f *Facts, _ *authority) { f.NetAdmin["shop"] = errors.New("violates PodSecurity") }},
		{"net-admin", Skipped, "namespace shop: you may not", func(f *Facts, _ *authority) {
			f.NetAdmin, f.Untried = nil, map[string]string{"shop": "you may not"}
		}},
		{"net-admin", Warned, "could not be tried in namespace shop: you may not", func(f *Facts, _ *authority) { f.Untried = map[string]string{"shop": "you may not"} }},
		{"kubernetes-version", Failed, "v1.27.0", func(f *Facts, _ *authority) { f.Server.Value = "v1.27.0" }},
	} {
		t.Run(c.check+" "+c.reason, func(t *testing.T) {
			f, ca := healthy(t)
			c.spoil(f, ca)
			r := Evaluate(f, Options{Now: noon(), Mode: Pre, Version: ownVersion})
			if got, want := r.unwell(), []string{c.check + "=" + string(c.want)}; !slices.Equal(got, want) {
				t.Fatalf("not passed: %v; want %v alone", got, want)
			}
			if got := r.find(t, c.check).Reason; !strings.Contains(got, c.reason) {
				t.Errorf("the reason is %q; want %q in it", got, c.reason)
			}
		})
	}
}

// A certificate that is shown late is a warning: it works still.
func TestAWebhooksCertificateThatWasNotRenewedIsAWarning(t *testing.T) {
	f, ca := healthy(t)
	f.Served["heddle-1"] = Fact[[]*x509.Certificate]{Value: ca.serving(3 * time.Hour)}
	r := Evaluate(f, everything())
	if got, want := r.unwell(), []string{"injector-certificate=warning", "policy-certificate=warning"}; !slices.Equal(got, want) {
		t.Errorf("not passed: %v; want %v", got, want)
	}
	f.Served["heddle-1"] = Fact[[]*x509.Certificate]{Value: ca.serving(-time.Minute)}
	r = Evaluate(f, everything())
	if got, want := r.unwell(), []string{"injector-certificate=error", "policy-certificate=error"}; !slices.Equal(got, want) {
		t.Errorf("when it has expired, not passed: %v; want %v", got, want)
	}
}

// The bundle of a rotation is in force a while before a webhook's caBundle must have it.
func TestAWebhookThatLacksOneOfTwoAnchorsIsAWarning(t *testing.T) {
	f, ca := healthy(t)
	next := newAuthority(t, "next", elliptic.P256(), 3650*24*time.Hour)
	f.Trust.Value = bundleDocument(t, ca, next)
	f.TrustCopies.Value["shop"] = f.Trust.Value
	r := Evaluate(f, everything())
	if got, want := r.unwell(), []string{"injector-trust=warning", "policy-trust=warning"}; !slices.Equal(got, want) {
		t.Errorf("not passed: %v; want %v", got, want)
	}
}

func TestTheSignersWordOnACertificateCountsMoreThanAnOldStream(t *testing.T) {
	f, _ := healthy(t)
	f.Proxies.Value[0].Certificate.NotAfter = noon().Add(time.Hour)
	f.Identity.Value.Sidecars = []service.Sidecar{{Namespace: "shop", Pod: "web-1", NotAfter: noon().Add(20 * time.Hour)}}
	r := Evaluate(f, everything())
	if got := r.unwell(); len(got) > 0 {
		t.Errorf("not passed: %v", got)
	}
}

func TestAReportReadsAsItsUsersKnowIt(t *testing.T) {
	f, _ := healthy(t)
	f.Deployments.Value["heddle"].Status.ReadyReplicas = 0
	f.Latest = Fact[string]{Err: errors.New("no such host")}
	r := Evaluate(f, Options{Now: noon(), Version: ownVersion})
	var plain, painted strings.Builder
	if err := errors.Join(r.Write(&plain, Plain), r.Write(&painted, Coloured)); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"kubernetes-api\n--------------\n√ can initialize the client\n√ can query the Kubernetes API\n\nkubernetes-version\n------------------\n",
		"× control plane replica sets are ready\n    Deployment heddle-system/heddle: 0 of 1 replicas are ready, 1 of the newest version\n    hint: kubectl describe deployment -n heddle-system tells why; after an installation heddle check --wait 2m waits (check replica-sets)\n",
		"- cli is up to date (skipped: offline, or nobody tells of releases: no such host)\n",
	} {
		if !strings.Contains(plain.String(), want) {
			t.Errorf("printed:\n%s\nwant in it:\n%s", plain.String(), want)
		}
	}
	if !strings.HasSuffix(plain.String(), "\nStatus check results are ×\n") {
		t.Errorf("it ends otherwise:\n%s", plain.String())
	}
	if strings.Contains(plain.String(), "\x1b") || !strings.Contains(painted.String(), "\x1b[31m×\x1b[0m control plane replica sets") {
		t.Error("colours are where they should not be, or not where they should")
	}
}

func TestWhatNeedsAFailedCheckIsSkippedAndNamesIt(t *testing.T) {
	f, _ := healthy(t)
	f.Namespace.Value = nil
	r := Evaluate(f, everything())
	for _, name := range []string{"deployments", "control-plane-pods", "trust-bundle", "control-plane-api", "proxies-synced"} {
		if got := r.find(t, name); got.Status != Skipped || got.Behind != "namespace" {
			t.Errorf("%s: %+v; want it skipped behind namespace", name, got)
		}
	}
	var b strings.Builder
	if err := r.Write(&b, Plain); err != nil || strings.Contains(b.String(), "trust anchors") {
		t.Errorf("%v; what is skipped behind another is printed:\n%s", err, b.String())
	}
}

func TestAHeddleThatIsNewerThanTheLatestReleaseIsUpToDate(t *testing.T) {
	for own, old := range map[string]bool{"v1.2.2": true, "v1.2.3": false, "v1.3.0": false, "v1.10.0": false, "v1.2.3-rc.1": true, "devel": true} {
		got := latest(&Facts{Latest: Fact[string]{Value: "v1.2.3"}}, Options{Version: own})
		if (got.status == Warned) != old {
			t.Errorf("%s beside v1.2.3 is %v: %s", own, got.status, got.reason)
		}
	}
}

// What identities have to say is behind a socket of the signer's pods.
func TestHintsNameCommandsThatReachTheSigner(t *testing.T) {
	f := &Facts{ControlPlane: "mesh"}
	if got := f.rotate(); got != "rotate the CA: kubectl exec -n mesh deploy/heddle-signer -- /heddle identity rotate" {
		t.Error(got)
	}
	f.Identity.Value = &Identities{}
	f.Identity.Value.Rotation.Phase = identity.Introducing
	if got := signing(f, Options{}).hint; !strings.HasPrefix(got, "kubectl exec -n mesh deploy/heddle-signer -- /heddle identity ") {
		t.Error(got)
	}
}
