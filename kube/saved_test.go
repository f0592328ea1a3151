package kube

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/rs/zerolog"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/heddle-mesh/heddle/model"
	"github.com/heddle-mesh/heddle/policy"
	"github.com/heddle-mesh/heddle/test/transcript"
)

// keeper is what both ways of keeping policies do.
type keeper interface {
	Load(context.Context) ([]model.SavedPolicy, error)
	Save(context.Context, model.SavedPolicy) error
}

// eachKeeper runs a test with both, and the ConfigMap whose policies it may keep.
func eachKeeper(t *testing.T, test func(t *testing.T, k keeper, configMap model.Key, uid string)) {
	t.Run("in a folder", func(t *testing.T) {
		k := NewStateFolder(filepath.Join(t.TempDir(), "state"), zerolog.Nop())
		test(t, k, model.Key{Namespace: "shop", Name: "catalog"}, "u1")
	})
	t.Run("in the cluster", func(t *testing.T) {
		ns := api.Namespace(t)
		cm := objects{t, api.Client(t), ns}.policy("catalog")
		test(t, newRevisions(t, zerolog.Nop()), model.Key{Namespace: ns, Name: "catalog"}, string(cm.UID))
	})
}

func newRevisions(t *testing.T, log zerolog.Logger) *Revisions {
	t.Helper()
	config := api.Config(t)
	config.ContentType = "application/vnd.kubernetes.protobuf"
	return must[*Cluster](t)(NewCluster(ClusterOptions{Config: config, Log: log})).Revisions()
}

// loaded gives what is kept of one namespace.
func loaded(t *testing.T, k keeper, namespace string) []model.SavedPolicy {
	t.Helper()
	var ours []model.SavedPolicy
	for _, p := range must[[]model.SavedPolicy](t)(k.Load(t.Context())) {
		if p.ConfigMap.Namespace == namespace {
			ours = append(ours, p)
		}
	}
	return ours
}

func save(t *testing.T, k keeper, policies ...model.SavedPolicy) {
	t.Helper()
	for _, p := range policies {
		do(t, k.Save(t.Context(), p))
	}
}

func TestSavedPoliciesComeBackAsTheyWere(t *testing.T) {
	eachKeeper(t, func(t *testing.T, k keeper, cm model.Key, uid string) {
		byItem := cmpopts.SortSlices(func(a, b model.SavedPolicy) bool { return a.Item < b.Item })
		if got := loaded(t, k, cm.Namespace); got != nil {
			t.Fatalf("before anything was saved there is %v", got)
		}
		a := model.SavedPolicy{ConfigMap: cm, UID: uid, Item: "a.yaml", Good: "kind: Traffic\n# <&>\n", GoodHash: "h1",
			Earlier: []model.SavedText{{Text: "older", Hash: "h0"}}, Refused: []string{"r1", "r2"}}
		b := model.SavedPolicy{ConfigMap: cm, UID: uid, Item: "b.yaml", Refused: []string{"r3"}, Protects: &model.SavedService{
			Name: "web", Kind: model.Headless, Selector: model.LabelsOf(map[string]string{"tier": "front", "app": "web"}), Ports: []model.Port{
				{Number: 80}, {Name: "db", Number: 81, Protocol: model.TCP, Declared: true, Greets: true, Target: 5432},
				{Name: "rpc", Number: 82, Protocol: model.GRPC, Declared: true, TargetName: "main"}}}}
		save(t, k, a, b)
		diff(t, []model.SavedPolicy{a, b}, loaded(t, k, cm.Namespace), byItem)

		older := a
		a.Good, a.GoodHash, a.Earlier = "kind: Mesh\n", "h2", nil
		save(t, k, a)
		diff(t, []model.SavedPolicy{a, b}, loaded(t, k, cm.Namespace), byItem)
		save(t, k, older) // back to what was good once
		diff(t, []model.SavedPolicy{older, b}, loaded(t, k, cm.Namespace), byItem)

		save(t, k, model.SavedPolicy{ConfigMap: cm, UID: uid, Item: "b.yaml"})
		diff(t, []model.SavedPolicy{older}, loaded(t, k, cm.Namespace))
		save(t, k, model.SavedPolicy{ConfigMap: cm, UID: uid, Item: "never.yaml"})
	})
}

