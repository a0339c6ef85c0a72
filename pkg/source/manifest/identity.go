package manifest

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/mini-kubelet/mini-kubelet/pkg/admission/podfields"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
)

// Origin is where static pods come from and where they run.
type Origin struct {
	Source string // File or HTTP
	From   string // absolute path of the file, or the URL
	Node   string
	// Objects reports whether ConfigMaps and Secrets are accepted.
	Objects bool
	// Lenient drops unknown and duplicate fields with a warning, as the kubelet drops them in
	// silence, instead of refusing what has them.
	Lenient bool
}

// WhatRan returns the origin for reading what was good before: what ran because it was read
// leniently does not stop when that is no longer so.
func (o Origin) WhatRan() Origin {
	o.Lenient = true
	return o
}

// Read decodes a manifest and makes of it what runs on this node, see static. An invalid
// document does not affect the others.
func (o Origin) Read(data []byte) []Document { return o.static(decode(data, o.Lenient)) }

// static turns each pod of a manifest into the pod that runs on this node:
// defaulted, with its identity, and valid; and each object into the one that pods
// see. An invalid one loses its pod or object and gets problems.
func (o Origin) static(all []Document) []Document {
	for i := range all {
		w := &all[i]
		w.guarded(func() { o.one(w) })
	}
	return all
}

func (o Origin) one(w *Document) {
	if w.object != nil {
		o.object(w)
	}
	if w.pod == nil {
		return
	}
	pod := w.pod
	pod.TypeMeta = metav1.TypeMeta{}
	pod.Status = v1.PodStatus{Phase: v1.PodPending}
	generateName := pod.GenerateName
	podfields.ForgetIgnored(&pod.ObjectMeta)
	if pod.Namespace == "" {
		pod.Namespace = metav1.NamespaceDefault
	}
	SetDefaults(pod)
	errs := validateStatic(pod, o.Node)
	w.refuse(named(append(errs, Validate(pod)...), generateName))
	if w.pod != nil {
		// Where there are mirror pods: a node without a cluster takes objects from manifests.
		w.unclassed = !o.Objects && pod.Spec.Priority != nil && pod.Spec.PriorityClassName == ""
		o.identify(pod, w.content)
	}
}

// named words the error that a name is missing for a manifest, which has nobody who generates one.
func named(errs field.ErrorList, generateName string) field.ErrorList {
	name := field.NewPath("metadata", "name").String()
	for i, e := range errs {
		switch {
		case e.Type != field.ErrorTypeRequired || e.Field != name:
		case generateName != "":
			errs[i] = field.Forbidden(field.NewPath("metadata", "generateName"), "generateName is not possible in a manifest: give it a name")
		default:
			e.Detail = ""
		}
	}
	return errs
}

// identify gives a static pod its identity as the kubelet does: a name that is
// unique among the nodes, a UID that follows from its content and place, and the
// node. It is called on a pod as its user named it.
func (o Origin) identify(pod *v1.Pod, content []byte) {
	hash := contentHash(o, content)
	if pod.UID == "" {
		pod.UID = types.UID(hash)
	} else {
		pod.UID = uidOf(pod, o.Node)
	}
	pod.Name = nameOnNode(pod.Name, o.Node)
	pod.Spec.NodeName = o.Node
	pod.Annotations = maps.Clone(pod.Annotations)
	if pod.Annotations == nil {
		pod.Annotations = map[string]string{}
	}
	pod.Annotations[pods.AnnotationConfigSource] = o.Source
	// Unlike the kubelet's, which is the UID, it changes with the content even if the
	// manifest sets a UID: this shows when a mirror pod is stale.
	pod.Annotations[pods.AnnotationConfigHash] = hash
	tolerateNoExecute(pod)
}

