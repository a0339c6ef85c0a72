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
	*text
	prefix  string // of field paths, "items[2]." for the third in a list
	pod     *v1.Pod
	content []byte        // canonical form of the pod's metadata and spec, see canonical
	object  metav1.Object // of a kind that newObject knows
	kind    string        // "" if unknown
	empty   bool          // an empty list: the way to say that nothing is wanted
	name    types.NamespacedName
	// unclassed: the pod has a priority and no class, which an API server computes it from.
	unclassed bool
	faults    int       // what is wrong with it, also what Problems has no room for
	problems  []Problem // the first of them
}

// maxDocuments is how many pods and objects a manifest may have, far beyond what a node runs.
const maxDocuments = 10_000

// decode reads a manifest: YAML or JSON documents of the documented kinds, and
// lists of them. An invalid document does not affect the others. Where lenient, fields that
// are unknown or doubled are dropped instead of refused. The problems do
// not have Source and File yet. It takes time and memory in proportion to the text.
func decode(data []byte, lenient bool) []Document {
	all := &manifest{lenient: lenient}
	for i, piece := range split(data) {
		if len(all.documents) >= maxDocuments {
			w := all.document(i, piece)
			w.problem("", tooMany)
			all.documents = append(all.documents, w)
			break
		}
		all.documents = append(all.documents, all.read(i, piece)...)
	}
	return all.documents
}

// document is the i-th document, which is not read yet.
func (m *manifest) document(i int, p piece) Document {
	return Document{text: &text{document: i + 1, lines: &lines{text: p}, manifest: m}}
}

// read reads the i-th document, which may be a list of many.
func (m *manifest) read(i int, p piece) (read []Document) {
	w := m.document(i, p)
	w.guarded(func() {
		if raw := w.toJSON(); raw != nil {
			read = w.decode(raw)
		}
	})
	if read == nil {
		read = []Document{w} // with what is wrong
	}
	return read
}

// tooMany is said by a document without a name, so that what the rest gave before stays.
var tooMany = fmt.Sprintf("this and what follows is not read: a manifest may have %d pods and objects", maxDocuments)

// decode reads a document, whose text is raw as JSON.
func (w Document) decode(raw []byte) []Document {
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
	w.explained(explainList(raw, w.manifest.lenient), true) // the values may be those of Secrets
	if w.faults > 0 {
		return []Document{w}
	}
	all := make([]Document, 0, len(head.Items))
	for i, item := range head.Items {
		if len(w.manifest.documents)+len(all) == maxDocuments {
			w.prefix = ""
			w.problem(fmt.Sprintf("items[%d]", i), tooMany)
			return append(all, w)
		}
		one := Document{text: w.text, prefix: fmt.Sprintf("items[%d].", i)}
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
		if w.faults > 0 {
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

// decodePod decodes strictly, unless lenient: unknown and duplicate fields are problems.
func (w *Document) decodePod(raw []byte) {
	pod := &v1.Pod{}
	if w.decodeInto(raw, pod, false) {
		w.pod, w.content = pod, canonical(raw)
	}
}

// decodeInto decodes a document into an API object. Problems with a secret one are told without
// values, because they are logged.
func (w *Document) decodeInto(raw []byte, object any, secret bool) (ok bool) {
	strict, err := kjson.UnmarshalStrict(raw, object)
	if err == nil && len(strict) == 0 {
		return true
	}
	found := explain(raw, reflect.TypeOf(object).Elem(), w.manifest.lenient)
	w.explained(found, secret)
	if w.faults > 0 {
		return false
	}
	// explain finds unknown fields and wrong types, but not duplicate keys of JSON, and the
	// errors about these name only keys.
	for _, e := range strict {
		switch {
		case !w.manifest.lenient:
			w.problem("", e.Error())
		case strings.Contains(e.Error(), "duplicate field"):
			w.ignore("", e.Error())
		}
	}
	if err != nil && secret {
		w.problem("", "cannot be decoded")
	} else if err != nil {
		w.problem("", err.Error())
	}
	return w.faults == 0
}

// explained records what explain has found.
func (w *Document) explained(found *findings, bare bool) {
	for _, f := range found.wrong {
		message := f.message
		if bare {
			message = f.bare
		}
		w.problem(f.path, message)
	}
	w.countMore(found.moreWrong)
	for _, f := range found.dropped {
		w.ignore(f.path, f.message)
	}
	w.moreIgnored += found.moreDropped
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

// toJSON converts the document's text to JSON, nil if it cannot. Problems with YAML have line
// numbers.
func (w *Document) toJSON() []byte {
	p := w.lines.text
	if p.json {
		return p.text
	}
	raw, err := yaml.YAMLToJSONStrict(p.text)
	if err == nil {
		return raw
	}
	if lax, laxErr := yaml.YAMLToJSON(p.text); laxErr == nil {
		// Only duplicate keys are wrong, or what the strict parser takes for them.
		found, known := w.lines.doubled()
		switch {
		case known && len(found) == 0:
			return lax // keys of a merge that are given again, which is what merges are for
		case known && w.manifest.lenient:
			for _, k := range found {
				w.ignoreAt(k.line, k.message)
			}
			return lax
		case known:
			w.name = readName(lax)
			for _, k := range found {
				w.problemAt(k.line, "not YAML: "+k.message)
			}
			return nil
		}
		w.name = readName(lax)
	}
	secretive := bytes.Contains(bytes.ToLower(p.text), []byte("secret")) || bytes.Contains(bytes.ToLower(p.text), []byte("stringdata"))
	for line := range strings.SplitSeq(err.Error(), "\n") {
		at := yamlLine.FindStringSubmatch(line)
		message := strings.TrimSpace(line[len(at[0]):])
		if message == "" {
			continue // the heading of a list of errors
		}
		n, err := strconv.Atoi(at[1])
		if err != nil || n < 1 {
			n = 1
		}
		if secretive { // leave out what the parser quotes
			message = quoted.ReplaceAllString(message, "…")
		}
		w.problemAt(n, "not YAML: "+message)
	}
	return nil
}

var quoted = regexp.MustCompile("'[^']*'|`[^`]*`|map\\[.*")