func TestWhatIsTooLargeLosesItsEarlierVersionsFirst(t *testing.T) {
	eachKeeper(t, func(t *testing.T, k keeper, cm model.Key, uid string) {
		large := strings.Repeat("timeout: 1s\n", 80_000) // about 1 MB
		p := model.SavedPolicy{ConfigMap: cm, UID: uid, Item: "a.yaml", Good: large, GoodHash: "h",
			Earlier: []model.SavedText{{Text: "small", Hash: "1"}, {Text: large, Hash: "2"}}}
		save(t, k, p)
		p.Earlier = p.Earlier[:1]
		diff(t, []model.SavedPolicy{p}, loaded(t, k, cm.Namespace))

		p.Good += large
		err := k.Save(t.Context(), p)
		if !errors.Is(err, ErrTooLarge) || !strings.Contains(err.Error(), "catalog, a.yaml") {
			t.Errorf("got %v, want an error that names the policy", err)
		}
		if got := loaded(t, k, cm.Namespace); len(got) != 1 || got[0].Good != large {
			t.Errorf("what was kept before is not there any more")
		}
	})
}

// largest is the text of a policy as large as a ConfigMap may be, of which JSON would need twice as much.
func largest() string {
	const text = "kind: Access\nservice: web\nrules: []\n# "
	return text + strings.Repeat(`"`, corev1.MaxSecretSize-len(text)) // a ConfigMap may have as much
}

func TestThePolicyOfTheLargestConfigMapIsKeptAndWhatItProtectsToo(t *testing.T) {
	eachKeeper(t, func(t *testing.T, k keeper, cm model.Key, uid string) {
		p := model.SavedPolicy{ConfigMap: cm, UID: uid, Item: "a.yaml", Good: largest(), GoodHash: strings.Repeat("h", 64),
			Earlier: []model.SavedText{{Text: "small", Hash: "1"}}, Protects: &model.SavedService{Name: "web", Selector: model.Labels{{Key: "app", Value: "web"}}}}
		for range 10 {
			p.Refused = append(p.Refused, strings.Repeat("r", 64))
		}
		for i := range 100 {
			p.Protects.Ports = append(p.Protects.Ports, model.Port{Name: fmt.Sprint("http-", i), Number: uint16(1 + i), Protocol: model.HTTP, Declared: true, Target: 8080})
		}
		if _, problems := policy.Parse(policy.Source{Text: p.Good, Namespace: cm.Namespace}); policy.Failed(problems) {
			t.Fatalf("such a policy is refused: %v", problems)
		}
		save(t, k, p)
		p.Earlier = nil
		diff(t, []model.SavedPolicy{p}, loaded(t, k, cm.Namespace))
	})
	o := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "largest"}, Data: map[string]string{"a.yaml": largest()}}
	ns := api.Namespace(t)
	maps := api.Client(t).CoreV1().ConfigMaps(ns)
	o.Data["a.yaml"] += "x"
	if _, err := maps.Create(t.Context(), o, metav1.CreateOptions{}); err == nil {
		t.Error("Kubernetes takes a larger one")
	}
	o.Data["a.yaml"] = largest()
	must[*corev1.ConfigMap](t)(maps.Create(t.Context(), o, metav1.CreateOptions{}))
}

func TestWhatWasSavedBeforeThereWasMoreToSaveIsStillRead(t *testing.T) {
	got := must[model.SavedPolicy](t)(decodeSaved([]byte(
		`{"namespace":"shop","configMap":"p","uid":"u","item":"a.yaml","good":{"hash":"h","text":"kind: Access"},"earlier":[{"hash":"g","text":"kind: Mesh"}]}`)))
	diff(t, model.SavedPolicy{ConfigMap: model.Key{Namespace: "shop", Name: "p"}, UID: "u", Item: "a.yaml", Good: "kind: Access", GoodHash: "h",
		Earlier: []model.SavedText{{Text: "kind: Mesh", Hash: "g"}}}, got)
}

