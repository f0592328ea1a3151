package translator_test

import (
	"bufio"
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/runtime"
	yamlutil "k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/yaml"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-mesh/heddle/kube"
	"github.com/heddle-mesh/heddle/mesh"
	"github.com/heddle-mesh/heddle/model"
	"github.com/heddle-mesh/heddle/translator"
)

var update = flag.Bool("update", false, "write the golden files from what is translated now")

// Each testdata/*.txtar is a feature: what a person writes in mesh.yaml, and what it becomes in want/<kind>/<object>.yaml.
// Kinds are listeners, routes, clusters, endpoints and proxyless of a Service (want/routes/shop.catalog.yaml; for the callers of one namespace want/routes/web/shop.catalog.yaml), inbound,
// rules and checks of a pod, and the frame of every sidecar. Everything that is translated, shown or not, is given to the
// real Envoy as well: see served.
func TestGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("golden files: %v, %v", files, err)
	}
	seen, ran := map[string]int{}, 0
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			for layer, n := range golden(t, file) {
				seen[layer] += n
			}
			ran++
		})
	}
	if ran < len(files) {
		return // -run chose some
	}
	for _, layer := range []string{"mesh", "namespace", "zone", "node", "pod", "proxyless", "checks"} {
		if seen[layer] == 0 {
			t.Errorf("no file gives Envoy anything of %s: %v", layer, seen)
		}
	}
}

// golden says how much of each layer Envoy was given.
func golden(t *testing.T, file string) map[string]int {
	archive, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	s := stateOf(t, archive)
	shown := 0
	for i, f := range archive.Files {
		kind, object, ok := strings.Cut(strings.TrimPrefix(strings.TrimSuffix(f.Name, ".yaml"), "want/"), "/")
		if !ok {
			continue
		}
		shown++
		got := render(t, s, kind, object)
		if *update {
			archive.Files[i].Data = got
		} else if diff := cmp.Diff(string(f.Data), string(got)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", f.Name, diff)
		}
	}
	if shown == 0 {
		t.Error("the file wants nothing")
	}
	if *update {
		if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	everything := everythingIn(s, captures()...)
	envoyAccepts(t, everything)
	return everything.layers
}

// stateOf joins what mesh.yaml says.
func stateOf(t *testing.T, archive *txtar.Archive) *mesh.State {
	t.Helper()
	s := mesh.New(mesh.Options{Namespace: "heddle-system"})
	for _, f := range archive.Files {
		if f.Name != "mesh.yaml" {
			continue
		}
		ch := s.Apply(append(facts(t, f.Data), model.Event{Synced: true}))
		for _, p := range ch.Policies {
			if !p.Accepted {
				t.Errorf("policy %s %s is refused: %v", p.ConfigMap, p.Item, p.Problems)
			}
		}
		return s
	}
	t.Fatal("no mesh.yaml")
	return nil
}

// facts reads Kubernetes YAML.
func facts(t *testing.T, text []byte) []model.Event {
	t.Helper()
	var events []model.Event
	docs := yamlutil.NewYAMLReader(bufio.NewReader(bytes.NewReader(text)))
	for {
		doc, err := docs.Read()
		if errors.Is(err, io.EOF) {
			return events
		}
		if err != nil {
			t.Fatal(err)
		}
		if len(bytes.TrimSpace(doc)) == 0 {
			continue
		}
		o, _, err := scheme.Codecs.UniversalDeserializer().Decode(doc, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		e, err := fact(o)
		if err != nil {
			t.Fatal(err)
		}
		events = append(events, e)
	}
}

func fact(o runtime.Object) (e model.Event, err error) {
	switch o := o.(type) {
	case *corev1.Service:
		e.Service, err = kube.ServiceOf(o)
	case *discoveryv1.EndpointSlice:
		e.Slice, err = kube.SliceOf(o)
	case *corev1.Pod:
		e.Pod, err = kube.PodOf(o)
	case *corev1.Namespace:
		e.Namespace = kube.NamespaceOf(o)
	case *corev1.Node:
		e.Node = kube.NodeOf(o)
	case *corev1.ConfigMap:
		e.Policy = kube.PolicyOf(o)
	default:
		err = fmt.Errorf("a %T is no fact", o)
	}
	return e, err
}

// render gives what one kind of resource of one object looks like.
func render(t *testing.T, s *mesh.State, kind, object string) []byte {
	t.Helper()
	audience, object := path.Split(object)
	namespace, name, _ := strings.Cut(object, ".")
	key := model.Key{Namespace: namespace, Name: name}
	var list []proto.Message
	switch kind {
	case "frame":
		list = all(translator.Frame(s.Settings(), translator.Capture{}))
	case "inbound":
		list = all(translator.Inbound(s.Workload(key), translator.Capture{}))
	case "rules":
		list = messages(translator.Inbound(s.Workload(key), translator.Capture{}).Routes)
	case "checks":
		list = append(list, translator.HealthChecks(s.Workload(key), translator.Capture{}))
	case "endpoints":
		list = messages(translator.Endpoints(s.Endpoints(key), model.Location{Zone: "a", Node: "n1"}))
	case "proxyless":
		list = all(translator.Proxyless(s.Outbound(mesh.View{Key: key})))
	default:
		r := translator.Outbound(s.Outbound(mesh.View{Audience: strings.TrimSuffix(audience, "/"), Key: key}), translator.Capture{})
		list = map[string][]proto.Message{"listeners": messages(r.Listeners), "routes": messages(r.Routes), "clusters": messages(r.Clusters)}[kind]
	}
	var b bytes.Buffer
	for i, m := range list {
		if i > 0 {
			b.WriteString("---\n")
		}
		text, err := protojson.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		if text, err = yaml.JSONToYAML(text); err != nil {
			t.Fatal(err)
		}
		b.Write(text)
	}
	return b.Bytes()
}

func messages[M proto.Message](list []M) []proto.Message {
	out := make([]proto.Message, len(list))
	for i, m := range list {
		out[i] = m
	}
	return out
}

func all(r translator.Resources) []proto.Message {
	out := append(messages(r.Listeners), messages(r.Routes)...)
	return append(out, messages(r.Clusters)...)
}
