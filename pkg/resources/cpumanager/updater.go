package cpumanager

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"
	"k8s.io/utils/cpuset"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/logonce"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods/actual"
)

// Runtime changes the CPUs of a container.
type Runtime interface {
	UpdateContainerResources(context.Context, *cri.UpdateContainerResourcesRequest, ...grpc.CallOption) (*cri.UpdateContainerResourcesResponse, error)
}

// Cache is what is known about the pods at the runtime.
type Cache interface {
	// GetNewerThan returns a pod's status as observed at or after t.
	GetNewerThan(ctx context.Context, uid types.UID, t time.Time) (*actual.PodStatus, error)
	// Look returns a pod's status as observed from now on, resources included.
	Look(ctx context.Context, uid types.UID) (*actual.PodStatus, error)
	// Pods returns the last full view of the runtime.
	Pods() []*actual.Pod
}

// UpdaterConfig is what an Updater is made of; all of it is required.
type UpdaterConfig struct {
	Manager *Manager
	Runtime Runtime
	Cache   Cache
	Desired func() []*v1.Pod
	Period  time.Duration // cpuManagerReconcilePeriod
	Clock   clock.WithTicker
}

// Updater moves running containers to the CPUs that they should run on: at once
// when the shared CPUs change, and periodically in case that failed.
type Updater struct {
	cfg     UpdaterConfig
	moved   map[string]cpuset.CPUSet // by container ID, for runtimes that do not report a container's CPUs
	failing logonce.Error
}

// NewUpdater checks the configuration.
func NewUpdater(cfg UpdaterConfig) (*Updater, error) {
	switch {
	case cfg.Manager == nil, cfg.Runtime == nil, cfg.Cache == nil, cfg.Desired == nil, cfg.Clock == nil:
		return nil, errors.New("cpumanager: the UpdaterConfig is not complete")
	case cfg.Period <= 0:
		return nil, errors.New("cpumanager: the Period must be positive")
	}
	return &Updater{cfg: cfg, moved: map[string]cpuset.CPUSet{}}, nil
}

// Run updates until ctx ends. After the shared CPUs have changed, it looks at pods
// anew, so as not to miss a container that was started with the old CPUs just before.
// Containers that are started later get the new ones, see package kuberuntime.
func (u *Updater) Run(ctx context.Context) error {
	tick := u.cfg.Clock.NewTicker(u.cfg.Period)
	defer tick.Stop()
	var since time.Time
	for {
		if err := u.update(ctx, since); ctx.Err() == nil {
			u.note(err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-u.cfg.Manager.changed:
			since = u.cfg.Clock.Now()
		case <-tick.C():
			since = time.Time{}
		}
	}
}

// podPatience is how long one pod may delay the others.
const podPatience = 10 * time.Second

// update moves all containers that run on other CPUs than they should.
func (u *Updater) update(ctx context.Context, since time.Time) error {
	var all error
	moved := map[string]cpuset.CPUSet{}
	for _, uid := range u.pods() {
		all = errors.Join(all, u.updatePod(ctx, uid, since, moved))
	}
	u.moved = moved
	return all
}

// pods are those that may have containers: what is wanted, and what is on its way out.
func (u *Updater) pods() []types.UID {
	seen := map[types.UID]bool{}
	var uids []types.UID
	add := func(uid types.UID) {
		if !seen[uid] {
			seen[uid] = true
			uids = append(uids, uid)
		}
	}
	for _, p := range u.cfg.Desired() {
		add(p.UID)
	}
	for _, p := range u.cfg.Cache.Pods() {
		add(p.UID)
	}
	return uids
}

// updatePod is update for one pod; it notes in moved where its containers are.
func (u *Updater) updatePod(ctx context.Context, uid types.UID, since time.Time, moved map[string]cpuset.CPUSet) error {
	ctx, cancel := context.WithTimeout(ctx, podPatience)
	defer cancel()
	observed, err := u.cfg.Cache.GetNewerThan(ctx, uid, since)
	if err != nil {
		return fmt.Errorf("look at pod %s: %w", uid, err)
	}
	var all error
	changed := false
	for _, c := range observed.Containers {
		if c.State != actual.StateRunning {
			continue
		}
		want, _ := u.cfg.Manager.cpus(uid, c.Name)
		if now, known := u.has(c); known && now.Equals(want) {
			moved[c.ID.ID] = want
			continue
		}
		if want.IsEmpty() { // which a runtime would take as no change
			all = errors.Join(all, fmt.Errorf("container %s of pod %s: no CPU is left to share", c.Name, uid))
			continue
		}
		_, err := u.cfg.Runtime.UpdateContainerResources(ctx, &cri.UpdateContainerResourcesRequest{
			ContainerId: c.ID.ID, Linux: &cri.LinuxContainerResources{CpusetCpus: want.String()},
		})
		if err != nil {
			all = errors.Join(all, fmt.Errorf("move container %s of pod %s to CPUs %s: %w", c.Name, uid, want, err))
			continue
		}
		klog.V(2).InfoS("Moved container to other CPUs", "podUID", uid, "containerName", c.Name, "containerID", c.ID.ID, "cpus", want)
		moved[c.ID.ID], changed = want, true
	}
	if changed {
		// What is known is out of date: the next round must not move it again.
		if _, err := u.cfg.Cache.Look(ctx, uid); err != nil {
			all = errors.Join(all, fmt.Errorf("look at pod %s: %w", uid, err))
		}
	}
	return all
}

// has returns the CPUs that the container runs on, if they are known.
func (u *Updater) has(c *actual.ContainerStatus) (cpuset.CPUSet, bool) {
	linux := c.Resources.GetLinux()
	if linux == nil {
		cpus, ok := u.moved[c.ID.ID]
		return cpus, ok
	}
	cpus, err := cpuset.Parse(linux.CpusetCpus)
	return cpus, err == nil
}

// note logs an error, once until it changes: a container may have ended meanwhile.
func (u *Updater) note(err error) {
	if u.failing.Note(err) {
		klog.ErrorS(err, "Could not move containers to their CPUs, will try again", "period", u.cfg.Period)
	}
}
