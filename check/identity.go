package check

import (
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/heddle-mesh/heddle/identity"
	"github.com/heddle-mesh/heddle/identity/keep"
	"github.com/heddle-mesh/heddle/identity/service"
)

func identityGroup() group {
	anchored, issued := []string{"trust-bundle"}, []string{"trust-bundle", "signing"}
	return group{"heddle-identity", []item{
		{"trust-bundle", "certificate configuration is valid", []string{"namespace"}, trustReadable},
		{"anchors-algorithm", "trust anchors use supported algorithms", anchored, anchorsAlgorithm},
		{"anchors-validity", "trust anchors are within their validity period", anchored, anchorsValid},
		{"anchors-60-days", "trust anchors are valid for at least 60 days", []string{"trust-bundle", "anchors-validity"}, anchorsLast},
		{"signing", "certificates are being signed", anchored, signing},
		{"issuers-algorithm", "issuers use supported algorithms", issued, issuersAlgorithm},
		{"issuers-validity", "issuers are within their validity period", issued, issuersValid},
		{"issuers-60-days", "issuers are valid for at least 60 days", append([]string{"issuers-validity"}, issued...), issuersLast},
		{"issuers-chain", "issuers are issued by the trust anchors", issued, issuersChain},
		{"trust-published", "what is published is what the signer trusts", issued, trustPublished},
		{"trust-copied", "the trust bundle can be written in every namespace with sidecars", issued, trustCopied},
	}}
}

// anchorsOf reads the bundle that is published. Which trust domain it is of makes no difference here.
func anchorsOf(document string) ([]*x509.Certificate, error) {
	b, err := spiffebundle.Parse(spiffeid.RequireTrustDomainFromString("any"), []byte(document))
	if err != nil {
		return nil, err
	}
	if len(b.X509Authorities()) == 0 {
		return nil, errors.New("it has no trust anchor")
	}
	return b.X509Authorities(), nil
}

const (
	lostTrust = "the signer writes it, and its log tells why it does not: kubectl logs deploy/heddle-signer in the control plane's namespace"
)

// onSigner is how a command of heddle is run where the CA is: its socket is in the signer's pods.
func (f *Facts) onSigner(command string) string {
	return "kubectl exec -n " + f.ControlPlane + " deploy/" + SignerName + " -- /" + command
}

func (f *Facts) rotate() string { return "rotate the CA: " + f.onSigner("heddle identity rotate") }

func trustReadable(f *Facts, _ Options) outcome {
	where := "ConfigMap " + f.ControlPlane + "/" + TrustConfigMap
	if f.Trust.Err != nil {
		return unread(where, f.Trust.Err)
	}
	if f.Trust.Value == "" {
		return fail("there is no "+where+" with a trust bundle in it: no sidecar can start", lostTrust)
	}
	if _, err := anchorsOf(f.Trust.Value); err != nil {
		return fail(where+": "+err.Error(), lostTrust)
	}
	return ok()
}

// anchors are those that trustReadable has read.
func (f *Facts) anchors() []*x509.Certificate {
	all, _ := anchorsOf(f.Trust.Value)
	return all
}

func anchorsAlgorithm(f *Facts, _ Options) outcome {
	var wrong []string
	for _, c := range f.anchors() {
		if why := unsupported(c); why != "" {
			wrong = append(wrong, fmt.Sprintf("anchor %s (%s): %s", shortName(c), c.Subject, why))
		}
	}
	return none(wrong, f.rotate())
}

// unsupported says why Envoy would not take a CA's key.
func unsupported(c *x509.Certificate) string {
	switch key := c.PublicKey.(type) {
	case *ecdsa.PublicKey:
		if bits := key.Curve.Params().BitSize; bits != 256 && bits != 384 {
			return fmt.Sprintf("ECDSA on a curve of %d bits; P-256 and P-384 are supported", bits)
		}
	case *rsa.PublicKey:
		if key.N.BitLen() < 2048 {
			return fmt.Sprintf("RSA of %d bits; 2048 and more are supported", key.N.BitLen())
		}
	default:
		return fmt.Sprintf("%s is not supported; ECDSA and RSA are", c.PublicKeyAlgorithm)
	}
	return ""
}

