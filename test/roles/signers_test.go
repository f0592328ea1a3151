package roles

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/heddle-mesh/heddle/controlplane"
	"github.com/heddle-mesh/heddle/controlplane/operator"
	"github.com/heddle-mesh/heddle/identity"
	"github.com/heddle-mesh/heddle/identity/client"
	"github.com/heddle-mesh/heddle/identity/hold"
	"github.com/heddle-mesh/heddle/identity/keep"
	"github.com/heddle-mesh/heddle/identity/service"
	"github.com/heddle-mesh/heddle/kube"
	"github.com/heddle-mesh/heddle/test/relay"
	"github.com/heddle-mesh/heddle/test/wait"
)

// childVariable holds the setting of a signer that is a process of its own: this test binary, run again. Replicas on one
// machine have one host name, by which heddle serve tells itself from the others.
const childVariable = "HEDDLE_ROLES_SIGNER"

// replica is one of several signers.
type replica struct {
	Name, System, Kubeconfig string
	Address, Listen, Socket  string

	kill   func()
	writes *atomic.Int64 // of the CA, and of the trust bundle
}

// short are the lives and the Lease of replicas, so that a rotation and a succession are.
const (
	shortLeaf  = 24 * time.Second
	shortLease = 8 * time.Second
)

// child runs a replica until it is killed.
func child(text string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	var r replica
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		return err
	}
	config, err := kube.ClientConfig(kube.ClientOptions{Kubeconfig: r.Kubeconfig})
	if err != nil {
		return err
	}
	cluster, err := kube.NewCluster(kube.ClusterOptions{Config: config})
	if err != nil {
		return err
	}
	c, err := cluster.Unlimited()
	if err != nil {
		return err
	}
	return controlplane.SignerRole{
		Signer: controlplane.SignerOptions{
			TrustDomain: trustDomain(), Namespace: r.System, Lifetime: shortLeaf, TokenLife: time.Second, Skew: time.Second, Log: zerolog.New(os.Stderr),
		},
		Cluster: controlplane.ClusterOptions{Client: c, Identity: r.Name, LeaseDuration: shortLease},
		Address: r.Address, Operator: r.Socket, Listen: r.Listen,
	}.Run(ctx)
}

