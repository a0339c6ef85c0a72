package kuberuntime

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/keylock"
	"github.com/mini-kubelet/mini-kubelet/pkg/base/tree"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
)

// OrphanLogs removes the log directories of pods that are gone: RemovePod is not called for a
// pod whose containers somebody has removed while no agent ran. Its methods are safe for
// concurrent use.
type OrphanLogs struct {
	root string
	owns func(types.UID) bool
	busy keylock.Locks

	mu   sync.Mutex
	left map[types.UID]bool // ours, whose logs could not be removed: nothing else may say by now whose they are
}

// NewOrphanLogs returns an OrphanLogs for the directory of all pods' logs, "" for the kubelet's.
// owns reports whether a pod is this agent's: others may keep their logs there too.
func NewOrphanLogs(root string, owns func(types.UID) bool) *OrphanLogs {
	if root == "" {
		root = pods.DefaultPodLogsRoot
	}
	return &OrphanLogs{root: root, owns: owns, left: map[types.UID]bool{}}
}

// SetUp returns when the pod's logs are not being removed. The pod has to be wanted by now.
func (o *OrphanLogs) SetUp(ctx context.Context, pod *v1.Pod) error {
	unlock, err := o.busy.Lock(ctx, string(pod.UID))
	if err == nil {
		unlock()
	}
	return err
}

// Orphans removes the logs of our pods that are gone. gone must hold for no pod that is
// wanted, has a worker, or has containers at the runtime.
func (o *OrphanLogs) Orphans(ctx context.Context, gone func(types.UID) bool) error {
	entries, err := os.ReadDir(o.root)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look for logs of pods that are gone: %w", err)
	}
	var errs []error
	for _, e := range entries {
		uid, ok := PodOfLogs(e.Name())
		if !ok || !gone(uid) || !o.owns(uid) && !o.isLeft(uid) {
			continue
		}
		errs = append(errs, o.remove(ctx, e.Name(), uid, gone))
	}
	return errors.Join(errs...)
}

func (o *OrphanLogs) remove(ctx context.Context, name string, uid types.UID, gone func(types.UID) bool) error {
	unlock, ok := o.busy.TryLock(string(uid))
	if !ok {
		return nil
	}
	defer unlock()
	if !gone(uid) {
		return nil
	}
	err := tree.Remove(ctx, o.root, name)
	o.mu.Lock()
	if err != nil {
		o.left[uid] = true
	} else {
		delete(o.left, uid)
	}
	o.mu.Unlock()
	if err != nil {
		return fmt.Errorf("logs of orphaned pod %s: %w", uid, err)
	}
	klog.InfoS("Removed the logs of a pod that is gone", "podUID", uid, "path", filepath.Join(o.root, name))
	return nil
}

func (o *OrphanLogs) isLeft(uid types.UID) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.left[uid]
}

// PodOfLogs returns whose logs a directory below that of all pods' logs has, by its name; see
// pods.PodLogDirectory. Namespaces and names have no "_".
func PodOfLogs(directory string) (types.UID, bool) {
	parts := strings.SplitN(directory, "_", 3)
	if len(parts) < 3 || parts[2] == "" {
		return "", false
	}
	return types.UID(parts[2]), true
}
