package kube

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"
	kjson "sigs.k8s.io/json"
	kyaml "sigs.k8s.io/yaml"

	"github.com/heddle-mesh/heddle/model"
	"github.com/heddle-mesh/heddle/policy"
)

// Problems with manifests, beside those of package policy that fit them too.
const (
	codeObject     policy.Code = 2001 // an object that Kubernetes would not take
	codeTwice      policy.Code = 2002 // an object that another file has too
	codeEmptied    policy.Code = 2003 // a file that had objects and is now empty
	codeUnreadable policy.Code = 2004 // a file or folder that cannot be read
	codeNoAddress  policy.Code = 2005 // a Service that nobody can call
	codeStray      policy.Code = 2006 // a document that is no Kubernetes object
)

// manifest is what a file says.
type manifest struct {
	objects  []object
	problems []policy.Problem
}

// object is a fact with the place that it was read from.
type object struct {
	event model.Event
	line  int
}

// parseManifest reads a file of Kubernetes YAML: documents, and Lists of them. Kinds that the mesh does not know are
// passed over. It is pure: the same bytes give the same facts.
func parseManifest(file string, data []byte) manifest {
	p := &manifestParser{file: file, positions: positions(file, data)}
	line := 1
	for _, text := range splitDocuments(data) {
		if p.hopeless() {
			break
		}
		p.document(text, line)
		line += bytes.Count(text, []byte("\n"))
	}
	return p.manifest
}

type manifestParser struct {
	manifest
	file      string
	positions map[policyItem]policy.Source

	// The document being read.
	text   []byte
	line   int        // that it begins in
	parsed *yaml.Node // see root
}

// policyItem names a document in a ConfigMap.
type policyItem struct {
	configMap model.Key
	item      string
}

// positions finds where in a file the documents of its policies stand.
func positions(file string, data []byte) map[policyItem]policy.Source {
	if !bytes.Contains(data, []byte(model.PolicyLabel)) {
		return nil
	}
	found := map[policyItem]policy.Source{}
	items, _ := policy.ParseFile(file, data, policy.Where{Namespace: metav1.NamespaceDefault})
	for _, it := range items {
		found[policyItem{model.Key{Namespace: it.Namespace, Name: it.ConfigMap}, it.Key}] = it.Source
	}
	return found
}

// splitDocuments cuts a file before each line that begins with ---, as kubectl does.
func splitDocuments(data []byte) [][]byte {
	var documents [][]byte
	start := 0
	for at := 0; at < len(data); {
		end := len(data)
		if i := bytes.IndexByte(data[at:], '\n'); i >= 0 {
			end = at + i + 1
		}
		if bytes.HasPrefix(data[at:end], []byte("---")) {
			documents, start = append(documents, data[start:at]), at
		}
		at = end
	}
	return append(documents, data[start:])
}

func (p *manifestParser) document(text []byte, line int) {
	p.text, p.line, p.parsed = text, line, nil
	// The text is converted as kubectl does it, which has notions of its own of what is true and what is a number.
	data, err := kyaml.YAMLToJSONStrict(text)
	switch {
	case err != nil:
		p.notYAML(err)
	case string(data) != "null":
		p.object(data, "", metav1.TypeMeta{})
	}
}

// root gives the document's nodes, which know their places. They are only asked for where there is something to tell:
// this takes as long as all the rest.
func (p *manifestParser) root() *yaml.Node {
	if p.parsed != nil {
		return p.parsed
	}
	var document yaml.Node
	p.parsed = &yaml.Node{Line: 1, Column: 1} // for what one parser takes and the other does not
	if err := yaml.Unmarshal(p.text, &document); err == nil && len(document.Content) > 0 {
		p.parsed = document.Content[0]
	}
	return p.parsed
}

// notYAML tells why a document could not be converted: it is not YAML, or a key stands twice in it.
func (p *manifestParser) notYAML(err error) {
	var document yaml.Node
	if syntax := yaml.Unmarshal(p.text, &document); syntax != nil {
		p.syntax(syntax)
		return
	}
	p.duplicates(err)
}

// syntax tells why a document is not YAML, in the words of the policy language's own parser, which knows better
// than the library where the mistake is.
func (p *manifestParser) syntax(err error) {
	_, problems := policy.ParseFile(p.file, p.text, policy.Where{})
	for _, pr := range problems {
		pr.Line += p.line - 1
		p.tell(pr)
	}
	if len(problems) == 0 {
		p.problem(policy.CodeSyntax, p.root(), "%v", err)
	}
}

var yamlErrorLine = regexp.MustCompile(`line ([0-9]+): (.*)`)

