package reach

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"net"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/heddle-mesh/heddle/buildinfo"
	"github.com/heddle-mesh/heddle/controlplane/api"
	"github.com/heddle-mesh/heddle/controlplane/operator"
	"github.com/heddle-mesh/heddle/identity"
	"github.com/heddle-mesh/heddle/test/certs"
	kubetest "github.com/heddle-mesh/heddle/test/kubernetes"
)

var server = kubetest.New()

func TestMain(m *testing.M) { os.Exit(server.Main(m)) }

// town is a control plane in a namespace of its own, whose mesh has sidecars in two others. A pod's port is dialled directly.
type town struct {
	t                  *testing.T
	admin              kubernetes.Interface
	ca                 *certs.CA
	system, shop, bank string
	address            string
	certificate        tls.Certificate
	connections        atomic.Int64
}

// Dial gives a connection to the API, whatever the pod.
func (w *town) Dial(ctx context.Context, _, _ string, _ int) (net.Conn, error) {
	w.connections.Add(1)
	return (&net.Dialer{}).DialContext(ctx, "tcp", w.address)
}

// mesh has a sidecar in each of some namespaces.
type mesh []string

func (m mesh) Health(context.Context) (api.Health, error) { return api.Health{Ready: true}, nil }

func (m mesh) Proxies(_ context.Context, namespace string) ([]api.Proxy, error) {
	var list []api.Proxy
	for _, ns := range m {
		if namespace == "" || namespace == ns {
			list = append(list, api.Proxy{Namespace: ns, Pod: "web-1"})
		}
	}
	return list, nil
}

func (m mesh) Config(_ context.Context, namespace, pod string) (api.Config, error) {
	return api.Config{Namespace: namespace, Pod: pod}, nil
}

func newTown(t *testing.T) *town {
	t.Helper()
	w := &town{t: t, admin: server.Client(t), ca: certs.New(t)}
	w.system, w.shop, w.bank = server.Namespace(t), server.Namespace(t), server.Namespace(t)
	server.Account(t, w.system, "heddle")
	for _, ns := range []string{w.system, w.shop, w.bank} {
		server.Account(t, ns, api.ViewAccount)
	}
	server.Account(t, w.system, api.TapAccount)
	bundle, err := w.ca.Bundle()
	if err != nil {
		t.Fatal(err)
	}
	document, err := identity.MarshalBundle(bundle)
	if err != nil {
		t.Fatal(err)
	}
	w.must(w.admin.CoreV1().ConfigMaps(w.system).Create(t.Context(), &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: trustConfigMap}, Data: map[string]string{trustItem: string(document)},
	}, metav1.CreateOptions{}))
	w.pod("heddle-1", corev1.PodRunning)
	w.certificate = w.issue(w.system, "heddle")
	w.serve()
	return w
}

func (w *town) must(_ any, err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *town) issue(namespace, account string) tls.Certificate {
	return w.ca.Client(identity.Workload{Namespace: namespace, Account: account}).Certificates[0]
}

func (w *town) pod(name string, phase corev1.PodPhase, conditions ...corev1.PodCondition) {
	w.t.Helper()
	p, err := w.admin.CoreV1().Pods(w.system).Create(w.t.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.PodSpec{ServiceAccountName: "heddle", Containers: []corev1.Container{{Name: "heddle", Image: "heddle"}}},
	}, metav1.CreateOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
	p.Status.Phase, p.Status.Conditions = phase, conditions
	w.must(w.admin.CoreV1().Pods(w.system).UpdateStatus(w.t.Context(), p, metav1.UpdateOptions{}))
}

// serve runs the API as the control plane does, reviews by the real API server included.
func (w *town) serve() {
	w.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	w.address = l.Addr().String()
	ctx, stop := context.WithCancel(w.t.Context())
	ended := make(chan error, 1)
	reviewer := server.Limited(w.t, w.system, rbacv1.PolicyRule{APIGroups: []string{"authentication.k8s.io"}, Resources: []string{"tokenreviews"}, Verbs: []string{"create"}})
	reviews := w.client(reviewer).AuthenticationV1().TokenReviews()
	h := api.Handler(api.Options{
		Mesh: mesh{w.bank, w.shop}, Authenticator: api.NewReviewer(reviews, w.system), Version: buildinfo.Info{Version: "v1"},
		Identity: func(context.Context) (any, error) { return map[string]string{"trustDomain": "cluster.local"}, nil },
	})
	config := &tls.Config{MinVersion: tls.VersionTLS13, GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &w.certificate, nil }}
	go func() { ended <- api.Serve(ctx, tls.NewListener(l, config), h) }()
	w.t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			w.t.Error(err)
		}
	})
}

