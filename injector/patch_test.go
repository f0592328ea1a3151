package injector

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/tools/txtar"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/heddle-mesh/heddle/identity/keep"
)

var update = flag.Bool("update", false, "write the golden files anew")

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// options are those of all golden files, in a namespace with labels.
func options(labels map[string]string) Options {
	all := map[string]string{InjectKey: Enabled}
	for k, v := range labels {
		all[k] = v
	}
	return Options{Namespace: Namespace{Name: "shop", Labels: all}, Image: "heddle-proxy:1.0", Seed: "b2f4c1de-0000-4000-8000-000000000001"}
}

func podOf(t *testing.T, text []byte) *corev1.Pod {
	t.Helper()
	pod := &corev1.Pod{}
	if err := yaml.UnmarshalStrict(text, pod); err != nil {
		t.Fatal(err)
	}
	return pod
}

// TestGolden holds what becomes of pods against testdata/*.txtar. Each has pod.yaml, perhaps labels.yaml with those of the
// namespace, and want: the outcome, the lines that change in the pod, and how the mesh's own containers differ from those
// in least.txtar. whole.yaml, where it is there, is the pod with all that is added.
func TestGolden(t *testing.T) {
	paths, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no golden files: %v", err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) { golden(t, path) })
	}
}

func golden(t *testing.T, path string) {
	archive, err := txtar.ParseFile(path)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{}
	for _, f := range archive.Files {
		files[f.Name] = f.Data
	}
	labels := map[string]string{}
	if err := yaml.Unmarshal(files["labels.yaml"], &labels); err != nil {
		t.Fatal(err)
	}
	pod := podOf(t, files["pod.yaml"])
	before := pod.DeepCopy()
	result, err := Patch(pod, options(labels))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, pod); diff != "" {
		t.Errorf("Patch changed its input:\n%s", diff)
	}
	got := map[string]string{"want": describe(t, pod, result)}
	if _, ok := files["whole.yaml"]; ok {
		got["whole.yaml"] = string(must(yaml.Marshal(result.Pod)))
	}
	for i, f := range archive.Files {
		text, ok := got[f.Name]
		if !ok {
			continue
		}
		if *update {
			archive.Files[i].Data = []byte(text)
		} else if diff := cmp.Diff(string(f.Data), text); diff != "" {
			t.Errorf("%s (-want +got):\n%s", f.Name, diff)
		}
	}
	if *update {
		if err := os.WriteFile(path, txtar.Format(archive), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// describe is a result for people.
func describe(t *testing.T, pod *corev1.Pod, r Result) string {
	var b strings.Builder
	fmt.Fprintln(&b, r.Outcome)
	if message := r.Message(); message != "" {
		fmt.Fprintln(&b, message)
	}
	for _, w := range r.Warnings {
		fmt.Fprintln(&b, "warning:", w)
	}
	if r.Outcome != Injected {
		return b.String()
	}
	least := must(Patch(podOf(t, []byte("spec: {containers: [{name: app, image: app}]}")), options(nil)))
	r.Pod = r.Pod.DeepCopy()
	own, usual := without(r.Pod), without(least.Pod)
	fmt.Fprintln(&b, "the pod:")
	b.WriteString(difference(string(must(yaml.Marshal(pod))), string(must(yaml.Marshal(r.Pod)))))
	fmt.Fprintln(&b, "what is added:")
	b.WriteString(difference(string(must(yaml.Marshal(usual))), string(must(yaml.Marshal(own)))))
	return b.String()
}

// without takes what is ours out of a pod, and gives it.
func without(pod *corev1.Pod) corev1.PodSpec {
	var own corev1.PodSpec
	own.InitContainers, pod.Spec.InitContainers = pod.Spec.InitContainers[:2:2], pod.Spec.InitContainers[2:]
	i := slices.IndexFunc(pod.Spec.Volumes, func(v corev1.Volume) bool { return v.Name == tokenVolume })
	own.Volumes, pod.Spec.Volumes = pod.Spec.Volumes[i:], pod.Spec.Volumes[:i:i]
	return own
}

// difference gives the lines that differ, with two around them.
func difference(a, b string) string {
	x, y := strings.Split(strings.TrimSpace(a), "\n"), strings.Split(strings.TrimSpace(b), "\n")
	longest := make([][]int, len(x)+1)
	for i := range longest {
		longest[i] = make([]int, len(y)+1)
	}
	for i := len(x) - 1; i >= 0; i-- {
		for j := len(y) - 1; j >= 0; j-- {
			longest[i][j] = max(longest[i+1][j], longest[i][j+1])
			if x[i] == y[j] {
				longest[i][j] = longest[i+1][j+1] + 1
			}
		}
	}
	var lines []string
	for i, j := 0, 0; i < len(x) || j < len(y); {
		switch {
		case i < len(x) && j < len(y) && x[i] == y[j]:
			lines = append(lines, "  "+x[i])
			i, j = i+1, j+1
		case j == len(y) || i < len(x) && longest[i+1][j] >= longest[i][j+1]:
			lines = append(lines, "- "+x[i])
			i++
		default:
			lines = append(lines, "+ "+y[j])
			j++
		}
	}
	var out strings.Builder
	for i, line := range lines {
		near := lines[max(0, i-2):min(len(lines), i+3)]
		if slices.ContainsFunc(near, func(s string) bool { return s[0] != ' ' }) {
			out.WriteString(strings.TrimRight(line, " ") + "\n")
		}
	}
	return out.String()
}

func TestWhatIsRemovedCanBePutInAgain(t *testing.T) {
	for _, path := range must(filepath.Glob("testdata/*.txtar")) {
		for _, f := range must(txtar.ParseFile(path)).Files {
			if f.Name != "pod.yaml" {
				continue
			}
			first := must(Patch(podOf(t, f.Data), options(nil)))
			if first.Outcome != Injected {
				continue
			}
			without, ok, err := Remove(first.Pod)
			if err != nil || !ok {
				t.Fatalf("%s: %v, %v", path, ok, err)
			}
			if _, again, err := Remove(without); again || err != nil {
				t.Errorf("%s: there is a second sidecar to remove: %v", path, err)
			}
			if left := string(must(yaml.Marshal(without))); strings.Contains(left, "heddle-") || strings.Contains(left, "15021") {
				t.Errorf("%s: something of it stays:\n%s", path, left)
			}
			if diff := cmp.Diff(first.Pod, must(Patch(without, options(nil))).Pod, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("%s: (-first +again)\n%s", path, diff)
			}
		}
	}
}

func TestTheTrustBundleIsTheOneThatTheSignerWrites(t *testing.T) {
	if trustConfigMap != keep.TrustConfigMap || bundleItem != keep.BundleItem {
		t.Errorf("mounted is %s of %s, and kept %s of %s", bundleItem, trustConfigMap, keep.BundleItem, keep.TrustConfigMap)
	}
}

func TestAPatchedPodIsLeftAlone(t *testing.T) {
	first := must(Patch(podOf(t, []byte("spec: {containers: [{name: app, image: app}]}")), options(nil)))
	again := must(Patch(first.Pod, options(nil)))
	if again.Outcome != LeftAlone || again.Message() != "it has its sidecar already" {
		t.Errorf("%s: %s", again.Outcome, again.Message())
	}
}

func TestTwoSeedsGiveTwoPathsOfProbes(t *testing.T) {
	path := func(seed string) string {
		o := options(nil)
		o.Seed = seed
		r := must(Patch(podOf(t, []byte("spec: {containers: [{name: app, image: app}]}")), o))
		return r.Pod.Spec.InitContainers[0].ReadinessProbe.HTTPGet.Path
	}
	a, b := path("one"), path("two")
	if a == b || len(a) < len("/")+32 || a != path("one") || strings.Contains(a, "one") {
		t.Errorf("seeds one and two give %s and %s", a, b)
	}
}

func TestOptionsThatCannotBeAreAnErrorThatNamesThemAll(t *testing.T) {
	_, err := Patch(&corev1.Pod{}, Options{Signer: "signer"})
	if err == nil {
		t.Fatal("they are taken")
	}
	for _, want := range []string{"no image", "no seed", `signer "signer": want HOST:PORT`} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not say %q", err, want)
		}
	}
}

