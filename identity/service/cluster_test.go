package service

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/heddle-mesh/heddle/identity"
	"github.com/heddle-mesh/heddle/identity/attest"
	"github.com/heddle-mesh/heddle/identity/client"
	"github.com/heddle-mesh/heddle/model"
	kubetest "github.com/heddle-mesh/heddle/test/kubernetes"
)

var api = kubetest.New()

func TestMain(m *testing.M) {
	if os.Getenv(startersVariable) == "" {
		os.Exit(api.Main(m))
	}
	if err := runStarters(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// clusterSigner is a signer that asks a real API server about real tokens of real pods.
type clusterSigner struct {
	*signer
	client    kubernetes.Interface
	namespace string
	watch     *attest.PodWatch
}

// forCluster runs one. pods may change what is said of pods; nil for the truth.
func forCluster(t testing.TB, pods func(attest.Pods) attest.Pods) *clusterSigner {
	t.Helper()
	config := api.Config(t)
	config.QPS = -1 // no limit on this side: the Reviewer has its own
	client := must[*kubernetes.Clientset](t)(kubernetes.NewForConfig(config))
	s := &clusterSigner{client: client, namespace: api.Namespace(t)}
	s.watch = watchPods(t, client.CoreV1().RESTClient())
	o := attest.ReviewerOptions{Reviews: client.AuthenticationV1().TokenReviews(), Pods: s.watch}
	if pods != nil {
		o.Pods = pods(s.watch)
	}
	s.signer = run(t, func(so Options) *Server { return ForCluster(so, attest.NewReviewer(o)) })
	return s
}

func watchPods(t testing.TB, client rest.Interface) *attest.PodWatch {
	t.Helper()
	w := attest.NewPodWatch(attest.PodWatchOptions{Client: client, Label: model.SidecarLabel})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("PodWatch.Run: %v", err)
		}
	})
	select {
	case <-w.Synced():
	case <-time.After(time.Minute):
		t.Fatal("the pods are not known after a minute")
	}
	return w
}

// pod makes a running pod with a sidecar, and waits until the signer knows it as it is.
func (s *clusterSigner) pod(namespace, name string, change ...func(*corev1.Pod)) *corev1.Pod {
	s.t.Helper()
	o := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{model.SidecarLabel: "true"}},
		Spec:       corev1.PodSpec{NodeName: "node-1", Containers: []corev1.Container{{Name: "app", Image: "example/app"}}},
	}
	for _, c := range change {
		c(o)
	}
	pods := s.client.CoreV1().Pods(namespace)
	o = must[*corev1.Pod](s.t)(pods.Create(s.t.Context(), o, metav1.CreateOptions{}))
	o.Status.Phase = corev1.PodRunning
	o = must[*corev1.Pod](s.t)(pods.UpdateStatus(s.t.Context(), o, metav1.UpdateOptions{}))
	eventually(s.t, "the signer knows the pod", func() bool {
		p, ok := s.watch.Pod(namespace, name)
		return ok && p.UID == string(o.UID)
	})
	return o
}

func (s *clusterSigner) delete(p *corev1.Pod) {
	s.t.Helper()
	now := metav1.DeleteOptions{GracePeriodSeconds: new(int64)}
	if err := s.client.CoreV1().Pods(p.Namespace).Delete(s.t.Context(), p.Name, now); err != nil {
		s.t.Fatal(err)
	}
}

// token asks for one that is bound to a pod; to none if p is nil.
func (s *clusterSigner) token(p *corev1.Pod, audience string) string {
	s.t.Helper()
	r := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{Audiences: []string{audience}, ExpirationSeconds: new(int64(600))}}
	namespace := s.namespace
	if p != nil {
		namespace = p.Namespace
		r.Spec.BoundObjectRef = &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: p.Name, UID: p.UID}
	}
	made := must[*authenticationv1.TokenRequest](s.t)(s.client.CoreV1().ServiceAccounts(namespace).CreateToken(s.t.Context(), "default", r, metav1.CreateOptions{}))
	return made.Status.Token
}

