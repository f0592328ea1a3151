package kube

import (
	"context"
	"fmt"
	"strings"

	authorizationv1 "k8s.io/api/authorization/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// explain turns a refusal into what to do about it. A missing right is rarely alone, so it asks for all of them.
func (c *Cluster) explain(ctx context.Context, refusal error) error {
	if apierrors.IsUnauthorized(refusal) {
		return fmt.Errorf("watch the cluster: %w", refusedCredentials(refusal))
	}
	missing, err := c.missingRights(ctx)
	if err != nil || len(missing) == 0 {
		return fmt.Errorf("watch the cluster: %w; grant get, list and watch on it with a ClusterRole", refusal)
	}
	return fmt.Errorf("watch the cluster: %w; in all, the right is missing to %s: grant it with a ClusterRole and a ClusterRoleBinding",
		refusal, strings.Join(missing, ", "))
}

func refusedCredentials(refusal error) error {
	return fmt.Errorf("the API server does not accept the credentials: %w; renew them, or name another --context", refusal)
}

// missingRights lists what the client may not do, as "list pods".
func (c *Cluster) missingRights(ctx context.Context) ([]string, error) {
	var missing []string
	for _, k := range c.kinds {
		for _, verb := range []string{"list", "watch"} {
			review := &authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{
				ResourceAttributes: &authorizationv1.ResourceAttributes{Verb: verb, Group: k.group, Resource: k.resource},
			}}
			answer, err := c.client.AuthorizationV1().SelfSubjectAccessReviews().Create(ctx, review, metav1.CreateOptions{})
			if err != nil {
				return nil, fmt.Errorf("ask whether we may %s %s: %w", verb, k.resource, err)
			}
			if !answer.Status.Allowed {
				missing = append(missing, verb+" "+k.resource)
			}
		}
	}
	return missing, nil
}
