package roles

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heddle-mesh/heddle/controlplane"
	"github.com/heddle-mesh/heddle/controlplane/operator"
	"github.com/heddle-mesh/heddle/identity"
	"github.com/heddle-mesh/heddle/identity/client"
	"github.com/heddle-mesh/heddle/identity/keep"
	"github.com/heddle-mesh/heddle/identity/service"
)

func TestASidecarGetsItsIdentityFromTheSignerAndItsConfigurationFromAServerThatMayNotReadTheCA(t *testing.T) {
	w := newTown(t)
	w.serveServer("heddle-1", 15010, w.serverPod)
	said := ""
	eventually(t, "the server says why it is not ready", func() bool {
		var code int
		code, said = w.ready(15014)
		return code == http.StatusServiceUnavailable && strings.Contains(said, "there is no certificate yet") && strings.Contains(said, "bundle.json")
	})
	w.serveSigner(brief{})
	w.waitReady(15013)
	w.waitReady(15014)

	p := w.sidecarPod()
	catalog, err := w.client.CoreV1().Services(p.Namespace).Create(t.Context(), &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "catalog"}, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 8000}}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	h := w.agent(p)
	eventually(t, "the sidecar is told of the Service", func() bool {
		got, err := w.configure(15010, h, p)
		return err == nil && slices.ContainsFunc(got.Resources, func(r *discoveryv3.Resource) bool { return strings.Contains(r.Name, "|"+catalog.Name+"|") })
	})

	eventually(t, "the sidecar's namespace has the trust bundle", func() bool {
		_, err := w.client.CoreV1().ConfigMaps(p.Namespace).Get(t.Context(), keep.TrustConfigMap, metav1.GetOptions{})
		return err == nil
	})
	_, err = clientOf(t, w.server).CoreV1().Secrets(w.system).Get(t.Context(), keep.CASecret, metav1.GetOptions{})
	if !apierrors.IsForbidden(err) {
		t.Errorf("the server reads the CA: %v", err)
	}
	for name, anchors := range w.waitTrusted() {
		if got, err := w.call(15017, anchors); got != "heddle-1" || err != nil {
			t.Errorf("webhook %s: %q, %v", name, got, err)
		}
	}
	f, _ := w.facts()
	if len(f.Sidecars) != 2 || !slices.ContainsFunc(f.Sidecars, isServer) {
		t.Errorf("the signer knows %+v", f.Sidecars)
	}
}

// waitTrusted waits until the API server has somebody to trust each webhook by.
func (w *town) waitTrusted() (all map[string][]byte) {
	w.t.Helper()
	eventually(w.t, "the API server is told whom to trust", func() bool {
		all = w.trusted()
		return len(all) == 3 && !slices.ContainsFunc(slices.Collect(maps.Values(all)), func(b []byte) bool { return len(b) == 0 })
	})
	return all
}

// The long way of a rotation, with everybody watching: no call of the API server fails, and no sidecar is turned away.
func TestARotationCompletesAcrossServersAndNobodyIsTurnedAway(t *testing.T) {
	w := newTown(t)
	w.serveSigner(brief{leaf: 30 * time.Second, token: time.Second, skew: time.Second})
	w.serveServer("heddle-1", 15010, w.serverPod)
	w.serveServer("heddle-2", 16010, w.pod(w.system, "heddle-2", controlplane.ServerAccount, nil))
	w.waitReady(15014)
	w.waitReady(16014)
	p := w.sidecarPod()
	h := w.agent(p)
	before := w.waitTrusted()["policy.heddle.dev"]
	_, at := w.facts()

	if err := (operator.Client{Socket: filepath.Join(w.dir, "signer.sock")}).Call(t.Context(), http.MethodPost, operator.RotatePath, operator.Rotation{}, nil); err != nil {
		t.Fatal(err)
	}
	calls, both := 0, false
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	var last progress
	for end := time.Now().Add(10 * time.Minute); last.Phase != identity.Steady || last.Signer == at.Signer; <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("the rotation stands at %+v", last)
		}
		was := last.Phase
		anchors := w.trusted()["policy.heddle.dev"]
		_, last = w.facts()
		both = both || count(anchors) == 2
		if was == identity.Signing && last.Phase == was && count(anchors) != 2 {
			t.Errorf("while both CAs may have signed, the API server trusts %d", count(anchors))
		}
		for _, port := range []uint16{15010, 16010} {
			if _, err := w.configure(port, h, p); err != nil {
				t.Errorf("phase %s: the sidecar is turned away: %v", last.Phase, err)
			}
			if _, err := w.call(port+7, anchors); err != nil {
				t.Errorf("phase %s: the API server is turned away: %v", last.Phase, err)
			}
			calls++
		}
	}
	t.Logf("%d rounds of calls", calls)
	if !both {
		t.Error("the API server never trusted both CAs")
	}
	eventually(t, "the API server trusts the new CA alone", func() bool {
		now := w.trusted()
		return !slices.ContainsFunc(slices.Collect(maps.Values(now)), func(b []byte) bool { return count(b) != 1 || bytes.Equal(b, before) })
	})
}

