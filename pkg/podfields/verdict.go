package podfields

import (
	"fmt"
	"reflect"
	"strings"

	v1 "k8s.io/api/core/v1"
)

// verdict is what becomes of a field.
type verdict string

const (
	honoured verdict = "honoured"
	refused  verdict = "refused"
	notNode  verdict = "not a node's business"
)

// row is the verdict on one field of an API type.
type row struct {
	field   string // JSON name
	verdict verdict
	text    string
	// check returns why a value of an honoured field is refused, "" if it is
	// not; nil refuses none. It gets what the field holds, pointers followed.
	check func(v reflect.Value) string
}

// section holds the verdicts on the fields of one API type, in their order there.
type section struct {
	name string // of the Go type
	rows []row
}

// Refusal is a field of a pod that this node will not honour.
type Refusal struct {
	Path   string // e.g. spec.containers[0].livenessProbe
	Reason string
}

// String returns "path: reason".
func (r Refusal) String() string { return r.Path + ": " + r.Reason }

// Refused returns every field of the pod's spec that is set and refused, in the
// order of the API, empty when the node can do all that the pod asks for.
func Refused(pod *v1.Pod) []Refusal {
	var all []Refusal
	inspect(reflect.ValueOf(pod.Spec), "spec", &all)
	return all
}

// inspect appends the refused fields of v, which is a value of a core/v1 type or
// a collection of such.
func inspect(v reflect.Value, path string, all *[]Refusal) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			inspect(v.Elem(), path, all)
		}
		return
	case reflect.Slice:
		for i := range v.Len() {
			inspect(v.Index(i), fmt.Sprintf("%s[%d]", path, i), all)
		}
		return
	case reflect.Struct:
	default:
		return
	}
	if !described(v.Type()) {
		return
	}
	verdicts := sections[v.Type().Name()]
	for _, f := range fieldsOf(v.Type()) {
		value := v.FieldByIndex(f.index)
		if unset(value) {
			continue
		}
		r, known := verdicts[f.name]
		at := path + "." + f.name
		switch {
		case !known:
			*all = append(*all, Refusal{at, "this version does not know the field"})
		case r.verdict == refused:
			*all = append(*all, Refusal{at, r.text})
		case r.verdict == honoured:
			if r.check != nil {
				if why := r.check(reflect.Indirect(value)); why != "" {
					*all = append(*all, Refusal{at, why})
					continue
				}
			}
			inspect(value, at, all)
		}
	}
}

// unset tells whether a manifest that leaves the field out gives the same value.
func unset(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Slice, reflect.Map:
		return v.Len() == 0
	}
	return v.IsZero()
}

// apiField is a field as a manifest shows it: inlined structs are flattened.
type apiField struct {
	name  string
	index []int
	typ   reflect.Type
}

func fieldsOf(t reflect.Type) []apiField {
	var all []apiField
	for i := range t.NumField() {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "" && strings.Contains(options, "inline") {
			for _, inner := range fieldsOf(f.Type) {
				inner.index = append([]int{i}, inner.index...)
				all = append(all, inner)
			}
			continue
		}
		all = append(all, apiField{name, []int{i}, f.Type})
	}
	return all
}

// described tells whether a type has fields to judge: the structs of core/v1.
// Quantities, label selectors and the like are values.
func described(t reflect.Type) bool {
	return t.Kind() == reflect.Struct && t.PkgPath() == reflect.TypeFor[v1.PodSpec]().PkgPath()
}

var sections = func() map[string]map[string]row {
	all := map[string]map[string]row{}
	for _, s := range table {
		rows := map[string]row{}
		for _, r := range s.rows {
			rows[r.field] = r
		}
		all[s.name] = rows
	}
	return all
}()
