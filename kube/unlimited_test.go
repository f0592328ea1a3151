package kube

import (
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

func TestUnlimitedClientsShareNoConnection(t *testing.T) {
	var mu sync.Mutex
	from := map[string]int{}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		from[r.RemoteAddr]++
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"apiVersion":"v1","kind":"Secret","metadata":{"name":"x"}}`))
	}))
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(server.Close)
	c := must[*Cluster](t)(NewCluster(ClusterOptions{Config: &rest.Config{
		Host: server.URL, TLSClientConfig: rest.TLSClientConfig{Insecure: true},
	}}))
	for range 2 {
		client := must[kubernetes.Interface](t)(c.Unlimited())
		for range 3 {
			if _, err := client.CoreV1().Secrets("x").Get(t.Context(), "x", metav1.GetOptions{}); err != nil {
				t.Fatal(err)
			}
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if len(from) != 2 {
		t.Errorf("two clients of three requests each came by %d connections: %v", len(from), from)
	}
}
