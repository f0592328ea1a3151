package kube

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/client-go/rest"

	"github.com/heddle-mesh/heddle/model"
)

// logLines collects what is logged at Info and above.
type logLines struct{ lines chan string }

func (l logLines) Write(p []byte) (int, error) {
	l.lines <- string(p)
	return len(p), nil
}

func TestAStartWaitsForAnAPIServerThatIsAway(t *testing.T) {
	ns := api.Namespace(t)
	cm := objects{t, api.Client(t), ns}.policy("catalog")
	saved := model.SavedPolicy{ConfigMap: model.Key{Namespace: ns, Name: "catalog"}, UID: string(cm.UID), Item: "traffic.yaml", Good: "kind: Traffic"}
	save(t, newRevisions(t, zerolog.Nop()), saved)

	config := api.Config(t)
	line := throughLine(t, config)
	line.cut()
	log := logLines{make(chan string, 100)}
	c := must[*Cluster](t)(NewCluster(ClusterOptions{Config: config, Log: zerolog.New(log).Level(zerolog.InfoLevel)}))
	type result struct {
		policies []model.SavedPolicy
		err      error
	}
	loaded := make(chan result, 1)
	go func() {
		policies, err := c.Revisions().Load(t.Context())
		loaded <- result{policies, err}
	}()
	synced := make(chan struct{}, 1)
	running, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- c.Run(running, func(events []model.Event) {
			if events[len(events)-1].Synced {
				synced <- struct{}{}
			}
		})
	}()
	if said := <-log.lines; !strings.Contains(said, "does not answer") {
		t.Errorf("it says %q", said)
	}
	waitFor(t, "further attempts", func() bool { return strings.Contains(c.Status().Reason, "refused") })
	select {
	case r := <-loaded:
		t.Fatalf("it did not wait: %+v", r)
	case err := <-ended:
		t.Fatalf("it did not wait: %v", err)
	default:
	}

	line.open(t, line.listener.Addr().String())
	r := <-loaded
	found := false
	for _, p := range r.policies {
		found = found || p.ConfigMap == saved.ConfigMap
	}
	if r.err != nil || !found {
		t.Errorf("loaded %+v", r)
	}
	<-synced
	if said := <-log.lines; !strings.Contains(said, "answers again") {
		t.Errorf("it says %q", said)
	}
	if len(log.lines) > 0 {
		t.Errorf("it says more: %s", <-log.lines)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestWhoMayNotReadTheLastGoodPoliciesIsToldSo(t *testing.T) {
	load := func(config *rest.Config) error {
		_, err := must[*Cluster](t)(NewCluster(ClusterOptions{Config: config})).Revisions().Load(t.Context())
		return err
	}
	limited := api.Limited(t, api.Namespace(t), rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"pods"}, Verbs: []string{"list"}})
	if err := load(limited); err == nil || !strings.Contains(err.Error(), "the right to get, list, create, update and delete controllerrevisions.apps is needed") {
		t.Errorf("without the right: %v", err)
	}
	wrong := api.Config(t)
	wrong.BearerToken = "wrong"
	if err := load(wrong); err == nil || !strings.Contains(err.Error(), "does not accept the credentials") {
		t.Errorf("with wrong credentials: %v", err)
	}
}

// An API server that has just started refuses everything until it has read who may do what.
func TestAnAPIServerThatIsBackMayRefuseForAMoment(t *testing.T) {
	const forbidden = `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Forbidden","code":403,"message":"not yet"}`
	answers := []func(http.ResponseWriter){
		func(http.ResponseWriter) { panic(http.ErrAbortHandler) },
		func(w http.ResponseWriter) { w.WriteHeader(http.StatusForbidden); w.Write([]byte(forbidden)) },
		func(w http.ResponseWriter) {
			w.Write([]byte(`{"kind":"ControllerRevisionList","apiVersion":"apps/v1","items":[]}`))
		},
	}
	var asked atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		answers[asked.Add(1)-1](w)
	}))
	defer server.Close()
	load := func() error {
		_, err := must[*Cluster](t)(NewCluster(ClusterOptions{Config: &rest.Config{Host: server.URL}})).Revisions().Load(t.Context())
		return err
	}
	if err := load(); err != nil {
		t.Errorf("after it was away: %v", err)
	}
	asked.Store(1)
	if err := load(); err == nil {
		t.Error("a refusal by an API server that was there all the time was taken for a passing one")
	}
}

func TestTheMomentOfReturnPasses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &link{}
		for _, step := range []struct {
			connected bool
			after     time.Duration
			want      bool
		}{{true, 0, false}, {false, time.Hour, true}, {true, 9 * time.Second, true}, {true, time.Second, false}} {
			l.set(Status{Connected: step.connected})
			time.Sleep(step.after)
			if got := l.returned(); got != step.want {
				t.Errorf("%v after it was seen connected %v: %v", step.after, step.connected, got)
			}
		}
	})
}
