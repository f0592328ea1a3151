package keep

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	corev1apply "k8s.io/client-go/applyconfigurations/core/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/heddle-mesh/heddle/kube/leader"
)

// Names of the objects, and of what is in them.
const (
	CASecret        = "heddle-ca"
	TrustConfigMap  = "heddle-trust"
	SignerLease     = "heddle-signer"
	BundleItem      = "bundle.json" // of the ConfigMap: the SPIFFE bundle, which sidecars mount
	FingerprintItem = "fingerprint" // of the ConfigMap
	caItem          = "ca.json"     // of the Secret
	trustLabel      = "heddle.dev/trust"
	fieldManager    = "heddle-signer"
	copiesAtOnce    = 8
	copyTimeout     = 10 * time.Second // of one
)

// ClusterOptions say in which cluster. All but LeaseDuration are required.
type ClusterOptions struct {
	Client        kubernetes.Interface
	Namespace     string        // our own
	Identity      string        // of this process among those that may lead: its pod's name
	LeaseDuration time.Duration // after which a leader that is silent is replaced; default 15 s
}

// InCluster keeps the CA in a Secret and the bundle in ConfigMaps.
//
// It needs, in its own namespace, get, create and update on secrets, configmaps and leases, and delete on configmaps
// for [Keeper.Recover]; and, in all namespaces, create and patch on configmaps named heddle-trust.
func InCluster(o Options, c ClusterOptions) *Keeper {
	return newKeeper(o, &cluster{options: c, log: o.Log})
}

type cluster struct {
	options ClusterOptions
	log     zerolog.Logger
	elector atomic.Pointer[leader.Elector] // set before any work
}

func (c *cluster) caName() string { return "Secret " + c.options.Namespace + "/" + CASecret }
func (c *cluster) trustName() string {
	return "ConfigMap " + c.options.Namespace + "/" + TrustConfigMap
}

func (c *cluster) read(ctx context.Context) (s stored, err error) {
	known, err := c.options.Client.CoreV1().ConfigMaps(c.options.Namespace).Get(ctx, TrustConfigMap, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
	case err != nil:
		return stored{}, fmt.Errorf("read %s: %w", c.trustName(), err)
	case known.Data[FingerprintItem] == "":
		return stored{}, fmt.Errorf("read %s: it has no %s; restore it, or delete it if the CA is there", c.trustName(), FingerprintItem)
	default:
		s.trust = trust{known.Data[FingerprintItem], []byte(known.Data[BundleItem])}
		s.trustVersion = known.ResourceVersion
	}
	secret, err := c.options.Client.CoreV1().Secrets(c.options.Namespace).Get(ctx, CASecret, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return s, nil
	case err != nil:
		return stored{}, fmt.Errorf("read %s: %w", c.caName(), err)
	}
	s.caVersion, s.ca = secret.ResourceVersion, secret.Data[caItem]
	if s.ca == nil {
		s.ca = []byte{} // it is there, and empty: no reason to make a new one
	}
	return s, nil
}

func (c *cluster) writeCA(ctx context.Context, was stored, text []byte) error {
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: CASecret, Namespace: c.options.Namespace, ResourceVersion: was.caVersion},
		Data:       map[string][]byte{caItem: text},
		Type:       corev1.SecretTypeOpaque,
	}
	secrets := c.options.Client.CoreV1().Secrets(c.options.Namespace)
	var err error
	if was.caVersion == "" {
		_, err = secrets.Create(ctx, secret, metav1.CreateOptions{FieldManager: fieldManager})
	} else {
		_, err = secrets.Update(ctx, secret, metav1.UpdateOptions{FieldManager: fieldManager})
	}
	return written(c.caName(), err)
}

func (c *cluster) writeTrust(ctx context.Context, was stored, t trust) error {
	m := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{
			Name: TrustConfigMap, Namespace: c.options.Namespace, ResourceVersion: was.trustVersion,
			Labels: map[string]string{trustLabel: "true"},
		},
		Data: dataOf(t),
	}
	maps := c.options.Client.CoreV1().ConfigMaps(c.options.Namespace)
	var err error
	if was.trustVersion == "" {
		_, err = maps.Create(ctx, m, metav1.CreateOptions{FieldManager: fieldManager})
	} else {
		_, err = maps.Update(ctx, m, metav1.UpdateOptions{FieldManager: fieldManager})
	}
	return written(c.trustName(), err)
}

func dataOf(t trust) map[string]string {
	return map[string]string{FingerprintItem: t.Fingerprint, BundleItem: string(t.Bundle)}
}

// written tells a write that another process was faster with from other failures.
func written(name string, err error) error {
	switch {
	case err == nil:
		return nil
	case apierrors.IsConflict(err), apierrors.IsAlreadyExists(err), apierrors.IsNotFound(err):
		return fmt.Errorf("write %s: %w: %w", name, errChanged, err)
	}
	return fmt.Errorf("write %s: %w", name, err)
}

func (c *cluster) forgetTrust(ctx context.Context, was stored) error {
	only := metav1.DeleteOptions{Preconditions: &metav1.Preconditions{ResourceVersion: &was.trustVersion}}
	return written(c.trustName(), c.options.Client.CoreV1().ConfigMaps(c.options.Namespace).Delete(ctx, TrustConfigMap, only))
}

// copyTrust writes the bundle into namespaces, a few at a time. A namespace that is gone, or going, needs none.
func (c *cluster) copyTrust(ctx context.Context, t trust, namespaces []string) map[string]error {
	var mu sync.Mutex
	failed := map[string]error{}
	slots := make(chan struct{}, copiesAtOnce)
	var copies sync.WaitGroup
	for _, namespace := range namespaces {
		if namespace == c.options.Namespace {
			continue // that is the original
		}
		slots <- struct{}{}
		copies.Go(func() {
			defer func() { <-slots }()
			ctx, cancel := context.WithTimeout(ctx, copyTimeout)
			defer cancel()
			m := corev1apply.ConfigMap(TrustConfigMap, namespace).WithLabels(map[string]string{trustLabel: "true"}).WithData(dataOf(t))
			_, err := c.options.Client.CoreV1().ConfigMaps(namespace).Apply(ctx, m, metav1.ApplyOptions{FieldManager: fieldManager, Force: true})
			if err == nil || apierrors.IsNotFound(err) || apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			failed[namespace] = fmt.Errorf("write ConfigMap %s/%s: %w", namespace, TrustConfigMap, err)
		})
	}
	copies.Wait()
	return failed
}

func (c *cluster) holds() bool {
	e := c.elector.Load()
	return e != nil && e.Holds()
}

func (c *cluster) alone() bool { return false }

// lead runs work whenever this process holds the Lease. Work has ended before the Lease is given up.
func (c *cluster) lead(ctx context.Context, work func(ctx context.Context)) error {
	e, err := leader.New(leader.Options{
		Leases: c.options.Client.CoordinationV1(), Namespace: c.options.Namespace, Name: SignerLease,
		Identity: c.options.Identity, Duration: c.options.LeaseDuration, Log: c.log,
	})
	if err != nil {
		return err
	}
	c.elector.Store(e)
	return e.Run(ctx, func(ctx context.Context) {
		c.log.Info().Msg("this replica signs")
		work(ctx)
		c.log.Info().Msg("this replica does not sign any more")
	})
}
