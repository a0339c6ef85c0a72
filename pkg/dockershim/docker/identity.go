package docker

import (
	"encoding/hex"
	"encoding/json"
	"strconv"
	"strings"
)

// Identity says which sandbox or container of CRI a Docker container is.
type Identity struct {
	Container string `json:"container,omitempty"` // "" for a sandbox
	Pod       string `json:"pod"`
	Namespace string `json:"namespace"`
	UID       string `json:"uid"`
	Attempt   uint32 `json:"attempt"`
}

const namePrefix = "k8s_"

// Name returns k8s_<container>_<pod>_<namespace>_<uid>_<attempt>, with POD for a sandbox.
// exact reports whether parseName recovers the identity.
func (id Identity) Name() (name string, exact bool) {
	exact = true
	fields := [...]string{id.Container, id.Pod, id.Namespace, id.UID}
	if id.Container == "" {
		fields[0] = SandboxName
	} else if id.Container == SandboxName {
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

// nameByte reports whether Docker allows the byte within a name.
func nameByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '-' || c == '_'
}

// parseName reads a name that Identity.Name made; a random suffix may follow it.
func parseName(name string) (Identity, bool) {
	rest, ok := strings.CutPrefix(strings.TrimPrefix(name, "/"), namePrefix)
	if !ok {
		return Identity{}, false
	}
	var fields [6]string
	n := 0
	for part := range strings.SplitSeq(rest, "_") {
		if n == len(fields) {
			return Identity{}, false
		}
		fields[n] = part
		n++
	}
	if n < 5 || n == 6 && !isSuffix("_"+fields[5]) {
		return Identity{}, false
	}
	attempt, err := strconv.ParseUint(fields[4], 10, 32)
	if err != nil {
		return Identity{}, false
	}
	id := Identity{Container: fields[0], Pod: fields[1], Namespace: fields[2], UID: fields[3], Attempt: uint32(attempt)}
	if id.Container == SandboxName {
		id.Container = ""
	}
	return id, true
}

// IdentityOf reads a container's identity from its name and its trusted labels. It returns
// false when the name is not one of ours. An image cannot choose the names of its containers,
// so that the labels must fit the name.
func IdentityOf(name string, labels map[string]string) (Identity, bool) {
	text, ok := labels[labelMetadata]
	if !ok {
		return parseName(name)
	}
	var id Identity
	if json.Unmarshal([]byte(text), &id) != nil {
		return Identity{}, false
	}
	named, _ := id.Name()
	suffix, ok := strings.CutPrefix(strings.TrimPrefix(name, "/"), named)
	if !ok || suffix != "" && !isSuffix(suffix) {
		return Identity{}, false
	}
	return id, true
}

// isSuffix reports whether text is what Create appends to a name that is taken.
func isSuffix(text string) bool {
	digits, ok := strings.CutPrefix(text, "_")
	_, err := hex.DecodeString(digits)
	return ok && err == nil && len(digits) == 2*suffixLen
}

// SetIdentity returns the name of a container with this identity, and adds a label where the
// name is not enough.
func SetIdentity(labels map[string]string, id Identity) (name string, err error) {
	name, exact := id.Name()
	if !exact {
		text, err := json.Marshal(id)
		if err != nil {
			return "", err
		}
		labels[labelMetadata] = string(text)
	}
	return name, nil
}

// String names a pod or container in messages: namespace/pod or namespace/pod/container.
func (id Identity) String() string {
	s := id.Namespace + "/" + id.Pod
	if id.Container != "" {
		s += "/" + id.Container
	}
	return s
}
