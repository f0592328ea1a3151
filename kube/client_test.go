package kube

import (
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// kubeconfig writes one with the contexts one (current) and two.
func kubeconfig(t *testing.T) string {
	t.Helper()
	c := clientcmdapi.NewConfig()
	for _, name := range []string{"one", "two"} {
		c.Clusters[name] = &clientcmdapi.Cluster{Server: "https://" + name + ".example.com"}
		c.Contexts[name] = &clientcmdapi.Context{Cluster: name}
	}
	c.CurrentContext = "one"
	path := filepath.Join(t.TempDir(), "kubeconfig")
	do(t, clientcmd.WriteToFile(*c, path))
	return path
}

func TestTheAPIServerIsFoundAsKubectlFindsIt(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	t.Setenv("KUBECONFIG", "")
	path := kubeconfig(t)
	hostOf := func(o ClientOptions) string { return must[*rest.Config](t)(ClientConfig(o)).Host }

	if got := hostOf(ClientOptions{Kubeconfig: path}); got != "https://one.example.com" {
		t.Errorf("by path: %s", got)
	}
	if got := hostOf(ClientOptions{Kubeconfig: path, Context: "two"}); got != "https://two.example.com" {
		t.Errorf("by path and context: %s", got)
	}
	for _, c := range []struct {
		o    ClientOptions
		want string
	}{
		{ClientOptions{}, "there is no kubeconfig and this is no pod; give --kubeconfig FILE or set KUBECONFIG"},
		{ClientOptions{Kubeconfig: path, Context: "three"}, `context "three" does not exist`},
		{ClientOptions{Kubeconfig: path + ".missing"}, path + ".missing"},
	} {
		if _, err := ClientConfig(c.o); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: got %v, want %s", c.o, err, c.want)
		}
	}
	t.Setenv("KUBECONFIG", path+".missing")
	if _, err := ClientConfig(ClientOptions{}); err == nil || !strings.Contains(err.Error(), "KUBECONFIG names "+path+".missing, where there is no kubeconfig") {
		t.Errorf("with a KUBECONFIG that is not there: %v", err)
	}
	t.Setenv("KUBECONFIG", path)
	if got := hostOf(ClientOptions{Context: "two"}); got != "https://two.example.com" {
		t.Errorf("by KUBECONFIG: %s", got)
	}
}

func TestTheClientSpeaksProtobufAtItsOwnPace(t *testing.T) {
	path := kubeconfig(t)
	got := must[*rest.Config](t)(ClientConfig(ClientOptions{Kubeconfig: path, QPS: 7, Burst: 8, UserAgent: "heddle/v1"}))
	if got.ContentType != "application/vnd.kubernetes.protobuf" || got.QPS != 7 || got.Burst != 8 || got.UserAgent != "heddle/v1" {
		t.Errorf("got %+v", got)
	}
	got = must[*rest.Config](t)(ClientConfig(ClientOptions{Kubeconfig: path}))
	if got.QPS != 50 || got.Burst != 100 || got.UserAgent != "heddle" {
		t.Errorf("by default: %+v", got)
	}
}
