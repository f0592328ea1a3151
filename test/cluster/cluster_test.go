package cluster

import (
	"crypto/x509"
	"encoding/pem"
	"os"
	"os/exec"
	"strings"
	"testing"

	"k8s.io/client-go/tools/clientcmd"
)

func TestANameFitsAnInterface(t *testing.T) {
	for _, name := range []string{"Dev", "far-away", "ninechars", "a/b", "a b"} {
		if _, err := newCluster(name); err == nil {
			t.Errorf("%q was taken as the name of a cluster", name)
		}
	}
}

func TestAProcessOutsideTheCgroupIsNotEnded(t *testing.T) {
	bystander := exec.Command("sleep", "60")
	if err := bystander.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		bystander.Wait()
		close(ended)
	}()
	// As if the number had been a member's a moment ago.
	cgroups{name: "heddle-nobody"}.killMember(bystander.Process.Pid)
	if err := bystander.Process.Signal(os.Interrupt); err != nil {
		t.Errorf("the process was ended: %v", err)
	}
	<-ended
	if status := bystander.ProcessState.String(); status != "signal: interrupt" {
		t.Errorf("the process ended by %q, want the interrupt of this test", status)
	}
}

func TestContributorsReadWhatAMachineNeeds(t *testing.T) {
	text, err := os.ReadFile("../../CONTRIBUTING.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), "\n"+InstallCommand()+"\n") {
		t.Errorf("CONTRIBUTING.md does not say: %s", InstallCommand())
	}
}

func TestAProcessIsKnownByItsStart(t *testing.T) {
	first, boot, err := startOf(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	again, _, err := startOf(os.Getpid())
	if err != nil || again != first {
		t.Errorf("the start of this process is %s, then %s (%v)", first, again, err)
	}
	other, _, err := startOf(1)
	if err != nil || other == first {
		t.Errorf("process 1 started at %s, and this one at %s (%v)", other, first, err)
	}
	if len(boot) != len("4fb47623-b456-604f-b852-f277d6fc592f") {
		t.Errorf("this boot is %q", boot)
	}
}

func TestAFolderHoldsWhatIsBelowItAlone(t *testing.T) {
	for path, want := range map[string]bool{
		"/run/heddle-a": true, "/run/heddle-a/mounts": true, "/run/heddle-ab": false, "/run": false,
	} {
		if got := inside(path, "/run/heddle-a"); got != want {
			t.Errorf("inside(%q) is %v", path, got)
		}
	}
	if got := unescape(`/run/a\040b\134c`); got != `/run/a b\c` {
		t.Errorf("got %q", got)
	}
}

func TestAuthorityCertifiesWhomItIsTold(t *testing.T) {
	p, err := newPKI(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := p.client(subject{"kubelet", "system:node:n", []string{"system:nodes"}}, "https://10.10.0.1:6443"); err != nil {
		t.Fatal(err)
	}
	config, err := clientcmd.BuildConfigFromFlags("", p.dir+"/kubelet.kubeconfig")
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(config.CertData)
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(config.CAData)
	if _, err := cert.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
		t.Error(err)
	}
	if got := cert.Subject.String(); !strings.Contains(got, "CN=system:node:n,O=system:nodes") {
		t.Errorf("the certificate names %s", got)
	}
}
