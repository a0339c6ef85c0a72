package volume

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"k8s.io/apimachinery/pkg/types"

	"github.com/mini-kubelet/mini-kubelet/pkg/durable"
)

// Found is what the first agent found in its root directory: another kubelet's, as a rule.
// None of it is ours to remove, but for pods that an agent of ours has taken over since.
type Found struct {
	Root  bool     `json:"root"`  // the directory itself was there
	Names []string `json:"names"` // in it, and in directories that are shared
	Pods  []string `json:"pods"`  // that had a directory
}

// foundFile is the record's place below the root.
const foundFile = "mini-kubelet/found.json"

// Note puts on record what there is in the root directory, which was there or has just been
// made, before the first agent begins there with the file own. Later calls change nothing.
func Note(root string, wasThere bool, own string) error {
	// Whatever an agent keeps, it keeps there: one from before there was a record, too.
	if _, err := os.Lstat(filepath.Dir(filepath.Join(root, foundFile))); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
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
	return found.write(root)
}

func (f Found) write(root string) error {
	text, err := json.Marshal(f)
	if err == nil {
		err = durable.Write(filepath.Join(root, foundFile), text)
	}
	if err != nil {
		return fmt.Errorf("note what is in the root directory: %w", err)
	}
	return nil
}

// ReadFound returns what Note has put on record; the zero value where it has not.
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

// Has tells whether the name, below the root, is not ours to remove.
func (f Found) Has(name string) bool {
	if name == "" {
		return f.Root
	}
	return slices.Contains(f.Names, name) || slices.Contains(f.Pods, name)
}

// isFound tells whether the pod's directory is another kubelet's.
func (m *Manager) isFound(uid types.UID) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.found.Has(filepath.Join("pods", string(uid)))
}

// takeOver notes that a pod's directory is ours from now on, if another kubelet has made it.
func (m *Manager) takeOver(uid types.UID) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	at := slices.Index(m.found.Pods, filepath.Join("pods", string(uid)))
	if at < 0 {
		return nil
	}
	found := m.found
	found.Pods = slices.Delete(slices.Clone(found.Pods), at, at+1)
	if err := found.write(m.layout.root); err != nil {
		return err
	}
	m.found = found
	return nil
}
