// Package manifest changes Kubernetes manifests the way a careful person does with an editor: what it does not mean to
// change keeps every byte, comments, order and indentation included.
//
// [Parse] reads a text: YAML documents, Lists of objects, JSON. A [File] then gives the text with sidecars asked for
// ([File.Inject]), without that again ([File.Uninject]), or with the whole sidecar in it ([File.Render]).
//
// Asking for a sidecar is one annotation on the pod template, or on a Pod, and one label on a Namespace. It is inserted
// into the text at the place that the YAML parser names, never by writing YAML anew; text.go has the places, graft.go what
// is inserted, prune.go the way back. Taking it out gives the bytes of before, also where metadata or annotations were
// empty: how the text was shows in the number of blanks before the value, see origin. Who wrote the word does not show: one
// that was there before, which Inject leaves alone, is taken out like our own. What comes out is parsed again and held
// against what was meant. If the two differ, as with an anchor that another place shares, that is an error.
package manifest
