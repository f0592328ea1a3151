package policy

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
)

// Place says where a policy document stands.
type Place struct {
	Namespace string `json:"namespace"`
	ConfigMap string `json:"configMap"`
	Key       string `json:"key"` // in its data
}

// String writes the place as people do.
func (p Place) String() string {
	return fmt.Sprintf("ConfigMap %s/%s, %s", p.Namespace, p.ConfigMap, p.Key)
}

// RuleCode names the rule at a path of a document to whom it refuses, or without a path all of the document. It goes by
// where the rule stands: an edit of the rule does not change it, and it says nothing to those who cannot read it.
func (p Place) RuleCode(at Path) string {
	return rulePrefix + shortHash(fmt.Sprintf("%s/%s %s %s", p.Namespace, p.ConfigMap, p.Key, at))
}

// UnmatchedCode names documents that allow, in whatever order, to whom none of their rules lets through.
func UnmatchedCode(allowing []Place) string {
	var names []string
	for _, p := range allowing {
		names = append(names, p.Namespace+"/"+p.ConfigMap+" "+p.Key)
	}
	slices.Sort(names)
	return unmatchedPrefix + shortHash(strings.Join(slices.Compact(names), "\n"))
}

// DefaultCode names a default, of the mesh or of a namespace, to whom it refuses.
const DefaultCode = "HDA-default"

const (
	rulePrefix      = "HDA-"
	unmatchedPrefix = "HDA-none-"
	hashDigits      = 8
)

func shortHash(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:hashDigits/2])
}

// Refusal is what a code of access policy stands for.
type Refusal string

// What refuses.
const (
	RefusedByRule    Refusal = "rule"      // a rule, or a document of which no version was good
	RefusedUnmatched Refusal = "unmatched" // there are documents that allow, and no rule of them matched
	RefusedByDefault Refusal = "default"   // no rule spoke of the call
)

// Explanation is what a code stands for among some documents: of a rule, its document; otherwise all documents that
// have a part in it.
type Explanation struct {
	Code      string              `json:"code"`
	Refusal   Refusal             `json:"refusedBy"`
	Documents []ExplainedDocument `json:"documents"`
}

// ExplainedDocument is a document that has a part in a refusal.
type ExplainedDocument struct {
	Place
	Of      string          `json:"of"`     // what it speaks of, for people
	Action  AccessAction    `json:"action"` // empty of one that has a default only
	Mode    AccessMode      `json:"mode"`   // empty: as the mesh has it
	Default DefaultAccess   `json:"default,omitempty"`
	Broken  bool            `json:"broken,omitempty"` // no version of it was good, and so it denies
	Rules   []ExplainedRule `json:"rules,omitempty"`
}

// ExplainedRule is a rule, and what it matches for people.
type ExplainedRule struct {
	At      Path   `json:"at"`
	Code    string `json:"code"`
	Matches string `json:"matches"`
}

// Explain looks for what a code stands for. It is found by where documents stand, so it works with the text of today
// also if another version of it is in force. Items without a ConfigMap have no codes.
func Explain(code string, items []Item) (Explanation, bool) {
	var all []Item
	for _, it := range items {
		if it.ConfigMap != "" {
			all = append(all, it)
		}
	}
	slices.SortFunc(all, func(a, b Item) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.ConfigMap, b.ConfigMap), cmp.Compare(a.Key, b.Key))
	})
	switch {
	case code == DefaultCode:
		return Explanation{code, RefusedByDefault, defaultsAmong(all)}, true
	case strings.HasPrefix(code, unmatchedPrefix):
		documents := unmatchedAmong(code, all)
		return Explanation{code, RefusedUnmatched, documents}, len(documents) > 0
	}
	// Two rules of one code in one sidecar are told apart by digits that it appends.
	code = code[:min(len(code), len(rulePrefix)+hashDigits)]
	for _, it := range all {
		if found, ok := it.rule(code); ok {
			return Explanation{code, RefusedByRule, []ExplainedDocument{found}}, true
		}
	}
	return Explanation{}, false
}

func (it Item) place() Place { return Place{it.Namespace, it.ConfigMap, it.Key} }

// rule finds the rule of a code in a document.
func (it Item) rule(code string) (ExplainedDocument, bool) {
	d := it.explained()
	if it.place().RuleCode("") == code { // none of its versions was good, or proxies refused all
		if covered, ok := Covered(it.Source.Text); it.Document == nil && ok {
			d = ExplainedDocument{Place: it.place(), Of: subject(covered.Service, covered.Workload, it.Namespace)}
		}
		d.Action, d.Broken, d.Rules = ActionDeny, true, nil
		return d, d.Of != ""
	}
	i := slices.IndexFunc(d.Rules, func(r ExplainedRule) bool { return r.Code == code })
	if i < 0 {
		return ExplainedDocument{}, false
	}
	d.Rules = d.Rules[i : i+1]
	return d, true
}

