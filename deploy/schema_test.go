package deploy_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"github.com/heddle-mesh/heddle/deploy"
)

// schema is as much of a JSON schema as the chart's uses for maps.
type schema struct {
	Description          string            `json:"description"`
	Type                 string            `json:"type"`
	Enum                 []any             `json:"enum"`
	Properties           map[string]schema `json:"properties"`
	AdditionalProperties any               `json:"additionalProperties"`
	Items                *schema           `json:"items"`
}

func readSchema(t *testing.T) (schema, map[string]any) {
	t.Helper()
	text, err := os.ReadFile("heddle/values.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	var s schema
	if err := json.Unmarshal(text, &s); err != nil {
		t.Fatal(err)
	}
	values, err := os.ReadFile("heddle/values.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var v map[string]any
	if err := yaml.Unmarshal(values, &v); err != nil {
		t.Fatal(err)
	}
	delete(s.Properties, "global") // which Helm sets
	return s, v
}

func TestEveryValueHasADefaultAndADescription(t *testing.T) {
	s, values := readSchema(t)
	var walk func(path string, s schema, value any)
	walk = func(path string, s schema, value any) {
		if s.Description == "" && path != "" {
			t.Errorf("%s has no description", path)
		}
		if s.Properties == nil {
			return
		}
		if s.AdditionalProperties != false {
			t.Errorf("%s takes what it does not know", path)
		}
		m, ok := value.(map[string]any)
		if !ok {
			t.Errorf("%s is a map, but its default is %v", path, value)
			return
		}
		if path == "server.resources" || path == "signer.resources" { // as Kubernetes has them
			return
		}
		if diff := cmp.Diff(slices.Sorted(maps.Keys(s.Properties)), slices.Sorted(maps.Keys(m))); diff != "" {
			t.Errorf("%q: schema and values.yaml do not have the same (-schema +values):\n%s", path, diff)
		}
		for key, inner := range s.Properties {
			walk(strings.TrimPrefix(path+"."+key, "."), inner, m[key])
		}
	}
	walk("", s, values)
}

func TestWrongValuesAreRefused(t *testing.T) {
	for _, set := range []string{
		"typo=1", "server.replcias=2", "server.replicas=-1", "server.replicas=two", "server.resources.requests.cpu=lots", "server.resources.memory=1Gi",
		"image.registry=example.org/", "image.version=a b", "image.pullPolicy=Sometimes", "image.pullSecrets=name", "trustDomain=Example.org", "trustDomain=", "trustDomain=a..b", "trustDomain=.a", "trustDomain=a_",
		"certificateLifetime=1d", "certificateLifetime=24", "certificateLifetime=240h", "certificateLifetime=168h1s", "certificateLifetime=169h", "certificateLifetime=0s", "certificateLifetime=10ms", "log.level=loud", "injector.failurePolicy=Maybe", "injector.timeoutSeconds=60",
		"injector.excludedNamespaces={A}", "policyWebhook.timeoutSeconds=0", "proxy.cpuRequest=x", "proxy.logLevel=warn", "proxy.concurrency=1000",
		"proxy.prestopSleep=0", "proxy.drainTime=soon", "shutdown.drain=5", "shutdown.graceSeconds=1", "shutdown.graceSeconds=10", "shutdown.drain=1h", "shutdown.sleepSeconds=55", "spread.hosts=yes", "podDisruptionBudget.maxUnavailable=0",
		"networkPolicy.enabled=maybe", "namespace.podSecurity=strict", "labels.a.b=c", `labels.app\.kubernetes\.io/name=x`,
		`server.podLabels.app\.kubernetes\.io/component=x`, "tolerations[0].kee=a", "priorityClassName=A_B", "trustDomain=null", "log=null", "server.podLabels=null",
	} {
		values, err := deploy.Values(deploy.Given{Set: []string{set}})
		if err != nil {
			t.Errorf("--set %s: %v", set, err)
			continue
		}
		_, err = deploy.Render(deploy.Release{Values: values})
		if err == nil {
			t.Errorf("--set %s is taken", set)
			continue
		}
		name, _, _ := strings.Cut(strings.FieldsFunc(set, func(r rune) bool { return strings.ContainsRune(".=[", r) })[0], "=")
		if !strings.Contains(err.Error(), name) && !strings.Contains(err.Error(), "app.kubernetes.io/") {
			t.Errorf("--set %s is refused without its name: %v", set, err)
		}
	}
}

func TestAValueThatIsMisspeltIsRefusedWithTheOneThatWasMeant(t *testing.T) {
	for set, want := range map[string]string{
		"server.replica=2":                "there is no value server.replica; did you mean server.replicas?; docs",
		"trustDomian=a":                   "there is no value trustDomian; did you mean trustDomain?; docs",
		"replicas=2":                      "there is no value replicas; did you mean server.replicas or signer.replicas?; docs",
		"server.replicas=-1":              "check the values: server.replicas: minimum: got -1, want 0; docs",
		"qwertyuiop=1,server.replicas=-1": "there is no value qwertyuiop; docs",
	} {
		values, err := deploy.Values(deploy.Given{Set: []string{set}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err = deploy.Render(deploy.Release{Values: values}); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "- at") {
			t.Errorf("--set %s: %v; want %q", set, err, want)
		}
	}
}

func TestTheControlPlaneHasANamespaceOfItsOwn(t *testing.T) {
	for name, want := range map[string]string{
		"kube-system": "Kubernetes' own", "kube-public": "Kubernetes' own", "Bad_NS": "lower case", strings.Repeat("a", 64): "63",
		"mesh": "", "": "", "default": "",
	} {
		_, err := deploy.Render(deploy.Release{Namespace: name})
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), deploy.DefaultNamespace)) {
			t.Errorf("namespace %q: %v, want %q", name, err, want)
		}
	}
	if _, err := deploy.Removal(deploy.RemovalOptions{Namespace: "kube-system"}); err != nil {
		t.Errorf("what is in the wrong namespace cannot be removed: %v", err)
	}
}

