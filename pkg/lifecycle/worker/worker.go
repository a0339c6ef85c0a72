package worker

import (
	"context"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mini-kubelet/mini-kubelet/pkg/lifecycle/podstatus"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods/actual"
	"github.com/mini-kubelet/mini-kubelet/pkg/runtime/kuberuntime"
)

// Cache is the pod status cache that PLEG keeps.
type Cache interface {
	// GetNewerThan returns the pod's status as observed at or after t, having the
	// runtime looked at again where the cached one is older. An error is that
	// look's error or the context's. A pod without containers has an empty status.
	GetNewerThan(ctx context.Context, uid types.UID, t time.Time) (*actual.PodStatus, error)
	// Look returns the pod's status as observed from now on, with what no list shows.
	Look(ctx context.Context, uid types.UID) (*actual.PodStatus, error)
	// Pods returns the last full view of the runtime. It is not modified by anyone.
	Pods() []*actual.Pod
}

// Runtime makes one pod's containers what its spec wants. The worker calls it
// from one goroutine per pod, never twice at once for one pod.
type Runtime interface {
	// SyncPod makes sandbox and containers match the spec, as far as one pass
	// can: it starts what is missing and kills what must go.
	SyncPod(ctx context.Context, pod *v1.Pod, observed *actual.PodStatus) kuberuntime.SyncResult
	// KillPod stops all running containers of the pod and then its sandboxes.
	// pod may be nil (an orphan known only from the runtime); grace, when not
	// nil, overrides the pod's own grace period in seconds. Cancelling ctx
	// abandons the wait, and a later call may come with a shorter grace.
	KillPod(ctx context.Context, pod *v1.Pod, running *actual.Pod, grace *int64) error
	// RemovePod removes the dead containers and sandboxes of a pod and its logs.
	// It succeeds when there are none.
	RemovePod(ctx context.Context, uid types.UID, name types.NamespacedName) error
}

// Volumes prepares and removes what a pod's containers mount.
type Volumes interface {
	// SetUp makes every volume of the pod ready. Idempotent.
	SetUp(ctx context.Context, pod *v1.Pod) error
	// TearDown unmounts and removes the volumes of a pod by its UID. Idempotent.
	TearDown(ctx context.Context, uid types.UID) error
}

// Cgroups keeps a cgroup for each pod.
type Cgroups interface {
	// SetUp makes the pod's cgroup with the limits that the pod asks for. One that
	// there is only grows: what runs in it may still have more. Idempotent.
	SetUp(pod *v1.Pod) error
	// Settle gives the cgroup exactly those limits, when the containers have theirs.
	Settle(pod *v1.Pod) error
	// Remove takes the cgroup of a pod by its UID away, when nothing of the pod runs
	// any more. Idempotent.
	Remove(uid types.UID) error
}

// CPUs are what containers may have to themselves.
type CPUs interface {
	// Allocate gives the pod the CPUs that it is entitled to and does not have.
	Allocate(*v1.Pod) error
	// Release takes back the CPUs of a pod of which nothing runs any more. Idempotent.
	Release(uid types.UID) error
}

// Statuses is the store of the pods' API statuses.
type Statuses interface {
	Get(uid types.UID) (v1.PodStatus, bool)
	Set(pod *v1.Pod, s v1.PodStatus) (changed bool)
	// Finish notes that nothing of the pod is left but its dead containers.
	Finish(pod *v1.Pod)
	Delete(uid types.UID)
	// Refresh puts what the probes say now into the pod's last status.
	Refresh(uid types.UID, verdict podstatus.Verdict, now time.Time) (changed bool)
}

// Probes asks the containers of pods how they are. Its verdicts are of running
// containers; one that it does not know, or without such a probe, is started and ready.
type Probes interface {
	// Sync has exactly the running containers of the pod probed. last returns the
	// last status that is known of it.
	Sync(pod *v1.Pod, observed *actual.PodStatus, last func() v1.PodStatus)
	// Quiet ends the probes that could have a container of the pod restarted.
	Quiet(uid types.UID)
	// Remove ends all probes of the pod.
	Remove(uid types.UID)
	Started(actual.ContainerID) bool
	Ready(actual.ContainerID) bool
	// Verdict is both, and whether the container is known.
	Verdict(actual.ContainerID) (started, ready, ok bool)
}

// noCgroups takes the place of Cgroups where pods have none.
type noCgroups struct{}

func (noCgroups) SetUp(*v1.Pod) error    { return nil }
func (noCgroups) Settle(*v1.Pod) error   { return nil }
func (noCgroups) Remove(types.UID) error { return nil }

// noCPUs takes the place of CPUs where containers share all.
type noCPUs struct{}

func (noCPUs) Allocate(*v1.Pod) error  { return nil }
func (noCPUs) Release(types.UID) error { return nil }

// noProbes takes the place of Probes where nothing is probed.
type noProbes struct{}

func (noProbes) Sync(*v1.Pod, *actual.PodStatus, func() v1.PodStatus) {}
func (noProbes) Quiet(types.UID)                                      {}
func (noProbes) Remove(types.UID)                                     {}
func (noProbes) Started(actual.ContainerID) bool                      { return true }
func (noProbes) Ready(actual.ContainerID) bool                        { return true }

func (noProbes) Verdict(actual.ContainerID) (started, ready, ok bool) { return true, true, false }