func (s *clusterSigner) ask(token string) error {
	s.t.Helper()
	_, err := s.sidecarClient().SVID(s.t.Context(), token, csrOf(s.t, newKey(s.t)))
	return err
}

func TestAPodOfTheClusterGetsItsIdentityAndNoTokenIsWritten(t *testing.T) {
	s := forCluster(t, nil)
	p := s.pod(s.namespace, "web-1")
	token := s.token(p, attest.DefaultAudience)
	svid, err := s.sidecarClient().SVID(t.Context(), token, csrOf(t, newKey(t)))
	if err != nil {
		t.Fatal(err)
	}
	w, err := identity.VerifyPod(svid.Chain, svid.Bundle, time.Now())
	want := identity.Workload{Namespace: s.namespace, Account: "default", Pod: "web-1", PodUID: string(p.UID)}
	if err != nil || w != want {
		t.Errorf("got %+v, %v", w, err)
	}
	if !strings.Contains(s.log.String(), string(p.UID)) {
		t.Errorf("the log does not name the pod's UID:\n%s", s.log)
	}
	for _, secret := range append(strings.Split(token, "."), token) {
		if strings.Contains(s.log.String(), secret) {
			t.Error("the log holds some of the token")
		}
	}
}

func TestTheAPIServersTokensAreRefusedForEachReason(t *testing.T) {
	s := forCluster(t, nil)
	other := api.Namespace(t)
	for name, c := range map[string]struct {
		token func() string
		want  attest.Reason
	}{
		"no token":                      {func() string { return "" }, attest.NoToken},
		"no JWT":                        {func() string { return "secret" }, attest.TokenMalformed},
		"another audience":              {func() string { return s.token(s.pod(s.namespace, "audience"), "payments") }, attest.WrongAudience},
		"the API server's own audience": {func() string { return s.token(s.pod(s.namespace, "api"), kubetest.Issuer) }, attest.WrongAudience},
		// The API server issues none for less than 10 minutes, so this one is a real token with its claims changed: it
		// is refused for what it says before anybody looks at its signature.
		"expired": {func() string {
			return altered(t, s.token(s.pod(s.namespace, "expired"), attest.DefaultAudience), func(claims map[string]any) {
				claims["exp"] = time.Now().Add(-time.Second).Unix()
			})
		}, attest.TokenExpired},
		// With a later expiry, for which the signature is not.
		"forged": {func() string {
			return altered(t, s.token(s.pod(s.namespace, "forged"), attest.DefaultAudience), func(claims map[string]any) {
				claims["exp"] = time.Now().Add(time.Hour).Unix()
			})
		}, attest.TokenRefused},
		"not bound to a pod": {func() string { return s.token(nil, attest.DefaultAudience) }, attest.NotPodBound},
		"of a pod without a node": {func() string {
			return s.token(s.pod(s.namespace, "unscheduled", func(p *corev1.Pod) { p.Spec.NodeName = "" }), attest.DefaultAudience)
		}, attest.NotPodBound},
		"of a deleted pod": {func() string {
			p := s.pod(s.namespace, "deleted")
			token := s.token(p, attest.DefaultAudience)
			s.delete(p)
			return token
		}, attest.TokenRefused},
		"of an earlier pod of that name": {func() string {
			p := s.pod(s.namespace, "again")
			token := s.token(p, attest.DefaultAudience)
			s.delete(p)
			s.pod(s.namespace, "again")
			return token
		}, attest.TokenRefused},
		"of a pod that is not injected": {func() string {
			return s.token(s.pod(s.namespace, "plain", func(p *corev1.Pod) { p.Labels = nil }), attest.DefaultAudience)
		}, attest.NotMeshed},
		"of a pod that has finished": {func() string {
			p := s.pod(s.namespace, "finished")
			token := s.token(p, attest.DefaultAudience)
			p.Status.Phase = corev1.PodSucceeded
			must[*corev1.Pod](t)(s.client.CoreV1().Pods(s.namespace).UpdateStatus(t.Context(), p, metav1.UpdateOptions{}))
			eventually(t, "the signer knows that it has finished", func() bool {
				known, _ := s.watch.Pod(s.namespace, "finished")
				return known.Finished
			})
			return token
		}, attest.PodTerminal},
	} {
		t.Run(name, func(t *testing.T) {
			s.wantCode(s.ask(c.token()), string(c.want))
		})
	}

	t.Run("of the pod of that name in another namespace", func(t *testing.T) {
		s.pod(s.namespace, "twin")
		twin := s.pod(other, "twin")
		svid, err := s.sidecarClient().SVID(t.Context(), s.token(twin, attest.DefaultAudience), csrOf(t, newKey(t)))
		if err != nil {
			t.Fatal(err)
		}
		if w, err := identity.VerifyPod(svid.Chain, svid.Bundle, time.Now()); err != nil || w.Namespace != other || w.PodUID != string(twin.UID) {
			t.Errorf("got %+v, %v", w, err)
		}
	})
}

