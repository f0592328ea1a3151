package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	kubetest "github.com/heddle-mesh/heddle/test/kubernetes"
)

// recovering is an API server that answers 500 a few times, and then as one of a cluster where nothing is installed and the
// user may do everything.
func recovering(t *testing.T, faults int64) (config *rest.Config, asked *atomic.Int64) {
	t.Helper()
	asked = &atomic.Int64{}
	say := func(w http.ResponseWriter, status int, v any) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(v)
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/version" && asked.Add(1) <= faults:
			say(w, 500, metav1.Status{TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: "Failure", Reason: metav1.StatusReasonInternalError, Code: 500})
		case r.URL.Path == "/version":
			say(w, 200, map[string]string{"gitVersion": "v1.36.0"})
		case strings.HasSuffix(r.URL.Path, "/selfsubjectaccessreviews"):
			say(w, 201, authorizationv1.SelfSubjectAccessReview{
				TypeMeta: metav1.TypeMeta{Kind: "SelfSubjectAccessReview", APIVersion: "authorization.k8s.io/v1"},
				Status:   authorizationv1.SubjectAccessReviewStatus{Allowed: true},
			})
		default:
			say(w, 404, metav1.Status{TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: "Failure", Reason: metav1.StatusReasonNotFound, Code: 404})
		}
	}))
	t.Cleanup(s.Close)
	return &rest.Config{Host: s.URL}, asked
}

func TestWaitingEndsWhenNothingFailsAnyMore(t *testing.T) {
	config, asked := recovering(t, 2)
	kubeconfig := kubetest.KubeconfigOf(t, config, "default")
	code, stdout, stderr := typed("check", "--pre", "--kubeconfig", kubeconfig, "--wait", "2m")
	if code != 0 || !strings.HasSuffix(stdout, "\nStatus check results are √\n") || asked.Load() != 3 {
		t.Errorf("exit status %d after %d looks:\n%s%s", code, asked.Load(), stdout, stderr)
	}
	config, asked = recovering(t, 1)
	code, stdout, _ = typed("check", "--pre", "--kubeconfig", kubetest.KubeconfigOf(t, config, "default"))
	if code != 1 || asked.Load() != 1 || !strings.Contains(stdout, "kubectl get --raw '/readyz?verbose'") {
		t.Errorf("without --wait: exit status %d after %d looks:\n%s", code, asked.Load(), stdout)
	}
}
