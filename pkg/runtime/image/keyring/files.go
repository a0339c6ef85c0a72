package keyring

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	v1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"
)

// Files is the keyring of the node's Docker configuration, which every pod may use.
// The files are read at each look-up, so that a change is seen at once: a pull
// costs far more than that.
type Files struct {
	files []file
}

type file struct {
	path  string
	parse func([]byte) (Logins, error)
}

// NewFiles returns the keyring of the first of the kubelet's places that can be
// read: config.json in the root directory, the working directory, ~/.docker and
// /.docker, then .dockercfg in the root directory, the working directory, ~ and /.
// home "" is unknown, as in a systemd unit.
func NewFiles(rootDir, workDir, home string) *Files {
	f := &Files{}
	add := func(parse func([]byte) (Logins, error), paths ...string) {
		for _, p := range paths {
			if filepath.IsAbs(p) {
				f.files = append(f.files, file{p, parse})
			}
		}
	}
	add(ParseConfigJSON, filepath.Join(rootDir, "config.json"), filepath.Join(workDir, "config.json"),
		filepath.Join(home, ".docker", "config.json"), "/.docker/config.json")
	add(ParseDockercfg, filepath.Join(rootDir, ".dockercfg"), filepath.Join(workDir, ".dockercfg"),
		filepath.Join(home, ".dockercfg"), "/.dockercfg")
	return f
}

// Find implements Ring.
func (f *Files) Find(_ context.Context, _ *v1.Pod, repository string) ([]Credential, error) {
	for _, candidate := range f.files {
		logins, err := candidate.read()
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			klog.ErrorS(err, "Cannot use a Docker configuration, looking for another", "path", candidate.path)
		default:
			var x Index
			x.Add(logins, Source{})
			return x.Find(repository), nil
		}
	}
	return nil, nil
}

func (f file) read() (Logins, error) {
	data, err := os.ReadFile(f.path)
	if err != nil {
		return nil, err
	}
	return f.parse(data)
}
