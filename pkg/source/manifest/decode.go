package manifest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"regexp"
	"strconv"
	"strings"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"
	kjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/bounds"
	"github.com/mini-kubelet/mini-kubelet/pkg/base/recovery"
)

// Document is one pod or object as in a manifest: neither defaulted nor validated.
// If it could not be decoded, it has only problems.
type Document struct {
	document int
	prefix   string // of field paths, "items[2]." for the third in a list
	lines    *lines
	pod      *v1.Pod
	content  []byte        // canonical form of the pod's metadata and spec, see canonical
	object   metav1.Object // of a kind that newObject knows
	kind     string        // "" if unknown
	empty    bool          // an empty list: the way to say that nothing is wanted
	name     types.NamespacedName
	Problems []Problem
}

// decode reads a manifest: YAML or JSON documents of the documented kinds, and
// lists of them. An invalid document does not affect the others. The problems do
// not have Source and File yet.
func decode(data []byte) []Document {
	var all []Document
	for i, text := range split(data) {
		all = append(all, decodeDocument(Document{document: i + 1, lines: &lines{text: text}})...)
	}
	return all
}

func decodeDocument(w Document) []Document {
	raw, problems := toJSON(w.lines.text)
	if len(problems) > 0 {
		for i := range problems {
			problems[i].Document = w.document
		}
		w.Problems = problems
		// A duplicate key makes a document invalid, but its name may still be readable.
		if lax, err := yaml.YAMLToJSON(w.lines.text.text); err == nil {
			w.name = readName(lax)
		}
		return []Document{w}
	}
	var head struct {
		APIVersion any               `json:"apiVersion"`
		Kind       any               `json:"kind"`
		Items      []json.RawMessage `json:"items"`
	}
	_ = kjson.UnmarshalCaseSensitivePreserveInts(raw, &head) // errors in it are found below
	apiVersion, _ := head.APIVersion.(string)
	kind, _ := head.Kind.(string)
	of, list := strings.CutSuffix(kind, "List") // List alone may have items of any kind
	switch {
	case bytes.TrimSpace(raw)[0] != '{':
		return w.fail("", "a manifest must be an object with apiVersion and kind")
	case kind == "":
		w.name = readName(raw)
		return w.fail("kind", field.ErrorTypeRequired.String())
	case apiVersion == "":
		w.name = readName(raw)
		return w.fail("apiVersion", field.ErrorTypeRequired.String())
	case apiVersion != "v1" || !documented(of) && kind != "List":
		return w.fail("kind", strange(apiVersion, kind))
	case !list:
		w.kind = kind
		w.decodeOne(raw)
		return []Document{w}
	}
	if problems := explainList(raw); len(problems) > 0 {
		for _, p := range problems {
			w.problem(p.path, p.bare) // the values may be those of Secrets
		}
		return []Document{w}
	}
	var all []Document
	for i, item := range head.Items {
		one := Document{document: w.document, prefix: fmt.Sprintf("items[%d].", i), lines: w.lines}
		one.kind = one.itemKind(item, of)
		if one.kind != "" {
			one.decodeOne(item)
		}
		all = append(all, one)
	}
	if len(all) == 0 {
		w.empty = true
		return []Document{w}
	}
	return all
}

// itemKind returns the kind of an item of a list, or "" and a problem if a manifest
// cannot have that kind. In a list of one kind an item may omit it.
func (w *Document) itemKind(raw []byte, of string) string {
	var head struct {
		APIVersion string `json:"apiVersion"`
		Kind       string `json:"kind"`
	}
	_ = json.Unmarshal(raw, &head)
	switch {
	case of != "" && head.Kind == "" && head.APIVersion == "":
		return of
	case head.APIVersion == "v1" && documented(head.Kind) && (of == "" || head.Kind == of):
		return head.Kind
	}
	w.name = readName(raw)
	switch {
	case head.Kind == "":
		w.problem("kind", field.ErrorTypeRequired.String())
	case of != "":
		w.problem("kind", fmt.Sprintf("%s of %s is not a %s of v1", head.Kind, head.APIVersion, of))
	default:
		w.problem("kind", strange(head.APIVersion, head.Kind))
	}
	return ""
}

// strange returns why a manifest cannot have a kind.
func strange(apiVersion, kind string) string {
	return fmt.Sprintf("%s of %s cannot be used from a manifest: only %s and lists of these of v1 can", kind, apiVersion, strings.Join(kinds, ", "))
}

