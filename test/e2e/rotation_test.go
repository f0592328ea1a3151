//go:build e2e

package e2e

import (
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heddle-mesh/heddle/identity"
	"github.com/heddle-mesh/heddle/identity/keep"
	"github.com/heddle-mesh/heddle/test/certs"
	"github.com/heddle-mesh/heddle/test/upstream"
)

// TestAGivenCASignsAfterARotationUnderLoadAndFromTheFirstStart: each of the two is an intermediate of a root of its own, whose key
// never comes to the cluster.
func TestAGivenCASignsAfterARotationUnderLoadAndFromTheFirstStart(t *testing.T) {
	env.mesh(t)
	t.Cleanup(func() { env.purge(t) })
	next, first := newGivenCA(t), newGivenCA(t)

	ns := env.namespace(t, "heddle.dev/inject=enabled")
	system := controlPlane(t)
	ns.applyText(reader)
	f := ns.traffic()
	ns.wait("pod/reader", "condition=Ready")
	if err := next.vouches(ns, ns.pod("app=server")); err == nil {
		t.Error("before the rotation a server's chain ends at the root of the CA that is still to come")
	}
	system.rotate(next)
	// Meanwhile some have certificates of the CA before.
	system.kubectl("rollout", "restart", "deployment/heddle", "deployment/heddle-signer")
	ns.kubectl("rollout", "restart", "deployment/server", "deployment/client")
	system.rolledOut("heddle", "heddle-signer")
	ns.rolledOut("server", "client")
	for _, pod := range ns.pods("app=server", "app=client") {
		if err := next.vouches(ns, pod); err != nil {
			t.Errorf("after the rotation: %v", err)
		}
	}
	f.end(5_000)

	env.purge(t)
	first.begin(t)
	ns = env.namespace(t)
	ns.applyText(reader)
	ns.applyTown("testdata/twin.yaml")
	system.rolledOut("heddle-signer")
	ns.eventually(func() error { return ns.askAs(ns.identity(), "client", "http://web") })
	for _, pod := range []string{"web", "client"} {
		if err := first.vouches(ns, pod); err != nil {
			t.Errorf("with a CA that was given at the first start: %v", err)
		}
	}
	person{newShell(t, repository(t)), t}.prints("heddle check --wait 1m", "Status check results are √")
}

// reader has no sidecar.
const reader = `
apiVersion: v1
kind: Pod
metadata: {name: reader, annotations: {heddle.dev/inject: disabled}}
spec:
  containers:
  - {name: http, image: "docker.io/library/heddle-testapp:test", args: ["-listen=:8099", --text=reader]}
`

// givenCA is an intermediate, as PEM, with its key and the root that it leads to.
type givenCA struct {
	root            *x509.Certificate
	chain, key, top []byte
}

func newGivenCA(t *testing.T) givenCA {
	t.Helper()
	key, csr := certs.Request(t)
	offline := upstream.New(t, 90*24*time.Hour)
	chain, anchors, err := offline.Sign(t.Context(), csr)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	block := func(kind string, der []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}) }
	return givenCA{anchors[0], block("CERTIFICATE", chain[0].Raw), block("PRIVATE KEY", der), block("CERTIFICATE", anchors[0].Raw)}
}

// begin installs the mesh where there is none, with this CA. Then it takes the Secret away, and the signer starts anew without.
func (ca givenCA) begin(t *testing.T) {
	t.Helper()
	const name = "offline-intermediate"
	system := controlPlane(t)
	if _, err := env.client.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: system.name}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: name}, Type: corev1.SecretTypeTLS,
		Data: map[string][]byte{corev1.TLSCertKey: ca.chain, corev1.TLSPrivateKeyKey: ca.key, "ca.crt": ca.top},
	}
	if _, err := env.client.CoreV1().Secrets(system.name).Create(t.Context(), secret, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	env.install(t, "--set signer.givenCA="+name)
	system.kubectl("delete", "secret", name)
	system.kubectl("rollout", "restart", "deployment/heddle-signer")
}

// vouches says why the chain that a pod's sidecar shows to others does not lead to the CA's root, or is not the pod's.
func (ca givenCA) vouches(n *namespace, pod string) error {
	n.t.Helper()
	v4, _ := n.addresses(pod)
	var shown []*x509.Certificate
	n.eventually(func() error {
		text, err := n.try("exec", "reader", "--", "/testapp", "certificates", "--of="+net.JoinHostPort(v4, "8080"))
		if err != nil {
			return err
		}
		shown = nil
		for block, rest := pem.Decode([]byte(text)); block != nil; block, rest = pem.Decode(rest) {
			c, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				return fmt.Errorf("read %q: %w", text, err)
			}
			shown = append(shown, c)
		}
		return nil
	})
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(ca.root)
	for _, c := range shown[1:] {
		between.AddCert(c)
	}
	o := x509.VerifyOptions{Roots: roots, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	if _, err := shown[0].Verify(o); err != nil {
		return fmt.Errorf("the chain of %s, issued by %q: %w", pod, shown[0].Issuer, err)
	}
	if ids := shown[0].URIs; len(ids) != 1 || ids[0].String() != n.identity() {
		return fmt.Errorf("the certificate of %s is for %v, want %s", pod, ids, n.identity())
	}
	return nil
}

// rotate moves the mesh to a given CA, as docs/identity.md says, until that signs.
func (n *namespace) rotate(to givenCA) {
	n.t.Helper()
	leader := func(command ...string) *exec.Cmd {
		return n.command(n.t.Context(), append([]string{"exec", "-i", "deploy/heddle-signer", "--", "/heddle", "identity"}, command...)...)
	}
	order := leader("rotate", "--to", "-")
	order.Stdin = strings.NewReader(string(slices.Concat(to.chain, to.key, to.top)))
	out, err := order.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "The rotation has begun") {
		n.t.Fatalf("order a rotation: %v: %s", err, out)
	}
	began := time.Now()
	n.eventually(func() error {
		out, err := leader("-o", "json").Output()
		if err != nil {
			return fmt.Errorf("heddle identity: %w: %s", err, out)
		}
		var now struct{ Rotation keep.Progress }
		if err := json.Unmarshal(out, &now); err != nil {
			return fmt.Errorf("read what heddle identity prints, %q: %w", out, err)
		}
		if now.Rotation.Phase != identity.Signing {
			return fmt.Errorf("the rotation is in phase %s: %v", now.Rotation.Phase, now.Rotation.Waits)
		}
		return nil
	})
	n.t.Logf("the given CA signs %v after it was ordered", time.Since(began).Round(100*time.Millisecond))
}

// pods gives the names of those that have one of these labels and run.
func (n *namespace) pods(labels ...string) (names []string) {
	n.t.Helper()
	for _, label := range labels {
		names = append(names, strings.Fields(n.kubectl("get", "pods", "-l", label, "--field-selector=status.phase=Running", "-o", "jsonpath={.items[*].metadata.name}"))...)
	}
	return names
}
