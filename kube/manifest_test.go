package kube

import (
	"strings"
	"testing"

	"github.com/heddle-mesh/heddle/policy"
)

func TestProblemsWithManifestsNameTheirPlace(t *testing.T) {
	const service = "apiVersion: v1\nkind: Service\nmetadata: {name: a}\n"
	for _, c := range []struct{ why, text, want string }{
		{"an unknown field", service + "spec:\n  clusterIP: None\n  ports:\n  - port: 80\n  - port: 81\n    prot: TCP\n",
			`m.yaml:9:5: HDL1102: unknown field "spec.ports[1].prot"`},
		{"a value of the wrong type", service + "spec:\n  ports:\n  - {name: a, port: 80}\n  - {name: b, port: eighty}\n",
			`m.yaml:7:21: HDL1104: spec.ports.port is a string, where a whole number (int32) belongs`},
		{"a mapping for a list", service + "spec:\n  ports: {port: 80}\n", `m.yaml:5:10: HDL1104: spec.ports is a mapping, where a list belongs`},
		{"a number too large", service + "spec:\n  ports: [{port: 99999999999}]\n", `m.yaml:5:18: HDL1104: spec.ports.port is a number 99999999999, where a whole number (int32) belongs`},
		{"the same key twice", service + "spec:\n  clusterIP: None\n  type: ClusterIP\n  clusterIP: None\n", `m.yaml:7:1: HDL1103: key "clusterIP" already set in map`},
		{"a broken second document", service + "spec: {clusterIP: None}\n---\napiVersion: v1\nkind: Service\nmetadata: {name: b\nspec: {}\n",
			`m.yaml:8:1: HDL1002`},
		{"a tab", "apiVersion: v1\nkind: Service\nmetadata:\n\tname: a\n", `m.yaml:4:1: HDL1003`},
		{"no name", "# nameless\napiVersion: v1\nkind: Pod\nmetadata: {}\n", `m.yaml:2:1: HDL1105: Pod has no metadata.name`},
		{"no address", service + "spec: {clusterIPs: [here]}\n", `m.yaml:1:1: HDL2001: read Service default/a: spec.clusterIPs: "here" is not an IP address`},
		{"no port", service + "spec: {clusterIP: None, ports: [{name: a, port: 0}]}\n", `m.yaml:1:1: HDL2001: read Service default/a: spec.ports, port "a": 0 is not a port; write 1 to 65535`},
		{"a port twice", service + "spec: {clusterIP: None, ports: [{name: a, port: 80}, {name: u, port: 80, protocol: UDP}, {name: b, port: 80}]}\n",
			`m.yaml:1:1: HDL2001: read Service default/a: spec.ports, port "b": 80/TCP is there twice`},
		{"a name that is none", "apiVersion: v1\nkind: Service\nmetadata: {name: \"a|b\"}\n", `m.yaml:1:1: HDL1205: Service: metadata.name "a|b": `},
		{"a namespace that is none", "apiVersion: v1\nkind: Pod\nmetadata: {name: a.b, namespace: \"a\\n\"}\n", `m.yaml:1:1: HDL1205: Pod: metadata.namespace "a\n": `},
		{"an address of the other family", "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: a, labels: {kubernetes.io/service-name: s}}\naddressType: IPv6\nendpoints: [{addresses: [10.0.0.1]}]\n",
			`m.yaml:1:1: HDL2001: read EndpointSlice default/a: endpoints[0]: 10.0.0.1 is no address of addressType "IPv6"`},
		{"an entry of a List", "apiVersion: v1\nkind: List\nitems:\n- " + strings.ReplaceAll(strings.TrimSpace(aPod("a")), "\n", "\n  ") + "\n- apiVersion: v1\n  kind: Pod\n  metadata: {name: b, nom: c}\n",
			`m.yaml:12:23: HDL1102: unknown field "metadata.nom"`},
		{"nobody can call a Service without an address", service + "spec: {ports: [{port: 80}]}\n",
			`m.yaml:1:1: HDL2005: warning: Service default/a has no clusterIP, and here is no API server to choose one: nobody can call it`},
		{"a policy that is in no ConfigMap", "kind: Traffic\nservice: a\n", `m.yaml:1:1: HDL2006: warning: document of kind "Traffic" without apiVersion is passed over`},
		{"no document but a list", "- a\n", `m.yaml:1:1: HDL2006: warning: document of kind "" without apiVersion is passed over`},
	} {
		t.Run(c.why, func(t *testing.T) {
			m := parseManifest("m.yaml", []byte(c.text))
			if len(m.problems) != 1 || !strings.HasPrefix(m.problems[0].String(), c.want) {
				t.Errorf("got %v\nwant %s", m.problems, c.want)
			}
		})
	}
}

