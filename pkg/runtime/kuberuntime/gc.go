package kuberuntime

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/klog/v2"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/crimeta"
	"github.com/mini-kubelet/mini-kubelet/pkg/base/tree"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods/actual"
)

// Policy says which dead containers are kept, the kubelet's GCPolicy.
type Policy struct {
	MinAge       time.Duration // younger ones are kept
	PerContainer int           // kept per container of a pod; negative: all
	Total        int           // kept on the node; negative: no bound
	// Over reports whether a pod has stopped for good. Of such a pod nothing is kept, whatever the rest of
	// the policy says; nil: of every pod something may be.
	Over func(types.UID) bool
}

func (p Policy) over(uid types.UID) bool { return p.Over != nil && p.Over(uid) }

// unstarted is the age at which a container that was created but not started counts
// as left behind rather than as being started right now.
const unstarted = 5 * time.Minute

// GarbageCollect removes dead containers that the policy does not keep, and
// sandboxes that are no longer needed. wanted reports which pods exist: their
// newest sandboxes stay. It removes everything it can; the error names what it
// could not remove.
func (m *Manager) GarbageCollect(ctx context.Context, p Policy, wanted func(types.UID) bool) error {
	pods, err := m.GetPods(ctx)
	if err != nil {
		return fmt.Errorf("collect garbage: %w", err)
	}
	g := garbage(pods, p, wanted, m.cfg.Clock.Now())
	var errs []error
	for _, c := range g.containers {
		errs = append(errs, m.removeContainer(ctx, c.pod, c.Container))
	}
	for _, s := range g.sandboxes {
		if _, err := m.cfg.CRI.RemovePodSandbox(ctx, &cri.RemovePodSandboxRequest{PodSandboxId: s.ID}); err != nil {
			errs = append(errs, fmt.Errorf("remove sandbox %s: %w", s.ID, err))
		}
	}
	errs = append(errs, m.unlinkDead(m.logsOf(pods)))
	return errors.Join(errs...)
}

// logsOf returns the paths of the logs of all containers.
func (m *Manager) logsOf(all []*actual.Pod) map[string]bool {
	paths := map[string]bool{}
	for _, pod := range all {
		dir := pods.PodLogDirectory(m.podLogsRoot(), pod.Namespace, pod.Name, pod.UID)
		for _, c := range pod.Containers {
			paths[filepath.Join(dir, pods.ContainerLogPath(c.Name, c.Attempt))] = true
		}
	}
	return paths
}

type deadContainer struct {
	actual.Container
	pod *actual.Pod
}

type garbageList struct {
	containers []deadContainer
	sandboxes  []actual.Sandbox
}

// garbage selects what the policy does not keep. Pure.
func garbage(pods []*actual.Pod, p Policy, wanted func(types.UID) bool, now time.Time) garbageList {
	var g garbageList
	var kept []deadContainer
	drop := map[string]bool{}
	for _, pod := range pods {
		of := map[string]int{}
		for _, c := range pod.Containers { // newest first
			dead := c.State == actual.StateExited || c.State == actual.StateCreated && now.Sub(c.CreatedAt) > unstarted
			over := p.over(pod.UID)
			if !dead || now.Sub(c.CreatedAt) < p.MinAge && !over {
				continue
			}
			of[c.Name]++
			if over || p.PerContainer >= 0 && of[c.Name] > p.PerContainer {
				g.containers = append(g.containers, deadContainer{c, pod})
				drop[c.ID] = true
			} else {
				kept = append(kept, deadContainer{c, pod})
			}
		}
	}
	if p.Total >= 0 && len(kept) > p.Total {
		slices.SortFunc(kept, func(a, b deadContainer) int { return b.CreatedAt.Compare(a.CreatedAt) })
		for _, c := range kept[p.Total:] {
			g.containers = append(g.containers, c)
			drop[c.ID] = true
		}
	}
	for _, pod := range pods {
		used := map[string]bool{}
		for _, c := range pod.Containers {
			if !drop[c.ID] {
				used[c.SandboxID] = true
			}
		}
		for i, s := range pod.Sandboxes { // newest first
			if s.State == actual.StateExited && !used[s.ID] && !(i == 0 && wanted(pod.UID) && !p.over(pod.UID)) {
				g.sandboxes = append(g.sandboxes, s)
			}
		}
	}
	return g
}

// ErrRunning is why a pod cannot be removed.
var ErrRunning = errors.New("a container still runs")

