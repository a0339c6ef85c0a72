package dockershim

import (
	"encoding/hex"
	"encoding/json"
	"strconv"
	"strings"
)

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

// String names a pod or container in messages: namespace/pod or namespace/pod/container.
func (id identity) String() string {
	s := id.Namespace + "/" + id.Pod
	if id.Container != "" {
		s += "/" + id.Container
	}
	return s
}
