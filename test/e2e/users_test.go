//go:build e2e

package e2e

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// TestWhatSomebodySeesOfTheMeshIsWhatRBACSays: each person has a kubeconfig with a client certificate.
func TestWhatSomebodySeesOfTheMeshIsWhatRBACSays(t *testing.T) {
	t.Parallel()
	env.mesh(t)
	ns := env.namespace(t)
	text, err := os.ReadFile("testdata/viewers.yaml")
	if err != nil {
		t.Fatal(err)
	}
	ns.applyText(string(text))
	ns.bindReach()
	ns.applyTown("testdata/twin.yaml")
	team := "team-" + ns.name
	ann, bob, eve := ns.user("ann", team), ns.user("bob", team), ns.user("eve", "nobodys-team")
	ns.eventually(func() error {
		out, err := ann.try("heddle proxy status -n " + ns.name)
		if err == nil && strings.Count(out, "yes") != 2 {
			err = errors.New(out)
		}
		return err
	})
	ann.prints("heddle proxy status -n "+ns.name, ns.name+"/client", ns.name+"/web", "SYNCED")
	ann.prints("heddle proxy config client -n "+ns.name, "Listeners", ns.name)
	ann.prints("heddle proxy config "+ns.name+"/client --kind cluster", ns.name)
	ann.prints("heddle proxy logs client -n "+ns.name+" --tail 20", "certificate obtained")
	for _, other := range []string{"-A", "-n heddle-system", "-n default"} {
		ann.refused("heddle proxy status "+other, "heddle-view")
	}
	ann.refused("heddle proxy config -n default client", "heddle-view")
	bob.prints("heddle proxy status -n "+ns.name, ns.name+"/client")
	bob.refused("heddle proxy logs client -n "+ns.name, "pods/log")
	eve.refused("heddle proxy status -n "+ns.name, "heddle-trust")
	eve.refused("heddle proxy logs client -n "+ns.name, "eve")
}

// bindReach lets the team of the namespace reach the control plane, until the test ends.
func (n *namespace) bindReach() {
	n.t.Helper()
	bindings := env.client.RbacV1().RoleBindings("heddle-system")
	binding := &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "heddle-reach-" + n.name},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: "heddle-reach"},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: "Group", Name: "team-" + n.name}},
	}
	if _, err := bindings.Create(n.t.Context(), binding, metav1.CreateOptions{}); err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() {
		if err := bindings.Delete(context.Background(), binding.Name, metav1.DeleteOptions{}); err != nil {
			n.t.Error(err)
		}
	})
}

// person types commands, with a kubeconfig of their own.
type person struct {
	*shell
	t *testing.T
}

// user makes a person whom the cluster knows by a certificate that it has signed itself.
func (n *namespace) user(name, group string) person {
	n.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		n.t.Fatal(err)
	}
	request, err := x509.CreateCertificateRequest(rand.Reader,
		&x509.CertificateRequest{Subject: pkix.Name{CommonName: name, Organization: []string{group}}}, key)
	if err != nil {
		n.t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		n.t.Fatal(err)
	}
	certificate := n.signed(n.name+"-"+name, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: request}))
	config, err := clientcmd.LoadFromFile(env.kubeconfig)
	if err != nil {
		n.t.Fatal(err)
	}
	current := config.Contexts[config.CurrentContext]
	config.AuthInfos = map[string]*clientcmdapi.AuthInfo{current.AuthInfo: {
		ClientCertificateData: certificate,
		ClientKeyData:         pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}),
	}}
	file := filepath.Join(n.t.TempDir(), name)
	if err := clientcmd.WriteToFile(*config, file); err != nil {
		n.t.Fatal(err)
	}
	s := newShell(n.t, repository(n.t))
	s.env = append(s.env, "KUBECONFIG="+file)
	return person{s, n.t}
}

// signed gives the certificate that the cluster makes of a request.
func (n *namespace) signed(name string, request []byte) []byte {
	n.t.Helper()
	requests := env.client.CertificatesV1().CertificateSigningRequests()
	day := int32(24 * 60 * 60)
	csr, err := requests.Create(n.t.Context(), &certificatesv1.CertificateSigningRequest{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: certificatesv1.CertificateSigningRequestSpec{
			Request: request, SignerName: certificatesv1.KubeAPIServerClientSignerName, ExpirationSeconds: &day,
			Usages: []certificatesv1.KeyUsage{certificatesv1.UsageClientAuth},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() {
		if err := requests.Delete(context.Background(), name, metav1.DeleteOptions{}); err != nil {
			n.t.Error(err)
		}
	})
	csr.Status.Conditions = append(csr.Status.Conditions, certificatesv1.CertificateSigningRequestCondition{
		Type: certificatesv1.CertificateApproved, Status: corev1.ConditionTrue, Reason: "Test", Message: "of a test",
	})
	if _, err := requests.UpdateApproval(n.t.Context(), name, csr, metav1.UpdateOptions{}); err != nil {
		n.t.Fatal(err)
	}
	var certificate []byte
	n.eventually(func() error {
		now, err := requests.Get(n.t.Context(), name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if certificate = now.Status.Certificate; len(certificate) == 0 {
			return errors.New("the cluster has not signed the certificate yet")
		}
		return nil
	})
	return certificate
}

func (p person) try(command string) (string, error) {
	out, err := p.run(p.t.Context(), command)
	if err != nil {
		err = errors.New(command + ": " + err.Error() + "\n" + out)
	}
	return out, err
}

// must wants a command to succeed, and gives what it printed.
func (p person) must(command string) string {
	p.t.Helper()
	out, err := p.try(command)
	if err != nil {
		p.t.Fatal(err)
	}
	return out
}

// prints wants a command to succeed, with all of these in what it prints.
func (p person) prints(command string, want ...string) {
	p.t.Helper()
	out, err := p.try(command)
	if err != nil {
		p.t.Error(err)
		return
	}
	for _, text := range want {
		if !strings.Contains(out, text) {
			p.t.Errorf("%s prints no %q:\n%s", command, text, out)
		}
	}
}

// refused wants a command to fail, with a reason that names what is missing.
func (p person) refused(command, want string) {
	p.t.Helper()
	out, err := p.try(command)
	if err == nil || !strings.Contains(out, want) {
		p.t.Errorf("%s: %v; want a failure that names %s:\n%s", command, err, want, out)
		return
	}
	p.t.Logf("$ %s\n%s", command, out)
}

func TestCheckOfAMeshThatWorksIsGreenAsAWhole(t *testing.T) {
	t.Parallel()
	env.mesh(t)
	ns := env.namespace(t)
	ns.applyTown("testdata/twin.yaml")
	shell := person{newShell(t, repository(t)), t}
	shell.prints("heddle check", "Status check results are √")
	// Sidecars renew and connect a moment after their pods are ready.
	shell.prints("heddle check --proxy --wait 1m -n "+ns.name, "√ data plane proxies have their configuration", "Status check results are √")
}
