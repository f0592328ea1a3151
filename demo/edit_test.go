package demo

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestAnEditIsToldInTheDocumentsOwnWords(t *testing.T) {
	before := `
kind: Traffic
service: catalog
timeout: 2s
routes:
- name: canary
  to: [{service: catalog, weight: 90}, {service: catalog-v2, weight: 10}]
`
	for name, c := range map[string]struct {
		after string
		want  []string
	}{
		"nothing but spaces and comments": {`
kind: Traffic   # how callers reach it
service: catalog
timeout: 2s
routes: [{name: canary, to: [{service: catalog, weight: 90}, {service: catalog-v2, weight: 10}]}]
`, nil},
		"values, keys and entries": {`
kind: Traffic
service: catalog
retries: {attempts: 2}
routes:
- name: canary
  to: [{service: catalog, weight: 50}, {service: catalog-v2, weight: 10}, {service: other, weight: 40}]
- name: rest
`, []string{
			"retries added",
			"routes[canary].to[0].weight 90 -> 50",
			"routes[canary].to[2] added",
			"routes[rest] added",
			"timeout removed 2s",
		}},
		"no YAML": {"a: [", nil},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, edits(before, c.after)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
