package identity

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// Workload says who asks for an identity, as attestation found it; nothing of it is taken from the asker's word.
type Workload struct {
	Namespace string
	Account   string // the ServiceAccount
	Pod       string
	PodUID    string // empty without a cluster
	Node      string // empty without a cluster
}

// Names as Kubernetes has them (RFC 1123): a label for namespaces, a subdomain for ServiceAccounts and pods.
const (
	labelPattern     = `[a-z0-9](?:[-a-z0-9]*[a-z0-9])?`
	maxLabel         = 63
	maxSubdomain     = 253
	maxTrustDomain   = 255 // SPIFFE-ID, 2.4
	namespaceSegment = "ns"
	accountSegment   = "sa"
	segments         = 5 // "", ns, NAMESPACE, sa, ACCOUNT
)

var (
	label     = regexp.MustCompile(`^` + labelPattern + `$`)
	subdomain = regexp.MustCompile(`^` + labelPattern + `(?:\.` + labelPattern + `)*$`)
)

// ParseTrustDomain reads the name of a trust domain, such as "cluster.local". A SPIFFE ID is refused: it is more
// likely a mistake than a way to write a name.
func ParseTrustDomain(name string) (spiffeid.TrustDomain, error) {
	fail := func(err error) (spiffeid.TrustDomain, error) {
		return spiffeid.TrustDomain{}, fmt.Errorf("read trust domain %q: %w; write a name such as cluster.local", name, err)
	}
	if strings.Contains(name, ":") {
		return fail(fmt.Errorf("it is a URI"))
	}
	if len(name) > maxTrustDomain {
		return fail(fmt.Errorf("it has %d bytes, and %d are allowed", len(name), maxTrustDomain))
	}
	// Dots at an end, or two in a row, make two spellings of one DNS name: a trust domain has one spelling.
	if !subdomain.MatchString(strings.ReplaceAll(name, "_", "-")) {
		return fail(fmt.Errorf("it is no name of letters a-z, digits, dashes, underscores and dots between them"))
	}
	td, err := spiffeid.TrustDomainFromString(name)
	if err != nil {
		return fail(err)
	}
	return td, nil
}

// ID gives a workload's identity, spiffe://TRUST-DOMAIN/ns/NAMESPACE/sa/ACCOUNT. Names that Kubernetes would refuse
// are refused.
func ID(td spiffeid.TrustDomain, namespace, account string) (spiffeid.ID, error) {
	if err := checkNames(namespace, account); err != nil {
		return spiffeid.ID{}, fmt.Errorf("make the identity of account %q in namespace %q: %w", account, namespace, err)
	}
	id, err := spiffeid.FromSegments(td, namespaceSegment, namespace, accountSegment, account)
	if err != nil {
		return spiffeid.ID{}, fmt.Errorf("make the identity of account %q in namespace %q: %w", account, namespace, err)
	}
	return id, nil
}

// Split takes an ID of ours apart. It accepts what [ID] makes, and nothing else: no trust domain alone, no segment
// more or less, no name that Kubernetes would refuse.
func Split(id spiffeid.ID) (namespace, account string, err error) {
	parts := strings.Split(id.Path(), "/")
	if len(parts) != segments || parts[1] != namespaceSegment || parts[3] != accountSegment {
		return "", "", refuse(CodeIDShape, "identity %q is not of the form spiffe://TRUST-DOMAIN/ns/NAMESPACE/sa/ACCOUNT", id)
	}
	if err := checkNames(parts[2], parts[4]); err != nil {
		return "", "", refuse(CodeIDShape, "identity %q: %w", id, err)
	}
	return parts[2], parts[4], nil
}

func checkNames(namespace, account string) error {
	if len(namespace) > maxLabel || !label.MatchString(namespace) {
		return fmt.Errorf("%q is no name of a namespace (RFC 1123 label, at most %d bytes)", namespace, maxLabel)
	}
	if !isSubdomain(account) {
		return fmt.Errorf("%q is no name of a ServiceAccount (RFC 1123 subdomain, at most %d bytes)", account, maxSubdomain)
	}
	return nil
}

func isSubdomain(s string) bool {
	return len(s) <= maxSubdomain && subdomain.MatchString(s)
}
