package volume

import (
	"context"
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
	"github.com/mini-kubelet/mini-kubelet/pkg/base/tree"
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
// before the first agent starts to use it with the file own. Later calls change nothing, unless
// the record is damaged or lost. Then nobody knows what was there first, and all that is there
// now counts as found, except for the pods that are marked as ours: rather is something left
// behind than somebody else's data removed. Without the marks, pods are ours again when the
// agent is given them.
func Note(ctx context.Context, root string, wasThere bool, own string) error {
	for _, dir := range []string{recordsDir, ownPods} {
		err := durable.MakeWay(filepath.Join(root, dir), "What of the root directory is the agent's, to which volumes claims were bound, and manifests as they were when last good. Directories of pods that it is given now are its again; others stay for you to remove.")
		if err != nil && !errors.Is(err, durable.ErrDamaged) {
			return err
		}
	}
	kept, err := os.ReadDir(filepath.Join(root, recordsDir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	has := func(what func(string) bool) bool {
		return slices.ContainsFunc(kept, func(e fs.DirEntry) bool { return what(e.Name()) })
	}
	marked := has(func(n string) bool { return n == filepath.Base(ownPods) })
	marksLost := has(func(n string) bool {
		return n != filepath.Base(ownPods) && durable.Original(n) == filepath.Base(ownPods)
	})
	err = loadFound(root, new(Found))
	switch {
	case err == nil:
	case !errors.Is(err, fs.ErrNotExist):
		return err
	case !has(func(n string) bool { return !strings.HasSuffix(n, ".new") }):
		// Everything that an agent records is in this directory: this is the first one, or
		// it did not get to its first record.
		err = note(root, wasThere, own, recordsDir)
	case marked, marksLost, errors.Is(err, durable.ErrDamaged), has(func(n string) bool { return durable.Original(n) == filepath.Base(foundFile) }):
		err = note(root, true, own, recordsDir)
	default: // an agent from before there was a list of what was found
		err = writeFound(root, Found{})
	}
	if err != nil {
		return err
	}
	switch {
	case marked:
		return nil
	case marksLost:
		return os.Mkdir(filepath.Join(root, ownPods), 0o700)
	}
	return markAll(ctx, root)
}

// markAll marks the pods of agents that did not mark them.
func markAll(ctx context.Context, root string) error {
	found, err := ReadFound(root)
	if err != nil {
		return err
	}
	entries, err := os.ReadDir(filepath.Join(root, "pods"))
	if err != nil && !noDirectory(err) {
		return fmt.Errorf("note which pods are ours: %w", err)
	}
	// The directory gets its name once all marks are in it.
	temp := filepath.Join(root, ownPods+".new")
	if err := errors.Join(tree.Remove(ctx, filepath.Dir(temp), filepath.Base(temp)), os.Mkdir(temp, 0o700)); err != nil {
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

// note records what is there now, but for what is ours in the root directory.
func note(root string, wasThere bool, own ...string) error {
	found := Found{Root: wasThere}
	for _, list := range []struct {
		dir string
		to  *[]string
	}{{"", &found.Names}, {"plugins", &found.Names}, {"image_manager", &found.Names}, {"device-plugins", &found.Names}, {"pod-resources", &found.Names}, {"pods", &found.Pods}} {
		entries, err := os.ReadDir(filepath.Join(root, list.dir))
		if err != nil && !noDirectory(err) {
			return fmt.Errorf("note what is in the root directory: %w", err)
		}
		for _, e := range entries {
			if name := filepath.Join(list.dir, e.Name()); !slices.Contains(own, durable.Original(name)) {
				*list.to = append(*list.to, name)
			}
		}
	}
	return writeFound(root, found)
}

func writeFound(root string, found Found) error {
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
	err = loadFound(root, &f)
	if errors.Is(err, fs.ErrNotExist) && !errors.Is(err, durable.ErrDamaged) {
		return Found{}, nil
	}
	return f, err
}

func loadFound(root string, f *Found) error {
	err := durable.Load(filepath.Join(root, foundFile), "What was in the root directory before the agent. What is there now and not marked as a pod of the agent's "+
		"stays when the node is reset; remove by hand what you do not need.", func(text []byte) error {
		var is struct{ Root *bool }
		if err := errors.Join(json.Unmarshal(text, &is), json.Unmarshal(text, f)); err != nil {
			return err
		}
		if is.Root == nil {
			return errors.New("it does not say whether the root directory was there")
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read what was in the root directory before: %w", err)
	}
	return nil
}

// Has reports whether the name, below the root, is not ours to remove. What was moved aside
// belongs to whoever has the name that it had.
func (f Found) Has(name string) bool {
	name = durable.Original(name)
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
	if err != nil && !noDirectory(err) {
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
	if err := durable.Dir(filepath.Dir(mark), "Which pods' directories are the agent's."); err != nil && !errors.Is(err, durable.ErrDamaged) {
		return err
	}
	return os.WriteFile(mark, nil, 0o600)
}

// disown removes the mark of a pod whose directory is gone, whatever it is.
func disown(ctx context.Context, root, uid string) error {
	return tree.Remove(ctx, filepath.Join(root, ownPods), uid)
}