// The API server itself refuses the token of a pod that is gone. So where our own knowledge of pods must decide, it is
// that knowledge which differs here: the tokens are real, and good.
func TestATokenThatTheAPIServerAcceptsIsHeldAgainstThePod(t *testing.T) {
	lie := func(change func(*attest.Pod)) func(attest.Pods) attest.Pods {
		return func(truth attest.Pods) attest.Pods { return changedPods{truth, change} }
	}
	for name, c := range map[string]struct {
		pods func(attest.Pods) attest.Pods
		want attest.Reason
	}{
		"on another node":      {lie(func(p *attest.Pod) { p.Node = "node-2" }), attest.NodeMismatch},
		"with another UID":     {lie(func(p *attest.Pod) { p.UID = "other" }), attest.PodReplaced},
		"with another account": {lie(func(p *attest.Pod) { p.Account = "other" }), attest.AccountMismatch},
		"in another namespace": {func(truth attest.Pods) attest.Pods { return elsewhere{truth} }, attest.PodUnknown},
	} {
		t.Run(name, func(t *testing.T) {
			s := forCluster(t, c.pods)
			s.wantCode(s.ask(s.token(s.pod(s.namespace, "web-1"), attest.DefaultAudience)), string(c.want))
		})
	}
}

type changedPods struct {
	truth  attest.Pods
	change func(*attest.Pod)
}

func (c changedPods) Pod(namespace, name string) (attest.Pod, bool) {
	p, ok := c.truth.Pod(namespace, name)
	c.change(&p)
	return p, ok
}

// elsewhere knows every pod, but in another namespace.
type elsewhere struct{ truth attest.Pods }

func (e elsewhere) Pod(namespace, name string) (attest.Pod, bool) {
	return e.truth.Pod(strings.TrimPrefix(namespace, "test-"), name)
}

// The certificate of a pod outlives the pod.
func TestThePathsForCertificatesServeOnlyPodsThatAreThere(t *testing.T) {
	s := forCluster(t, nil)
	p := s.pod(s.namespace, "web-1")
	key := newKey(t)
	svid, err := s.sidecarClient().SVID(t.Context(), s.token(p, attest.DefaultAudience), csrOf(t, key))
	if err != nil {
		t.Fatal(err)
	}
	mine := s.signer.client(shown(key, svid.Chain))
	refused := func(want attest.Reason) {
		t.Helper()
		_, err := mine.JWT(t.Context(), []string{"x"})
		s.wantCode(err, string(want))
		_, err = mine.Bundle(t.Context(), "", client.Uses{})
		s.wantCode(err, string(want))
	}
	if _, err := mine.JWT(t.Context(), []string{"x"}); err != nil {
		t.Errorf("while the pod runs: %v", err)
	}
	if _, err := mine.Bundle(t.Context(), "", client.Uses{}); err != nil {
		t.Errorf("while the pod runs: %v", err)
	}
	s.delete(p)
	eventually(t, "the signer knows that the pod is gone", func() bool {
		_, there := s.watch.Pod(s.namespace, "web-1")
		return !there
	})
	refused(attest.PodUnknown)
	again := s.pod(s.namespace, "web-1")
	refused(attest.PodReplaced)
	_, err = s.signer.client(s.sidecar(s.namespace, "other", "web-1", func(r *identity.Request) { r.PodUID = string(again.UID) })).JWT(t.Context(), []string{"x"})
	s.wantCode(err, string(attest.AccountMismatch))
}