func TestManifestsAreReadAsKubectlReadsThem(t *testing.T) {
	for _, c := range []struct {
		why, text string
		want      []string
	}{
		{"several documents", "---\n# a comment\n---\n" + aPod("a") + "---\n" + aPod("b") + "---\n", []string{"Pod default/a", "Pod default/b"}},
		{"separators with a comment", aPod("a") + "--- # next\n" + aPod("b"), []string{"Pod default/a", "Pod default/b"}},
		{"Windows line ends", strings.ReplaceAll(aPod("a")+"---\n"+aPod("b"), "\n", "\r\n"), []string{"Pod default/a", "Pod default/b"}},
		{"kinds that the mesh does not know", "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\nspec: {anything: goes}\n---\n" + aPod("a"), []string{"Pod default/a"}},
		{"versions that the mesh does not know", "apiVersion: v2\nkind: Service\nmetadata: {name: d}\n", nil},
		{"a List", "apiVersion: v1\nkind: List\nitems: [{apiVersion: v1, kind: Node, metadata: {name: n1}}, {apiVersion: v1, kind: Secret}]\n", []string{"Node n1"}},
		{"a List of one kind", "apiVersion: v1\nkind: PodList\nitems: [{metadata: {name: a}}, {metadata: {name: b}}]\n", []string{"Pod default/a", "Pod default/b"}},
		{"a List in a List", "apiVersion: v1\nkind: List\nitems: [{apiVersion: v1, kind: NodeList, items: [{metadata: {name: n1}}]}]\n", []string{"Node n1"}},
		{"JSON", `{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"shop","namespace":"of no effect"}}`, []string{"Namespace shop"}},
		{"an empty file", "", nil},
	} {
		t.Run(c.why, func(t *testing.T) {
			var got []string
			for _, e := range factsOf(t, c.text) {
				got = append(got, subjectOf(e).String())
			}
			diff(t, c.want, got)
		})
	}
}

func aPod(name string) string {
	return "apiVersion: v1\nkind: Pod\nmetadata:\n  name: " + name + "\nstatus:\n  podIP: 10.0.0.1\n"
}

func TestObjectsWithoutUIDGetOneThatLasts(t *testing.T) {
	a, again := oneFact(t, aPod("a")).Pod.UID, oneFact(t, "# moved\n"+aPod("a")).Pod.UID
	b := oneFact(t, aPod("b")).Pod.UID
	if a == "" || a != again || a == b {
		t.Errorf("pod a has UID %q, then %q; pod b has %q", a, again, b)
	}
}

func FuzzManifestsNeverBreakTheReader(f *testing.F) {
	for _, seed := range []string{
		aPod("a"), "apiVersion: v1\nkind: List\nitems: [{kind: Pod}, 1, null]\n", "a: &a [*a]\n", "kind: {}\n", "---\n--- x\n---",
		"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c, labels: {heddle.dev/policy: 'true'}}\ndata: {a.yaml: |\n  x}\n",
		"apiVersion: v1\nkind: Service\nmetadata: {name: a, labels: {b: [1]}}\nspec: {ports: [{port: {}}]}\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		lines := strings.Count(string(data), "\n") + 1
		m := parseManifest("f.yaml", data)
		for _, p := range m.problems {
			if p.Line < 1 || p.Line > lines+1 || p.Column < 1 {
				t.Errorf("problem %v is outside of the %d lines", p, lines)
			}
		}
		for _, o := range m.objects {
			if subjectOf(o.event) == (subject{}) {
				t.Errorf("an object without a fact")
			}
		}
		if policy.Failed(m.problems) && len(m.problems) == 0 {
			t.Error("failed without a problem")
		}
	})
}
