package kubetest_test

import (
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	kubetest "github.com/heddle-mesh/heddle/test/kubernetes"
)

var api = kubetest.New()

func TestMain(m *testing.M) { os.Exit(api.Main(m)) }

func TestTheKubeconfigOpensTheServer(t *testing.T) {
	config, err := clientcmd.BuildConfigFromFlags("", api.Kubeconfig(t))
	if err != nil {
		t.Fatal(err)
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	version, err := client.Discovery().ServerVersion()
	if err != nil {
		t.Fatal(err)
	}
	if got := version.Major + "." + version.Minor; got != "1.36" {
		t.Errorf("the API server says that it is %s, want 1.36", got)
	}
}

func TestTokensOfServiceAccountsAreIssuedAndReviewed(t *testing.T) {
	client, namespace := api.Client(t), api.Namespace(t)
	token, err := client.CoreV1().ServiceAccounts(namespace).CreateToken(t.Context(), "default",
		&authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{Audiences: []string{"heddle"}}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	review, err := client.AuthenticationV1().TokenReviews().Create(t.Context(), &authenticationv1.TokenReview{
		Spec: authenticationv1.TokenReviewSpec{Token: token.Status.Token, Audiences: []string{"heddle"}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	want := "system:serviceaccount:" + namespace + ":default"
	if !review.Status.Authenticated || review.Status.User.Username != want {
		t.Errorf("review says %+v, want user %s", review.Status, want)
	}
}

func TestRightsAreHeld(t *testing.T) {
	namespace := api.Namespace(t)
	config := api.Limited(t, namespace, rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"pods"}, Verbs: []string{"list"}})
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.CoreV1().Pods("").List(t.Context(), metav1.ListOptions{}); err != nil {
		t.Errorf("list pods: %v", err)
	}
	if _, err := client.CoreV1().Services("").List(t.Context(), metav1.ListOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("list services: got %v, want Forbidden", err)
	}
}

func TestAKilledServerComesBackWithWhatItHeld(t *testing.T) {
	client, namespace := api.Client(t), api.Namespace(t)
	want := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "kept"}, Data: map[string]string{"a": "b"}}
	if _, err := client.CoreV1().ConfigMaps(namespace).Create(t.Context(), want, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	api.Kill(t)
	if _, err := client.CoreV1().ConfigMaps(namespace).Get(t.Context(), "kept", metav1.GetOptions{}); err == nil {
		t.Error("a killed API server answered")
	}
	api.Resume(t)
	got, err := client.CoreV1().ConfigMaps(namespace).Get(t.Context(), "kept", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want.Data, got.Data); diff != "" {
		t.Errorf("content after the restart (-want +got):\n%s", diff)
	}
}
