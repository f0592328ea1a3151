// Package policy is the language in which people tell the mesh what they want: documents of the kinds [Traffic],
// [Access], [Scope], [Telemetry] and [Mesh], kept as YAML in labelled ConfigMaps.
//
// [Parse] turns the text of one document into a [Document], or into the list of every [Problem] in it, each with
// its place in the person's own file, a stable [Code] and a next step. [ParseFile] does so for a file of
// ConfigMaps or bare documents, and [Together] finds what documents do to each other.
//
// The language is declared by its types. A field's json tag is its key (without omitempty: it must be written),
// its range tag the values that are good; the methods oneOf and atMostOne name keys that exclude each other;
// enum types list their words. Decoder, schema and reference documentation all follow these declarations, and
// what they cannot express stands in a type's validate method. Built-in values are in defaults.go, alone.
//
// A field that can be left out is a pointer, slice, map or string whose zero value says so.
//
// The package is pure: text in, values out. It knows nothing of Envoy or of what is running.
package policy