func (w *Document) decodeOne(raw []byte) {
	w.name = readName(raw)
	w.guarded(func() {
		if w.kind != kindConfigMap && w.kind != kindSecret && bounds.UnreadableQuantity(raw) {
			w.problem("", "it has a quantity with an exponent of four digits, or a hundred digits, which nothing needs and which takes long to read")
			return
		}
		if w.kind == kindPod {
			w.decodePod(raw)
		} else {
			w.decodeObject(raw)
		}
		// Before anything compares them.
		bad := func(path string, err error) { w.problem(path, err.Error()) }
		bounds.Quantities(w.pod, "", bad)
		bounds.Quantities(w.object, "", bad)
		if len(w.Problems) > 0 {
			w.pod, w.object = nil, nil
		}
	})
}

// guarded turns a panic into a problem of this document alone.
func (w *Document) guarded(do func()) {
	err := recovery.Call(func() error { do(); return nil })
	if err != nil {
		w.pod, w.object = nil, nil
		w.problem("", "it meets a defect of this program, please report it: "+err.Error())
	}
}

// decodePod decodes strictly: unknown and duplicate fields are problems.
func (w *Document) decodePod(raw []byte) {
	pod := &v1.Pod{}
	strict, err := kjson.UnmarshalStrict(raw, pod)
	if err == nil && len(strict) == 0 {
		w.pod, w.content = pod, canonical(raw)
		return
	}
	for _, p := range explain(raw, reflect.TypeFor[v1.Pod](), "") {
		w.problem(p.path, p.message)
	}
	if len(w.Problems) == 0 { // explain finds unknown fields and wrong types, but not duplicate keys of JSON
		for _, e := range append(strict, err) {
			if e != nil {
				w.problem("", e.Error())
			}
		}
	}
}

func (w *Document) fail(path, message string) []Document {
	w.problem(path, message)
	return []Document{*w}
}

// refuse records what is wrong with what was decoded, and if anything is, drops the
// result.
func (w *Document) refuse(errs field.ErrorList) {
	for _, e := range errs {
		w.problem(e.Field, e.ErrorBody())
	}
	if len(errs) > 0 {
		w.pod, w.object = nil, nil
	}
}

// problem records what is wrong with a field, and on which line the field is.
func (w *Document) problem(path, message string) {
	path = strings.TrimSuffix(w.prefix+path, ".")
	w.Problems = append(w.Problems, Problem{
		Document: w.document, Line: w.lines.of(path), Field: path, Message: message,
	})
}

// canonical is the content of a pod's manifest regardless of formatting, comments
// and order of keys: metadata and spec as JSON with sorted keys. It depends only on
// the text, not on the API's types, so that it stays the same in later releases.
func canonical(raw []byte) []byte {
	var all struct {
		Metadata any `json:"metadata"`
		Spec     any `json:"spec"`
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	if err := d.Decode(&all); err != nil {
		return raw
	}
	out, err := json.Marshal(all)
	if err != nil {
		return raw
	}
	return out
}

// readName reads the name from a document that may have any other error.
func readName(raw []byte) types.NamespacedName {
	var o struct {
		Metadata json.RawMessage `json:"metadata"`
	}
	var m struct {
		Name      string `json:"name"`
		Namespace string `json:"namespace"`
	}
	_ = json.Unmarshal(raw, &o)
	_ = json.Unmarshal(o.Metadata, &m)
	if m.Name == "" {
		return types.NamespacedName{}
	}
	if m.Namespace == "" {
		m.Namespace = v1.NamespaceDefault
	}
	return types.NamespacedName{Namespace: m.Namespace, Name: m.Name}
}

var yamlLine = regexp.MustCompile(`^(?:error converting YAML to JSON: )?(?:yaml: )?(?:unmarshal errors:)?\s*(?:line (\d+): )?`)

// toJSON converts a document to JSON. Problems with YAML have line numbers.
func toJSON(p piece) ([]byte, []Problem) {
	if p.json {
		return p.text, nil
	}
	raw, err := yaml.YAMLToJSONStrict(p.text)
	if err == nil {
		return raw, nil
	}
	var problems []Problem
	for _, text := range strings.Split(err.Error(), "\n") {
		at := yamlLine.FindStringSubmatch(text)
		message := strings.TrimSpace(text[len(at[0]):])
		if message == "" {
			continue // the heading of a list of errors
		}
		line := p.line
		if n, err := strconv.Atoi(at[1]); err == nil && n > 0 {
			line += n - 1
		}
		problems = append(problems, Problem{Line: line, Message: "not YAML: " + discreet(message, p.text)})
	}
	return nil, problems
}

var quoted = regexp.MustCompile("'[^']*'|`[^`]*`|map\\[.*")

// discreet leaves out what the parser quotes of a document that may be a Secret.
func discreet(message string, text []byte) string {
	lower := bytes.ToLower(text)
	if bytes.Contains(lower, []byte("secret")) || bytes.Contains(lower, []byte("stringdata")) {
		return quoted.ReplaceAllString(message, "…")
	}
	return message
}