func TestWhatIsSavedIsTheSameBytesEachTime(t *testing.T) {
	labels := map[string]string{}
	for i := range 20 {
		labels[fmt.Sprint("l", i)] = "x"
	}
	p := model.SavedPolicy{ConfigMap: model.Key{Namespace: "shop", Name: "p"}, UID: "u", Item: "a.yaml",
		Protects: &model.SavedService{Name: "web", Selector: model.LabelsOf(labels)}}
	first := must[[]byte](t)(encodeSaved(p))
	for range 20 {
		diff(t, string(first), string(must[[]byte](t)(encodeSaved(p))))
	}
}

func TestASavedServiceThatIsNoneIsNotRead(t *testing.T) {
	for name, protects := range map[string]string{
		"another kind":     `{"name":"web","kind":"Gateway"}`,
		"another protocol": `{"name":"web","ports":[{"number":80,"protocol":"quic"}]}`,
		"no protocol":      `{"name":"web","ports":[{"number":80}]}`,
		"a large port":     `{"name":"web","ports":[{"number":65536,"protocol":"tcp"}]}`,
		"a negative port":  `{"name":"web","ports":[{"number":80,"protocol":"tcp","target":-1}]}`,
		"a list":           `[]`,
	} {
		data := []byte(`{"namespace":"shop","configMap":"p","uid":"u","item":"a.yaml","protects":` + protects + `}`)
		if got, err := decodeSaved(data); err == nil {
			t.Errorf("%s is read as %+v", name, got.Protects)
		}
	}
	if _, err := decodeSaved([]byte(`{"namespace":"shop","configMap":"p","uid":"u","item":"a.yaml","good":{"packed":"/w=="}}`)); err == nil {
		t.Error("a text that is not UTF-8 is read")
	}
}

func TestAnyNumberOfReplicasMaySave(t *testing.T) {
	eachKeeper(t, func(t *testing.T, k keeper, cm model.Key, uid string) {
		const writers, rounds = 4, 10
		policyOf := func(round int) model.SavedPolicy {
			return model.SavedPolicy{ConfigMap: cm, UID: uid, Item: "a.yaml", Good: fmt.Sprint("version ", round), GoodHash: fmt.Sprint(round)}
		}
		var wg sync.WaitGroup
		for range writers {
			wg.Go(func() {
				for round := range rounds {
					if err := k.Save(t.Context(), policyOf(round)); err != nil {
						t.Errorf("round %d: %v", round, err)
					}
				}
			})
		}
		wg.Wait()
		last := policyOf(rounds - 1)
		save(t, k, last) // whoever was last may have been behind
		diff(t, []model.SavedPolicy{last}, loaded(t, k, cm.Namespace))
		if r, ok := k.(*Revisions); ok {
			if there := must[[]appsv1.ControllerRevision](t)(r.revisions(t.Context(), last)); len(there) != 1 {
				t.Errorf("%d revisions are left, want 1", len(there))
			}
		}
	})
}

func TestRevisionsBelongToTheirConfigMap(t *testing.T) {
	ns := api.Namespace(t)
	cm := objects{t, api.Client(t), ns}.policy("catalog")
	p := model.SavedPolicy{ConfigMap: model.Key{Namespace: ns, Name: "catalog"}, UID: string(cm.UID), Item: "a.yaml", Good: "x", GoodHash: "h"}
	save(t, newRevisions(t, zerolog.Nop()), p)
	list := must[*appsv1.ControllerRevisionList](t)(api.Client(t).AppsV1().ControllerRevisions(ns).List(t.Context(), metav1.ListOptions{}))
	if len(list.Items) != 1 {
		t.Fatalf("there are %d revisions, want 1", len(list.Items))
	}
	want := []metav1.OwnerReference{{APIVersion: "v1", Kind: "ConfigMap", Name: "catalog", UID: cm.UID}}
	diff(t, want, list.Items[0].OwnerReferences)
}

func TestRevisionsOfANamespaceThatIsGoneAreNoConcern(t *testing.T) {
	p := model.SavedPolicy{ConfigMap: model.Key{Namespace: "never-was", Name: "c"}, UID: "u", Item: "a.yaml", Good: "x", GoodHash: "h"}
	save(t, newRevisions(t, zerolog.Nop()), p)
}

