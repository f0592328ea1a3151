package kubetest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// Server is an API server for the tests of one package. It starts when a test first needs it.
type Server struct {
	start sync.Once
	c     *cluster
	err   error
}

// New gives a Server that does nothing yet.
func New() *Server { return &Server{} }

// Main runs a package's tests and removes what they left behind; its value is for os.Exit.
func (s *Server) Main(m *testing.M) int {
	defer s.Close()
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-interrupted
		s.Close()
		os.Exit(130)
	}()
	return m.Run()
}

// Close ends the API server. It is for those who cannot use Main.
func (s *Server) Close() {
	s.start.Do(func() { s.err = fmt.Errorf("the API server was closed") })
	if s.c != nil {
		s.c.stop()
	}
}

func (s *Server) running(t testing.TB) *cluster {
	t.Helper()
	s.start.Do(func() {
		// Not the test's context: the server outlives it.
		ctx := context.Background()
		b, err := Install(ctx, InstallOptions{Progress: os.Stderr})
		if err == nil {
			s.c, err = startCluster(ctx, b)
		}
		s.err = err
	})
	if s.err != nil {
		t.Fatalf("no API server to test with: %v", s.err)
	}
	return s.c
}

// Config gives what an administrator's client needs.
func (s *Server) Config(t testing.TB) *rest.Config {
	t.Helper()
	return rest.CopyConfig(s.running(t).config)
}

// Client gives an administrator's client.
func (s *Server) Client(t testing.TB) kubernetes.Interface {
	t.Helper()
	return clientOf(t, s.Config(t))
}

// Kubeconfig gives the path of an administrator's kubeconfig.
func (s *Server) Kubeconfig(t testing.TB) string {
	t.Helper()
	return s.running(t).path("kubeconfig")
}

// Namespace makes a namespace for a test, with the ServiceAccount that pods have if they name none. What the mesh
// watches is removed from it when the test ends; the namespace itself stays, for there is no controller to end it.
func (s *Server) Namespace(t testing.TB) string {
	t.Helper()
	client := s.Client(t)
	ns, err := client.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "test-", Annotations: map[string]string{"test": t.Name()}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatalf("make a namespace: %v", err)
	}
	s.Account(t, ns.Name, "default")
	t.Cleanup(func() { empty(t, client, ns.Name) })
	return ns.Name
}

// empty removes what other tests' watchers would see.
func empty(t testing.TB, client kubernetes.Interface, namespace string) {
	ctx, now, all := context.Background(), metav1.DeleteOptions{GracePeriodSeconds: new(int64)}, metav1.ListOptions{}
	services, err := client.CoreV1().Services(namespace).List(ctx, all)
	if err == nil {
		for _, svc := range services.Items {
			err = errors.Join(err, client.CoreV1().Services(namespace).Delete(ctx, svc.Name, now))
		}
	}
	err = errors.Join(err,
		client.CoreV1().Pods(namespace).DeleteCollection(ctx, now, all),
		client.CoreV1().ConfigMaps(namespace).DeleteCollection(ctx, now, all),
		client.DiscoveryV1().EndpointSlices(namespace).DeleteCollection(ctx, now, all),
	)
	if err != nil {
		t.Logf("namespace %s is not emptied: %v", namespace, err)
	}
}

// Account makes a ServiceAccount.
func (s *Server) Account(t testing.TB, namespace, name string) {
	t.Helper()
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if _, err := s.Client(t).CoreV1().ServiceAccounts(namespace).Create(t.Context(), account, metav1.CreateOptions{}); err != nil {
		t.Fatalf("make ServiceAccount %s/%s: %v", namespace, name, err)
	}
}

// Limited gives a client configuration that may do what the rules say, in all namespaces, and nothing else. It is
// that of a new ServiceAccount in the namespace.
func (s *Server) Limited(t testing.TB, namespace string, rules ...rbacv1.PolicyRule) *rest.Config {
	t.Helper()
	client := s.Client(t)
	name := "limited-" + strings.ToLower(rand.Text()[:8])
	s.Account(t, namespace, name)
	unique := metav1.ObjectMeta{Name: namespace + "-" + name}
	role := &rbacv1.ClusterRole{ObjectMeta: unique, Rules: rules}
	if _, err := client.RbacV1().ClusterRoles().Create(t.Context(), role, metav1.CreateOptions{}); err != nil {
		t.Fatalf("make a role: %v", err)
	}
	binding := &rbacv1.ClusterRoleBinding{
		ObjectMeta: unique,
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: unique.Name},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: namespace, Name: name}},
	}
	if _, err := client.RbacV1().ClusterRoleBindings().Create(t.Context(), binding, metav1.CreateOptions{}); err != nil {
		t.Fatalf("bind a role: %v", err)
	}
	token, err := client.CoreV1().ServiceAccounts(namespace).CreateToken(
		t.Context(), name, &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	if err != nil {
		t.Fatalf("ask for a token of ServiceAccount %s/%s: %v", namespace, name, err)
	}
	config := rest.AnonymousClientConfig(s.Config(t))
	config.BearerToken = token.Status.Token
	return config
}

// Kill ends the API server at once, as kill -9 does; its etcd and what is stored there stay. Give a test that does
// this a Server of its own, or let it not run in parallel, and let it Resume.
func (s *Server) Kill(t testing.TB) {
	t.Helper()
	s.running(t).api.kill()
}

// Resume starts the API server again after Kill, at the same address with the same content.
func (s *Server) Resume(t testing.TB) {
	t.Helper()
	if err := s.running(t).startAPI(t.Context()); err != nil {
		t.Fatalf("start the API server again: %v", err)
	}
}

func clientOf(t testing.TB, config *rest.Config) kubernetes.Interface {
	t.Helper()
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatalf("make a client: %v", err)
	}
	return client
}