func (w *town) client(config *rest.Config) kubernetes.Interface {
	w.t.Helper()
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		w.t.Fatal(err)
	}
	return client
}

// user is somebody with a client certificate, who may do what the rules say in each namespace.
func (w *town) user(name string, may map[string][]rbacv1.PolicyRule) *rest.Config {
	w.t.Helper()
	name += "-" + strings.ToLower(rand.Text()[:6])
	for namespace, rules := range may {
		w.must(w.admin.RbacV1().Roles(namespace).Create(w.t.Context(), &rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Name: name}, Rules: rules}, metav1.CreateOptions{}))
		w.must(w.admin.RbacV1().RoleBindings(namespace).Create(w.t.Context(), &rbacv1.RoleBinding{
			ObjectMeta: metav1.ObjectMeta{Name: name}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: name},
			Subjects: []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: "User", Name: name}},
		}, metav1.CreateOptions{}))
	}
	return server.Certified(w.t, name)
}

// way are the rights that everybody needs in the control plane's namespace.
func way() []rbacv1.PolicyRule {
	return []rbacv1.PolicyRule{
		{APIGroups: []string{""}, Resources: []string{"configmaps"}, ResourceNames: []string{trustConfigMap}, Verbs: []string{"get"}},
		{APIGroups: []string{""}, Resources: []string{"pods"}, Verbs: []string{"list"}},
		{APIGroups: []string{""}, Resources: []string{"pods/portforward"}, Verbs: []string{"create", "get"}},
	}
}

func tokens(account string) rbacv1.PolicyRule {
	return rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"serviceaccounts/token"}, ResourceNames: []string{account}, Verbs: []string{"create"}}
}

func (w *town) options(config *rest.Config) Options {
	return Options{Config: config, Client: w.client(config), ControlPlane: w.system, Dialer: w}
}

// open opens the way, which must succeed.
func (w *town) open(o Options) (*ControlPlane, []Asker) {
	w.t.Helper()
	cp, err := Open(w.t.Context(), o)
	if err != nil {
		w.t.Fatal(err)
	}
	var all []Asker
	for _, r := range cp.Replicas() {
		all = append(all, r)
	}
	return cp, all
}

func codeOf(err error) string {
	if p, ok := errors.AsType[*operator.Problem](err); ok {
		return p.Code
	}
	return ""
}

func namesOf(list []api.Proxy) (names []string) {
	for _, p := range list {
		names = append(names, p.Name())
	}
	return names
}

func TestWhoMayCreateTokensOfTheControlPlanesAccountSeesEveryNamespace(t *testing.T) {
	w := newTown(t)
	_, replicas := w.open(w.options(w.user("ann", map[string][]rbacv1.PolicyRule{w.system: append(way(), tokens(api.ViewAccount))})))
	list, err := Proxies(t.Context(), replicas, "")
	if want := []string{w.bank + "/web-1", w.shop + "/web-1"}; err != nil || !slices.Equal(namesOf(list), sorted(want)) {
		t.Errorf("sees %v, %v; want %v", namesOf(list), err, want)
	}
	var facts map[string]string
	if err := replicas[0].Get(t.Context(), api.IdentityPath, &facts); err != nil || facts["trustDomain"] != "cluster.local" {
		t.Errorf("the facts of identities are %v, %v", facts, err)
	}
	if list[0].Replica != "pod "+w.system+"/heddle-1" {
		t.Errorf("the replica is %q", list[0].Replica)
	}
}

func sorted(list []string) []string { slices.Sort(list); return list }

func TestATenantSeesHisOwnNamespaceAlone(t *testing.T) {
	w := newTown(t)
	o := w.options(w.user("tom", map[string][]rbacv1.PolicyRule{w.system: way(), w.shop: {tokens(api.ViewAccount)}}))
	o.Namespace = w.shop
	_, replicas := w.open(o)
	list, err := Proxies(t.Context(), replicas, "")
	if want := []string{w.shop + "/web-1"}; err != nil || !slices.Equal(namesOf(list), want) {
		t.Errorf("sees %v, %v; want %v", namesOf(list), err, want)
	}
	if _, err := Config(t.Context(), replicas, w.shop, "web-1"); err != nil {
		t.Error(err)
	}
	for what, ask := range map[string]func() error{
		"another namespace's sidecars": func() error { _, err := Proxies(t.Context(), replicas, w.bank); return err },
		"another namespace's config":   func() error { _, err := Config(t.Context(), replicas, w.bank, "web-1"); return err },
		"identities":                   func() error { return replicas[0].Get(t.Context(), api.IdentityPath, new(any)) },
	} {
		if err := ask(); codeOf(err) != api.OtherNamespace || !strings.Contains(err.Error(), "the token is for namespace "+w.shop) {
			t.Errorf("%s: %v", what, err)
		}
	}
	o.Namespace = ""
	if _, err := Open(t.Context(), o); err == nil || !strings.Contains(err.Error(), "name a namespace of yours with -n") {
		t.Errorf("asking for all gives %v", err)
	}
	o.Namespace = w.bank
	if _, err := Open(t.Context(), o); err == nil || !strings.Contains(err.Error(), "serviceaccounts/token, resourceNames [heddle-view]") || strings.Contains(err.Error(), "\n") {
		t.Errorf("asking for a namespace of somebody else gives %v", err)
	}
}