// count is how many certificates there are.
func count(anchors []byte) int { return bytes.Count(anchors, []byte("BEGIN CERTIFICATE")) }

func TestARotationWaitsUntilTheAPIServerTrustsTheNewCA(t *testing.T) {
	w := newTown(t)
	w.serveSigner(brief{leaf: time.Minute, token: time.Second, skew: time.Second})
	w.serveServer("heddle-1", 15010, w.serverPod)
	w.waitReady(15014)
	w.waitTrusted()
	roles := w.client.RbacV1().ClusterRoles()
	role, err := roles.Get(t.Context(), w.system+"-"+controlplane.ServerAccount, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	rights := slices.Clone(role.Rules)
	for i := range role.Rules { // it may look, and not write
		role.Rules[i].Verbs = slices.DeleteFunc(slices.Clone(role.Rules[i].Verbs), func(v string) bool { return v == "patch" })
	}
	if role, err = roles.Update(t.Context(), role, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := (operator.Client{Socket: filepath.Join(w.dir, "signer.sock")}).Call(t.Context(), http.MethodPost, operator.RotatePath, operator.Rotation{}, nil); err != nil {
		t.Fatal(err)
	}
	var now progress
	eventually(t, "the rotation waits for the server alone", func() bool {
		_, now = w.facts()
		return len(now.Waits) == 1 && strings.Contains(now.Waits[0], "proxies to take the bundle") && strings.Contains(now.Waits[0], w.system+"/heddle-1")
	})
	if now.Phase != identity.Introducing {
		t.Errorf("it is in phase %s", now.Phase)
	}
	role.Rules = rights
	if _, err := roles.Update(t.Context(), role, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the new CA signs", func() bool { _, now = w.facts(); return now.Phase == identity.Signing })
	for name, anchors := range w.trusted() {
		if count(anchors) != 2 {
			t.Errorf("the new CA signs, and the API server trusts %d for %s", count(anchors), name)
		}
	}
}

func TestTheServerMayNotHaveOtherNamesAndASidecarMayHaveNone(t *testing.T) {
	w := newTown(t)
	w.serveSigner(brief{})
	w.waitReady(15013)
	p := w.sidecarPod()
	own := controlplane.ServingNames(w.system)
	for name, c := range map[string]struct {
		pod   *corev1.Pod
		names []string
		want  string // empty: it is issued
	}{
		"the server, its names":         {w.serverPod, own, ""},
		"the server, another name":      {w.serverPod, append(own, "kubernetes.default.svc"), "not-control-plane"},
		"the server, a name like it":    {w.serverPod, []string{"heddle." + w.system + ".svc.cluster.local.evil"}, "not-control-plane"},
		"the server, no name":           {w.serverPod, nil, "request"},
		"a sidecar, the server's names": {p, own, "not-control-plane"},
		"a sidecar, a name of its own":  {p, []string{"web." + p.Namespace + ".svc"}, "not-control-plane"},
	} {
		leaf, err := w.serving(c.pod, c.names)
		switch {
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), "("+c.want+")")):
			t.Errorf("%s: %v; want a refusal by %s", name, err, c.want)
		case c.want == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case c.want == "":
			if !slices.Equal(leaf.DNSNames, c.names) || leaf.URIs[0].String() != w.id(w.system, controlplane.ServerAccount).String() {
				t.Errorf("%s: it is for %v and %v", name, leaf.DNSNames, leaf.URIs)
			}
			if _, _, err := identity.PodOf(leaf); err == nil {
				t.Errorf("%s: it names a pod, so that one can dial with it", name)
			}
		}
	}
}

