package checkpoint

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"k8s.io/klog/v2"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/durable"
	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/dockerid"
)

// version is the format's. Files of other versions are not read.
const version = "v1"

// corrupt is added to the name of a file that cannot be read.
const corrupt = ".corrupt"

// Sandbox is what is kept of a sandbox.
type Sandbox struct {
	Version     string `json:"version"`
	Name        string `json:"name"`
	Namespace   string `json:"namespace"`
	UID         string `json:"uid"`
	Attempt     uint32 `json:"attempt"`
	HostNetwork bool   `json:"hostNetwork,omitempty"`
	Ports       []Port `json:"portMappings,omitempty"`
	Checksum    uint64 `json:"checksum"`
}

// Port is a port of the node that leads into the sandbox.
type Port struct {
	Protocol      string `json:"protocol"`
	ContainerPort int32  `json:"containerPort"`
	HostPort      int32  `json:"hostPort"`
	HostIP        string `json:"hostIP,omitempty"`
}

// Store is a directory of checkpoints. Its methods are safe for concurrent use as long as no
// two calls write the same sandbox.
type Store struct{ dir string }

// New creates the directory if it is missing, and removes what a crash during Write left in it.
func New(dir string) (*Store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("create checkpoint directory: %w", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("read checkpoint directory: %w", err)
	}
	for _, e := range entries {
		if dockerid.Named(e) && strings.HasSuffix(e.Name(), ".new") {
			_ = os.Remove(filepath.Join(dir, e.Name())) // it hinders nothing
		}
	}
	return &Store{dir}, nil
}

// path refuses anything but a sandbox ID, since the text may come from a client.
func (s *Store) path(id string) (string, error) {
	if id == "" || strings.ContainsAny(id, "/.\x00") {
		return "", fmt.Errorf("%q is no sandbox id", id)
	}
	return filepath.Join(s.dir, id), nil
}

// Write keeps a sandbox. When it returns nil, the file is on disk.
func (s *Store) Write(id string, sb Sandbox) (err error) {
	path, err := s.path(id)
	if err != nil {
		return err
	}
	sb.Version = version
	if sb.Checksum, err = checksum(sb); err != nil {
		return err
	}
	text, err := json.Marshal(sb)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("write checkpoint of sandbox %s: %w", id, err)
		}
	}()
	return durable.Write(path, text)
}

// Read returns what Write kept. It returns false when there is no file, or none that can be
// relied on; such a file is moved aside and logged.
func (s *Store) Read(id string) (Sandbox, bool) {
	path, err := s.path(id)
	if err != nil {
		return Sandbox{}, false
	}
	text, err := durable.Read(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Sandbox{}, false
	}
	var sb Sandbox
	if err == nil {
		sb, err = decode(text)
	}
	if err != nil {
		klog.ErrorS(err, "Checkpoint cannot be used, moving it aside", "file", path)
		_ = os.Rename(path, path+corrupt)
		return Sandbox{}, false
	}
	return sb, true
}

func decode(text []byte) (Sandbox, error) {
	var sb Sandbox
	if err := json.Unmarshal(text, &sb); err != nil {
		return sb, err
	}
	if sb.Version != version {
		return sb, fmt.Errorf("version is %q, want %q", sb.Version, version)
	}
	want, err := checksum(sb)
	if err != nil {
		return sb, err
	}
	if sb.Checksum != want {
		return sb, fmt.Errorf("checksum is %d, that of the content %d", sb.Checksum, want)
	}
	return sb, nil
}

// checksum covers everything except itself.
func checksum(sb Sandbox) (uint64, error) {
	sb.Checksum = 0
	text, err := json.Marshal(sb)
	if err != nil {
		return 0, err
	}
	h := fnv.New64a()
	h.Write(text)
	return h.Sum64(), nil
}

// Remove forgets a sandbox. It succeeds when there is nothing to forget.
func (s *Store) Remove(id string) error {
	path, err := s.path(id)
	if err != nil {
		return nil
	}
	_ = os.Remove(path + corrupt)
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove checkpoint of sandbox %s: %w", id, err)
	}
	return nil
}

// List returns the ids of all sandboxes with a checkpoint, readable or not.
func (s *Store) List() ([]string, error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, fmt.Errorf("list checkpoints: %w", err)
	}
	var ids []string
	for _, e := range entries {
		name := strings.TrimSuffix(e.Name(), corrupt)
		if _, err := s.path(name); err == nil && dockerid.Named(e) {
			ids = append(ids, name)
		}
	}
	return ids, nil
}
