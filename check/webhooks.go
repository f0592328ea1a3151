package check

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"slices"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"

	"github.com/heddle-mesh/heddle/identity"
)

func webhookGroup() group {
	injector, policy := []string{"mutating-webhook", "trust-bundle"}, []string{"validating-webhook", "trust-bundle"}
	return group{"heddle-webhooks", []item{
		{"injector-trust", "the API server trusts the sidecar injector", injector, func(f *Facts, _ Options) outcome {
			return trusts(f, "MutatingWebhookConfiguration "+InjectorWebhook, injectorClients(f))
		}},
		{"injector-certificate", "the sidecar injector's certificate is valid", append(injector, "injector-trust"), func(f *Facts, o Options) outcome {
			return served(f, o, injectorClients(f))
		}},
		{"injector-answers", "the sidecar injector answers the API server", append(injector, "injector-trust", "injector-certificate"), injectorAnswers},
		{"policy-trust", "the API server trusts the policy validator", policy, func(f *Facts, _ Options) outcome {
			return trusts(f, "ValidatingWebhookConfiguration "+PolicyWebhook, policyClients(f))
		}},
		{"policy-certificate", "the policy validator's certificate is valid", append(policy, "policy-trust"), func(f *Facts, o Options) outcome {
			return served(f, o, policyClients(f))
		}},
		{"policy-answers", "the policy validator answers the API server", append(policy, "policy-trust", "policy-certificate"), policyAnswers},
	}}
}

// client is how the API server calls one webhook.
type client struct {
	name   string
	config admissionv1.WebhookClientConfig
}

func injectorClients(f *Facts) (all []client) {
	for _, w := range f.Mutating.Value.Webhooks {
		all = append(all, client{w.Name, w.ClientConfig})
	}
	return all
}

func policyClients(f *Facts) (all []client) {
	for _, w := range f.Validating.Value.Webhooks {
		all = append(all, client{w.Name, w.ClientConfig})
	}
	return all
}

const webhookTrust = "the control plane writes caBundle when it starts and when the CA rotates, and its log tells why it does not: kubectl logs deploy/heddle in its namespace"

// trusts holds caBundle against the anchors: one that is missing will be what signs after the next step of a rotation.
func trusts(f *Facts, where string, clients []client) outcome {
	var wrong, lacking []string
	for _, c := range clients {
		in := bundleOf(c.config.CABundle)
		if len(in) == 0 {
			wrong = append(wrong, fmt.Sprintf("webhook %s of %s has no caBundle: the API server refuses its answers", c.name, where))
			continue
		}
		known := 0
		for _, a := range f.anchors() {
			if slices.ContainsFunc(in, func(b *x509.Certificate) bool { return bytes.Equal(a.Raw, b.Raw) }) {
				known++
				continue
			}
			lacking = append(lacking, fmt.Sprintf("webhook %s of %s does not trust anchor %s", c.name, where, shortName(a)))
		}
		if known == 0 {
			wrong = append(wrong, fmt.Sprintf("webhook %s of %s trusts none of the mesh's anchors: the API server refuses its answers", c.name, where))
		}
	}
	switch {
	case len(wrong) > 0:
		return fail(few(wrong), webhookTrust)
	case len(lacking) > 0:
		return warn(few(lacking), webhookTrust)
	}
	return ok()
}

func bundleOf(text []byte) (all []*x509.Certificate) {
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			return all
		}
		if c, err := x509.ParseCertificate(block.Bytes); err == nil {
			all = append(all, c)
		}
	}
}

// served judges what each replica shows where webhooks are called, as the API server would.
func served(f *Facts, o Options, clients []client) outcome {
	if f.WebhooksUnreadable != nil {
		return skip("it cannot be looked at: " + f.WebhooksUnreadable.Error())
	}
	var wrong, late []string
	for pod, shown := range f.Served {
		if shown.Err != nil {
			wrong = append(wrong, fmt.Sprintf("pod %s/%s shows no certificate: %v", f.ControlPlane, pod, shown.Err))
			continue
		}
		for _, c := range clients {
			if c.config.Service == nil {
				continue
			}
			leaf, roots := shown.Value[0], x509.NewCertPool()
			for _, a := range bundleOf(c.config.CABundle) {
				roots.AddCert(a)
			}
			below := x509.NewCertPool()
			for _, i := range shown.Value[1:] {
				below.AddCert(i)
			}
			host := c.config.Service.Name + "." + c.config.Service.Namespace + ".svc"
			if _, err := leaf.Verify(x509.VerifyOptions{DNSName: host, Roots: roots, Intermediates: below, CurrentTime: o.Now}); err != nil {
				wrong = append(wrong, fmt.Sprintf("pod %s/%s, webhook %s: %v", f.ControlPlane, pod, c.name, err))
			} else if why := unrenewed(lifeOf(leaf.NotBefore, leaf.NotAfter), leaf.NotAfter, o.Now); why != "" {
				late = append(late, fmt.Sprintf("pod %s/%s, webhook %s: its certificate %s", f.ControlPlane, pod, c.name, why))
			}
		}
	}
	switch {
	case len(wrong) > 0:
		return fail(few(wrong), "pods with sidecars cannot be made while this is so; kubectl logs -n "+f.ControlPlane+" deploy/"+ServerName+" tells why")
	case len(late) > 0:
		return warn(few(late), "the control plane renews it by itself, and has not: kubectl logs -n "+f.ControlPlane+" deploy/"+ServerName)
	}
	return ok()
}

// lifeOf is how long a certificate lasts from when it was issued, which is later than it is valid from.
func lifeOf(from, until time.Time) time.Duration {
	if d := until.Sub(from); d > identity.BackDate {
		return d - identity.BackDate
	}
	return until.Sub(from)
}

// unrenewed says that a certificate which is renewed at half of its life was not. It is judged by its own lifetime, and
// now: what will be shown at another time does not exist yet.
func unrenewed(life time.Duration, until, now time.Time) string {
	left := until.Sub(now)
	switch {
	case left <= 0:
		return "has expired on " + until.UTC().Format(time.RFC3339)
	case left < life/4:
		return fmt.Sprintf("should have been renewed: it expires in %s, of %s", span(left), span(life))
	}
	return ""
}