func TestTheControlPlaneMayReadTheFactsOfIdentitiesAndASidecarMayNot(t *testing.T) {
	w := newTown(t)
	w.serveSigner(brief{})
	w.waitReady(15013)
	p := w.sidecarPod()
	for name, c := range map[string]struct {
		pod  *corev1.Pod
		want string
	}{"the server": {w.serverPod, ""}, "a sidecar": {p, "(forbidden)"}} {
		h := w.agent(c.pod)
		ctx, stop := context.WithTimeout(t.Context(), patience)
		defer stop()
		if !h.Wait(ctx) {
			t.Fatal(name, h.Faults())
		}
		own, _, _ := h.Current()
		text, err := client.New(client.Options{
			Address: w.address(15012), Signer: w.id(w.system, controlplane.SignerAccount), Bundle: w.bundle, Certificate: own.TLS,
		}).Facts(ctx)
		if c.want == "" && (err != nil || !bytes.Contains(text, []byte(`"anchors"`))) {
			t.Errorf("%s reads %s, %v", name, text, err)
		}
		if c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s reads %s, %v", name, text, err)
		}
	}
}

func isServer(s service.Sidecar) bool { return s.Account == controlplane.ServerAccount }

// The signer's Service leads to what is ready, so one that could not say why nothing is signed would be of no use to
// anybody just then.
func TestWithoutItsCATheSignerIsReachedAndSaysWhyNothingIsSigned(t *testing.T) {
	w := newTown(t)
	w.serveSigner(brief{})
	w.waitReady(15013)
	w.serveServer("heddle-1", 15010, w.serverPod)
	w.waitReady(15014)
	h := w.agent(w.serverPod)
	ctx, stop := context.WithTimeout(t.Context(), patience)
	defer stop()
	if !h.Wait(ctx) {
		t.Fatal(h.Faults())
	}
	own, _, _ := h.Current()
	asks := client.New(client.Options{
		Address: w.address(15012), Signer: w.id(w.system, controlplane.SignerAccount), Bundle: w.bundle, Certificate: own.TLS,
	})

	kept := w.client.CoreV1().Secrets(w.system)
	ca, err := kept.Get(t.Context(), keep.CASecret, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := kept.Delete(t.Context(), keep.CASecret, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the signer says that its CA is gone", func() bool {
		_, said := w.ready(15013)
		return strings.Contains(said, "nothing is signed (ca-missing)")
	})
	for range 5 { // it stays so
		if code, said := w.ready(15013); code != http.StatusOK {
			t.Fatalf("its Service leads nowhere: /readyz says %d %s", code, said)
		}
	}
	p := w.sidecarPod()
	sidecar := w.agent(p)
	eventually(t, "a sidecar that starts hears why it gets no certificate", func() bool {
		return strings.Contains(strings.Join(sidecar.Faults(), "\n"), "(ca-missing)")
	})
	if _, err := asks.Serving(ctx, "a token", nil, controlplane.ServingNames(w.system)); err == nil || !strings.Contains(err.Error(), "(ca-missing)") {
		t.Errorf("a server hears %v", err)
	}
	text, err := asks.Facts(ctx) // as the server does for heddle identity --context
	var f struct {
		Anchors  []service.Anchor
		Rotation keep.Progress
	}
	if err := errors.Join(err, json.Unmarshal(text, &f)); err != nil {
		t.Fatalf("people cannot be told: %v", err)
	}
	if len(f.Anchors) != 1 || !strings.Contains(f.Rotation.Fault, keep.CASecret) || !strings.Contains(f.Rotation.Fault, "is gone") {
		t.Errorf("people are told %s", text)
	}
	if text := w.metrics(15013); !strings.Contains(text, "\nheddle_identity_signing 0\n") || !strings.Contains(text, "\nheddle_identity_fault{code=\"ca-missing\"} 1\n") {
		t.Errorf("the metrics are\n%s", text)
	}

	ca.ResourceVersion, ca.UID = "", ""
	if _, err := kept.Create(t.Context(), ca, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the sidecar gets its certificate", func() bool { c, _, _ := sidecar.Current(); return c != nil })
}

// metrics are what a process shows.
func (w *town) metrics(port uint16) string {
	w.t.Helper()
	r, err := http.Get("http://" + w.address(port) + "/metrics")
	if err != nil {
		w.t.Fatal(err)
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return string(text)
}
