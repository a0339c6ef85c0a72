package docker

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
)

// Labels of Docker containers by which sandboxes and containers are known again.
// The first group is the dockershim's of old, the second is ours. Docker adds to a
// container's labels those of its image, so that whoever builds an image can write
// any of them: what is read back goes through trusted.
const (
	LabelType          = "io.kubernetes.docker.type"
	LabelSandboxID     = "io.kubernetes.sandbox.id"
	LabelLogPath       = "io.kubernetes.container.logpath"
	LabelContainerName = "io.kubernetes.container.name"
	annotationPrefix   = "annotation."

	ownPrefix     = "io.mini-kubelet."
	labelKeys     = ownPrefix + "keys"            // JSON, the keys of all labels that we set
	LabelStateDir = ownPrefix + "state-dir"       // whose it is
	LabelCreated  = ownPrefix + "created"         // ns since the epoch: Docker lists seconds only
	labelMetadata = ownPrefix + "metadata"        // JSON, where the name cannot be read back
	LabelHandler  = ownPrefix + "runtime-handler" // of the sandbox
	LabelPIDMode  = ownPrefix + "pid"             // of the sandbox: cri.NamespaceMode
	LabelImage    = ownPrefix + "image"           // as the client named it
	LabelVolumes  = ownPrefix + "image-volumes"   // JSON, mounts of images

	// escapePrefix precedes a client's label whose key is one of the above.
	escapePrefix = "label."
)

// Values of labelType, and the name under which a sandbox is listed as a container.
const (
	TypeSandbox   = "podsandbox"
	TypeContainer = "container"
	SandboxName   = "POD"
)

// alwaysSet are the labels that we set on every container of a kubelet's, whatever
// it is like. Of containers without labelKeys, made by a release that did not set it,
// only these are known not to be the image's.
var alwaysSet = []string{
	LabelType, LabelSandboxID, LabelLogPath, LabelStateDir, LabelCreated, LabelImage,
	LabelContainerName, LabelPodUID, "io.kubernetes.pod.name", "io.kubernetes.pod.namespace",
	annotationPrefix + "io.kubernetes.container.hash", annotationPrefix + "io.kubernetes.container.restartCount",
	annotationPrefix + "io.kubernetes.container.terminationMessagePath", annotationPrefix + "io.kubernetes.container.terminationMessagePolicy",
}

// seal adds to a new container's labels which they are, for trusted. Nothing may be
// added after it.
func seal(labels map[string]string) {
	delete(labels, labelKeys)
	labels[labelKeys] = marshal(slices.Sorted(maps.Keys(labels)))
}

// trusted takes out of a container's labels, as Docker tells them, those that we have
// set. All others are the image's, and whatever they say is hearsay.
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

// reserved tells whether a label's key could be taken for one that we set.
func reserved(key string) bool {
	switch key {
	case LabelType, LabelSandboxID, LabelLogPath:
		return true
	}
	return strings.HasPrefix(key, annotationPrefix) || strings.HasPrefix(key, ownPrefix) || strings.HasPrefix(key, escapePrefix)
}

// JoinLabels joins a client's labels and annotations into one map, so that
// criLabels gives back exactly both.
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

// SplitLabels takes the client's labels and annotations out of Docker's labels.
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
