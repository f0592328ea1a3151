package keep

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/heddle-mesh/heddle/identity"
)

// signers are replicas in a namespace of their own.
type signers struct {
	t         testing.TB
	client    kubernetes.Interface
	namespace string
}

func newSigners(t testing.TB) *signers {
	s := &signers{t: t, client: api.Client(t), namespace: api.Namespace(t)}
	t.Cleanup(func() {
		err := s.client.CoreV1().Secrets(s.namespace).Delete(context.Background(), CASecret, metav1.DeleteOptions{})
		if err != nil && !apierrors.IsNotFound(err) {
			t.Logf("the CA of %s is left behind: %v", s.namespace, err)
		}
	})
	return s
}

func (s *signers) options(name string) ClusterOptions {
	return ClusterOptions{Client: s.client, Namespace: s.namespace, Identity: name, LeaseDuration: 3 * time.Second}
}

func (s *signers) start(name string, change ...func(*Options)) *running {
	s.t.Helper()
	o := options(s.t, &proxies{})
	o.Every = 50 * time.Millisecond
	for _, c := range change {
		c(&o)
	}
	return start(s.t, InCluster(o, s.options(name)))
}

func (s *signers) secret() *corev1.Secret {
	s.t.Helper()
	return must[*corev1.Secret](s.t)(s.client.CoreV1().Secrets(s.namespace).Get(s.t.Context(), CASecret, metav1.GetOptions{}))
}

func TestReplicasThatStartAtOnceMakeOneRootAndOneOfThemSigns(t *testing.T) {
	s := newSigners(t)
	var replicas []*running
	for i := range 3 {
		replicas = append(replicas, s.start(fmt.Sprint("signer-", i)))
	}
	leader := s.leader(replicas)
	for _, r := range replicas {
		eventually(t, "every replica has loaded the CA", func() bool { return r.Progress().Signer != "" })
		if r.Progress().Signer != leader.Progress().Signer {
			t.Error("the replicas have different roots")
		}
		if r != leader && CodeOf(r.Ready()) != NotLeading {
			t.Errorf("a second replica signs, or says %v", r.Ready())
		}
	}
	first := leader.Progress().Signer
	leader.stop()
	rest := make([]*running, 0, 2)
	for _, r := range replicas {
		if r != leader {
			rest = append(rest, r)
		}
	}
	if got := s.leader(rest).Progress().Signer; got != first {
		t.Errorf("the next leader signs with %s, the first did with %s", got, first)
	}
}

func (s *signers) leader(of []*running) (leader *running) {
	s.t.Helper()
	eventually(s.t, "one replica signs", func() bool {
		for _, r := range of {
			if r.Ready() == nil {
				leader = r
				return true
			}
		}
		return false
	})
	return leader
}

// Without a Lease between them, as after a partition.
func TestTwoWritersThatRaceForTheFirstCAMakeOneRoot(t *testing.T) {
	s := newSigners(t)
	const writers = 8
	created := make(chan error, writers)
	var together sync.WaitGroup
	together.Add(writers)
	for i := range writers {
		k := InCluster(options(t, nil), s.options(fmt.Sprint("signer-", i)))
		go func() {
			was, err := k.store.read(t.Context())
			together.Done()
			together.Wait() // all have seen that there is nothing
			if err == nil {
				err = k.create(t.Context(), was)
			}
			created <- err
		}()
	}
	made := 0
	for range writers {
		switch err := <-created; {
		case err == nil:
			made++
		case !errors.Is(err, errChanged):
			t.Errorf("a writer failed: %v", err)
		}
	}
	if made != 1 {
		t.Errorf("%d roots were made", made)
	}
}

