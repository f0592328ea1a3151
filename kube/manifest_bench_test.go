package kube

import (
	"fmt"
	"strings"
	"testing"
)

// BenchmarkManifest reads a file of 1,000 Services with 10 endpoints each.
func BenchmarkManifest(b *testing.B) {
	var text strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&text, "---\napiVersion: v1\nkind: Service\nmetadata: {name: s%d}\nspec: {clusterIP: 10.96.%d.%d, ports: [{name: http, port: 80}]}\n", i, i/250, i%250)
		fmt.Fprintf(&text, "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: s%d, labels: {kubernetes.io/service-name: s%d}}\naddressType: IPv4\nports: [{name: http, port: 8080}]\nendpoints:\n", i, i)
		for j := range 10 {
			fmt.Fprintf(&text, "- addresses: [10.%d.%d.%d]\n  conditions: {ready: true}\n  nodeName: n%d\n", i/250, i%250, j, j)
		}
	}
	b.SetBytes(int64(text.Len()))
	for b.Loop() {
		if m := parseManifest("b.yaml", []byte(text.String())); len(m.problems) > 0 {
			b.Fatal(m.problems)
		}
	}
}
