package reach

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/heddle-mesh/heddle/controlplane/api"
	"github.com/heddle-mesh/heddle/controlplane/operator"
	"github.com/heddle-mesh/heddle/identity"
)

// Options say which cluster and what for. Config and Client are required.
type Options struct {
	Config       *rest.Config
	Client       kubernetes.Interface
	ControlPlane string // namespace; default heddle-system
	Namespace    string // whose facts are wanted; empty for the whole mesh
	Account      string // ServiceAccount whose token is asked for; default api.ViewAccount
	Dialer       Dialer // default: a Forwarder
	Port         int    // default api.Port
}

const (
	defaultNamespace = "heddle-system"
	trustConfigMap   = "heddle-trust"
	trustItem        = "bundle.json"
	serverAccount    = "heddle"
	tokenLife        = 10 * time.Minute // the shortest that the API server gives
	requestTimeout   = 30 * time.Second
	maxAnswer        = 256 << 20 // bytes: a config of 4,000 Services has some 20 MB
)

// ControlPlane is an open way to a control plane. It is safe for concurrent use.
type ControlPlane struct {
	options  Options
	bundle   []byte // SPIFFE bundle document
	token    string // printed nowhere
	replicas []Replica
}

// Replica is one pod of the control plane.
type Replica struct {
	Pod string
	cp  *ControlPlane
}

// Open finds the control plane and gets a token for it.
func Open(ctx context.Context, o Options) (*ControlPlane, error) {
	o.ControlPlane, o.Account = cmp.Or(o.ControlPlane, defaultNamespace), cmp.Or(o.Account, api.ViewAccount)
	o.Port = cmp.Or(o.Port, api.Port)
	if o.Dialer == nil {
		o.Dialer = Forwarder{o.Config, o.Client}
	}
	cp := &ControlPlane{options: o}
	if err := cp.readTrust(ctx); err != nil {
		return nil, err
	}
	if err := cp.findReplicas(ctx); err != nil {
		return nil, err
	}
	if err := cp.askToken(ctx); err != nil {
		return nil, err
	}
	return cp, nil
}

// Replicas are the ready pods of the control plane, in the order of names, or if none is ready those that run; at least one.
func (c *ControlPlane) Replicas() []Replica { return c.replicas }

func (c *ControlPlane) readTrust(ctx context.Context) error {
	o := c.options
	m, err := o.Client.CoreV1().ConfigMaps(o.ControlPlane).Get(ctx, trustConfigMap, metav1.GetOptions{})
	what := "read the trust bundle, ConfigMap " + o.ControlPlane + "/" + trustConfigMap
	switch {
	case apierrors.IsNotFound(err):
		return fmt.Errorf("%s: there is none: is Heddle installed there? heddle check tells; --heddle-namespace names another namespace", what)
	case apierrors.IsForbidden(err):
		return fmt.Errorf("%s: %w; have somebody bind you a Role there that gets configmaps, lists pods and creates pods/portforward", what, err)
	case err != nil:
		return fmt.Errorf("%s: %w", what, err)
	case m.Data[trustItem] == "":
		return fmt.Errorf("%s: it has no item %s; the signer writes it: kubectl logs -n %s deploy/heddle-signer", what, trustItem, o.ControlPlane)
	}
	c.bundle = []byte(m.Data[trustItem])
	return nil
}

func (c *ControlPlane) findReplicas(ctx context.Context) error {
	o := c.options
	pods, err := o.Client.CoreV1().Pods(o.ControlPlane).List(ctx, metav1.ListOptions{FieldSelector: "spec.serviceAccountName=" + serverAccount})
	if err != nil {
		return fmt.Errorf("list the pods of the control plane in namespace %s: %w", o.ControlPlane, err)
	}
	var running []Replica
	for _, p := range pods.Items {
		if p.Status.Phase != corev1.PodRunning || p.DeletionTimestamp != nil {
			continue
		}
		running = append(running, Replica{p.Name, c})
		if slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
			return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
		}) {
			c.replicas = append(c.replicas, Replica{p.Name, c})
		}
	}
	if len(c.replicas) == 0 {
		c.replicas = running // none is ready: what they say tells why, maybe
	}
	slices.SortFunc(c.replicas, func(a, b Replica) int { return cmp.Compare(a.Pod, b.Pod) })
	if len(c.replicas) == 0 {
		return fmt.Errorf("find the control plane: no pod of ServiceAccount %s runs in namespace %s; kubectl get pods -n %s tells why", serverAccount, o.ControlPlane, o.ControlPlane)
	}
	return nil
}