func TestATenantWithoutTheAccountIsToldToMakeIt(t *testing.T) {
	w := newTown(t)
	w.must(nil, w.admin.CoreV1().ServiceAccounts(w.shop).Delete(t.Context(), api.ViewAccount, metav1.DeleteOptions{}))
	o := w.options(w.user("tom", map[string][]rbacv1.PolicyRule{w.system: way(), w.shop: {tokens(api.ViewAccount)}}))
	o.Namespace = w.shop
	if _, err := Open(t.Context(), o); err == nil || !strings.Contains(err.Error(), "kubectl create serviceaccount heddle-view -n "+w.shop) {
		t.Errorf("it is %v", err)
	}
}

func TestWhoMayLookAndNotTapGetsNoTokenForTapping(t *testing.T) {
	w := newTown(t)
	o := w.options(w.user("vic", map[string][]rbacv1.PolicyRule{w.system: append(way(), tokens(api.ViewAccount))}))
	w.open(o)
	o.Account = api.TapAccount
	_, err := Open(t.Context(), o)
	if err == nil || !strings.Contains(err.Error(), "ServiceAccount "+w.system+"/heddle-tap") || !strings.Contains(err.Error(), "forbidden") {
		t.Errorf("got %v; want to be told that heddle-tap is forbidden", err)
	}
	if w.connections.Load() != 0 {
		t.Error("the control plane was dialled all the same")
	}
}

func TestMissingRightsAreNamed(t *testing.T) {
	w := newTown(t)
	without := func(i int) []rbacv1.PolicyRule { return slices.Delete(append(way(), tokens(api.ViewAccount)), i, i+1) }
	for i, want := range []string{"read the trust bundle, ConfigMap " + w.system + "/heddle-trust", "list the pods of the control plane in namespace " + w.system} {
		_, err := Open(t.Context(), w.options(w.user("eve", map[string][]rbacv1.PolicyRule{w.system: without(i)})))
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "forbidden") {
			t.Errorf("without right %d: %v; want %q", i, err, want)
		}
	}
	// The port-forward is the API server's affair: it asks RBAC, and then the kubelet, of which there is none here.
	o := w.options(w.user("eve", map[string][]rbacv1.PolicyRule{w.system: without(2)}))
	o.Dialer = nil
	cp, _ := w.open(o)
	err := cp.Replicas()[0].Get(t.Context(), api.VersionPath, new(any))
	if err == nil || !strings.Contains(err.Error(), "have somebody bind you a Role in namespace "+w.system+" that creates pods/portforward") {
		t.Errorf("without the right to port-forward: %v", err)
	}
	o = w.options(w.user("ann", map[string][]rbacv1.PolicyRule{w.system: append(way(), tokens(api.ViewAccount))}))
	o.Dialer = nil
	cp, _ = w.open(o)
	err = cp.Replicas()[0].Get(t.Context(), api.VersionPath, new(any))
	if err == nil || !strings.Contains(err.Error(), "port-forward to pod "+w.system+"/heddle-1: ") || strings.Contains(err.Error(), "bind you") {
		t.Errorf("without a kubelet: %v", err)
	}
}

