package criconfig

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/bounds"
)

// maxEnvFiles is how many bytes are read from all env files of one container. The
// kubelet only bounds a line (bufio's 64 KiB, which bound us too); this is as much as a
// ConfigMap can hold.
const maxEnvFiles = 1 << 20

// errNoKey is why an env file gives no value. To the kubelet an empty value is no
// value.
var errNoKey = errors.New("no such key")

// envFiles reads the env files of one container (KEP-3721), each once: all
// variables from a file come from the same version of it.
type envFiles struct {
	volumes Volumes
	pod     *v1.Pod
	read    map[[2]string]envFile
	size    int64 // of all that was read
}

type envFile struct {
	text []byte
	err  error
}

// value returns the file's value of the key. set is false when the reference is
// optional and the key or the file is missing. No error quotes the file: it may
// hold secrets.
func (f *envFiles) value(ctx context.Context, ref *v1.FileKeySelector) (value string, set bool, err error) {
	i := slices.IndexFunc(f.pod.Spec.Volumes, func(v v1.Volume) bool { return v.Name == ref.VolumeName })
	if i < 0 || f.volumes == nil {
		return "", false, containerErrorf("cannot find the volume %q referenced by FileKeyRef", ref.VolumeName)
	}
	if f.pod.Spec.Volumes[i].EmptyDir == nil {
		// Otherwise a pod could read files of the host that it may not mount.
		return "", false, containerErrorf("volume %q referenced by FileKeyRef must be of type emptyDir", ref.VolumeName)
	}
	at, err := f.volumes.Path(f.pod, ref.VolumeName)
	if err != nil {
		return "", false, containerErrorf("failed to get host path for volume %q: %w", ref.VolumeName, err)
	}
	if err := bounds.Path(ref.Path); err != nil {
		return "", false, containerErrorf("couldn't parse env file: %w", err)
	}
	file := f.file(ctx, ref)
	if file.err == nil {
		value, file.err = envFileValue(file.text, ref.Key)
	}
	switch err := file.err; {
	case err == nil:
		return value, true, nil
	case ptr.Deref(ref.Optional, false) && (errors.Is(err, errNoKey) || errors.Is(err, fs.ErrNotExist)):
		return "", false, nil
	case errors.Is(err, errNoKey):
		return "", false, containerErrorf("environment variable key %q not found in file %q", ref.Key, filepath.Join(at.Host, ref.Path))
	default:
		return "", false, containerErrorf("couldn't parse env file: %w", err)
	}
}

func (f *envFiles) file(ctx context.Context, ref *v1.FileKeySelector) envFile {
	name := [2]string{ref.VolumeName, ref.Path}
	file, ok := f.read[name]
	if !ok {
		file.text, file.err = f.volumes.ReadFile(ctx, f.pod, ref.VolumeName, ref.Path, maxEnvFiles-f.size)
		f.size += int64(len(file.text))
		if f.read == nil {
			f.read = map[[2]string]envFile{}
		}
		f.read[name] = file
	}
	return file
}

// envFileValue returns the first value of the key, or errNoKey if it has none. The
// format is the kubelet's, a subset of the shell's:
//
//	# a comment
//	NAME='anything but a quote, over
//	several lines'   # a comment
//	EMPTY= 'a word of its own to a shell'
//
// Nothing after the key's line is looked at.
func envFileValue(text []byte, key string) (string, error) {
	lines := bufio.NewScanner(bytes.NewReader(text))
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimLeft(lines.Text(), " \t")
		if line == "" || line[0] == '#' {
			continue
		}
		name, value, ok := strings.Cut(line, "=")
		switch {
		case !ok:
			return "", fmt.Errorf("line %d has no '='", n)
		case strings.TrimRight(name, " \t") == "":
			return "", fmt.Errorf("line %d has no name before '='", n)
		case strings.TrimRight(name, " \t") != name:
			return "", fmt.Errorf("line %d has white space before '='", n)
		case strings.TrimLeft(value, " \t") != value:
			if name == key {
				return "", errNoKey
			}
			continue
		}
		value, ok = strings.CutPrefix(value, "'")
		if !ok {
			return "", fmt.Errorf("line %d: the value is not in single quotes", n)
		}
		var all strings.Builder
		begin := n
		for {
			part, after, closed := strings.Cut(value, "'")
			all.WriteString(part)
			if closed {
				if after = strings.TrimLeft(after, " \t"); after != "" && after[0] != '#' {
					return "", fmt.Errorf("line %d goes on after the closing quote", n)
				}
				break
			}
			all.WriteByte('\n')
			if !lines.Scan() {
				return "", errors.Join(fmt.Errorf("the quote that line %d opens is not closed", begin), lines.Err())
			}
			n++
			value = lines.Text()
		}
		switch {
		case name != key:
		case all.Len() == 0:
			return "", errNoKey
		default:
			return all.String(), nil
		}
	}
	if err := lines.Err(); err != nil {
		return "", err
	}
	return "", errNoKey
}