func anchorsValid(f *Facts, o Options) outcome {
	var wrong []string
	for _, c := range f.anchors() {
		if why := outside(c.NotBefore, c.NotAfter, o); why != "" {
			wrong = append(wrong, fmt.Sprintf("anchor %s (%s) %s", shortName(c), c.Subject, why))
		}
	}
	return none(wrong, f.rotate())
}

func anchorsLast(f *Facts, o Options) outcome {
	var wrong []string
	for _, c := range f.anchors() {
		if left := c.NotAfter.Sub(o.At); left < sixtyDays {
			wrong = append(wrong, fmt.Sprintf("anchor %s (%s) expires on %s, %s later", shortName(c), c.Subject, day(c.NotAfter), span(left)))
		}
	}
	return f.few60(wrong)
}

func (f *Facts) few60(wrong []string) outcome {
	if len(wrong) == 0 {
		return ok()
	}
	return warn(few(wrong), "it is not renewed by itself; "+f.rotate())
}

// outside says that a time is not within a validity.
func outside(from, until time.Time, o Options) string {
	switch {
	case o.At.Before(from):
		return "is not valid before " + from.UTC().Format(time.RFC3339) + "; is the clock right?"
	case !o.At.Before(until) && o.At.After(o.Now):
		return "will have expired by then: on " + day(until)
	case !o.At.Before(until):
		return "has expired on " + day(until)
	}
	return ""
}

// signing looks at the rotation, and that there is a CA at all.
func signing(f *Facts, _ Options) outcome {
	switch id := f.Identity; {
	case id.Err != nil:
		return fail("the signer's facts cannot be read: "+id.Err.Error(), "heddle check shows under heddle-api whether the control plane answers")
	case id.Value == nil:
		return skip("no process that you may ask knows the issuers; kubectl exec -n " + f.ControlPlane + " deploy/" + SignerName + " -- /heddle identity does")
	case id.Value.Rotation.Fault != "":
		return fail("nothing is signed: "+id.Value.Rotation.Fault, "docs/identity.md has the remedy of each code")
	case id.Value.Rotation.Phase != identity.Steady:
		return warn(fmt.Sprintf("a rotation of the CA is under way since %s, in phase %s", id.Value.Rotation.Since.UTC().Format(time.RFC3339), id.Value.Rotation.Phase), f.onSigner("heddle identity")+" shows what it waits for")
	}
	return ok()
}

// eachIssuer judges the issuers, unless nobody tells of them.
func eachIssuer(f *Facts, judge func(service.Issuer) string) ([]string, bool) {
	if f.Identity.Value == nil {
		return nil, false
	}
	var wrong []string
	for _, i := range f.Identity.Value.Issuers {
		if why := judge(i); why != "" {
			wrong = append(wrong, fmt.Sprintf("issuer %.12s (%s) %s", i.Name, i.Subject, why))
		}
	}
	return wrong, true
}

const untold = "the issuers are not known"

func issuersAlgorithm(f *Facts, _ Options) outcome {
	wrong, told := eachIssuer(f, func(i service.Issuer) string {
		if slices.Contains([]string{"ECDSA P-256", "ECDSA P-384"}, i.Algorithm) {
			return ""
		}
		return "has a key of " + i.Algorithm + "; ECDSA P-256 and P-384 are supported"
	})
	if !told {
		return skip(untold)
	}
	return none(wrong, f.rotate())
}

func issuersValid(f *Facts, o Options) outcome {
	wrong, told := eachIssuer(f, func(i service.Issuer) string { return outside(i.NotBefore, i.Expires, o) })
	if !told {
		return skip(untold)
	}
	return none(wrong, f.rotate())
}