// replica starts one, whose way to the API server counts what it writes.
func (w *town) replica(name string, port uint16) *replica {
	w.t.Helper()
	r := &replica{
		Name: name, System: w.system, Address: w.address(port), Listen: w.address(port + 1), Socket: filepath.Join(w.dir, name+".sock"),
		writes: &atomic.Int64{},
	}
	to, err := url.Parse(w.signer.Host)
	if err != nil {
		w.t.Fatal(err)
	}
	transport, err := rest.TransportFor(w.signer)
	if err != nil {
		w.t.Fatal(err)
	}
	way := &http.Server{Handler: &httputil.ReverseProxy{
		FlushInterval: -1, Transport: transport,
		Rewrite: func(p *httputil.ProxyRequest) {
			p.SetURL(to)
			resource := p.In.URL.Path
			if p.In.Method != http.MethodGet && (strings.Contains(resource, "/secrets") || strings.Contains(resource, "/configmaps")) {
				r.writes.Add(1)
			}
		},
		ErrorHandler: func(rw http.ResponseWriter, _ *http.Request, _ error) { rw.WriteHeader(http.StatusBadGateway) }, // who asked was killed
	}}
	l, err := net.Listen("tcp", w.address(port+2))
	if err != nil {
		w.t.Fatal(err)
	}
	wait.Background(w.t, "the way of "+name, func(ctx context.Context) error {
		context.AfterFunc(ctx, func() { _ = way.Close() }) // says what connections said
		if err := way.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	r.Kubeconfig = w.kubeconfig(name, &rest.Config{Host: "http://" + l.Addr().String()})
	text, err := json.Marshal(r)
	if err != nil {
		w.t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Setenv(childVariable, string(text))
	r.kill = w.process(self, name, "is", "a signer")
	return r
}

// progress is where a replica sees the rotation.
func (r *replica) progress(t *testing.T) keep.Progress {
	t.Helper()
	var p keep.Progress
	eventually(t, r.Name+" tells where the rotation stands", func() bool {
		f := service.Facts{Rotation: &p}
		return operator.Client{Socket: r.Socket}.Call(t.Context(), http.MethodGet, operator.IdentityPath, nil, &f) == nil
	})
	return p
}

// balance is a Service of replicas: each connection goes to the next one, or to another where that does not answer.
func (w *town) balance(replicas ...*replica) {
	turn := make(chan int, 1)
	turn <- 0
	relay.Listen(w.t, w.address(15012), func(from net.Conn) {
		defer from.Close()
		first := <-turn
		turn <- first + 1
		for i := range replicas {
			to, err := net.Dial("tcp", replicas[(first+i)%len(replicas)].Address)
			if err != nil {
				continue
			}
			go func() {
				_, _ = io.Copy(to, from) // ends with either connection
				_ = to.Close()
			}()
			_, _ = io.Copy(from, to)
			return
		}
	})
}

// signerOf names who signed the certificate that somebody holds.
func (w *town) signerOf(h *hold.Holder) string {
	w.t.Helper()
	own, bundle, _ := h.Current()
	return service.AuthorityOf(own.Chain(), bundle)
}

// holder is who holds the signers' Lease.
func (w *town) holder() string {
	w.t.Helper()
	l, err := w.client.CoordinationV1().Leases(w.system).Get(w.t.Context(), keep.SignerLease, metav1.GetOptions{})
	if err != nil || l.Spec.HolderIdentity == nil {
		return ""
	}
	return *l.Spec.HolderIdentity
}

func TestOfTwoSignersTheHolderOfTheLeaseAloneWritesAndTheOtherFinishesItsRotation(t *testing.T) {
	w := newTown(t)
	if err := w.client.CoreV1().Pods(w.system).Delete(t.Context(), w.serverPod.Name, metav1.DeleteOptions{GracePeriodSeconds: new(int64)}); err != nil {
		t.Fatal(err) // it has no identity here, and a rotation would wait for it
	}
	leader, other := w.replica("signer-1", 15020), w.replica("signer-2", 15030)
	w.waitReady(15021)
	w.waitReady(15031)
	if w.holder() == other.Name {
		leader, other = other, leader
	}
	w.balance(leader, other)
	p := w.sidecarPod()
	h := w.agent(p)
	ctx, stop := context.WithTimeout(t.Context(), patience)
	defer stop()
	if !h.Wait(ctx) {
		t.Fatal(h.Faults())
	}
	old := leader.progress(t).Signer
	if got := other.progress(t); got.Signer != old || got.Leading {
		t.Errorf("by who leads %.16s signs, and the other says %.16s, leading: %t", old, got.Signer, got.Leading)
	}
	if got := w.signerOf(h); got != old {
		t.Errorf("the certificate is by %.16s, want %.16s", got, old)
	}
	own, _, _ := h.Current()
	_, err := client.New(client.Options{
		Address: other.Address, Signer: w.id(w.system, controlplane.SignerAccount), Bundle: w.bundle, Certificate: own.TLS,
	}).JWT(t.Context(), []string{"test"})
	if refused, ok := errors.AsType[*client.Error](err); !ok || refused.Code != string(keep.NotLeading) {
		t.Errorf("who does not lead says %v, want a refusal by %s", err, keep.NotLeading)
	}
	if n := other.writes.Load(); n != 0 || leader.writes.Load() == 0 {
		t.Errorf("%d writes by who does not lead, %d by who does", n, leader.writes.Load())
	}

	if err := (operator.Client{Socket: leader.Socket}).Call(t.Context(), http.MethodPost, operator.RotatePath, operator.Rotation{}, nil); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the rotation has begun", func() bool { return len(leader.progress(t).Authority) == 2 })
	begun := leader.progress(t)
	leader.kill()
	eventually(t, "the other one leads", func() bool { return other.progress(t).Leading && w.holder() == other.Name })
	if got := other.progress(t); fmt.Sprint(got.Authority) != fmt.Sprint(begun.Authority) {
		t.Errorf("after the leader's death %.16q are trusted, before it %.16q", got.Authority, begun.Authority)
	}
	var end keep.Progress
	eventually(t, "the rotation has ended", func() bool {
		end = other.progress(t)
		return end.Phase == identity.Steady && end.Fault == ""
	})
	if end.Signer != begun.Successor || len(end.Authority) != 1 || other.writes.Load() == 0 {
		t.Errorf("it ended with %+v after %d writes; want that %.16s alone is trusted", end, other.writes.Load(), begun.Successor)
	}
	if got := w.signerOf(h); got != end.Signer {
		t.Errorf("the sidecar's certificate is by %.16s, want %.16s", got, end.Signer)
	}
}
