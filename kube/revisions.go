package kube

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/rs/zerolog"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/clock"

	"github.com/heddle-mesh/heddle/model"
)

// Labels and annotation of the ControllerRevisions that hold last good policies.
const (
	lastGoodLabel  = "heddle.dev/last-good"     // "true"
	ownerLabel     = "heddle.dev/configmap-uid" // of the policy ConfigMap
	itemAnnotation = "heddle.dev/item"          // the key in its data
)

// Revisions keeps the last good policies in ControllerRevisions, which exist for this: named, immutable content that
// belongs to an object. The ConfigMap owns its revisions, so Kubernetes removes them with it.
//
// Any number of replicas may write. A revision's name follows from its content, so writing the same twice is one
// revision; of different ones the last written counts, and others are removed.
type Revisions struct {
	client kubernetes.Interface
	link   *link
	log    zerolog.Logger
}

// Revisions gives a keeper that uses the cluster's API server; Status tells of its requests as well.
func (c *Cluster) Revisions() *Revisions { return &Revisions{c.client, c.link, c.options.Log} }

// Load gives what was saved. It waits for an API server that is away, and fails if that refuses the credentials or the
// right. A revision that cannot be read is told of in the log and passed over.
func (r *Revisions) Load(ctx context.Context) ([]model.SavedPolicy, error) {
	list, err := r.all(ctx)
	switch {
	case apierrors.IsUnauthorized(err):
		return nil, fmt.Errorf("list the last good policies: %w", refusedCredentials(err))
	case err != nil:
		return nil, fmt.Errorf("list the last good policies: %w; the right to get, list, create, update and delete controllerrevisions.apps is needed", err)
	}
	slices.SortFunc(list.Items, newestFirst)
	type document struct{ namespace, owner, item string }
	seen := map[document]bool{}
	var policies []model.SavedPolicy
	for i := range list.Items {
		rev := &list.Items[i]
		d := document{rev.Namespace, rev.Labels[ownerLabel], rev.Annotations[itemAnnotation]}
		if seen[d] {
			continue
		}
		p, err := policyIn(rev)
		if err != nil {
			r.log.Error().Err(err).Str("namespace", rev.Namespace).Str("controllerrevision", rev.Name).
				Msg("saved policy is lost: until it is applied again, its last good version is unknown")
			continue
		}
		seen[d] = true
		policies = append(policies, p)
	}
	return policies, nil
}

// all lists every revision, and tries again for as long as that may help.
func (r *Revisions) all(ctx context.Context) (*appsv1.ControllerRevisionList, error) {
	delay := backoff().DelayWithReset(clock.RealClock{}, 10*time.Second)
	for {
		list, err := r.client.AppsV1().ControllerRevisions(metav1.NamespaceAll).List(ctx, metav1.ListOptions{
			LabelSelector: labels.Set{lastGoodLabel: "true"}.String(),
		})
		if err == nil || ctx.Err() != nil || !passes(err) && !r.link.returned() {
			return list, err
		}
		r.log.Debug().Err(err).Msg("listing the last good policies; trying again")
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(delay()):
		}
	}
}

// passes says that an error may go away by itself: there was no answer, or the API server says that it is at fault or
// overloaded.
func passes(err error) bool {
	var answer apierrors.APIStatus
	if !errors.As(err, &answer) {
		return true
	}
	code := answer.Status().Code
	return code >= http.StatusInternalServerError || code == http.StatusTooManyRequests
}

// policyIn reads a revision. Where it stands and whose it is is said by the object, not by its content, so that
// nobody can speak for another namespace or ConfigMap.
func policyIn(rev *appsv1.ControllerRevision) (model.SavedPolicy, error) {
	p, err := decodeSaved(rev.Data.Raw)
	if err != nil {
		return p, err
	}
	owned := slices.ContainsFunc(rev.OwnerReferences, func(o metav1.OwnerReference) bool {
		return o.Kind == "ConfigMap" && o.Name == p.ConfigMap.Name && string(o.UID) == p.UID
	})
	if !owned || p.ConfigMap.Namespace != rev.Namespace {
		return p, fmt.Errorf("it speaks of ConfigMap %s, which does not own it", p.ConfigMap)
	}
	return p, nil
}

