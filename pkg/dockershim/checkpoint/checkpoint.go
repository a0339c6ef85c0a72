package checkpoint

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/durable"
	"github.com/mini-kubelet/mini-kubelet/pkg/base/safefile"
	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/dockerid"
)

// Store is a directory of checkpoints. Its methods are safe for concurrent use as long as no
// two are about the same sandbox.
type Store struct{ dir string }

// New makes the directory if it is not there, and drops files of it that a crash has left half
// written.
func New(dir string) (*Store, error) {
	err := durable.Dir(dir, "Which sandboxes exist: of those that are removed from Docker by hand, addresses and ports may stay taken.")
	if err != nil && !errors.Is(err, durable.ErrDamaged) {
		return nil, fmt.Errorf("create checkpoint directory: %w", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("read checkpoint directory: %w", err)
	}
	for _, e := range entries {
		if dockerid.Named(e) && durable.Temporary(e.Name()) {
			_ = os.Remove(filepath.Join(dir, e.Name())) // it hinders nothing
		}
	}
	return &Store{dir}, nil
}

// path refuses what cannot be a file in the directory: ids come from CRI clients.
func (s *Store) path(id string) (string, error) {
	if id == "" || strings.ContainsAny(id, "/.\x00") {
		return "", fmt.Errorf("%q is no sandbox id", id)
	}
	return filepath.Join(s.dir, id), nil
}

// Write notes a sandbox. After Sync, a crash of the machine does not take the note away.
func (s *Store) Write(id string) error {
	if _, err := s.path(id); err != nil {
		return err
	}
	f, err := safefile.Create(s.dir, id, 0o600)
	if err != nil {
		return fmt.Errorf("write checkpoint of sandbox %s: %w", id, err)
	}
	// A byte, so that a full disk refuses it.
	_, err = f.Write([]byte("\n"))
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write checkpoint of sandbox %s: %w", id, err)
	}
	return nil
}

// Sync waits until all that was noted is on disk.
func (s *Store) Sync() error {
	d, err := os.Open(s.dir)
	if err != nil {
		return fmt.Errorf("write checkpoints: %w", err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("write checkpoints: %w", err)
	}
	return nil
}

// Remove forgets a sandbox. There may be no checkpoint of it.
func (s *Store) Remove(id string) error {
	path, err := s.path(id)
	if err != nil {
		return nil
	}
	err = os.Remove(path)
	if errors.Is(err, unix.ENOTEMPTY) {
		err = durable.MoveAside(path, "Nothing: a checkpoint says nothing but that it is there.", err)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove checkpoint of sandbox %s: %w", id, err)
	}
	return nil
}

// List returns the ids of all sandboxes with a checkpoint.
func (s *Store) List() ([]string, error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, fmt.Errorf("list checkpoints: %w", err)
	}
	var ids []string
	for _, e := range entries {
		if _, err := s.path(e.Name()); err == nil && dockerid.Named(e) {
			ids = append(ids, e.Name())
		}
	}
	return ids, nil
}