// As a misspelt key makes it. The API server refuses it, by its own words.
func TestAPodWithoutContainersIsNotToldOfAQualityOfServiceThatItLoses(t *testing.T) {
	for name, containers := range map[string][]corev1.Container{"none": nil, "an empty list": {}} {
		r := must(Patch(&corev1.Pod{Spec: corev1.PodSpec{Containers: containers}}, options(nil)))
		if r.Outcome != Injected || len(r.Warnings) > 0 {
			t.Errorf("%s: %s, with warnings %q", name, r.Outcome, r.Warnings)
		}
	}
}

func TestPodsBesideTheControlPlaneAreLeftAloneWhereverItIs(t *testing.T) {
	o := options(nil)
	o.System = "mesh"
	for namespace, want := range map[string]Outcome{"mesh": LeftAlone, "kube-system": LeftAlone, "shop": Injected, "heddle-system": Injected} {
		o.Namespace.Name = namespace
		r := must(Patch(&corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "app"}}}}, o))
		if r.Outcome != want {
			t.Errorf("with the control plane in mesh, a pod of %s is %s, not %s", namespace, r.Outcome, want)
		}
		if r.Outcome == Injected && !slices.Contains(r.Pod.Spec.InitContainers[0].Args, "--signer=heddle-signer.mesh.svc:15012") {
			t.Errorf("its sidecar asks another signer: %q", r.Pod.Spec.InitContainers[0].Args)
		}
	}
}