// contentHash identifies a manifest's content on this node, as 32 hex digits. It
// must never change for the same content: a pod's UID depends on it, and a new UID
// is a new pod.
func contentHash(o Origin, content []byte) string {
	h := sha256.New()
	for _, part := range []string{o.Node, o.Source, o.From} {
		fmt.Fprintf(h, "%d:%s,", len(part), part)
	}
	h.Write(content)
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// uidOf is the UID of a pod whose manifest sets one: it stays the same while that and the
// name stay, whatever else changes. Unlike the kubelet's it is not the manifest's own,
// which may be another pod's: what is done to one would be done to the other, and a
// manifest saved with kubectl has the UID of the original.
func uidOf(pod *v1.Pod, node string) types.UID {
	h := sha256.New()
	for _, part := range []string{node, pod.Namespace, pod.Name, string(pod.UID)} {
		fmt.Fprintf(h, "%d:%s,", len(part), part)
	}
	return types.UID(hex.EncodeToString(h.Sum(nil)[:16]))
}

// nameOnNode is the name of a static pod: with the node's appended, in lower case.
func nameOnNode(name, node string) string { return name + "-" + strings.ToLower(node) }

// tolerateNoExecute lets the pod stay whatever taints the node gets. The kubelet
// does so only for pods from files; a pod from a URL is just as static.
func tolerateNoExecute(pod *v1.Pod) {
	all := v1.Toleration{Operator: v1.TolerationOpExists, Effect: v1.TaintEffectNoExecute}
	pod.Spec.Tolerations = slices.Clone(pod.Spec.Tolerations)
	for i := range pod.Spec.Tolerations {
		if pod.Spec.Tolerations[i].MatchToleration(&all) {
			pod.Spec.Tolerations[i] = all
			return
		}
	}
	pod.Spec.Tolerations = append(pod.Spec.Tolerations, all)
}

// uidForm is what a UID may look like: it is a directory's name, and part of
// container and cgroup names that are split at "_".
var uidForm = regexp.MustCompile(`^[A-Za-z0-9]([-A-Za-z0-9]{0,61}[A-Za-z0-9])?$`)

// validateStatic checks what only a static pod can have wrong: its identity.
func validateStatic(pod *v1.Pod, node string) field.ErrorList {
	meta := field.NewPath("metadata")
	var errs field.ErrorList
	if pod.UID != "" && !uidForm.MatchString(string(pod.UID)) {
		errs = append(errs, field.Invalid(meta.Child("uid"), string(pod.UID),
			"must consist of up to 63 letters, digits and '-', and start and end with a letter or digit"))
	}
	if len(pod.Name) <= validation.DNS1123SubdomainMaxLength && len(nameOnNode(pod.Name, node)) > validation.DNS1123SubdomainMaxLength {
		errs = append(errs, field.TooLong(meta.Child("name"), pod.Name, validation.DNS1123SubdomainMaxLength-len(node)-1))
	}
	if _, mirror := pod.Annotations[pods.AnnotationConfigMirror]; mirror {
		errs = append(errs, field.Forbidden(meta.Child("annotations").Key(pods.AnnotationConfigMirror), "is set on mirror pods only, never in a manifest"))
	}
	if g := pod.DeletionGracePeriodSeconds; g != nil {
		errs = append(errs, apivalidation.ValidateNonnegativeField(*g, meta.Child("deletionGracePeriodSeconds"))...)
	}
	for i := range pod.Spec.Volumes {
		if h := pod.Spec.Volumes[i].HostPath; h != nil {
			errs = append(errs, absolute(h.Path, field.NewPath("spec", "volumes").Index(i).Child("hostPath", "path"))...)
		}
	}
	return errs
}

// absolute refuses a relative path of the host, which the API server takes and no node can mount.
func absolute(path string, at *field.Path) field.ErrorList {
	if path == "" || strings.HasPrefix(path, "/") {
		return nil // an empty one is told elsewhere
	}
	return field.ErrorList{field.Invalid(at, path, "must be an absolute path of the node: a manifest's own directory does not count")}
}
