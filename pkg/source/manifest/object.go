package manifest

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/mini-kubelet/mini-kubelet/pkg/admission/podfields"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
)

// Kinds of documents that a manifest may have, all of v1.
const (
	kindPod       = "Pod"
	kindConfigMap = "ConfigMap"
	kindSecret    = "Secret"
	kindVolume    = "PersistentVolume"
	kindClaim     = "PersistentVolumeClaim"
)

var kinds = []string{kindPod, kindConfigMap, kindSecret, kindVolume, kindClaim}

// documented reports whether a manifest may have documents of a v1 kind.
func documented(kind string) bool { return slices.Contains(kinds, kind) }

// newObject returns an empty object of a kind that is not Pod.
func newObject(kind string) metav1.Object {
	switch kind {
	case kindSecret:
		return &v1.Secret{}
	case kindVolume:
		return &v1.PersistentVolume{}
	case kindClaim:
		return &v1.PersistentVolumeClaim{}
	}
	return &v1.ConfigMap{}
}

// kindOfObject is the kind of an object that newObject returned.
func kindOfObject(o metav1.Object) string {
	switch o.(type) {
	case *v1.Secret:
		return kindSecret
	case *v1.PersistentVolume:
		return kindVolume
	case *v1.PersistentVolumeClaim:
		return kindClaim
	}
	return kindConfigMap
}

// Content is what a manifest, or a whole source, contains: pods, and the objects that
// they use, of the kinds of newObject.
type Content struct {
	Pods    []*v1.Pod
	Objects []metav1.Object
}

// Ident distinguishes the contents of a manifest, pods by the names that they have on the node.
type Ident struct {
	Kind string
	Name types.NamespacedName
}

// Idents returns which pods and objects these are.
func (c Content) Idents() []Ident {
	var all []Ident
	for _, p := range c.Pods {
		all = append(all, Ident{kindPod, pods.NameOf(p)})
	}
	for _, o := range c.Objects {
		all = append(all, identOf(o))
	}
	return all
}

// Line returns the line of a field of a pod or object in a manifest's text, or that of the deepest part of its path which
// the text has; 0 if the manifest has no such document.
func (o Origin) Line(data []byte, id Ident, field string) int {
	name := []byte(id.Name.Name)
	if id.Kind == kindPod {
		name = bytes.TrimSuffix(name, []byte(nameOnNode("", o.Node)))
	}
	all := &manifest{lenient: true}
	for i, piece := range split(data) {
		if !bytes.Contains(piece.text, name) {
			continue // most need not be read
		}
		for _, w := range all.read(i, piece) {
			if w.kind != "" && w.ident(o.Node) == id {
				return w.lines.of(w.path(field))
			}
		}
	}
	return 0
}

// identOf is the ident of an object; pods have a different name in a manifest than
// on the node.
func identOf(o metav1.Object) Ident {
	return Ident{kindOfObject(o), types.NamespacedName{Namespace: o.GetNamespace(), Name: o.GetName()}}
}

// ident is the ident of what the document should have contained, as it runs on the
// node. The kind is "" if it is unknown.
func (w *Document) ident(node string) Ident {
	id := Ident{w.kind, w.name}
	switch w.kind {
	case kindPod:
		id.Name.Name = nameOnNode(id.Name.Name, node)
	case kindVolume:
		id.Name.Namespace = ""
	}
	return id
}

// Failed reports whether the document gave nothing although it should have.
func (w Document) Failed() bool { return w.pod == nil && w.object == nil && !w.empty }

// decodeObject decodes an object other than a pod, just as strictly.
func (w *Document) decodeObject(raw []byte) {
	if object := newObject(w.kind); w.decodeInto(raw, object, w.kind == kindSecret) {
		w.object = object
	}
}