func TestAWriterThatOnlyThinksItLeadsChangesNothing(t *testing.T) {
	s := newSigners(t)
	k := s.start("signer-0")
	k.ready()
	late := InCluster(options(t, nil), s.options("signer-1"))
	was := must[stored](t)(late.store.read(t.Context()))
	do(t, k.Rotate(t.Context(), nil))
	eventually(t, "the rotation is over", func() bool {
		return k.Progress().Phase == identity.Steady && k.Progress().Generation != was.trust.Fingerprint
	})
	for what, err := range map[string]error{
		"the CA":       late.store.writeCA(t.Context(), was, was.ca),
		"the bundle":   late.store.writeTrust(t.Context(), was, was.trust),
		"giving it up": late.store.forgetTrust(t.Context(), was),
	} {
		if !errors.Is(err, errChanged) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestADeletedOrCorruptSecretStopsSigningUntilItIsRestored(t *testing.T) {
	s := newSigners(t)
	k := s.start("signer-0")
	first := k.ready()
	backup := s.secret()
	backup.ResourceVersion, backup.UID = "", ""
	secrets := s.client.CoreV1().Secrets(s.namespace)

	do(t, secrets.Delete(t.Context(), CASecret, metav1.DeleteOptions{}))
	k.wantFault(Missing)
	k.stop()
	k = s.start("signer-1")
	k.wantFault(Missing)
	if list := must[*corev1.SecretList](t)(secrets.List(t.Context(), metav1.ListOptions{})); len(list.Items) != 0 {
		t.Error("a new CA was made")
	}
	must[*corev1.Secret](t)(secrets.Create(t.Context(), backup, metav1.CreateOptions{}))
	if got := k.ready(); got != first {
		t.Errorf("the CA is %s after it was restored, and was %s", got, first)
	}

	broken := s.secret()
	broken.Data = map[string][]byte{"tls.key": []byte("x")}
	must[*corev1.Secret](t)(secrets.Update(t.Context(), broken, metav1.UpdateOptions{}))
	k.wantFault(Corrupt)
	do(t, secrets.Delete(t.Context(), CASecret, metav1.DeleteOptions{}))
	k.wantFault(Missing)
	do(t, k.Recover(t.Context()))
	if got := k.ready(); got == first {
		t.Error("the old CA signs after it was given up")
	}
}

func TestTheBundleIsKeptCurrentInEachMeshedNamespace(t *testing.T) {
	s := newSigners(t)
	shop, bank := api.Namespace(t), api.Namespace(t)
	var mu sync.Mutex
	meshed := []string{shop}
	k := s.start("signer-0", func(o *Options) {
		o.Namespaces = func() []string {
			mu.Lock()
			defer mu.Unlock()
			return append([]string(nil), meshed...)
		}
	})
	k.ready()
	current := func(namespace string) bool {
		m, err := s.client.CoreV1().ConfigMaps(namespace).Get(t.Context(), TrustConfigMap, metav1.GetOptions{})
		if err != nil || m.Data[FingerprintItem] != k.Progress().Generation {
			return false
		}
		b, err := identity.ParseBundle(domain(t), []byte(m.Data[BundleItem]))
		return err == nil && identity.Fingerprint(b) == m.Data[FingerprintItem]
	}
	eventually(t, "the first namespace has it", func() bool { return current(shop) })
	mu.Lock()
	meshed = append(meshed, bank, "gone")
	mu.Unlock()
	k.Wake()
	eventually(t, "the second namespace has it, whatever a third one is", func() bool { return current(bank) })

	before := k.Progress().Generation
	do(t, k.Rotate(t.Context(), nil))
	eventually(t, "the rotation is over", func() bool {
		at := k.Progress()
		return at.Phase == identity.Steady && at.Generation != before
	})
	eventually(t, "both have the new one", func() bool { return current(shop) && current(bank) })
}

func TestACopyThatCannotBeWrittenHoldsTheRotationAtFirst(t *testing.T) {
	s := newSigners(t)
	shop := api.Namespace(t)
	// It may do all in general, but for writing ConfigMaps elsewhere: patch is what copies need.
	config := api.Limited(t, s.namespace,
		rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"secrets", "configmaps"}, Verbs: []string{"get", "create", "update", "delete"}},
		rbacv1.PolicyRule{APIGroups: []string{"coordination.k8s.io"}, Resources: []string{"leases"}, Verbs: []string{"get", "create", "update"}})
	limited := must[*kubernetes.Clientset](t)(kubernetes.NewForConfig(config))
	o := options(t, &proxies{})
	o.Every = 50 * time.Millisecond
	asked := make(chan struct{}, 1000)
	o.Namespaces = func() []string {
		select {
		case asked <- struct{}{}:
		default:
		}
		return []string{shop}
	}
	c := s.options("signer-0")
	c.Client = limited
	k := start(t, InCluster(o, c))
	k.ready()
	do(t, k.Rotate(t.Context(), nil))
	k.phase(identity.Introducing)
	for len(asked) > 0 {
		<-asked
	}
	for range 3 { // rounds in which it could have gone on
		<-asked
	}
	if got := k.Progress().Phase; got != identity.Introducing {
		t.Errorf("the rotation went on to %s", got)
	}
}