// RemovePod removes the dead containers and sandboxes of a pod, with its logs. It
// succeeds when there are none, and returns ErrRunning while a container runs.
func (m *Manager) RemovePod(ctx context.Context, uid types.UID, name types.NamespacedName) error {
	pod, err := m.GetPod(ctx, uid)
	if err != nil {
		return err
	}
	if pod != nil {
		if pod.Running() {
			return ErrRunning
		}
		for _, c := range pod.Containers {
			if err := m.removeContainer(ctx, pod, c); err != nil {
				return err
			}
		}
	}
	// Remove the logs before the last trace that leads to them. Their directory is
	// made before the first sandbox, so it may be all that there is.
	logs := pods.PodLogDirectory(m.cfg.Node.PodLogsRoot, name.Namespace, name.Name, uid)
	if err := tree.Remove(ctx, filepath.Dir(logs), filepath.Base(logs)); err != nil {
		return fmt.Errorf("remove logs: %w", err)
	}
	if pod != nil {
		for _, s := range pod.Sandboxes {
			if _, err := m.cfg.CRI.RemovePodSandbox(ctx, &cri.RemovePodSandboxRequest{PodSandboxId: s.ID}); err != nil && !isNotFound(err) {
				return fmt.Errorf("remove sandbox %s: %w", s.ID, err)
			}
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.backOffs.forget(uid)
	m.holds.forget(uid)
	return nil
}

// removeContainer removes a dead container: first its logs, so that no logs remain
// without a container that leads to them.
func (m *Manager) removeContainer(ctx context.Context, pod *actual.Pod, c actual.Container) error {
	if err := m.removeLogs(pod, c); err != nil {
		return fmt.Errorf("remove log of container %s: %w", c.Name, err)
	}
	if _, err := m.cfg.CRI.RemoveContainer(crimeta.UnlessRunning(ctx), &cri.RemoveContainerRequest{ContainerId: c.ID}); err != nil && !isNotFound(err) {
		return fmt.Errorf("remove container %s: %w", c.Name, err)
	}
	klog.V(4).InfoS("Removed dead container", "pod", klog.KRef(pod.Namespace, pod.Name), "podUID", pod.UID, "containerName", c.Name, "containerID", c.ID)
	return nil
}

// removeLogs removes a container's logs, rotated files included, and the link to
// them. It stays within the directory of all pods' logs, wherever links in it lead:
// pods that collect logs may write there.
func (m *Manager) removeLogs(pod *actual.Pod, c actual.Container) error {
	root := m.podLogsRoot()
	log := filepath.Join(pods.PodLogDirectory(root, pod.Namespace, pod.Name, pod.UID), pods.ContainerLogPath(c.Name, c.Attempt))
	// The name may have been truncated, and so may be another container's too.
	link := m.linkName(pod.Name, pod.Namespace, c.Name, c.ID)
	if target, err := os.Readlink(link); err == nil && target == log {
		if err := os.Remove(link); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	err := removeAttempt(root, log)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// removeAttempt removes a log file below root and the files that it was rotated to.
func removeAttempt(root, log string) error {
	top, err := os.OpenRoot(root)
	if err != nil {
		return err
	}
	defer top.Close()
	below, err := filepath.Rel(root, filepath.Dir(log))
	if err != nil {
		return err
	}
	dir, err := top.OpenRoot(below)
	if err != nil {
		return err
	}
	defer dir.Close()
	entries, err := fs.ReadDir(dir.FS(), ".")
	if err != nil {
		return err
	}
	for _, e := range entries {
		if rest, ok := strings.CutPrefix(e.Name(), filepath.Base(log)); !ok || rest != "" && rest[0] != '.' || e.IsDir() {
			continue
		}
		if err := dir.Remove(e.Name()); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func (m *Manager) podLogsRoot() string {
	if m.cfg.Node.PodLogsRoot != "" {
		return m.cfg.Node.PodLogsRoot
	}
	return pods.DefaultPodLogsRoot
}

// linkName returns where log collectors look for a container's log, by the
// kubelet's convention, truncated to the longest possible file name.
func (m *Manager) linkName(pod, namespace, container, id string) string {
	const most = 255 - len(".log")
	name := fmt.Sprintf("%s_%s_%s-%s", pod, namespace, container, id)
	return filepath.Join(m.cfg.LinksDir, name[:min(len(name), most)]+".log")
}

func (m *Manager) linkLog(pod *v1.Pod, container, id, dir, log string) error {
	if err := os.MkdirAll(m.cfg.LinksDir, 0o755); err != nil {
		return err
	}
	err := os.Symlink(filepath.Join(dir, log), m.linkName(pod.Name, pod.Namespace, container, id))
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}

// unlinkDead removes links to our logs that no longer exist, except those in use: a log is
// away for a moment while it is rotated.
func (m *Manager) unlinkDead(inUse map[string]bool) error {
	root := m.podLogsRoot()
	entries, err := os.ReadDir(m.cfg.LinksDir)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return fmt.Errorf("list links to logs: %w", err)
	}
	var errs []error
	for _, e := range entries {
		name := filepath.Join(m.cfg.LinksDir, e.Name())
		target, err := os.Readlink(name)
		if err != nil || !strings.HasPrefix(target, root+"/") || inUse[target] {
			continue
		}
		if _, err := os.Stat(name); errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, os.Remove(name))
		}
	}
	return errors.Join(errs...)
}
