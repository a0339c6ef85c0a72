package docker

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
)

// Labels of Docker containers, by which sandboxes and containers are recognized. The first
// group comes from the kubelet and its old dockershim, the second is ours. Docker adds the
// labels of the image to those of the container, so that the author of an image can write any
// of them: whatever is read back goes through trusted.
const (
	LabelPodUID        = "io.kubernetes.pod.uid"
	LabelType          = "io.kubernetes.docker.type" // TypeSandbox or TypeContainer
	LabelSandboxID     = "io.kubernetes.sandbox.id"
	LabelLogPath       = "io.kubernetes.container.logpath"
	LabelContainerName = "io.kubernetes.container.name"
	annotationPrefix   = "annotation."

	ownPrefix     = "io.mini-kubelet."
	labelKeys     = ownPrefix + "keys"            // JSON, the keys of all labels that we set
	LabelStateDir = ownPrefix + "state-dir"       // of the dockershim that made it
	LabelCreated  = ownPrefix + "created"         // ns since the epoch: Docker lists seconds only
	labelMetadata = ownPrefix + "metadata"        // JSON, where the name cannot be read back
	LabelHandler  = ownPrefix + "runtime-handler" // of the sandbox
	LabelPIDMode  = ownPrefix + "pid"             // of the sandbox: cri.NamespaceMode
	LabelImage    = ownPrefix + "image"           // as the client named it
	LabelVolumes  = ownPrefix + "image-volumes"   // JSON, mounts of images

	// escapePrefix precedes a client's label whose key is one of the above.
	escapePrefix = "label."
)

// Values of LabelType, and the name under which a sandbox is listed as a container.
const (
	TypeSandbox   = "podsandbox"
	TypeContainer = "container"
	SandboxName   = "POD"
)

// alwaysSet are the labels that every container of a kubelet gets from us. A container
// without labelKeys, from a release that did not set it, has only these for certain from us
// and not from its image.
var alwaysSet = []string{
	LabelType, LabelSandboxID, LabelLogPath, LabelStateDir, LabelCreated, LabelImage,
	LabelContainerName, LabelPodUID, "io.kubernetes.pod.name", "io.kubernetes.pod.namespace",
	annotationPrefix + "io.kubernetes.container.hash", annotationPrefix + "io.kubernetes.container.restartCount",
	annotationPrefix + "io.kubernetes.container.terminationMessagePath", annotationPrefix + "io.kubernetes.container.terminationMessagePolicy",
}

// seal adds to the labels of a new container the list of their keys, for trusted. It must
// come last.
func seal(labels map[string]string) {
	delete(labels, labelKeys)
	labels[labelKeys] = marshal(slices.Sorted(maps.Keys(labels)))
}

// trusted returns those labels of a container that we set. All others come from its image,
// and are not believed.
func trusted(all map[string]string) map[string]string {
	var keys []string
	text, sealed := all[labelKeys]
	if !sealed || json.Unmarshal([]byte(text), &keys) != nil {
		keys = alwaysSet
	}
	own := make(map[string]string, len(keys)+1)
	for _, k := range keys {
		if v, ok := all[k]; ok {
			own[k] = v
		}
	}
	if sealed {
		own[labelKeys] = text
	}
	return own
}

// reserved reports whether a label's key could be mistaken for one of ours.
func reserved(key string) bool {
	switch key {
	case LabelType, LabelSandboxID, LabelLogPath:
		return true
	}
	return strings.HasPrefix(key, annotationPrefix) || strings.HasPrefix(key, ownPrefix) || strings.HasPrefix(key, escapePrefix)
}

// JoinLabels joins a client's labels and annotations into one map, so that
// SplitLabels returns exactly both.
func JoinLabels(labels, annotations map[string]string) map[string]string {
	all := make(map[string]string, len(labels)+len(annotations)+6)
	for k, v := range labels {
		if reserved(k) {
			k = escapePrefix + k
		}
		all[k] = v
	}
	for k, v := range annotations {
		all[annotationPrefix+k] = v
	}
	return all
}

// SplitLabels returns the client's labels and annotations from Docker's labels, which must be
// trusted.
func SplitLabels(all map[string]string) (labels, annotations map[string]string) {
	labels, annotations = make(map[string]string, 8), make(map[string]string, 8)
	for k, v := range all {
		switch {
		case !reserved(k):
			labels[k] = v
		case strings.HasPrefix(k, annotationPrefix):
			annotations[k[len(annotationPrefix):]] = v
		case strings.HasPrefix(k, escapePrefix):
			labels[k[len(escapePrefix):]] = v
		}
	}
	if all[LabelType] == TypeSandbox && labels[LabelContainerName] == SandboxName {
		delete(labels, LabelContainerName)
	}
	return labels, annotations
}

// marshal writes JSON; a value that has none is written as nothing.
func marshal(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		return ""
	}
	return string(text)
}