func issuersLast(f *Facts, o Options) outcome {
	wrong, told := eachIssuer(f, func(i service.Issuer) string {
		if left := i.Expires.Sub(o.At); left < sixtyDays {
			return fmt.Sprintf("expires on %s, %s later", day(i.Expires), span(left))
		}
		return ""
	})
	if !told {
		return skip(untold)
	}
	return f.few60(wrong)
}

func issuersChain(f *Facts, _ Options) outcome {
	published := map[string]bool{}
	for _, c := range f.anchors() {
		published[identity.CertificateName(c)] = true
	}
	wrong, told := eachIssuer(f, func(i service.Issuer) string {
		for _, name := range i.Anchors {
			if published[name] {
				return ""
			}
		}
		return "leads to no anchor that is published: what it signs is trusted by nobody who starts now"
	})
	if !told {
		return skip(untold)
	}
	return none(wrong, lostTrust)
}

func trustPublished(f *Facts, _ Options) outcome {
	if f.Identity.Value == nil {
		return skip(untold)
	}
	published := map[string]bool{}
	for _, c := range f.anchors() {
		published[identity.CertificateName(c)] = true
	}
	var wrong []string
	for _, a := range f.Identity.Value.Anchors {
		if !published[a.Name] {
			wrong = append(wrong, fmt.Sprintf("anchor %.12s (%s) is trusted by the signer and not in ConfigMap %s/%s", a.Name, a.Subject, f.ControlPlane, TrustConfigMap))
		}
	}
	return none(wrong, lostTrust)
}

// trustCopied tells of copies as the signer's metrics do, which count failures by the same reasons. It is a warning, since whoever
// may write in a namespace can keep the copy from it, and it holds up nobody else.
func trustCopied(f *Facts, _ Options) outcome {
	if f.Identity.Value == nil {
		return skip("only the signer knows, and you may not ask it")
	}
	var wrong, hints []string
	for _, u := range f.Identity.Value.Rotation.Uncopied {
		wrong = append(wrong, fmt.Sprintf("namespace %s, since %s (%s): %s", u.Namespace, u.Since.UTC().Format(time.RFC3339), u.Reason, u.Error))
		if hint := copyHint(f, u); !slices.Contains(hints, hint) && len(hints) < 2 {
			hints = append(hints, hint)
		}
	}
	if len(wrong) == 0 {
		return ok()
	}
	return warn(few(wrong), "pods that start there wait for it, and the signer tries again all the time; "+strings.Join(hints, "; "))
}

// copyHint says what to do about a copy that fails for a reason.
func copyHint(f *Facts, u keep.Uncopied) string {
	switch u.Reason {
	case keep.CopyForbidden:
		return "a quota, an admission webhook or a policy forbids it, or ClusterRole " + SignerName + " has changed: kubectl describe quota -n " + u.Namespace
	case keep.CopyInvalid:
		return "see whether somebody has made it immutable, and let the signer make it anew: kubectl delete configmap -n " + u.Namespace + " " + TrustConfigMap
	case keep.CopyTimeout, keep.CopyUnavailable:
		return "the API server answered late, or not at all: kubectl get --raw '/readyz?verbose'"
	}
	return "kubectl logs -n " + f.ControlPlane + " deploy/" + SignerName + " tells more"
}

func shortName(c *x509.Certificate) string { return fmt.Sprintf("%.12s", identity.CertificateName(c)) }

func day(t time.Time) string { return t.UTC().Format(time.DateOnly) }

// span is a duration for people, in its largest unit.
func span(d time.Duration) string {
	switch {
	case d >= 48*time.Hour:
		return fmt.Sprintf("%d days", int(d.Hours())/24)
	case d >= 2*time.Hour:
		return fmt.Sprintf("%d hours", int(d.Hours()))
	case d >= 2*time.Minute:
		return fmt.Sprintf("%d minutes", int(d.Minutes()))
	}
	return fmt.Sprintf("%d seconds", int(d.Seconds()))
}
