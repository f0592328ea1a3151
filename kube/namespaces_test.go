package kube

import (
	"context"
	"fmt"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestALabelThatWasSetAMomentAgoCounts(t *testing.T) {
	client := api.Client(t)
	n, ns := NewNamespaces(client), api.Namespace(t)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	label := func(value string) {
		t.Helper()
		patch := fmt.Sprintf(`{"metadata":{"labels":{"heddle.dev/inject":%q}}}`, value)
		if _, err := client.CoreV1().Namespaces().Patch(t.Context(), ns, "application/merge-patch+json", []byte(patch), metav1.PatchOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	for _, value := range []string{"disabled", "enabled"} { // at once, be the watch behind or not
		label(value)
		if labels, err := n.Labels(t.Context(), ns); err != nil || labels["heddle.dev/inject"] != value {
			t.Errorf("right after it became %s the labels are %v, %v", value, labels, err)
		}
	}
	label("disabled")
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for labels := map[string]string{"heddle.dev/inject": "enabled"}; labels["heddle.dev/inject"] == "enabled"; <-tick.C {
		var err error
		if labels, err = n.Labels(t.Context(), ns); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := n.Labels(t.Context(), "there-is-none"); !apierrors.IsNotFound(err) {
		t.Errorf("of a namespace that is not there: %v", err)
	}
}
