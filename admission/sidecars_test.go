package admission

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heddle-mesh/heddle/injector"
)

func image() injector.Options { return injector.Options{Image: "example/heddle-proxy"} }

func withDefaults(defaults map[string]string) injector.Options {
	o := image()
	o.Defaults = defaults
	return o
}

func TestDefaultsHoldForPodsThatSayNothingElse(t *testing.T) {
	s, err := NewSidecars(withDefaults(map[string]string{"heddle.dev/proxy-log-level": "debug", "heddle.dev/drain-time": "9s"}))
	if err != nil {
		t.Fatal(err)
	}
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{"heddle.dev/drain-time": "8s"}}}
	pod.Spec.Containers = []corev1.Container{{Name: "app"}}
	in := Place{Namespace: "shop", Labels: map[string]string{injector.InjectKey: injector.Enabled}, Seed: "a"}
	i, err := s.Inject(pod, in)
	if err != nil || i.Pod == nil {
		t.Fatalf("it becomes %+v, %v", i, err)
	}
	if a := i.Pod.Annotations; a["heddle.dev/proxy-log-level"] != "debug" || a["heddle.dev/drain-time"] != "8s" {
		t.Errorf("the annotations are %v", a)
	}
	if len(pod.Annotations) != 1 {
		t.Errorf("the pod itself became %v", pod.Annotations)
	}
	pod.Annotations["heddle.dev/drain-time"] = "never"
	if i, err = s.Inject(pod, in); err != nil || !strings.Contains(i.Refusal, `heddle.dev/drain-time: "never" is not understood; write`) {
		t.Errorf("it becomes %+v, %v", i, err)
	}
	in.Labels = nil
	if i, err = s.Inject(pod, in); err != nil || i.Pod != nil || i.Refusal != "" || i.Reason == "" {
		t.Errorf("a pod that nobody asks to have it becomes %+v, %v", i, err)
	}
}

func TestDefaultsAndOptionsThatAreNoGoodFailAtTheStart(t *testing.T) {
	for name, c := range map[string]struct {
		options injector.Options
		want    string
	}{
		"no image":             {injector.Options{}, "no image"},
		"a value":              {withDefaults(map[string]string{"heddle.dev/drain-time": "never"}), `"never" is not understood`},
		"a contradiction":      {withDefaults(map[string]string{"heddle.dev/proxy-cpu-request": "2", "heddle.dev/proxy-cpu-limit": "1"}), `"2" is more than`},
		"more than most have":  {withDefaults(map[string]string{"heddle.dev/prestop-sleep": "30"}), "leaves nothing of terminationGracePeriodSeconds"},
		"another's annotation": {withDefaults(map[string]string{"example.com/a": "b"}), "example.com/a"},
		"whether there is one": {withDefaults(map[string]string{injector.InjectKey: "disabled"}), injector.InjectKey},
	} {
		if _, err := NewSidecars(c.options); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want an error with %q", name, err, c.want)
		}
	}
}

func TestADefaultThatDoesNotFitAPodDoesNotHaveItRefused(t *testing.T) {
	s, err := NewSidecars(withDefaults(map[string]string{"heddle.dev/prestop-sleep": "20"}))
	if err != nil {
		t.Fatal(err)
	}
	pod := &corev1.Pod{Spec: corev1.PodSpec{TerminationGracePeriodSeconds: new(int64(10)), Containers: []corev1.Container{{Name: "app"}}}}
	i, err := s.Inject(pod, Place{Namespace: "shop", Labels: map[string]string{injector.InjectKey: injector.Enabled}, Seed: "a"})
	if err != nil || i.Pod == nil || i.Refusal != "" || !strings.Contains(strings.Join(i.Warnings, " "), "5 s instead of 20") {
		t.Errorf("it becomes %+v, %v", i, err)
	}
}
