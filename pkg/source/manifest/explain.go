package manifest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"
	kjson "sigs.k8s.io/json"
)

// fault is what is wrong with one field of a document. bare is the message without
// the value.
type fault struct{ path, message, bare string }

// findings are the first faults of a document, and how many more there are.
type findings struct {
	lenient                bool    // unknown fields are dropped
	wrong, dropped         []fault // dropped: only where lenient
	moreWrong, moreDropped int
}

// add records a fault, which say words if there is room for it.
func (f *findings) add(path string, say func() (message, bare string)) {
	if len(f.wrong) == maxProblems {
		f.moreWrong++
		return
	}
	message, bare := say()
	f.wrong = append(f.wrong, fault{path, message, bare})
}

// explain returns which fields of a JSON value do not fit the type: unknown ones
// and values of the wrong type, each with its path. The decoder itself stops at the
// first, and gives neither index nor line.
func explain(raw json.RawMessage, t reflect.Type, lenient bool) *findings {
	f := &findings{lenient: lenient}
	f.value(raw, t, "")
	return f
}

// explainList checks a list except for its items.
func explainList(raw []byte, lenient bool) *findings {
	type list struct {
		Kind       string         `json:"kind"`
		APIVersion string         `json:"apiVersion"`
		Metadata   map[string]any `json:"metadata"`
		Items      []any          `json:"items"`
	}
	return explain(raw, reflect.TypeFor[list](), lenient)
}

func (f *findings) value(raw json.RawMessage, t reflect.Type, path string) {
	raw = bytes.TrimSpace(raw)
	if len(raw) == 0 || bytes.Equal(raw, []byte("null")) {
		return
	}
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if reflect.PointerTo(t).Implements(reflect.TypeFor[json.Unmarshaler]()) {
		f.leaf(raw, t, path)
		return
	}
	switch t.Kind() {
	case reflect.Struct:
		entries, keys, ok := object(raw)
		if !ok {
			f.wrongKind(raw, path, "object")
			return
		}
		f.fields(entries, keys, t, path)
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			f.leaf(raw, t, path)
			return
		}
		var items []json.RawMessage
		if json.Unmarshal(raw, &items) != nil {
			f.wrongKind(raw, path, "array")
			return
		}
		for i, item := range items {
			f.value(item, t.Elem(), fmt.Sprintf("%s[%d]", path, i))
		}
	case reflect.Map:
		entries, keys, ok := object(raw)
		if !ok {
			f.wrongKind(raw, path, "object")
			return
		}
		for _, k := range keys {
			f.value(entries[k], t.Elem(), fmt.Sprintf("%s[%s]", path, k))
		}
	default:
		f.leaf(raw, t, path)
	}
}

// fields checks the entries of an object against the fields of a struct.
func (f *findings) fields(entries map[string]json.RawMessage, keys []string, t reflect.Type, path string) {
	known := map[string]reflect.Type{}
	jsonFields(t, known)
	for _, k := range keys {
		at := k
		if path != "" {
			at = path + "." + k
		}
		if ft, ok := known[k]; ok {
			f.value(entries[k], ft, at)
			continue
		}
		say := func() (message, bare string) {
			message = "unknown field"
			for name := range known {
				if strings.EqualFold(name, k) {
					message += fmt.Sprintf(" (it is spelt %q)", name)
				}
			}
			return message, message
		}
		switch {
		case !f.lenient:
			f.add(at, say)
		case len(f.dropped) == maxProblems:
			f.moreDropped++
		default:
			message, _ := say()
			f.dropped = append(f.dropped, fault{at, message, message})
		}
	}
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
func (f *findings) leaf(raw []byte, t reflect.Type, path string) {
	if t.Kind() == reflect.Interface {
		return
	}
	err := kjson.UnmarshalCaseSensitivePreserveInts(raw, reflect.New(t).Interface())
	if err == nil {
		return
	}
	switch t.Kind() {
	case reflect.Slice:
		const message = "must be base64 text"
		f.add(path, func() (string, string) { return message, message })
	case reflect.String:
		f.wrongKind(raw, path, "string")
	case reflect.Bool:
		f.wrongKind(raw, path, "boolean")
	case reflect.Int32, reflect.Int64, reflect.Int:
		f.wrongKind(raw, path, "integer")
	default:
		f.add(path, func() (string, string) {
			return field.TypeInvalid(field.NewPath(""), show(raw), err.Error()).ErrorBody(), "cannot be decoded"
		})
	}
}

func (f *findings) wrongKind(raw []byte, path, want string) {
	f.add(path, func() (string, string) {
		bare := "must be of type " + want
		return field.TypeInvalid(field.NewPath(""), show(raw), bare).ErrorBody(), bare
	})
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