func TestRevisionsThatCannotBeReadArePassedOver(t *testing.T) {
	ns := api.Namespace(t)
	var log transcript.Buffer
	r := newRevisions(t, zerolog.New(&log))
	good := model.SavedPolicy{ConfigMap: model.Key{Namespace: ns, Name: "catalog"}, UID: "u", Item: "a.yaml", Good: "x", GoodHash: "h"}
	save(t, r, good)
	create := func(name string, change func(*appsv1.ControllerRevision)) {
		p := good
		p.Good, p.ConfigMap.Name = name, name
		rev := must[*appsv1.ControllerRevision](t)(revisionOf(p))
		rev.Revision = 9
		change(rev)
		must[*appsv1.ControllerRevision](t)(r.client.AppsV1().ControllerRevisions(ns).Create(t.Context(), rev, metav1.CreateOptions{}))
	}
	create("corrupt", func(rev *appsv1.ControllerRevision) { rev.Data = runtime.RawExtension{Raw: []byte(`{"item": 1}`)} })
	create("foreign", func(rev *appsv1.ControllerRevision) { rev.OwnerReferences[0].UID = "another" })
	create("elsewhere", func(rev *appsv1.ControllerRevision) {
		p := good
		p.ConfigMap = model.Key{Namespace: "kube-system", Name: "elsewhere"}
		other := must[*appsv1.ControllerRevision](t)(revisionOf(p))
		rev.Data, rev.OwnerReferences = other.Data, other.OwnerReferences
	})
	diff(t, []model.SavedPolicy{good}, loaded(t, r, ns))
	for _, name := range []string{"corrupt", "foreign", "elsewhere"} {
		if !strings.Contains(log.String(), `"controllerrevision":"`+name) {
			t.Errorf("the log does not name %s:\n%s", name, log.String())
		}
	}
}

func TestFilesThatCannotBeReadArePassedOver(t *testing.T) {
	var log transcript.Buffer
	dir := filepath.Join(t.TempDir(), "state")
	k := NewStateFolder(dir, zerolog.New(&log))
	good := model.SavedPolicy{ConfigMap: model.Key{Namespace: "shop", Name: "catalog"}, UID: "u", Item: "a.yaml", Good: "x", GoodHash: "h"}
	save(t, k, good)
	write(t, filepath.Join(dir, "half.json"), `{"namespace": "sh`)
	write(t, filepath.Join(dir, "nothing.json"), `{}`)
	write(t, filepath.Join(dir, "huge.json"), strings.Repeat(" ", maxSaved+1))
	do(t, syscall.Mkfifo(filepath.Join(dir, "pipe.json"), 0o600))
	diff(t, []model.SavedPolicy{good}, loaded(t, k, "shop"))
	for _, name := range []string{"half", "nothing", "huge", "pipe"} {
		if !strings.Contains(log.String(), name+".json") {
			t.Errorf("the log does not name %s.json:\n%s", name, log.String())
		}
	}
}

func TestTheStateFolderIsForItsOwnerAlone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	do(t, os.Mkdir(dir, 0o755))
	k := NewStateFolder(dir, zerolog.Nop())
	loaded(t, k, "shop")
	save(t, k, model.SavedPolicy{ConfigMap: model.Key{Namespace: "shop", Name: "c"}, UID: "u", Item: "a.yaml", Good: "x", GoodHash: "h"})
	modes := map[string]os.FileMode{}
	do(t, filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		modes[filepath.Ext(path)] = info.Mode().Perm()
		return err
	}))
	diff(t, map[string]os.FileMode{"": 0o700, ".json": 0o600}, modes)
}

func FuzzSavedPoliciesNeverBreakTheReader(f *testing.F) {
	f.Add([]byte(`{"namespace":"a","configMap":"b","uid":"c","item":"d","good":{"hash":"e","text":"f"},"refused":["g"]}`))
	f.Add([]byte(`{"namespace":"a","configMap":"b","uid":"c","item":"d","good":{"packed":"YQ=="},"protects":{"name":"e","kind":"Headless","selector":{"f":"g"},"ports":[{"number":1,"protocol":"tcp"}]}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := decodeSaved(data)
		if err != nil {
			return
		}
		again, err := encodeSaved(p)
		if err != nil {
			return // larger than what is kept
		}
		got, err := decodeSaved(again)
		if err != nil {
			t.Fatalf("what was written cannot be read: %v", err)
		}
		diff(t, p, got, cmpopts.EquateEmpty())
	})
}
