package policy

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// itemsOf are the documents of one namespace, each in a ConfigMap of its own.
func itemsOf(texts map[string]string) (items []Item) {
	for place, text := range texts {
		namespace, name, _ := strings.Cut(place, "/")
		source := Source{Text: text, Namespace: namespace, System: namespace == "heddle-system"}
		document, _ := Parse(source)
		items = append(items, Item{Source: source, Namespace: namespace, ConfigMap: name, Key: "access.yaml", Document: document})
	}
	return items
}

func placeOf(name string) Place {
	namespace, configMap, _ := strings.Cut(name, "/")
	return Place{Namespace: namespace, ConfigMap: configMap, Key: "access.yaml"}
}

func TestACodeIsExplainedByTheDocumentsThatStandThere(t *testing.T) {
	items := itemsOf(map[string]string{
		"shop/deny":          "kind: Access\nservice: web\naction: deny\nrules: [{from: [evil/x, 'bad/*']}, {methods: [PUT], paths: [/a/*], ports: [80]}]\n",
		"shop/allow":         "kind: Access\nworkload: {tier: front, app: web}\nrules: [{from: ['*/*']}]\n",
		"shop/more":          "kind: Access\nmode: audit\nrules: [{}]\n",
		"shop/default":       "kind: Access\ndefault: same-namespace\n",
		"shop/broken":        "kind: Access\nservice: web\nrulez: []\n",
		"shop/traffic":       "kind: Traffic\nservice: web\ntimeout: 1s\n",
		"heddle-system/mesh": "kind: Mesh\naccess: authenticated\n",
	})
	unmatched := func(names ...string) string {
		var places []Place
		for _, n := range names {
			places = append(places, placeOf(n))
		}
		return UnmatchedCode(places)
	}
	for _, c := range []struct{ name, code, want string }{
		{"a rule", placeOf("shop/deny").RuleCode("rules[1]"), "rule: shop/deny deny Service shop/web [rules[1]: methods PUT; paths /a/*; ports 80]"},
		{"another", placeOf("shop/deny").RuleCode("rules[0]"), "rule: shop/deny deny Service shop/web [rules[0]: from evil/x, bad/*]"},
		{"of a code that a sidecar has twice", placeOf("shop/deny").RuleCode("rules[0]") + "0", "rule: shop/deny deny Service shop/web [rules[0]: from evil/x, bad/*]"},
		{"a broken document", placeOf("shop/broken").RuleCode(""), "rule: shop/broken deny Service shop/web broken []"},
		{"one that proxies refused", placeOf("shop/allow").RuleCode(""), "rule: shop/allow deny pods app=web,tier=front in namespace shop broken []"},
		{"one document that allows", unmatched("shop/allow"), "unmatched: shop/allow allow pods app=web,tier=front in namespace shop [rules[0]: from */*]"},
		{"two", unmatched("shop/more", "shop/allow"),
			"unmatched: shop/allow allow pods app=web,tier=front in namespace shop [rules[0]: from */*], shop/more allow all pods in namespace shop audit [rules[0]: every call]"},
		{"defaults", DefaultCode, "default: heddle-system/mesh  the whole mesh authenticated [], shop/default  all pods in namespace shop same-namespace []"},
		{"a rule that is not there", placeOf("shop/deny").RuleCode("rules[2]"), "not found"},
		{"a document that denies", unmatched("shop/deny"), "not found"},
		{"a document of another kind", placeOf("shop/traffic").RuleCode(""), "not found"},
		{"no code", "HDA-", "not found"},
	} {
		if got := explained(c.code, items); got != c.want {
			t.Errorf("%s: %s; want %s", c.name, got, c.want)
		}
	}
}

func explained(code string, items []Item) string {
	e, ok := Explain(code, items)
	if !ok {
		return "not found"
	}
	var all []string
	for _, d := range e.Documents {
		text := fmt.Sprintf("%s/%s %s %s", d.Namespace, d.ConfigMap, d.Action, d.Of)
		for _, word := range []string{string(d.Mode), string(d.Default), map[bool]string{true: "broken"}[d.Broken]} {
			if word != "" {
				text += " " + word
			}
		}
		var rules []string
		for _, r := range d.Rules {
			rules = append(rules, fmt.Sprintf("%s: %s", r.At, r.Matches))
		}
		all = append(all, fmt.Sprintf("%s %v", text, rules))
	}
	return fmt.Sprintf("%s: %s", e.Refusal, strings.Join(all, ", "))
}

func TestWhichDocumentsAllowIsFoundAmongManyWithinABound(t *testing.T) {
	texts := map[string]string{}
	var all []Place
	for i := range 60 {
		name := fmt.Sprintf("shop/p%02d", i)
		texts[name] = "kind: Access\nrules: [{}]\n"
		all = append(all, placeOf(name))
	}
	items := itemsOf(texts)
	some := []Place{all[3], all[31], all[59]}
	e, ok := Explain(UnmatchedCode(some), items)
	var found []Place
	for _, d := range e.Documents {
		found = append(found, d.Place)
	}
	if !ok || !slices.Equal(found, some) {
		t.Errorf("found %v, of %v", found, some)
	}
	start := time.Now()
	if _, ok := Explain(UnmatchedCode(all[:30]), items); ok {
		t.Error("30 of 60 are found, which is past any bound")
	}
	if took := time.Since(start); took > time.Minute {
		t.Errorf("it took %v to give up", took)
	}
}