func TestNobodyGetsAnothersSecrets(t *testing.T) {
	s := forCluster(t, nil)
	token := s.token(s.pod(s.namespace, "web-1"), attest.DefaultAudience)
	key := newKey(t)
	victim := must[*url.URL](t)(url.Parse("spiffe://cluster.local/ns/" + s.namespace + "/sa/admin"))
	csr := must[[]byte](t)(x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{URIs: []*url.URL{victim}}, key))
	_, err := s.sidecarClient().SVID(t.Context(), token, csr)
	s.wantCode(err, "san")

	svid, err := s.sidecarClient().SVID(t.Context(), token, csrOf(t, key))
	if err != nil {
		t.Fatal(err)
	}
	mine := s.signer.client(shown(key, svid.Chain))
	_, err = mine.SVID(t.Context(), "", csr) // a valid SVID, asking for another's
	s.wantCode(err, string(attest.NoToken))
	_, err = mine.SVID(t.Context(), token, csr)
	s.wantCode(err, "san")
	jwt, err := mine.JWT(t.Context(), []string{"x"})
	if err != nil {
		t.Fatal(err)
	}
	if got := claimsOf(t, jwt)["sub"]; got != "spiffe://cluster.local/ns/"+s.namespace+"/sa/default" {
		t.Errorf("the JWT is %v's", got)
	}
}

func TestARollSaysWhichPodsMayHaveAnIdentity(t *testing.T) {
	s := forCluster(t, nil)
	p := s.pod(s.namespace, "web-1")
	s.pod(s.namespace, "plain", func(p *corev1.Pod) { p.Labels = nil })
	eventually(t, "the meshed pod is on the roll, alone", func() bool {
		list, known := s.watch.Started()
		var ours []attest.PodName
		for _, n := range list {
			if n.Namespace == s.namespace {
				ours = append(ours, n)
			}
		}
		return known && len(ours) == 1 && ours[0] == attest.PodName{Namespace: s.namespace, Name: "web-1", UID: string(p.UID)}
	})
	meshed := func() bool {
		for _, n := range s.watch.MeshedNamespaces() {
			if n == s.namespace {
				return true
			}
		}
		return false
	}
	if !meshed() {
		t.Error("its namespace is not among those with sidecars")
	}
	s.delete(p)
	eventually(t, "its namespace has no sidecar any more", func() bool { return !meshed() })
}

// altered is a token with other claims and its old signature.
func altered(t testing.TB, token string, change func(claims map[string]any)) string {
	t.Helper()
	claims := claimsOf(t, token)
	change(claims)
	parts := strings.Split(token, ".")
	parts[1] = base64.RawURLEncoding.EncodeToString(must[[]byte](t)(json.Marshal(claims)))
	return strings.Join(parts, ".")
}

func claimsOf(t testing.TB, token string) map[string]any {
	t.Helper()
	payload := must[[]byte](t)(base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[1]))
	claims := map[string]any{}
	if err := json.Unmarshal(payload, &claims); err != nil {
		t.Fatal(err)
	}
	return claims
}

// sidecarClient is the client of a sidecar that has no certificate yet.
func (s *clusterSigner) sidecarClient() *client.Client { return s.signer.client(nil) }
