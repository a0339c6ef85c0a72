package volume

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/durable"
	"github.com/mini-kubelet/mini-kubelet/pkg/base/tree"
)

// Orphans removes the directories of pods that are gone: unmounts first, then deletes,
// never through a mount. gone must hold for no pod that is wanted, has a worker, or has
// containers at the runtime. A pod that SetUp has been
// called for and TearDown has not is left alone all the same, and so is one
// that is being worked on, and one that another kubelet has made (see Owns). It tries all
// at once, waits for them until ctx ends at most, and returns what failed; one that hangs
// is skipped from then on.
func (m *Manager) Orphans(ctx context.Context, gone func(types.UID) bool) error {
	names, err := ownedPods(m.layout.root)
	if err != nil {
		return err
	}
	started := map[types.UID]*work{}
	for _, name := range names {
		uid := types.UID(name)
		if !gone(uid) || m.isLive(uid) {
			continue
		}
		w := m.serial.try(uid, func(w *work) error {
			if m.isLive(uid) {
				return nil
			}
			if err := m.tearDownCSI(ctx, filepath.Join(m.layout.pods(), string(uid)), w.at); err != nil {
				return err
			}
			if err := removePod(ctx, m.layout, string(uid), w.at); err != nil {
				return err
			}
			m.setLive(uid, false) // its bindings go as well
			return nil
		})
		if w != nil {
			started[uid] = w
		}
	}
	var failed []error
	m.metrics.orphans.Set(float64(len(started)))
	defer func() { m.metrics.failed.Set(float64(len(failed))) }()
	for uid, w := range started {
		if err := w.wait(ctx); err != nil {
			failed = append(failed, fmt.Errorf("orphaned pod %s: %w", uid, err))
		}
	}
	return errors.Join(errors.Join(failed...), m.releaseShared(ctx))
}

// releaseShared releases what pods share and no pod uses any more. One goroutine at a
// time does it, under no pod's name, so that while one hangs no others pile up.
func (m *Manager) releaseShared(ctx context.Context) error {
	w := m.serial.try("", func(*work) error {
		err := m.releaseDisks(ctx)
		if m.csi != nil {
			err = errors.Join(err, m.csi.Clean(ctx))
		}
		return err
	})
	if w == nil {
		return nil
	}
	return w.wait(ctx)
}

func removePod(ctx context.Context, l layout, name string, at func(string)) error {
	dir := filepath.Join(l.pods(), name)
	if err := unmountBelow(dir, at); err != nil {
		return err
	}
	at("removing " + dir)
	if err := tree.Remove(ctx, l.pods(), name); err != nil {
		return err
	}
	for _, aside := range durable.Aside(dir) {
		_ = os.Remove(aside) // SetUp moves no directories: one that is full is not ours
	}
	if err := disown(ctx, l.root, name); err != nil {
		return err
	}
	klog.V(2).InfoS("Removed the directory of a pod that is gone", "podUID", name)
	return nil
}

// Reset unmounts and removes every pod directory below root ("" is DefaultRoot) that is
// ours (see Owns), and what pods shared below plugins/kubernetes.io unless another kubelet
// was or is there, and nothing else. It does not tell CSI drivers or iSCSI targets. It is
// for a node that is being cleaned while neither the agent nor containers of its pods run.
// A missing root is fine.
func Reset(ctx context.Context, root string) error {
	if root == "" {
		root = DefaultRoot
	}
	real, err := filepath.EvalSymlinks(root)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reset volumes: %w", err)
	}
	found, err := ReadFound(real)
	if err != nil {
		return fmt.Errorf("reset volumes: %w", err)
	}
	l := layout{root: real}
	names, err := ownedPods(real)
	if err != nil {
		return fmt.Errorf("reset volumes: %w", err)
	}
	var failed []error
	for _, name := range names {
		failed = append(failed, removePod(ctx, l, name, func(string) {}))
	}
	left, err := os.ReadDir(l.pods())
	if err != nil && !noDirectory(err) {
		return fmt.Errorf("reset volumes: %w", errors.Join(append(failed, err)...))
	}
	plugins := filepath.Dir(l.plugin(csiPlugin))
	if len(left) > 0 || found.Has(filepath.Join("plugins", filepath.Base(plugins))) {
		return errors.Join(failed...) // nobody knows whose disks they are
	}
	if err := unmountBelow(plugins, func(string) {}); err != nil {
		return errors.Join(append(failed, err)...)
	}
	failed = append(failed, tree.Remove(ctx, filepath.Dir(plugins), filepath.Base(plugins)))
	return errors.Join(failed...)
}