// askToken asks for a token that is good for no more than is wanted, where that can be had: of the namespace's own
// account, or else of the control plane's.
func (c *ControlPlane) askToken(ctx context.Context) error {
	o := c.options
	var refusals []string
	missing := false
	for _, namespace := range slices.Compact([]string{cmp.Or(o.Namespace, o.ControlPlane), o.ControlPlane}) {
		life := int64(tokenLife.Seconds())
		r, err := o.Client.CoreV1().ServiceAccounts(namespace).CreateToken(ctx, o.Account, &authenticationv1.TokenRequest{
			Spec: authenticationv1.TokenRequestSpec{Audiences: []string{api.Audience}, ExpirationSeconds: &life},
		}, metav1.CreateOptions{})
		if err == nil {
			c.token = r.Status.Token
			return nil
		}
		if !apierrors.IsForbidden(err) && !apierrors.IsNotFound(err) {
			return fmt.Errorf("ask for a token of ServiceAccount %s/%s: %w", namespace, o.Account, err)
		}
		missing = missing || apierrors.IsNotFound(err) && namespace == o.Namespace
		refusals = append(refusals, fmt.Sprintf("ask for a token of ServiceAccount %s/%s: %v", namespace, o.Account, err))
	}
	hint := "name a namespace of yours with -n, or "
	if o.Namespace != "" {
		hint = ""
		if missing {
			hint = fmt.Sprintf("kubectl create serviceaccount %s -n %s makes the one that is missing, or ", o.Account, o.Namespace)
		}
	}
	return fmt.Errorf("%s; %shave somebody bind you a Role that creates serviceaccounts/token, resourceNames [%s]", strings.Join(refusals, "; "), hint, o.Account)
}

// Get asks one replica. It fails with an *operator.Problem if that says no.
func (r Replica) Get(ctx context.Context, path string, out any) error {
	ctx, cancel := context.WithTimeoutCause(ctx, requestTimeout, fmt.Errorf("no answer in %v", requestTimeout))
	defer cancel()
	conn, err := r.dial(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	transport := &http.Transport{DialTLSContext: func(context.Context, string, string) (net.Conn, error) { return conn, nil }, DisableKeepAlives: true}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://control-plane"+path, nil)
	if err != nil {
		return fmt.Errorf("ask %s: %w", r, err)
	}
	request.Header.Set("Authorization", "Bearer "+r.cp.token)
	answer, err := transport.RoundTrip(request)
	if err != nil {
		return fmt.Errorf("ask %s for %s: %w", r, path, err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer+1))
	if err == nil && len(text) > maxAnswer {
		err = fmt.Errorf("it has more than %d bytes", maxAnswer)
	}
	if err != nil {
		return fmt.Errorf("read the answer of %s to %s: %w", r, path, err)
	}
	if answer.StatusCode != http.StatusOK {
		p := &operator.Problem{}
		if json.Unmarshal(text, p) != nil || p.Message == "" {
			return fmt.Errorf("ask %s for %s: %s; it may be of another version: compare them with heddle version", r, path, answer.Status)
		}
		return p
	}
	if err := json.Unmarshal(text, out); err != nil {
		return fmt.Errorf("read the answer of %s to %s: %w", r, path, err)
	}
	return nil
}

// String names the pod.
func (r Replica) String() string { return "pod " + r.cp.options.ControlPlane + "/" + r.Pod }

// Reach opens a connection to any port of the replica, as it is.
func (r Replica) Reach(ctx context.Context, port int) (net.Conn, error) {
	return r.cp.options.Dialer.Dial(ctx, r.cp.options.ControlPlane, r.Pod, port)
}

// dial opens a connection to the API, whose other end has proved to be the control plane.
func (r Replica) dial(ctx context.Context) (net.Conn, error) {
	raw, err := r.Reach(ctx, r.cp.options.Port)
	if err != nil {
		if text := err.Error(); strings.Contains(strings.ToLower(text), "forbidden") {
			return nil, fmt.Errorf("%w; have somebody bind you a Role in namespace %s that creates pods/portforward", err, r.cp.options.ControlPlane)
		}
		return nil, err
	}
	defer context.AfterFunc(ctx, func() { _ = raw.Close() })()
	conn := tls.Client(raw, &tls.Config{
		MinVersion:         tls.VersionTLS13,
		InsecureSkipVerify: true, // there is no host name: VerifyConnection checks the chain and the SPIFFE ID
		VerifyConnection:   r.cp.verify,
	})
	if err := conn.HandshakeContext(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("connect to the API of %s: %w", r, err), raw.Close())
	}
	return conn, nil
}

// verify takes nobody but the control plane: a certificate that leads to the mesh's own anchors, of its ServiceAccount. The
// trust domain is the certificate's: the anchors vouch for one only.
func (c *ControlPlane) verify(state tls.ConnectionState) error {
	if len(state.PeerCertificates) == 0 {
		return errors.New("it showed no certificate")
	}
	id, err := x509svid.IDFromCert(state.PeerCertificates[0])
	if err != nil {
		return fmt.Errorf("its certificate has no SPIFFE ID: %w", err)
	}
	bundle, err := identity.ParseBundle(id.TrustDomain(), c.bundle)
	if err != nil {
		return err
	}
	want, err := identity.ID(id.TrustDomain(), c.options.ControlPlane, serverAccount)
	if err != nil {
		return err
	}
	got, err := identity.VerifyLeaf(state.PeerCertificates, bundle, time.Now())
	if err != nil {
		return err
	}
	if got != want {
		return fmt.Errorf("its certificate is that of %s, and the control plane is %s; nothing was sent", got, want)
	}
	return nil
}