func TestValuesThatNobodyCanReadAreRefusedWithTheirPlace(t *testing.T) {
	for _, c := range []struct {
		given deploy.Given
		want  string
	}{
		{deploy.Given{Files: []deploy.File{{Name: "prod.yaml", Text: []byte("a: [")}}}, "prod.yaml"},
		{deploy.Given{Files: []deploy.File{{Name: "list.yaml", Text: []byte("- a")}}}, "list.yaml"},
		{deploy.Given{Installed: []byte("a: [")}, "the installed values"},
		{deploy.Given{Set: []string{"a"}}, "--set a"},
		{deploy.Given{SetString: []string{"a"}}, "--set-string a"},
		{deploy.Given{Set: []string{"image=x"}, Version: "1"}, "the value image is no map"},
	} {
		if _, err := deploy.Values(c.given); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("error %v, not one with %q", err, c.want)
		}
	}
}

// Every default, and everything that a value may be but numbers and free text, must be told of in docs/install.md.
func TestDocumentListsEveryValue(t *testing.T) {
	const begin, end = "<!-- values: written by go test ./deploy -update -->\n", "<!-- end of values -->\n"
	name := filepath.Join("..", "docs", "install.md")
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(text), begin)
	_, after, ended := strings.Cut(rest, end)
	if !found || !ended {
		t.Fatalf("%s has no place for the table of values", name)
	}
	s, values := readSchema(t)
	var b strings.Builder
	b.WriteString("| value | default | what it is |\n|---|---|---|\n")
	table(&b, "", s, values)
	golden(t, name, before+begin+b.String()+end+after)
}

// table writes a row for each value that is no map of values.
func table(b *strings.Builder, path string, s schema, value any) {
	m, isMap := value.(map[string]any)
	if s.Properties != nil && isMap && !strings.HasSuffix(path, ".resources") {
		for _, key := range slices.Sorted(maps.Keys(s.Properties)) {
			table(b, strings.TrimPrefix(path+"."+key, "."), s.Properties[key], m[key])
		}
		return
	}
	what := s.Description
	if len(s.Enum) > 0 {
		var all []string
		for _, e := range s.Enum {
			all = append(all, fmt.Sprintf("`%v`", e))
		}
		what += " One of " + strings.ReplaceAll(strings.Join(all, ", "), "``", "nothing") + "."
	}
	byDefault := ""
	if v := reflect.ValueOf(value); v.IsValid() && !v.IsZero() && (v.Kind() != reflect.Map && v.Kind() != reflect.Slice || v.Len() > 0) || value == false {
		text, err := json.Marshal(value)
		if err != nil {
			panic(err) // it came from YAML
		}
		byDefault = "`" + strings.Trim(string(text), `"`) + "`"
	}
	fmt.Fprintf(b, "| `%s` | %s | %s |\n", path, byDefault, what)
}