// object turns an object of a manifest into the one that pods of this node see: with
// its namespace, defaulted and valid.
func (o Origin) object(w *Document) {
	if !o.Objects {
		w.object = nil
		w.problem("kind", fmt.Sprintf("a %s cannot be given to a node of a cluster: its pods take theirs from the API server, and static pods cannot refer to any", w.kind))
		return
	}
	generateName := w.object.GetGenerateName()
	if m, ok := w.object.(metav1.ObjectMetaAccessor).GetObjectMeta().(*metav1.ObjectMeta); ok {
		podfields.ForgetIgnored(m)
	}
	w.object.SetDeletionGracePeriodSeconds(nil)
	if w.object.GetNamespace() == "" && w.kind != kindVolume {
		w.object.SetNamespace(metav1.NamespaceDefault)
	}
	switch object := w.object.(type) {
	case *v1.ConfigMap:
		object.TypeMeta = metav1.TypeMeta{}
		w.refuse(named(validateConfigMap(object), generateName))
	case *v1.Secret:
		object.TypeMeta = metav1.TypeMeta{}
		text := object.StringData
		if len(text) > 0 && object.Data == nil {
			object.Data = map[string][]byte{}
		}
		for k, v := range text {
			object.Data[k] = []byte(v)
		}
		object.StringData = nil
		defaultTo(&object.Type, v1.SecretTypeOpaque)
		errs := validateSecret(object)
		for _, e := range errs {
			// The field that the user wrote, for its line.
			if key, ok := strings.CutPrefix(e.Field, "data["); ok && len(text) > 0 {
				if _, there := text[strings.TrimSuffix(key, "]")]; there {
					e.Field = "stringData[" + key
				}
			}
		}
		w.refuse(named(errs, generateName))
	case *v1.PersistentVolume:
		object.TypeMeta, object.Status = metav1.TypeMeta{}, v1.PersistentVolumeStatus{}
		defaultPersistentVolume(object)
		errs := validatePersistentVolume(object)
		if h := object.Spec.HostPath; h != nil {
			errs = append(errs, absolute(h.Path, field.NewPath("spec", "hostPath", "path"))...)
		}
		if l := object.Spec.Local; l != nil {
			errs = append(errs, absolute(l.Path, field.NewPath("spec", "local", "path"))...)
		}
		w.refuse(named(errs, generateName))
	case *v1.PersistentVolumeClaim:
		object.TypeMeta, object.Status = metav1.TypeMeta{}, v1.PersistentVolumeClaimStatus{}
		defaultClaim(&object.Spec)
		w.refuse(named(validateClaim(object), generateName))
	}
}

// RefuseChanges refuses what the API server would refuse when an object is updated:
// changes of immutable fields. before is what the manifest gave until now.
func RefuseChanges(docs []Document, before Content) {
	had := map[Ident]metav1.Object{}
	for _, o := range before.Objects {
		had[identOf(o)] = o
	}
	for i := range docs {
		w := &docs[i]
		if w.object == nil {
			continue
		}
		if old := had[identOf(w.object)]; old != nil {
			w.refuse(validateChange(old, w.object))
		}
	}
}

// KeepFailed returns what the documents give, plus those parts of before whose
// document has failed now: what has the same kind and name or, if a document is so
// broken that no name can be read, anything that is missing.
func KeepFailed(before Content, docs []Document, node string) Content {
	var now Content
	present, failed := map[Ident]bool{}, map[Ident]bool{}
	unnamed := len(docs) == 0
	for i := range docs {
		switch w := &docs[i]; {
		case w.pod != nil:
			now.Pods = append(now.Pods, w.pod)
			present[Ident{kindPod, pods.NameOf(w.pod)}] = true
		case w.object != nil:
			now.Objects = append(now.Objects, w.object)
			present[identOf(w.object)] = true
		case w.empty:
		case w.name.Name == "":
			unnamed = true
		case w.kind == "":
			for _, kind := range kinds {
				may := *w
				may.kind = kind
				failed[may.ident(node)] = true
			}
		default:
			failed[w.ident(node)] = true
		}
	}
	kept := func(id Ident) bool { return !present[id] && (unnamed || failed[id]) }
	for _, p := range before.Pods {
		if kept(Ident{kindPod, pods.NameOf(p)}) {
			now.Pods = append(now.Pods, p)
		}
	}
	for _, o := range before.Objects {
		if kept(identOf(o)) {
			now.Objects = append(now.Objects, o)
		}
	}
	return now
}

func equalBytes(a, b map[string][]byte) bool {
	return maps.EqualFunc(a, b, bytes.Equal)
}

// NeedsKept reports whether it matters what documents that are read for the first
// time gave when they were last good: because one has failed, or an object may have
// changed that must not change.
func NeedsKept(docs []Document) bool {
	return len(docs) == 0 || slices.ContainsFunc(docs, func(w Document) bool { return w.Failed() || w.object != nil })
}
