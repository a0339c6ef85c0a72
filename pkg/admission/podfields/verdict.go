package podfields

import (
	"fmt"
	"reflect"
	"strings"

	v1 "k8s.io/api/core/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/bounds"
)

// verdict is what the node does with a field.
type verdict string

const (
	honoured verdict = "honoured"
	refused  verdict = "refused"
	notNode  verdict = "not a node's business"
	ignored  verdict = "ignored" // of metadata only
	// These are honoured if the Node has what they need, and otherwise refused.
	withObjects verdict = "honoured where the node has objects"
	withTokens  verdict = "honoured where the node has tokens"
	withClaims  verdict = "honoured where the node has claims"
	withCgroups verdict = "honoured where the node makes cgroups of pods"
	withControl verdict = "honoured where a control plane describes and makes objects"
	withClasses verdict = "honoured where the node has classes"
	withBundles verdict = "honoured where the node has trust bundles"
)

// Features says which of the things that some fields need a node has. The zero Features has
// none.
type Features struct {
	Objects bool // ConfigMaps and Secrets
	Tokens  bool // service-account tokens
	Claims  bool // persistent volume claims
	Control bool // a control plane makes objects for pods, and describes CSI drivers
	Cgroups bool // pods have cgroups of their own
	Classes bool // RuntimeClasses
	Bundles bool // ClusterTrustBundles
}

// honours reports whether a verdict is honoured on the node.
func (n Features) honours(v verdict) bool {
	return v == honoured || v == withObjects && n.Objects || v == withTokens && n.Tokens || v == withClaims && n.Claims || v == withControl && n.Control ||
		v == withCgroups && n.Cgroups || v == withClasses && n.Classes || v == withBundles && n.Bundles
}

// row is the verdict on one field of an API type.
type row struct {
	field   string // JSON name
	verdict verdict
	text    string
	// check returns why a value of an honoured field is refused, "" if it is not;
	// nil refuses none. It gets the field's value, with pointers followed.
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

// Refused returns every field of the pod's spec that is set and refused on this
// node, in the order of the API, then quantities beyond all bounds; none if the node can do everything that the pod
// asks for.
func Refused(pod *v1.Pod, node Features) []Refusal {
	var all []Refusal
	inspect(node, reflect.ValueOf(pod.Spec), "spec", &all)
	bounds.Quantities(pod.Spec, "spec", func(path string, err error) { all = append(all, Refusal{path, err.Error()}) })
	return all
}

// inspect appends the refused fields of v, which is a value of a core/v1 type or a
// collection of such values.
func inspect(node Features, v reflect.Value, path string, all *[]Refusal) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			inspect(node, v.Elem(), path, all)
		}
		return
	case reflect.Slice:
		for i := range v.Len() {
			inspect(node, v.Index(i), fmt.Sprintf("%s[%d]", path, i), all)
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
		case r.verdict == notNode:
		case !node.honours(r.verdict):
			*all = append(*all, Refusal{at, r.text})
		default:
			if r.check != nil {
				if why := r.check(reflect.Indirect(value)); why != "" {
					*all = append(*all, Refusal{at, why})
					continue
				}
			}
			inspect(node, value, at, all)
		}
	}
}

// unset reports whether a manifest that leaves the field out gives the same value.
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
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if f.Anonymous && name == "" {
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

// described reports whether a type has fields to judge: the structs of core/v1.
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

// RefusedVolume returns why volumes of a type, named as in JSON, are refused,
// whether a pod's own or persistent; "" if they are not.
func RefusedVolume(name string) string {
	r, known := sections["Volume"][name]
	switch {
	case !known:
		return "this version does not know the field"
	case r.verdict == refused, r.verdict == withControl:
		return r.text
	}
	return ""
}
