package model

import (
	"cmp"
	"slices"
	"strings"
)

// Key names a namespaced Kubernetes object, written namespace/name.
type Key struct{ Namespace, Name string }

func (k Key) String() string { return k.Namespace + "/" + k.Name }

// Compare orders keys by namespace, then name.
func (k Key) Compare(o Key) int {
	return cmp.Or(cmp.Compare(k.Namespace, o.Namespace), cmp.Compare(k.Name, o.Name))
}

// Labels is an immutable set of labels, sorted by key so that equal sets are equal slices.
type Labels []Label

// Label is one key and value.
type Label struct{ Key, Value string }

// LabelsOf sorts m into Labels; nil and empty give nil.
func LabelsOf(m map[string]string) Labels {
	if len(m) == 0 {
		return nil
	}
	ls := make(Labels, 0, len(m))
	for k, v := range m {
		ls = append(ls, Label{k, v})
	}
	slices.SortFunc(ls, func(a, b Label) int { return cmp.Compare(a.Key, b.Key) })
	return ls
}

// Map gives the labels as a map.
func (ls Labels) Map() map[string]string {
	m := make(map[string]string, len(ls))
	for _, l := range ls {
		m[l.Key] = l.Value
	}
	return m
}

// Get gives the value of key, and whether it is there.
func (ls Labels) Get(key string) (string, bool) {
	i, ok := slices.BinarySearchFunc(ls, key, func(l Label, k string) int { return cmp.Compare(l.Key, k) })
	if !ok {
		return "", false
	}
	return ls[i].Value, true
}

// Contains says whether every label of want is in ls. The empty set is in every set.
func (ls Labels) Contains(want Labels) bool {
	for _, w := range want {
		if v, ok := ls.Get(w.Key); !ok || v != w.Value {
			return false
		}
	}
	return true
}

// String writes the labels as Kubernetes selectors do: a=1,b=2.
func (ls Labels) String() string {
	var b strings.Builder
	for i, l := range ls {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(l.Key + "=" + l.Value)
	}
	return b.String()
}

// Origin says where a generated resource, or a part of it, came from.
type Origin struct {
	Kind string // "Service", "EndpointSlice", "ConfigMap", "Pod"
	Key  Key    // the object
	Item string // the key inside a ConfigMap's data, such as traffic.yaml; empty for other kinds
	Part string // the part that has effect here, such as circuitBreaker; empty for the whole object
	Hash string // of the content that has effect here, so that an edit elsewhere does not change it
}

// IsZero says that there is no origin: the value is a built-in default.
func (o Origin) IsZero() bool { return o == Origin{} }
