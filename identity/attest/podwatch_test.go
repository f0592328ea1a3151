package attest

import (
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

func podObject(namespace, name string, change ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, UID: types.UID("uid-" + name), Labels: map[string]string{"sidecar": "true"}},
		Spec:       corev1.PodSpec{ServiceAccountName: "web", NodeName: "node-1"},
		Status:     corev1.PodStatus{Phase: corev1.PodRunning},
	}
	for _, c := range change {
		c(p)
	}
	return p
}

// watched is a PodWatch with the store that a reflector fills.
func watched(t *testing.T, c *clock, objects ...*corev1.Pod) (*PodWatch, podStore) {
	t.Helper()
	w := NewPodWatch(PodWatchOptions{Label: "sidecar", Now: c.Now, ControlPlane: "heddle-system/heddle"})
	list := make([]any, 0, len(objects))
	for _, o := range objects {
		list = append(list, o)
	}
	if _, known := w.Started(); known {
		t.Error("it claims to know the pods before the first listing")
	}
	if err := (podStore{w}).Replace(list, "1"); err != nil {
		t.Fatal(err)
	}
	return w, podStore{w}
}

func TestADeletedPodCountsUntilAMinuteAfterItsGracePeriod(t *testing.T) {
	c := newClock()
	w, _ := watched(t, c, podObject("shop", "web-1", func(p *corev1.Pod) {
		p.DeletionTimestamp = &metav1.Time{Time: c.Now().Add(30 * time.Second)}
	}))
	for _, want := range []bool{false, false, false, true} {
		if p, ok := w.Pod("shop", "web-1"); !ok || p.Gone != want {
			t.Errorf("at %v: %+v, %v; want gone %v", c.Now(), p, ok, want)
		}
		c.pass(31 * time.Second)
	}
}

func TestOnlyPodsWhoseSidecarMayHaveRunAreOnTheRoll(t *testing.T) {
	pending := func(p *corev1.Pod) { p.Status.Phase = corev1.PodPending }
	status := func(s corev1.ContainerStatus) func(*corev1.Pod) {
		return func(p *corev1.Pod) { p.Status.InitContainerStatuses = []corev1.ContainerStatus{s} }
	}
	for name, c := range map[string]struct {
		pod  *corev1.Pod
		want bool
	}{
		"running":               {podObject("shop", "web"), true},
		"waits for its image":   {podObject("shop", "web", pending, status(corev1.ContainerStatus{State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{}}})), false},
		"its sidecar runs":      {podObject("shop", "web", pending, status(corev1.ContainerStatus{State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}})), true},
		"its sidecar restarted": {podObject("shop", "web", pending, status(corev1.ContainerStatus{RestartCount: 1})), true},
		"without a sidecar":     {podObject("shop", "web", func(p *corev1.Pod) { p.Labels = nil }), false},
		"of the control plane": {podObject("heddle-system", "heddle-1", func(p *corev1.Pod) {
			p.Labels, p.Spec.ServiceAccountName = nil, "heddle"
		}), true},
		"of another account": {podObject("heddle-system", "other", func(p *corev1.Pod) { p.Labels = nil }), false},
		"of that account elsewhere": {podObject("shop", "heddle-1", func(p *corev1.Pod) {
			p.Labels, p.Spec.ServiceAccountName = nil, "heddle"
		}), false},
		"has failed": {podObject("shop", "web", func(p *corev1.Pod) { p.Status.Phase = corev1.PodFailed }), false},
	} {
		w, _ := watched(t, newClock(), c.pod)
		if list, known := w.Started(); !known || (len(list) == 1) != c.want {
			t.Errorf("%s: %v, %v", name, list, known)
		}
		if c.pod.Labels == nil && len(w.MeshedNamespaces()) != 0 {
			t.Errorf("%s: its namespace counts as one with sidecars", name)
		}
	}
}

func TestNamespacesWithSidecarsAreCounted(t *testing.T) {
	w, store := watched(t, newClock(), podObject("shop", "a"), podObject("shop", "b"))
	grown := 0
	w.options.Grown = func() { grown++ }
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	want := func(names ...string) {
		t.Helper()
		if got := w.MeshedNamespaces(); !slices.Equal(got, names) {
			t.Errorf("namespaces %q, want %q", got, names)
		}
	}
	want("shop")
	do(store.Add(podObject("bank", "c")))
	want("bank", "shop")
	do(store.Update(podObject("shop", "a")))
	do(store.Delete(podObject("shop", "a")))
	want("bank", "shop")
	do(store.Update(podObject("shop", "b", func(p *corev1.Pod) { p.Labels = nil })))
	want("bank")
	do(store.Delete(podObject("bank", "c")))
	want()
	if grown != 1 {
		t.Errorf("told %d times of a namespace's first sidecar", grown)
	}
	if store.Add(&corev1.Node{}) == nil || store.Delete(&corev1.Node{}) == nil || store.Replace([]any{&corev1.Node{}}, "2") == nil {
		t.Error("something that is no pod was taken for one")
	}
}