// duplicates tells of keys that stand twice, the only thing that a conversion to JSON refuses after the syntax.
func (p *manifestParser) duplicates(err error) {
	for _, m := range yamlErrorLine.FindAllStringSubmatch(err.Error(), -1) {
		line, _ := strconv.Atoi(m[1]) // digits
		p.problem(policy.CodeDuplicate, &yaml.Node{Line: line, Column: 1}, "%s", m[2])
	}
	if !yamlErrorLine.MatchString(err.Error()) {
		p.problem(policy.CodeSyntax, p.root(), "%v; write it without aliases if it has any", err)
	}
}

// object reads one object, or those of a List. Its kind may be left out where the List's kind says it.
func (p *manifestParser) object(data []byte, at string, implied metav1.TypeMeta) {
	meta := implied
	if err := json.Unmarshal(data, &meta); err != nil || meta.Kind == "" || meta.APIVersion == "" {
		p.stray(at, meta.Kind)
		return
	}
	if strings.HasSuffix(meta.Kind, "List") {
		p.list(data, at, meta)
		return
	}
	obj := newObject(meta)
	if obj == nil {
		return
	}
	strict, err := kjson.UnmarshalStrict(data, obj)
	for _, e := range strict {
		p.strictError(at, e)
	}
	switch {
	case err != nil:
		p.typeError(data, at, meta.Kind, err)
	case len(strict) > 0:
	case obj.GetName() == "":
		p.problem(policy.CodeMissing, p.node(at), "%s has no metadata.name", meta.Kind)
	default:
		p.take(obj, at, meta.Kind)
	}
}

// stray tells of a document that is no object of Kubernetes. It does not stop the file: Kubernetes tools keep other
// things in such folders too, but a bare policy there is a misunderstanding.
func (p *manifestParser) stray(at, kind string) {
	p.warn(codeStray, p.node(at), "a policy belongs into a ConfigMap with the label "+model.PolicyLabel,
		"document of kind %q without apiVersion is passed over", kind)
}

func (p *manifestParser) list(data []byte, at string, meta metav1.TypeMeta) {
	var list struct {
		Items []json.RawMessage `json:"items"`
	}
	if err := json.Unmarshal(data, &list); err != nil {
		p.problem(policy.CodeType, p.node(at), "items of the %s is not a list", meta.Kind)
		return
	}
	var implied metav1.TypeMeta
	if kind := strings.TrimSuffix(meta.Kind, "List"); kind != "" {
		implied = metav1.TypeMeta{Kind: kind, APIVersion: meta.APIVersion}
	}
	for i, item := range list.Items {
		p.object(item, fmt.Sprintf("%s.items[%d]", at, i), implied)
	}
}

// manifestObject is an object of a kind that the mesh reads.
type manifestObject interface {
	runtime.Object
	metav1.Object
}

// newObject gives an empty object of a kind, nil for kinds that are not for the mesh.
func newObject(m metav1.TypeMeta) manifestObject {
	switch m.APIVersion + " " + m.Kind {
	case "v1 Service":
		return &corev1.Service{}
	case "v1 Pod":
		return &corev1.Pod{}
	case "v1 Namespace":
		return &corev1.Namespace{}
	case "v1 Node":
		return &corev1.Node{}
	case "v1 ConfigMap":
		return &corev1.ConfigMap{}
	case discoveryv1.SchemeGroupVersion.String() + " EndpointSlice":
		return &discoveryv1.EndpointSlice{}
	}
	return nil
}

// take fills in what an API server would have, and converts an object.
func (p *manifestParser) take(obj manifestObject, at, kind string) {
	switch obj.(type) {
	case *corev1.Namespace, *corev1.Node:
		obj.SetNamespace("")
	default:
		obj.SetNamespace(orDefault(obj.GetNamespace(), metav1.NamespaceDefault))
	}
	if err := checkNames(obj); err != nil {
		p.problem(policy.CodeName, p.node(at), "%s: %v", kind, err)
		return
	}
	if obj.GetUID() == "" {
		obj.SetUID(types.UID(hashOf([]string{kind, obj.GetNamespace(), obj.GetName()})))
	}
	event, err := eventOf(obj)
	if err != nil {
		p.problem(codeObject, p.node(at), "%v", err)
		return
	}
	if event.Policy != nil {
		p.locate(event.Policy)
	}
	if s := event.Service; s != nil && s.Kind == model.ClusterIP && len(s.Addresses) == 0 {
		p.warn(codeNoAddress, p.node(at), "write spec.clusterIP, such as 10.96.0.10",
			"Service %s has no clusterIP, and here is no API server to choose one: nobody can call it", s.Key)
	}
	if subjectOf(event) != (subject{}) {
		p.objects = append(p.objects, object{event, p.lineOf(at)})
	}
}