// explained is a valid document with all its rules.
func (it Item) explained() ExplainedDocument {
	if it.Document == nil || it.Document.Access == nil {
		return ExplainedDocument{}
	}
	a := it.Document.Access
	d := ExplainedDocument{Place: it.place(), Of: subject(a.Service, a.Workload, it.Namespace), Mode: a.Mode, Default: a.Default}
	if a.Rules == nil {
		return d
	}
	d.Action = cmp.Or(a.Action, ActionAllow)
	for i, r := range *a.Rules {
		at := Path("rules").Index(i)
		d.Rules = append(d.Rules, ExplainedRule{at, d.RuleCode(at), r.String()})
	}
	return d
}

// defaultsAmong are the documents that say a default.
func defaultsAmong(items []Item) []ExplainedDocument {
	out := []ExplainedDocument{}
	for _, it := range items {
		switch {
		case it.Document == nil:
		case it.Document.Access != nil && it.Document.Access.Default != "":
			d := it.explained()
			d.Rules, d.Action = nil, ""
			out = append(out, d)
		case it.Document.Mesh != nil && it.Document.Mesh.Access != "":
			out = append(out, ExplainedDocument{Place: it.place(), Of: "the whole mesh", Default: it.Document.Mesh.Access})
		}
	}
	return out
}

// unmatchedAmong finds the documents that allow and together have a code: those for a whole namespace, and some of its
// others. Few are tried before many.
func unmatchedAmong(code string, items []Item) []ExplainedDocument {
	byNamespace := map[string][]ExplainedDocument{}
	var namespaces []string
	for _, it := range items {
		if it.Document == nil || it.Document.Access == nil {
			continue
		}
		if d := it.explained(); d.Action == ActionAllow {
			if byNamespace[it.Namespace] == nil {
				namespaces = append(namespaces, it.Namespace)
			}
			byNamespace[it.Namespace] = append(byNamespace[it.Namespace], d)
		}
	}
	budget := mostTried
	for size := 1; budget > 0; size++ {
		tried := false
		for _, namespace := range namespaces {
			if size > len(byNamespace[namespace]) {
				continue
			}
			tried = true
			if found := choose(byNamespace[namespace], nil, size, code, &budget); found != nil {
				return found
			}
		}
		if !tried {
			break
		}
	}
	return nil
}

// mostTried bounds how many sets of documents are looked at. Among so many, one in four thousand codes that belong to
// none would seem to belong to one.
const mostTried = 1 << 20

// choose looks for size documents, chosen ones among them, of which code is the code.
func choose(from, chosen []ExplainedDocument, size int, code string, budget *int) []ExplainedDocument {
	if len(chosen) == size {
		*budget--
		var places []Place
		for _, d := range chosen {
			places = append(places, d.Place)
		}
		if UnmatchedCode(places) == code {
			return chosen
		}
		return nil
	}
	for i := range from {
		if *budget <= 0 || len(from)-i < size-len(chosen) {
			return nil
		}
		if found := choose(from[i+1:], append(slices.Clip(chosen), from[i]), size, code, budget); found != nil {
			return found
		}
	}
	return nil
}

// subject says to people what an Access document speaks of.
func subject(service string, workload Labels, namespace string) string {
	switch {
	case service != "":
		return "Service " + namespace + "/" + service
	case len(workload) > 0:
		var pairs []string
		for k, v := range workload {
			pairs = append(pairs, k+"="+v)
		}
		slices.Sort(pairs)
		return "pods " + strings.Join(pairs, ",") + " in namespace " + namespace
	}
	return "all pods in namespace " + namespace
}

// String says to people what a rule matches.
func (r Rule) String() string {
	var parts []string
	add := func(name string, words []string) {
		if len(words) > 0 {
			parts = append(parts, name+" "+strings.Join(words, ", "))
		}
	}
	var from, methods, paths, ports []string
	for _, c := range r.From {
		from = append(from, cmp.Or(c.Namespace, "*")+"/"+cmp.Or(c.ServiceAccount, "*"))
	}
	for _, m := range r.Methods {
		methods = append(methods, string(m))
	}
	for _, p := range r.Paths {
		paths = append(paths, string(p))
	}
	for _, p := range r.Ports {
		ports = append(ports, fmt.Sprint(p))
	}
	add("from", from)
	add("methods", methods)
	add("paths", paths)
	add("ports", ports)
	if len(parts) == 0 {
		return "every call"
	}
	return strings.Join(parts, "; ")
}
