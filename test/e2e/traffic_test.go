//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/tools/cache"
)

// trafficRate is how many requests a second the clients of testdata/restarts.yaml send in all.
const trafficRate = 210

// traffic is what the clients of testdata/restarts.yaml meet. They count by themselves and leave the count in their pod's
// status when they end, so every pod of the namespace is watched until it is gone.
type traffic struct {
	ns    *namespace
	began time.Time

	mu   sync.Mutex
	pods map[string]*corev1.Pod // the last that was seen, by name
	ran  map[string]bool        // containers seen running, POD/CONTAINER
}

// traffic starts servers and clients, and returns when all of them are at work.
func (n *namespace) traffic() *traffic {
	n.t.Helper()
	f := &traffic{ns: n, pods: map[string]*corev1.Pod{}, ran: map[string]bool{}}
	factory := informers.NewSharedInformerFactoryWithOptions(env.client, 0, informers.WithNamespace(n.name))
	pods := factory.Core().V1().Pods().Informer()
	_, err := pods.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    f.see,
		UpdateFunc: func(_, now any) { f.see(now) },
		DeleteFunc: f.see,
	})
	if err != nil {
		n.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	n.t.Cleanup(stop)
	factory.StartWithContext(ctx)
	n.apply("testdata/restarts.yaml")
	n.rolledOut("server")
	n.scale("client", "3")
	f.began = time.Now()
	return f
}

func (f *traffic) see(object any) {
	if last, ok := object.(cache.DeletedFinalStateUnknown); ok {
		object = last.Obj
	}
	pod := object.(*corev1.Pod)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.pods[pod.Name] = pod
	for _, c := range pod.Status.ContainerStatuses {
		if c.State.Running != nil {
			f.ran[pod.Name+"/"+c.Name] = true
		}
	}
}

// sent is how many requests were sent at least, if clients keep to their rate.
func (f *traffic) sent() int { return int(time.Since(f.began).Seconds()) * trafficRate }

// end ends the clients, and wants that none of at least so many requests has failed, and that no TCP stream ended before
// its server did.
func (f *traffic) end(atLeast int) {
	t := f.ns.t
	t.Helper()
	f.ns.kubectl("scale", "deployment/client", "--replicas=0")
	f.ns.gone("app=client")
	total := report{Failures: map[string]int{}}
	byKind := map[string]int{}
	for _, c := range f.counted() {
		total.Sent += c.Sent
		byKind[c.container] += c.Sent
		total.P99, total.Max = max(total.P99, c.P99), max(total.Max, c.Max)
		failed := c.Failed
		if c.container == "tcp" {
			failed -= f.streams(c)
		}
		if failed > 0 {
			total.Failed += failed
			t.Errorf("%s of %s: %d of %d failed: %v", c.container, c.pod, failed, c.Sent, c.Failures)
		}
	}
	t.Logf("%d requests (%v), %d failed; the worst client's p99 %.0f ms, the longest %.0f ms", total.Sent, byKind, total.Failed, total.P99, total.Max)
	if total.Sent < atLeast {
		t.Errorf("%d requests were counted, want at least %d", total.Sent, atLeast)
	}
}

// count is the report of one client.
type count struct {
	report
	pod, container string
}

// counted gives the reports of all clients that ever ran.
func (f *traffic) counted() []count {
	t := f.ns.t
	f.mu.Lock()
	defer f.mu.Unlock()
	var all []count
	for _, name := range slices.Sorted(maps.Keys(f.pods)) {
		pod := f.pods[name]
		if pod.Labels["app"] != "client" {
			continue
		}
		for _, status := range pod.Status.ContainerStatuses {
			c := count{pod: name, container: status.Name}
			ended := status.State.Terminated
			switch {
			case ended == nil && !f.ran[name+"/"+status.Name]: // it was ended before it began
				continue
			case status.RestartCount > 0:
				t.Errorf("%s of %s was started %d times: %+v", c.container, name, status.RestartCount+1, status.LastTerminationState)
			case ended == nil || ended.ExitCode != 0:
				t.Errorf("%s of %s has left no count: %+v", c.container, name, status.State)
			default:
				if err := json.Unmarshal([]byte(ended.Message), &c.report); err != nil {
					t.Errorf("%s of %s left %q: %v", c.container, name, ended.Message, err)
					continue
				}
				all = append(all, c)
			}
		}
	}
	return all
}

// streams gives how many streams of a client ended because their server had, and complains of those that ended before.
func (f *traffic) streams(c count) (good int) {
	for _, end := range c.Ends {
		if err := f.ownEnd(end); err != nil {
			f.ns.t.Errorf("a TCP stream of %s: %v", c.pod, err)
			continue
		}
		good++
	}
	return good
}

// ownEnd says whether a stream ended with its own pod's server.
func (f *traffic) ownEnd(end streamEnd) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	pod := f.pods[end.Server]
	if pod == nil {
		return fmt.Errorf("it ended at %v (%s) with no server: it was %q", end.At, end.Why, end.Server)
	}
	for _, s := range pod.Status.ContainerStatuses {
		if s.Name != "tcp" {
			continue
		}
		if s.State.Terminated == nil {
			return fmt.Errorf("it ended at %v (%s), and its server %s lives", end.At, end.Why, end.Server)
		}
		// Kubernetes keeps whole seconds, and a connection ends a moment before its process has ended.
		if ended := s.State.Terminated.FinishedAt.Time; end.At.Before(ended.Add(-time.Second)) {
			return fmt.Errorf("it ended at %v (%s), before its server %s did at %v", end.At, end.Why, end.Server, ended)
		}
		return nil
	}
	return fmt.Errorf("its server %s has no container tcp", end.Server)
}

// rolledOut waits until Deployments are as they should be, with nothing left of what was before.
func (n *namespace) rolledOut(deployments ...string) {
	n.t.Helper()
	for _, d := range deployments {
		n.kubectl("rollout", "status", "deployment/"+d, "--timeout="+patience.String())
	}
	n.eventually(func() error {
		out, err := n.try("get", "pods", "-o", `jsonpath={range .items[?(@.metadata.deletionTimestamp)]}{.metadata.name} {end}`)
		if err == nil && strings.TrimSpace(out) != "" {
			err = fmt.Errorf("still there: %s", out)
		}
		return err
	})
}

// gone waits until no pod has a label.
func (n *namespace) gone(label string) {
	n.t.Helper()
	n.eventually(func() error {
		out, err := n.try("get", "pods", "-l", label, "-o", "name")
		if err == nil && strings.TrimSpace(out) != "" {
			err = fmt.Errorf("still there: %s", out)
		}
		return err
	})
}

// pod gives the name of one that has a label and stays.
func (n *namespace) pod(label string) string {
	n.t.Helper()
	var name string
	n.eventually(func() error {
		out, err := n.try("get", "pods", "-l", label, "--field-selector=status.phase=Running", "-o",
			`jsonpath={range .items[*]}{.metadata.name}{" "}{.metadata.deletionTimestamp}{"\n"}{end}`)
		for line := range strings.Lines(out) {
			if f := strings.Fields(line); len(f) == 1 {
				name = f[0]
				return nil
			}
		}
		if err == nil {
			err = fmt.Errorf("no pod with %s runs", label)
		}
		return err
	})
	return name
}
