package main

import (
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/heddle-mesh/heddle/deploy"
	kubetest "github.com/heddle-mesh/heddle/test/kubernetes"
	"github.com/heddle-mesh/heddle/test/transcript"
)

// heddleIn runs the command line with a cluster.
func heddleIn(t *testing.T, kubeconfig string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	t.Setenv("KUBECONFIG", kubeconfig)
	var out, problems transcript.Buffer
	code = run(args, strings.NewReader(""), &out, &problems)
	return out.String(), problems.String(), code
}

func TestUpgradeTakesTheValuesFromTheCluster(t *testing.T) {
	api := kubetest.New()
	t.Cleanup(api.Close)
	namespace, maps := api.Namespace(t), api.Client(t).CoreV1().ConfigMaps
	kubeconfig := api.Kubeconfig(t)

	_, problems, code := heddleIn(t, kubeconfig, "upgrade", "-n", namespace)
	if code == 0 || !strings.Contains(problems, "there is no ConfigMap "+namespace+"/heddle-config, so no Heddle") || !strings.Contains(problems, "heddle install") {
		t.Errorf("without an installation it ended with %d and said: %s", code, problems)
	}

	values := map[string]string{deploy.ValuesItem: "trustDomain: example.org\nserver:\n  replicas: 2\n", deploy.VersionItem: "0.0.9"}
	m := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: deploy.ConfigMap}, Data: values}
	if _, err := maps(namespace).Create(t.Context(), m, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	installed, _, _ := heddleIn(t, kubeconfig, "install", "-n", namespace, "--set", "trustDomain=example.org", "--set", "server.replicas=2")
	upgraded, problems, code := heddleIn(t, kubeconfig, "upgrade", "-n", namespace)
	if code != 0 || upgraded != installed {
		t.Errorf("it ended with %d, and prints what install with the same values does: %v; it said: %s", code, upgraded == installed, problems)
	}
	if !strings.Contains(problems, "from 0.0.9 to ") || !strings.Contains(problems, "  trustDomain: example.org\n") {
		t.Errorf("it does not say what it keeps of what: %s", problems)
	}

	m.Data = map[string]string{"other": "x"}
	if _, err := maps(namespace).Update(t.Context(), m, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, problems, code = heddleIn(t, kubeconfig, "upgrade", "-n", namespace); code == 0 || !strings.Contains(problems, "has no values.yaml") {
		t.Errorf("with a ConfigMap without values it ended with %d and said: %s", code, problems)
	}

	nobody := limitedKubeconfig(t, api, namespace)
	_, problems, code = heddleIn(t, nobody, "upgrade", "-n", namespace)
	if code == 0 || !strings.Contains(problems, "forbidden") || !strings.Contains(problems, "kubectl get configmap -n "+namespace+" heddle-config -o go-template") {
		t.Errorf("without rights it ended with %d and said: %s", code, problems)
	}
}

// limitedKubeconfig is that of somebody who may do nothing.
func limitedKubeconfig(t *testing.T, api *kubetest.Server, namespace string) string {
	t.Helper()
	config := api.Limited(t, namespace)
	c := clientcmdapi.NewConfig()
	c.Clusters["test"] = &clientcmdapi.Cluster{Server: config.Host, CertificateAuthority: config.CAFile}
	c.AuthInfos["test"] = &clientcmdapi.AuthInfo{Token: config.BearerToken}
	c.Contexts["test"] = &clientcmdapi.Context{Cluster: "test", AuthInfo: "test"}
	c.CurrentContext = "test"
	path := filepath.Join(t.TempDir(), "kubeconfig")
	if err := clientcmd.WriteToFile(*c, path); err != nil {
		t.Fatal(err)
	}
	return path
}
