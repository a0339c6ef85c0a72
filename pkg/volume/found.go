package volume

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/types"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/durable"
)

// Found is what the first agent found in its root directory, as a rule left by another
// kubelet. We remove none of it, except pods that an agent of ours was given since.
type Found struct {
	Root  bool     `json:"root"`  // the directory itself existed
	Names []string `json:"names"` // in it, and in shared directories
	Pods  []string `json:"pods"`  // that had a directory
}

// Our records below the root. ownPods has a mark for each pod whose directory we have made
// or taken over: other kubelets may come and go in the same root at any time.
const (
	recordsDir = "mini-kubelet"
	foundFile  = recordsDir + "/found.json"
	ownPods    = recordsDir + "/pods"
)

// Note records what is in the root directory, which already existed or has just been made,
// before the first agent starts to use it with the file own. Later calls change nothing.
func Note(root string, wasThere bool, own string) error {
	if _, err := os.Lstat(filepath.Join(root, ownPods)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	// Everything that an agent records is in this directory, even from before there was
	// a list of what was found. If it holds less, the agent did not get to its first
	// record.
	kept, err := os.ReadDir(filepath.Join(root, recordsDir))
	switch {
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	case !slices.ContainsFunc(kept, func(e fs.DirEntry) bool { return !strings.HasSuffix(e.Name(), ".new") }):
		if err := note(root, wasThere, own); err != nil {
			return err
		}
	}
	return markAll(root)
}

// markAll marks the pods of agents that did not mark them.
func markAll(root string) error {
	found, err := ReadFound(root)
	if err != nil {
		return err
	}
	entries, err := os.ReadDir(filepath.Join(root, "pods"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("note which pods are ours: %w", err)
	}
	// The directory gets its name once all marks are in it.
	temp := filepath.Join(root, ownPods+".new")
	if err := errors.Join(os.RemoveAll(temp), os.Mkdir(temp, 0o700)); err != nil {
		return fmt.Errorf("note which pods are ours: %w", err)
	}
	for _, e := range entries {
		if slices.Contains(found.Pods, filepath.Join("pods", e.Name())) {
			continue
		}
		if err := os.WriteFile(filepath.Join(temp, e.Name()), nil, 0o600); err != nil {
			return fmt.Errorf("note which pods are ours: %w", err)
		}
	}
	if err := os.Rename(temp, filepath.Join(root, ownPods)); err != nil {
		return fmt.Errorf("note which pods are ours: %w", err)
	}
	return nil
}

func note(root string, wasThere bool, own string) error {
	found := Found{Root: wasThere}
	for _, list := range []struct {
		dir string
		to  *[]string
	}{{"", &found.Names}, {"plugins", &found.Names}, {"image_manager", &found.Names}, {"pods", &found.Pods}} {
		entries, err := os.ReadDir(filepath.Join(root, list.dir))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("note what is in the root directory: %w", err)
		}
		for _, e := range entries {
			if name := filepath.Join(list.dir, e.Name()); name != own {
				*list.to = append(*list.to, name)
			}
		}
	}
	text, err := json.Marshal(found)
	if err == nil {
		err = durable.Write(filepath.Join(root, foundFile), text)
	}
	if err != nil {
		return fmt.Errorf("note what is in the root directory: %w", err)
	}
	return nil
}

// ReadFound returns what Note has recorded; the zero value if it has recorded
// nothing.
func ReadFound(root string) (f Found, err error) {
	text, err := durable.Read(filepath.Join(root, foundFile))
	if errors.Is(err, fs.ErrNotExist) {
		return Found{}, nil
	}
	if err == nil {
		err = json.Unmarshal(text, &f)
	}
	if err != nil {
		return f, fmt.Errorf("read what was in the root directory before: %w", err)
	}
	return f, nil
}

// Has reports whether the name, below the root, is not ours to remove.
func (f Found) Has(name string) bool {
	if name == "" {
		return f.Root
	}
	return slices.Contains(f.Names, name)
}

// Owns reports whether the pod's directory below root is ours: made or taken over by an
// agent of ours, and not removed since.
func Owns(root string, uid types.UID) bool {
	if element("pod UID", string(uid)) != nil {
		return false
	}
	_, err := os.Lstat(filepath.Join(root, ownPods, string(uid)))
	return err == nil
}

// ownedPods are the names of the pod directories that are ours; some may be gone.
func ownedPods(root string) ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(root, ownPods))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list the pods that are ours: %w", err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, nil
}

// own marks a pod as ours, before anything is made for it, even if another kubelet has
// made its directory. A mark that is lost when the machine dies leaves an orphan
// behind.
func (m *Manager) own(uid types.UID) error {
	if Owns(m.layout.root, uid) {
		return nil
	}
	mark := filepath.Join(m.layout.root, ownPods, string(uid))
	if err := os.MkdirAll(filepath.Dir(mark), 0o700); err != nil {
		return err
	}
	return os.WriteFile(mark, nil, 0o600)
}

// disown removes the mark of a pod whose directory is gone.
func disown(root, uid string) error {
	if err := os.Remove(filepath.Join(root, ownPods, uid)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
