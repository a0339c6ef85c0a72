package manifest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	yamlv3 "go.yaml.in/yaml/v3"
	"k8s.io/apimachinery/pkg/util/validation/field"
	kjson "sigs.k8s.io/json"
)

// fault is what is wrong with one field of a document. bare is the message without
// the value.
type fault struct{ path, message, bare string }

// explain returns which fields of a JSON value do not fit the type: unknown ones
// and values of the wrong type, each with its path. The decoder itself stops at the
// first, and gives neither index nor line.
func explain(raw json.RawMessage, t reflect.Type, path string) []fault {
	raw = bytes.TrimSpace(raw)
	if len(raw) == 0 || bytes.Equal(raw, []byte("null")) {
		return nil
	}
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if reflect.PointerTo(t).Implements(reflect.TypeFor[json.Unmarshaler]()) {
		return leaf(raw, t, path)
	}
	switch t.Kind() {
	case reflect.Struct:
		if raw[0] != '{' {
			return wrongKind(raw, path, "object")
		}
		return explainStruct(raw, t, path)
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			return leaf(raw, t, path)
		}
		var items []json.RawMessage
		if json.Unmarshal(raw, &items) != nil {
			return wrongKind(raw, path, "array")
		}
		var faults []fault
		for i, item := range items {
			faults = append(faults, explain(item, t.Elem(), fmt.Sprintf("%s[%d]", path, i))...)
		}
		return faults
	case reflect.Map:
		entries, keys, ok := object(raw)
		if !ok {
			return wrongKind(raw, path, "object")
		}
		var faults []fault
		for _, k := range keys {
			faults = append(faults, explain(entries[k], t.Elem(), fmt.Sprintf("%s[%s]", path, k))...)
		}
		return faults
	}
	return leaf(raw, t, path)
}

func explainStruct(raw []byte, t reflect.Type, path string) []fault {
	entries, keys, ok := object(raw)
	if !ok {
		return wrongKind(raw, path, "object")
	}
	fields := map[string]reflect.Type{}
	jsonFields(t, fields)
	var faults []fault
	for _, k := range keys {
		at := k
		if path != "" {
			at = path + "." + k
		}
		if ft, ok := fields[k]; ok {
			faults = append(faults, explain(entries[k], ft, at)...)
			continue
		}
		message := "unknown field"
		for name := range fields {
			if strings.EqualFold(name, k) {
				message += fmt.Sprintf(" (it is spelt %q)", name)
			}
		}
		faults = append(faults, fault{at, message, message})
	}
	return faults
}

// explainList checks a list except for its items.
func explainList(raw []byte) []fault {
	type list struct {
		Kind       string         `json:"kind"`
		APIVersion string         `json:"apiVersion"`
		Metadata   map[string]any `json:"metadata"`
		Items      []any          `json:"items"`
	}
	return explain(raw, reflect.TypeFor[list](), "")
}

// object returns the entries of a JSON object, and its keys in order.
func object(raw []byte) (map[string]json.RawMessage, []string, bool) {
	var entries map[string]json.RawMessage
	if json.Unmarshal(raw, &entries) != nil {
		return nil, nil, false
	}
	keys := make([]string, 0, len(entries))
	for k := range entries {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return entries, keys, true
}

// jsonFields collects the fields of a struct, and of those embedded in it, by
// their names in JSON.
func jsonFields(t reflect.Type, fields map[string]reflect.Type) {
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Anonymous && name == "":
			if f.Type.Kind() == reflect.Struct {
				jsonFields(f.Type, fields)
			}
		case name != "" && name != "-":
			fields[name] = f.Type
		}
	}
}

// leaf decodes one value on its own.
func leaf(raw []byte, t reflect.Type, path string) []fault {
	if t.Kind() == reflect.Interface {
		return nil
	}
	err := kjson.UnmarshalCaseSensitivePreserveInts(raw, reflect.New(t).Interface())
	if err == nil {
		return nil
	}
	switch t.Kind() {
	case reflect.Slice:
		const message = "must be base64 text"
		return []fault{{path, message, message}}
	case reflect.String:
		return wrongKind(raw, path, "string")
	case reflect.Bool:
		return wrongKind(raw, path, "boolean")
	case reflect.Int32, reflect.Int64, reflect.Int:
		return wrongKind(raw, path, "integer")
	}
	return []fault{{path, field.TypeInvalid(field.NewPath(""), show(raw), err.Error()).ErrorBody(), "cannot be decoded"}}
}

func wrongKind(raw []byte, path, want string) []fault {
	bare := "must be of type " + want
	return []fault{{path, field.TypeInvalid(field.NewPath(""), show(raw), bare).ErrorBody(), bare}}
}

// show is a JSON value as shown in a message: scalars as they are, others by their
// type.
func show(raw []byte) any {
	switch raw[0] {
	case '{':
		return "object"
	case '[':
		return "array"
	}
	var v any
	if kjson.UnmarshalCaseSensitivePreserveInts(raw, &v) != nil {
		return string(raw)
	}
	return v
}

// lines finds fields in a document's text. The text is parsed when the first field
// is looked up.
type lines struct {
	text   piece
	parsed bool
	root   *yamlv3.Node
}

// of returns the line of the file that has the field, or else the deepest part of
// its path that the document has.
func (l *lines) of(path string) int {
	if !l.parsed {
		l.parsed = true
		var root yamlv3.Node
		if err := yamlv3.Unmarshal(l.text.text, &root); err == nil && len(root.Content) > 0 {
			l.root = root.Content[0]
		}
	}
	if l.root == nil {
		return l.text.line
	}
	n, line := l.root, l.root.Line
	for _, key := range pathKeys(path) {
		for n.Kind == yamlv3.AliasNode {
			n = n.Alias
		}
		next, at := child(n, key)
		if next == nil {
			break
		}
		n, line = next, at
	}
	return l.text.line + line - 1
}

// child steps from a node to the value of a key or index, and returns its line: the
// key's, because the value may begin on the next.
func child(n *yamlv3.Node, key string) (*yamlv3.Node, int) {
	switch n.Kind {
	case yamlv3.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			if n.Content[i].Value == key {
				return n.Content[i+1], n.Content[i].Line
			}
		}
	case yamlv3.SequenceNode:
		if i, err := strconv.Atoi(key); err == nil && i >= 0 && i < len(n.Content) {
			return n.Content[i], n.Content[i].Line
		}
	}
	return nil, 0
}

// pathKeys splits a path such as spec.containers[0].resources.limits[a.b/c].
func pathKeys(path string) []string {
	var keys []string
	for path != "" {
		if path[0] == '[' {
			end := strings.IndexByte(path, ']')
			if end < 0 {
				return append(keys, path[1:])
			}
			keys = append(keys, path[1:end])
			path = path[end+1:]
			continue
		}
		path = strings.TrimPrefix(path, ".")
		end := strings.IndexAny(path, ".[")
		if end < 0 {
			end = len(path)
		}
		if end > 0 {
			keys = append(keys, path[:end])
		}
		path = path[end:]
	}
	return keys
}