func TestTokensThatAreNotForThisAreRefused(t *testing.T) {
	w := newTown(t)
	cp, replicas := w.open(w.options(server.Config(t)))
	token := func(namespace, account string, audience ...string) string {
		t.Helper()
		r, err := w.admin.CoreV1().ServiceAccounts(namespace).CreateToken(t.Context(), account, &authenticationv1.TokenRequest{
			Spec: authenticationv1.TokenRequestSpec{Audiences: audience},
		}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return r.Status.Token
	}
	good := token(w.shop, api.ViewAccount, api.Audience)
	parts := strings.Split(good, ".")
	claims := func(text string) string {
		return parts[0] + "." + base64.RawURLEncoding.EncodeToString([]byte(text)) + "." + parts[2]
	}
	for name, c := range map[string]struct{ token, code string }{
		"no token":                            {"", api.NoToken},
		"no token at all":                     {"x", api.TokenMalformed},
		"another audience":                    {token(w.system, api.ViewAccount, "heddle"), api.WrongAudience},
		"the API server's own audience":       {token(w.system, api.ViewAccount), api.WrongAudience},
		"an expired token":                    {claims(`{"aud":["heddle-api"],"exp":1}`), api.TokenExpired},
		"a token with other claims":           {claims(`{"aud":["heddle-api"],"exp":99999999999,"sub":"system:serviceaccount:` + w.system + `:heddle-view"}`), api.TokenRefused},
		"another account":                     {token(w.system, "heddle", api.Audience), api.NotAViewer},
		"a tenant's account named so":         {good, ""},
		"the administrator's own token":       {server.Config(t).BearerToken, api.TokenMalformed},
		"a token with a signature of its own": {parts[0] + "." + parts[1] + "." + strings.Repeat("A", len(parts[2])), api.TokenRefused},
	} {
		cp.token = c.token
		err := replicas[0].Get(t.Context(), api.VersionPath, new(any))
		if codeOf(err) != c.code || (err == nil) != (c.code == "") {
			t.Errorf("%s: %v; want code %q", name, err, c.code)
		}
		if err != nil && c.token != "" && len(c.token) > 10 && strings.Contains(err.Error(), c.token) {
			t.Errorf("%s: the token is in the error", name)
		}
	}
}

func TestATokenDiesWithItsAccount(t *testing.T) {
	w := newTown(t)
	o := w.options(server.Config(t))
	o.Namespace = w.shop
	_, replicas := w.open(o)
	if err := replicas[0].Get(t.Context(), api.VersionPath, new(any)); err != nil {
		t.Fatal(err)
	}
	if err := w.admin.CoreV1().ServiceAccounts(w.shop).Delete(t.Context(), api.ViewAccount, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	end := time.Now().Add(30 * time.Second) // the API server's own cache of tokens lasts 10 s
	for tick := time.NewTicker(100 * time.Millisecond); ; <-tick.C {
		err := replicas[0].Get(t.Context(), api.VersionPath, new(any))
		if codeOf(err) == api.TokenRefused {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("30 s later the answer is %v", err)
		}
	}
}

// A pod of a tenant that could put itself in the way must not get the token.
func TestNobodyButTheControlPlaneIsSentTheToken(t *testing.T) {
	w := newTown(t)
	stranger := certs.New(t).Client(identity.Workload{Namespace: w.system, Account: "heddle"}).Certificates[0]
	for name, c := range map[string]struct {
		certificate tls.Certificate
		want        string
	}{
		"a sidecar of the mesh":       {w.issue(w.shop, "heddle"), "the control plane is spiffe://cluster.local/ns/" + w.system + "/sa/heddle; nothing was sent"},
		"the signer":                  {w.issue(w.system, "heddle-signer"), "nothing was sent"},
		"the same name of another CA": {stranger, "certificate signed by unknown authority"},
	} {
		w.certificate = c.certificate
		_, replicas := w.open(w.options(server.Config(t)))
		err := replicas[0].Get(t.Context(), api.VersionPath, new(any))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v; want %q", name, err, c.want)
		}
	}
}

func TestAReplicaThatIsStartingIsNotAskedWhileAnotherIsReady(t *testing.T) {
	w := newTown(t)
	podsOf := func() (names []string) {
		cp, _ := w.open(w.options(server.Config(t)))
		for _, r := range cp.Replicas() {
			names = append(names, r.Pod)
		}
		return names
	}
	if got := podsOf(); !slices.Equal(got, []string{"heddle-1"}) {
		t.Errorf("while none is ready, asked are %v", got)
	}
	w.pod("heddle-3", corev1.PodRunning, corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionTrue})
	w.pod("heddle-2", corev1.PodRunning, corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionTrue})
	if got := podsOf(); !slices.Equal(got, []string{"heddle-2", "heddle-3"}) {
		t.Errorf("while two are ready, asked are %v", got)
	}
}

func TestWhatIsNotThereIsSaidWithWhatToDo(t *testing.T) {
	w := newTown(t)
	o := w.options(server.Config(t))
	o.ControlPlane = w.shop
	if _, err := Open(t.Context(), o); err == nil || !strings.Contains(err.Error(), "is Heddle installed there? heddle check tells") {
		t.Errorf("without a trust bundle: %v", err)
	}
	o.ControlPlane = w.system
	for _, p := range []string{"heddle-1"} {
		if err := w.admin.CoreV1().Pods(w.system).Delete(t.Context(), p, metav1.DeleteOptions{GracePeriodSeconds: new(int64)}); err != nil {
			t.Fatal(err)
		}
	}
	w.pod("heddle-2", corev1.PodPending)
	if _, err := Open(t.Context(), o); err == nil || !strings.Contains(err.Error(), "no pod of ServiceAccount heddle runs in namespace "+w.system) {
		t.Errorf("without a pod that runs: %v", err)
	}
}
