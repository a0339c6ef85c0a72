package dockershim

import (
	"encoding/hex"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Labels of Docker containers by which sandboxes and containers are known again.
// The first group is the dockershim's of old, the second is ours. Docker adds to a
// container's labels those of its image, so that whoever builds an image can write
// any of them: what is read back goes through trusted.
const (
	labelType          = "io.kubernetes.docker.type"
	labelSandboxID     = "io.kubernetes.sandbox.id"
	labelLogPath       = "io.kubernetes.container.logpath"
	labelContainerName = "io.kubernetes.container.name"
	annotationPrefix   = "annotation."

	ownPrefix     = "io.mini-kubelet."
	labelKeys     = ownPrefix + "keys"            // JSON, the keys of all labels that we set
	labelStateDir = ownPrefix + "state-dir"       // whose it is
	labelCreated  = ownPrefix + "created"         // ns since the epoch: Docker lists seconds only
	labelMetadata = ownPrefix + "metadata"        // JSON, where the name cannot be read back
	labelHandler  = ownPrefix + "runtime-handler" // of the sandbox
	labelPIDMode  = ownPrefix + "pid"             // of the sandbox: cri.NamespaceMode
	labelImage    = ownPrefix + "image"           // as the client named it
	labelCgroup   = ownPrefix + "cgroup"          // JSON, limits that Docker cannot set
	labelVolumes  = ownPrefix + "image-volumes"   // JSON, mounts of images

	// escapePrefix precedes a client's label whose key is one of the above.
	escapePrefix = "label."
)

// Values of labelType, and the name under which a sandbox is listed as a container.
const (
	typeSandbox   = "podsandbox"
	typeContainer = "container"
	sandboxName   = "POD"
)

// alwaysSet are the labels that we set on every container of a kubelet's, whatever
// it is like. Of containers without labelKeys, made by a release that did not set it,
// only these are known not to be the image's.
var alwaysSet = []string{
	labelType, labelSandboxID, labelLogPath, labelStateDir, labelCreated, labelImage,
	labelContainerName, labelPodUID, "io.kubernetes.pod.name", "io.kubernetes.pod.namespace",
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
	case labelType, labelSandboxID, labelLogPath:
		return true
	}
	return strings.HasPrefix(key, annotationPrefix) || strings.HasPrefix(key, ownPrefix) || strings.HasPrefix(key, escapePrefix)
}

// dockerLabels joins a client's labels and annotations into one map, so that
// criLabels gives back exactly both.
func dockerLabels(labels, annotations map[string]string) map[string]string {
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

// criLabels takes the client's labels and annotations out of Docker's labels.
func criLabels(all map[string]string) (labels, annotations map[string]string) {
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
	if all[labelType] == typeSandbox && labels[labelContainerName] == sandboxName {
		delete(labels, labelContainerName)
	}
	return labels, annotations
}

// identity is whom a Docker container stands for.
type identity struct {
	Container string `json:"container,omitempty"` // "" for a sandbox
	Pod       string `json:"pod"`
	Namespace string `json:"namespace"`
	UID       string `json:"uid"`
	Attempt   uint32 `json:"attempt"`
}

const namePrefix = "k8s_"

// dockerName is k8s_<container>_<pod>_<namespace>_<uid>_<attempt>, with POD for a
// sandbox. exact tells whether parseName gives the identity back.
func (id identity) dockerName() (name string, exact bool) {
	exact = true
	fields := [...]string{id.Container, id.Pod, id.Namespace, id.UID}
	if id.Container == "" {
		fields[0] = sandboxName
	} else if id.Container == sandboxName {
		exact = false
	}
	var b strings.Builder
	b.WriteString(strings.TrimSuffix(namePrefix, "_"))
	for _, f := range fields {
		b.WriteByte('_')
		for _, c := range []byte(f) {
			if c == '_' || !nameByte(c) {
				exact = false
			}
			if !nameByte(c) {
				c = '-'
			}
			b.WriteByte(c)
		}
	}
	b.WriteByte('_')
	b.WriteString(strconv.FormatUint(uint64(id.Attempt), 10))
	return b.String(), exact
}

// nameByte tells whether Docker allows the byte within a name.
func nameByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '-' || c == '_'
}

// parseName reads a name that dockerName made; a random suffix may follow it.
func parseName(name string) (identity, bool) {
	rest, ok := strings.CutPrefix(strings.TrimPrefix(name, "/"), namePrefix)
	if !ok {
		return identity{}, false
	}
	var fields [6]string
	n := 0
	for part := range strings.SplitSeq(rest, "_") {
		if n == len(fields) {
			return identity{}, false
		}
		fields[n] = part
		n++
	}
	if n < 5 || n == 6 && !isSuffix("_"+fields[5]) {
		return identity{}, false
	}
	attempt, err := strconv.ParseUint(fields[4], 10, 32)
	if err != nil {
		return identity{}, false
	}
	id := identity{Container: fields[0], Pod: fields[1], Namespace: fields[2], UID: fields[3], Attempt: uint32(attempt)}
	if id.Container == sandboxName {
		id.Container = ""
	}
	return id, true
}

// identityOf reads whom a container stands for from its name and its trusted labels;
// false for one that we have not named. An image has no say in its containers' names,
// so that what the labels add must fit the name.
func identityOf(name string, labels map[string]string) (identity, bool) {
	text, ok := labels[labelMetadata]
	if !ok {
		return parseName(name)
	}
	var id identity
	if json.Unmarshal([]byte(text), &id) != nil {
		return identity{}, false
	}
	named, _ := id.dockerName()
	suffix, ok := strings.CutPrefix(strings.TrimPrefix(name, "/"), named)
	if !ok || suffix != "" && !isSuffix(suffix) {
		return identity{}, false
	}
	return id, true
}

// isSuffix tells whether text is what create adds to a name that is taken.
func isSuffix(text string) bool {
	digits, ok := strings.CutPrefix(text, "_")
	_, err := hex.DecodeString(digits)
	return ok && err == nil && len(digits) == 2*suffixLen
}

// setIdentity names a container after id and labels it where the name is not enough.
func setIdentity(labels map[string]string, id identity) (name string, err error) {
	name, exact := id.dockerName()
	if !exact {
		text, err := json.Marshal(id)
		if err != nil {
			return "", err
		}
		labels[labelMetadata] = string(text)
	}
	return name, nil
}

func (id identity) sandboxMetadata() *cri.PodSandboxMetadata {
	return &cri.PodSandboxMetadata{Name: id.Pod, Namespace: id.Namespace, Uid: id.UID, Attempt: id.Attempt}
}

func (id identity) containerMetadata() *cri.ContainerMetadata {
	return &cri.ContainerMetadata{Name: id.Container, Attempt: id.Attempt}
}

// String names a pod or container in messages: namespace/pod or namespace/pod/container.
func (id identity) String() string {
	s := id.Namespace + "/" + id.Pod
	if id.Container != "" {
		s += "/" + id.Container
	}
	return s
}