// checkNames holds names to what an API server takes: resources are named after them.
func checkNames(obj manifestObject) error {
	flaws := validation.IsDNS1123Subdomain(obj.GetName())
	if _, ok := obj.(*corev1.Service); ok {
		flaws = validation.IsDNS1123Label(obj.GetName())
	}
	if len(flaws) > 0 {
		return fmt.Errorf("metadata.name %.80q: %s", obj.GetName(), flaws[0])
	}
	if namespace := obj.GetNamespace(); namespace != "" && len(validation.IsDNS1123Label(namespace)) > 0 {
		return fmt.Errorf("metadata.namespace %.80q: %s", namespace, validation.IsDNS1123Label(namespace)[0])
	}
	return nil
}

// lineOf gives the line that an object begins in.
func (p *manifestParser) lineOf(at string) int {
	if at != "" {
		return p.line + p.node(at).Line - 1
	}
	line := p.line
	for text := range bytes.Lines(p.text) {
		if text = bytes.TrimSpace(text); len(text) > 0 && text[0] != '#' && !bytes.HasPrefix(text, []byte("---")) {
			break
		}
		line++
	}
	return line
}

// locate tells where the documents of a policy stand in the file.
func (p *manifestParser) locate(f *model.PolicyText) {
	for i := range f.Documents {
		d := &f.Documents[i]
		if src, ok := p.positions[policyItem{f.Key, d.Item}]; ok {
			d.File, d.Line, d.Column, d.Pinned = src.File, src.Line, src.Column, src.Pinned
		}
	}
}

// strictError tells of a field that does not exist.
func (p *manifestParser) strictError(at string, err error) {
	var field kjson.FieldError
	if !errors.As(err, &field) {
		p.problem(policy.CodeUnknown, p.node(at), "%v", err)
		return
	}
	path := at + "." + field.FieldPath()
	key, _ := find(p.root(), path)
	p.problem(policy.CodeUnknown, key, "%v", err)
}

// typeError tells of a value that is not what belongs there.
func (p *manifestParser) typeError(data []byte, at, kind string, err error) {
	var wrong *json.UnmarshalTypeError
	if !errors.As(err, &wrong) {
		p.problem(policy.CodeType, p.node(at), "%s: %v", kind, err)
		return
	}
	_, value := find(p.root(), at+pathAt(data, wrong.Offset))
	is := wrong.Value
	switch is {
	case "object":
		is = "mapping"
	case "array":
		is = "list"
	}
	p.problem(policy.CodeType, value, "%s is a %s, where %s belongs", orDefault(wrong.Field, kind), is, wordFor(wrong.Type))
}

// wordFor says what a person writes for a Go type.
func wordFor(t reflect.Type) string {
	switch t.Kind() {
	case reflect.String:
		return "a text (in quotes)"
	case reflect.Bool:
		return "true or false"
	case reflect.Slice, reflect.Array:
		return "a list"
	case reflect.Struct, reflect.Map, reflect.Pointer:
		return "a mapping"
	default:
		return "a whole number (" + t.String() + ")"
	}
}

func (p *manifestParser) node(at string) *yaml.Node {
	_, value := find(p.root(), at)
	return value
}

func (p *manifestParser) problem(code policy.Code, at *yaml.Node, format string, args ...any) {
	p.tell(policy.Problem{
		Code: code, Severity: policy.Error, File: p.file, Line: p.line + at.Line - 1, Column: at.Column, Message: fmt.Sprintf(format, args...),
	})
}

func (p *manifestParser) warn(code policy.Code, at *yaml.Node, hint, format string, args ...any) {
	p.tell(policy.Problem{
		Code: code, Severity: policy.Warning, File: p.file, Line: p.line + at.Line - 1, Column: at.Column, Message: fmt.Sprintf(format, args...), Hint: hint,
	})
}

// maxProblems bounds what is told of one file: nobody reads more, and what is no manifest could have a million.
const maxProblems = 100

// tell notes a problem. Of those that are too many one stands for all, which is an error if any of them is.
func (p *manifestParser) tell(pr policy.Problem) {
	switch n := len(p.problems); {
	case n < maxProblems:
		p.problems = append(p.problems, pr)
	case n == maxProblems:
		pr.Code, pr.Message, pr.Hint = policy.CodeTooMany, fmt.Sprintf("more than %d problems", maxProblems), "mend these first"
		p.problems = append(p.problems, pr)
	case pr.Severity == policy.Error:
		p.problems[maxProblems].Severity = policy.Error
	}
}

// hopeless says that there is nothing in the rest of the file that would still be told or taken.
func (p *manifestParser) hopeless() bool {
	return len(p.problems) > maxProblems && policy.Failed(p.problems)
}
