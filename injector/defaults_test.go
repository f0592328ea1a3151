package injector

import (
	"maps"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

func TestADefaultGivesWayToThePodRatherThanHaveItRefused(t *testing.T) {
	quick := func(seconds int64) func(*corev1.Pod) {
		return func(p *corev1.Pod) { p.Spec.TerminationGracePeriodSeconds = &seconds }
	}
	for name, c := range map[string]struct {
		defaults, own map[string]string
		pod           func(*corev1.Pod)
		want          map[string]string // default annotations, and own ones, as they are on the pod
		pause         int64
		warns         string
	}{
		"a pause with room": {
			defaults: map[string]string{preStopSleepKey: "10"}, want: map[string]string{preStopSleepKey: "10"}, pause: 10,
		},
		"a pause as long as the grace period": {
			defaults: map[string]string{preStopSleepKey: "10"}, pod: quick(10), want: map[string]string{preStopSleepKey: "5"}, pause: 5,
			warns: "terminationGracePeriodSeconds is 10: the pause before containers end is 5 s instead of 10",
		},
		"a pause without any grace period": {
			defaults: map[string]string{preStopSleepKey: "10"}, pod: quick(0), want: map[string]string{preStopSleepKey: "off"},
			warns: "the pause before containers end is 0 s instead of 10",
		},
		"a pause that the pod switches off": {
			defaults: map[string]string{preStopSleepKey: "10"}, own: map[string]string{preStopSleepKey: "off"}, pod: quick(10),
			want: map[string]string{preStopSleepKey: "off"},
		},
		"a request over the pod's own limit": {
			defaults: map[string]string{proxyCPURequest: "200m"}, own: map[string]string{proxyCPULimit: "100m"},
			want: map[string]string{proxyCPURequest: "100m", proxyCPULimit: "100m"}, pause: 3,
		},
		"a limit under the pod's own request": {
			defaults: map[string]string{proxyMemoryLimit: "128Mi"}, own: map[string]string{proxyMemoryRequest: "1Gi"},
			want: map[string]string{proxyMemoryLimit: "1Gi", proxyMemoryRequest: "1Gi"}, pause: 3,
		},
		"requests in a pod with resources for all containers": {
			defaults: map[string]string{proxyCPURequest: "2", proxyCPULimit: "3", proxyMemoryLimit: "1Gi"}, own: map[string]string{proxyMemoryLimit: "128Mi"},
			pod: func(p *corev1.Pod) {
				p.Spec.Resources = &corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1")}}
			},
			want: map[string]string{proxyMemoryLimit: "128Mi"}, pause: 3,
		},
		"a socket where the pod has a volume": {
			defaults: map[string]string{workloadAPIKey: Enabled},
			pod: func(p *corev1.Pod) {
				p.Spec.Volumes = []corev1.Volume{{Name: "own"}}
				p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "own", MountPath: workloadDir}}
			},
			want: map[string]string{}, pause: 3, warns: "does not get the Workload API",
		},
	} {
		t.Run(name, func(t *testing.T) {
			pod := podOf(t, []byte("spec: {containers: [{name: app, image: app}]}"))
			if c.pod != nil {
				c.pod(pod)
			}
			pod.Annotations = maps.Clone(c.own)
			before := pod.DeepCopy()
			o := options(nil)
			o.Defaults = c.defaults
			r := must(Patch(pod, o))
			if r.Outcome != Injected {
				t.Fatalf("%s: %s", r.Outcome, r.Message())
			}
			if diff := cmp.Diff(before, pod); diff != "" {
				t.Errorf("Patch changed its input:\n%s", diff)
			}
			if diff := cmp.Diff(c.want, r.Pod.Annotations); diff != "" {
				t.Errorf("annotations (-want +got):\n%s", diff)
			}
			if got := strings.Join(r.Warnings, "\n"); (c.warns == "") != (got == "") || !strings.Contains(got, c.warns) {
				t.Errorf("it warns %q, want %q", got, c.warns)
			}
			var pause int64
			if l := r.Pod.Spec.Containers[0].Lifecycle; l != nil {
				pause = l.PreStop.Sleep.Seconds
			}
			if pause != c.pause {
				t.Errorf("the pause is %d s, want %d", pause, c.pause)
			}
			// The annotations are what the sidecar was made by: without the defaults they make the same again.
			pod.Annotations = maps.Clone(r.Pod.Annotations)
			again := must(Patch(pod, options(nil)))
			if diff := cmp.Diff(r.Pod.Spec, again.Pod.Spec); diff != "" {
				t.Errorf("what is on the pod does not make the same sidecar:\n%s", diff)
			}
			if without, _, err := Remove(r.Pod); err != nil || cmp.Diff(before.Spec, without.Spec, cmpopts.EquateEmpty()) != "" {
				t.Errorf("what is removed again: %v, %s", err, cmp.Diff(before.Spec, without.Spec, cmpopts.EquateEmpty()))
			}
		})
	}
}

func TestWhatThePodItselfAsksForIsRefusedWhateverTheDefaults(t *testing.T) {
	pod := podOf(t, []byte("spec: {terminationGracePeriodSeconds: 5, containers: [{name: app, image: app}]}"))
	pod.Annotations = map[string]string{preStopSleepKey: " 10 ", proxyCPURequest: "2", proxyCPULimit: "1"}
	o := options(nil)
	o.Defaults = map[string]string{preStopSleepKey: "1", proxyCPURequest: "1", proxyCPULimit: "2"}
	r := must(Patch(pod, o))
	for _, want := range []string{"leaves nothing of terminationGracePeriodSeconds, which is 5", `"2" is more than ` + proxyCPULimit} {
		if r.Outcome != Refused || !strings.Contains(r.Message(), want) {
			t.Errorf("%s: %s; want a refusal with %q", r.Outcome, r.Message(), want)
		}
	}
}