func newestFirst(a, b appsv1.ControllerRevision) int {
	return cmp.Or(cmp.Compare(b.Revision, a.Revision), strings.Compare(a.Namespace, b.Namespace), strings.Compare(b.Name, a.Name))
}

// Save keeps a policy, or removes its revisions if nothing is left to keep. One that can never be kept gives ErrTooLarge.
func (r *Revisions) Save(ctx context.Context, p model.SavedPolicy) error {
	if err := r.save(ctx, p); err != nil {
		return fmt.Errorf("keep the last good version of ConfigMap %s, %s: %w", p.ConfigMap, p.Item, err)
	}
	return nil
}

// save tries again when another replica was faster.
func (r *Revisions) save(ctx context.Context, p model.SavedPolicy) error {
	const attempts = 20 // each that fails is one in which another replica got on
	var err error
	for range attempts {
		err = r.saveOnce(ctx, p)
		switch {
		case apierrors.IsConflict(err), apierrors.IsAlreadyExists(err), apierrors.IsNotFound(err) && !namespaceGone(err):
			continue
		case namespaceGone(err):
			return nil // and the ConfigMap with it
		}
		return err
	}
	return err
}

func namespaceGone(err error) bool {
	if apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
		return true
	}
	var status apierrors.APIStatus
	if !apierrors.IsNotFound(err) || !errors.As(err, &status) || status.Status().Details == nil {
		return false
	}
	return status.Status().Details.Kind == "namespaces"
}

func (r *Revisions) saveOnce(ctx context.Context, p model.SavedPolicy) error {
	client := r.client.AppsV1().ControllerRevisions(p.ConfigMap.Namespace)
	there, err := r.revisions(ctx, p)
	if err != nil {
		return err
	}
	keep := ""
	if !p.Empty() {
		want, err := revisionOf(p)
		if err != nil {
			return err
		}
		keep = want.Name
		if len(there) > 0 {
			want.Revision = there[0].Revision + 1
		}
		at := slices.IndexFunc(there, func(rev appsv1.ControllerRevision) bool { return rev.Name == want.Name })
		switch {
		case at == 0: // it is the newest
		case at > 0: // back to what was good once; its number may change, its content may not
			again := there[at].DeepCopy()
			again.Revision = want.Revision
			_, err = client.Update(ctx, again, metav1.UpdateOptions{})
		default:
			_, err = client.Create(ctx, want, metav1.CreateOptions{})
		}
		if err != nil {
			return err
		}
	}
	for _, rev := range there {
		if rev.Name == keep {
			continue
		}
		if err := client.Delete(ctx, rev.Name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
			return err
		}
	}
	return nil
}

// revisions lists those of one document, newest first.
func (r *Revisions) revisions(ctx context.Context, p model.SavedPolicy) ([]appsv1.ControllerRevision, error) {
	list, err := r.client.AppsV1().ControllerRevisions(p.ConfigMap.Namespace).List(ctx, metav1.ListOptions{
		LabelSelector: labels.Set{lastGoodLabel: "true", ownerLabel: p.UID}.String(),
	})
	if err != nil {
		return nil, err
	}
	there := slices.DeleteFunc(list.Items, func(rev appsv1.ControllerRevision) bool {
		return rev.Annotations[itemAnnotation] != p.Item
	})
	slices.SortFunc(there, newestFirst)
	return there, nil
}

// revisionOf makes the object that keeps a policy.
func revisionOf(p model.SavedPolicy) (*appsv1.ControllerRevision, error) {
	data, err := encodeSaved(p)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(data)
	const most = 253 - 1 - 16 // what a name may have, without the hash
	prefix := strings.TrimRight(p.ConfigMap.Name[:min(len(p.ConfigMap.Name), most)], "-.")
	return &appsv1.ControllerRevision{
		ObjectMeta: metav1.ObjectMeta{
			Name:        prefix + "-" + hex.EncodeToString(sum[:8]),
			Namespace:   p.ConfigMap.Namespace,
			Labels:      map[string]string{lastGoodLabel: "true", ownerLabel: p.UID},
			Annotations: map[string]string{itemAnnotation: p.Item},
			OwnerReferences: []metav1.OwnerReference{{
				APIVersion: "v1", Kind: "ConfigMap", Name: p.ConfigMap.Name, UID: types.UID(p.UID),
			}},
		},
		Data:     runtime.RawExtension{Raw: data},
		Revision: 1,
	}, nil
}
