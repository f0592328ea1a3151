package deploy_test

import (
	"bytes"
	"flag"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"
	"helm.sh/helm/v4/pkg/chart/common"
	commonutil "helm.sh/helm/v4/pkg/chart/common/util"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/engine"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/heddle-mesh/heddle/deploy"
)

var update = flag.Bool("update", false, "write golden files, the add-on's manifests and the table of values anew")

// render gives the objects for values.
func render(t *testing.T, values string) string {
	t.Helper()
	text, err := deploy.Render(deploy.Release{Values: parse(t, values)})
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func parse(t *testing.T, values string) map[string]any {
	t.Helper()
	v, err := deploy.Values(deploy.Given{Files: []deploy.File{{Name: "values.yaml", Text: []byte(values)}}})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// golden holds a file against what it should be.
func golden(t *testing.T, name, want string) {
	t.Helper()
	have, err := os.ReadFile(name)
	if err != nil && !*update {
		t.Fatal(err)
	}
	if *update && string(have) != want {
		if err := os.WriteFile(name, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(string(have), want); diff != "" {
		t.Errorf("%s differs from what the chart gives (-file +chart); go test ./deploy -update writes it anew:\n%s", name, diff)
	}
}

func TestRenderingIsAsItWasReviewed(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no golden files: %v", err)
	}
	for _, name := range files {
		t.Run(filepath.Base(name), func(t *testing.T) {
			archive, err := txtar.ParseFile(name)
			if err != nil {
				t.Fatal(err)
			}
			archive.Files[1].Data = []byte(render(t, string(archive.Files[0].Data)))
			golden(t, name, string(txtar.Format(archive)))
		})
	}
}

func TestHighAvailabilityIsTheValuesFileOfTheChart(t *testing.T) {
	archive, err := txtar.ParseFile("testdata/ha.txtar")
	if err != nil {
		t.Fatal(err)
	}
	values, err := deploy.Values(deploy.Given{HighAvailability: true})
	if err != nil {
		t.Fatal(err)
	}
	text, err := deploy.Render(deploy.Release{Values: values})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(archive.Files[1].Data), text); diff != "" {
		t.Errorf("--ha differs from testdata/ha.txtar (-file +rendered):\n%s", diff)
	}
}

func TestWhatIsInstalledHasTheVersionOfTheProgram(t *testing.T) {
	for _, c := range []struct{ program, want string }{
		{"v1.2.3", "v1.2.3"},
		{"v0.0.0-20260102030405-abcdef012345+dirty", "v0.0.0-20260102030405-abcdef012345_dirty"},
		{"(devel)", "v0.0.0-dev"},
		{"", "v0.0.0-dev"},
	} {
		release := deploy.Release{Version: c.program}
		text, err := deploy.Render(release)
		if err != nil {
			t.Errorf("%q: %v", c.program, err)
			continue
		}
		for _, want := range []string{
			`image: "ghcr.io/heddle-mesh/heddle:` + c.want + `"`, `value: "ghcr.io/heddle-mesh/heddle-proxy:` + c.want + `"`,
			`app.kubernetes.io/version: "` + c.want + `"`, "\n  version: \"" + c.want + "\"\n",
		} {
			if !strings.Contains(text, want) {
				t.Errorf("%q: nothing has %s", c.program, want)
			}
		}
		if c.want != "v0.0.0-dev" && strings.Contains(text, "v0.0.0-dev") {
			t.Errorf("%q: something has the chart's own version", c.program)
		}
		if got, err := release.Installs(); err != nil || got != c.want {
			t.Errorf("%q: it says that it installs %q, %v", c.program, got, err)
		}
	}
	if _, err := deploy.Render(deploy.Release{Version: "the best"}); err == nil || !strings.Contains(err.Error(), `"the best"`) {
		t.Errorf("what can be no tag: %v", err)
	}
	// A tag that was asked for is that of the images, and of nothing else.
	text, err := deploy.Render(deploy.Release{Version: "v1.2.3", Values: parse(t, "image: {version: test}")})
	if err != nil || !strings.Contains(text, `"ghcr.io/heddle-mesh/heddle:test"`) || !strings.Contains(text, `app.kubernetes.io/version: "v1.2.3"`) {
		t.Errorf("with another tag: %v\n%s", err, text)
	}
}

// What is built in must be what a person gives to Helm, and the other way round: a template that is not embedded would be
// missing from one of the two.
func TestBuiltInChartRendersAsTheFolderDoes(t *testing.T) {
	c, err := loader.LoadDir("heddle")
	if err != nil {
		t.Fatal(err)
	}
	release := common.ReleaseOptions{Name: "any", Namespace: "heddle-system", Revision: 1, IsInstall: true}
	values, err := commonutil.ToRenderValues(c, nil, release, nil)
	if err != nil {
		t.Fatal(err)
	}
	rendered, err := engine.Render(c, values)
	if err != nil {
		t.Fatal(err)
	}
	var fromFolder []string
	for name, text := range rendered {
		if strings.HasSuffix(name, ".yaml") {
			fromFolder = append(fromFolder, documents(text)...)
		}
	}
	builtIn := documents(render(t, ""))
	slices.Sort(fromFolder)
	slices.Sort(builtIn)
	if diff := cmp.Diff(fromFolder, builtIn); diff != "" {
		t.Errorf("the folder and the program render differently (-folder +program):\n%s", diff)
	}
}

// documents gives each YAML document without what stands around it.
func documents(text string) []string {
	var all []string
	for d := range strings.SplitSeq("\n"+text, "\n---") {
		d = strings.TrimSpace(d)
		if strings.HasPrefix(d, "# Source: ") {
			_, d, _ = strings.Cut(d, "\n")
		}
		if d = strings.TrimSpace(d); d != "" {
			all = append(all, d)
		}
	}
	return all
}

// Templates see the chart's defaults only in a file of their own: Helm keeps values.yaml to itself. After a change the other
// golden files need a second -update, since the file is built in.
func TestTemplatesKnowTheDefaults(t *testing.T) {
	values, err := os.ReadFile("heddle/values.yaml")
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "heddle/defaults.yaml", string(values))
}

func TestObjectsComeInAnOrderThatBlocksNothing(t *testing.T) {
	objects, err := deploy.Objects(render(t, ""))
	if err != nil {
		t.Fatal(err)
	}
	at := map[string][]int{}
	for i, o := range objects {
		at[o.Kind] = append(at[o.Kind], i)
	}
	if !slices.Equal(at["Namespace"], []int{0}) {
		t.Errorf("the Namespace is object %v, not the first", at["Namespace"])
	}
	webhooks := slices.Concat(at["MutatingWebhookConfiguration"], at["ValidatingWebhookConfiguration"])
	if len(webhooks) != 2 {
		t.Fatalf("%d webhook configurations, not 2", len(webhooks))
	}
	for _, kind := range []string{"ServiceAccount", "ClusterRoleBinding", "RoleBinding", "Service", "Deployment"} {
		if len(at[kind]) == 0 || slices.Max(at[kind]) > slices.Min(webhooks) {
			t.Errorf("%ss are at %v and the webhooks at %v, not after them", kind, at[kind], webhooks)
		}
	}
}

func TestValuesOutliveAnUpgradeAndDefaultsDoNot(t *testing.T) {
	for _, values := range []string{
		"", "nodeSelector: null\n", "server: {replicas: 3}\nlabels: {a: b}\n", "tolerations: [{key: a}]\nproxy: {concurrency: 2}\n",
		"signer: {resources: {requests: null, limits: {memory: 1Gi}}}\n", "image: {version: v2}\ninjector: {excludedNamespaces: [a]}\n",
	} {
		first := render(t, values)
		kept := installedValues(t, first)
		if diff := cmp.Diff(parse(t, values), parse(t, kept)); diff != "" {
			t.Errorf("values %q: others were kept (-given +kept):\n%s", values, diff)
		}
		if diff := cmp.Diff(first, render(t, kept)); diff != "" {
			t.Errorf("values %q: an upgrade to the same version changes something (-before +after):\n%s", values, diff)
		}
	}
}

// installedValues reads what the ConfigMap of a rendering keeps.
func installedValues(t *testing.T, rendered string) string {
	t.Helper()
	for _, d := range documents(rendered) {
		var m struct {
			Metadata struct{ Name string }
			Data     map[string]string
		}
		if err := yaml.Unmarshal([]byte(d), &m); err != nil {
			t.Fatal(err)
		}
		if m.Metadata.Name == deploy.ConfigMap {
			return m.Data[deploy.ValuesItem]
		}
	}
	t.Fatalf("there is no ConfigMap %s", deploy.ConfigMap)
	return ""
}

func TestLaterValuesCountMore(t *testing.T) {
	got, err := deploy.Values(deploy.Given{
		Installed:        []byte("trustDomain: installed\nserver: {replicas: 9}\nlog: {level: warn}\n"),
		HighAvailability: true,
		Files: []deploy.File{
			{Name: "a", Text: []byte("trustDomain: a\ncertificateLifetime: a\nimage: {registry: a, version: a}\n")},
			{Name: "b", Text: []byte("certificateLifetime: b\n")},
		},
		Set: []string{"trustDomain=set,signer.replicas=5"}, SetString: []string{"image.version=1"}, Registry: "flag",
	})
	if err != nil {
		t.Fatal(err)
	}
	image, server, signer := got["image"].(map[string]any), got["server"].(map[string]any), got["signer"].(map[string]any)
	have := []any{got["trustDomain"], got["certificateLifetime"], image["registry"], image["version"], signer["replicas"], got["log"]}
	want := []any{"set", "b", "flag", "1", int64(5), map[string]any{"level": "warn"}}
	if diff := cmp.Diff(want, have); diff != "" {
		t.Errorf("joined values (-want +got):\n%s", diff)
	}
	if server["replicas"] == float64(9) || server["replicas"] == int64(9) {
		t.Error("--ha did not count more than the installed values")
	}
}

// The bundle that the server's pod waits for is made by the signer, so a first installation must not have the signer wait for
// anything that either of them makes.
func TestTheSignersPodWaitsForNothingThatTheControlPlaneMakes(t *testing.T) {
	for document := range strings.SplitSeq(render(t, ""), "\n---\n") {
		var d appsv1.Deployment
		if err := yaml.Unmarshal([]byte(document), &d); err != nil || d.Kind != "Deployment" {
			continue
		}
		var waitsFor []string
		for _, v := range d.Spec.Template.Spec.Volumes {
			if v.EmptyDir == nil && v.Projected == nil {
				waitsFor = append(waitsFor, v.Name)
			}
		}
		want := map[string][]string{"heddle": {"heddle-trust"}, "heddle-signer": nil}[d.Name]
		if diff := cmp.Diff(want, waitsFor); diff != "" {
			t.Errorf("volumes of %s that may not be there yet (-want +got):\n%s", d.Name, diff)
		}
		for _, c := range d.Spec.Template.Spec.Containers {
			if len(c.EnvFrom) > 0 || slices.ContainsFunc(c.Env, func(e corev1.EnvVar) bool {
				return e.ValueFrom != nil && (e.ValueFrom.SecretKeyRef != nil || e.ValueFrom.ConfigMapKeyRef != nil)
			}) {
				t.Errorf("%s waits for a Secret or a ConfigMap in its environment", d.Name)
			}
		}
	}
}

func TestRemovalNamesAllThatAnyValuesMake(t *testing.T) {
	removed := removal(t, deploy.RemovalOptions{Purge: true})
	for _, values := range []string{"", "server: {replicas: 3}\nnetworkPolicy: {enabled: true}\n", "signer: {replicas: 3}\n"} {
		objects, err := deploy.Objects(render(t, values))
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range objects {
			if !slices.Contains(removed, o) {
				t.Errorf("%s would stay behind", o)
			}
		}
	}
}

func TestRemovalTakesTheWebhooksFirstAndTheNamespaceLast(t *testing.T) {
	removed := removal(t, deploy.RemovalOptions{Purge: true, Namespace: "mesh"})
	for i, o := range removed {
		if first := i < 2; first != strings.HasSuffix(o.Kind, "WebhookConfiguration") {
			t.Errorf("object %d to delete is %s", i+1, o)
		}
		if last := i == len(removed)-1; last != (o.Kind == "Namespace") {
			t.Errorf("object %d of %d to delete is %s", i+1, len(removed), o)
		}
		if o.Metadata.Namespace != "" && o.Metadata.Namespace != "mesh" {
			t.Errorf("%s is not in the namespace", o)
		}
	}
}

func TestRemovalKeepsTheCAUnlessItIsPurged(t *testing.T) {
	kept := map[string]bool{}
	for _, o := range removal(t, deploy.RemovalOptions{Purge: true}) {
		kept[o.String()] = true
	}
	for _, o := range removal(t, deploy.RemovalOptions{}) {
		delete(kept, o.String())
	}
	want := []string{"-n heddle-system configmap/heddle-trust", "-n heddle-system secret/heddle-ca", "namespace/heddle-system"}
	if diff := cmp.Diff(want, slices.Sorted(maps.Keys(kept))); diff != "" {
		t.Errorf("kept (-want +got):\n%s", diff)
	}
}

func removal(t *testing.T, o deploy.RemovalOptions) []deploy.Object {
	t.Helper()
	text, err := deploy.Removal(o)
	if err != nil {
		t.Fatal(err)
	}
	objects, err := deploy.Objects(text)
	if err != nil {
		t.Fatal(err)
	}
	return objects
}

func TestLeftoverIsWhatTheLaterRenderingLacks(t *testing.T) {
	left, err := deploy.Leftover(render(t, "server: {replicas: 2}\nnetworkPolicy: {enabled: true}\n"), render(t, "signer: {replicas: 2}\n"))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, o := range left {
		got = append(got, o.String())
	}
	want := []string{
		"-n heddle-system networkpolicy.networking.k8s.io/heddle", "-n heddle-system networkpolicy.networking.k8s.io/heddle-signer",
		"-n heddle-system poddisruptionbudget.policy/heddle",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("left behind (-want +got):\n%s", diff)
	}
}

func TestAddonAppliesWhatTheProgramPrints(t *testing.T) {
	ha, err := os.ReadFile("heddle/values-ha.yaml")
	if err != nil {
		t.Fatal(err)
	}
	uninstall, err := deploy.Removal(deploy.RemovalOptions{})
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "microk8s/addons/heddle/heddle.yaml", render(t, ""))
	golden(t, "microk8s/addons/heddle/heddle-ha.yaml", render(t, string(ha)))
	golden(t, "microk8s/addons/heddle/uninstall.yaml", uninstall)
	version, err := deploy.Release{}.Installs()
	if err != nil {
		t.Fatal(err)
	}
	addons, err := os.ReadFile("microk8s/addons.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(addons, []byte(`version: "`+version+`"`)) {
		t.Errorf("microk8s/addons.yaml does not have the chart's version %s", version)
	}
}
