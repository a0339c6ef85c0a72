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
	// GetNewerThan returns the pod's status as observed at or after t; if the
	// cached one is older, it waits for a new look at the runtime. The error is
	// that of the look or of the context. A pod without containers has an empty
	// status.
	GetNewerThan(ctx context.Context, uid types.UID, t time.Time) (*actual.PodStatus, error)
	// Look returns the pod's status from a new look, including what no list shows.
	Look(ctx context.Context, uid types.UID) (*actual.PodStatus, error)
	// Pods returns the last full view of the runtime. Nobody may modify it.
	Pods() []*actual.Pod
}

// Runtime makes one pod's containers what its spec wants. The worker calls it from
// one goroutine per pod, so never twice at once for one pod.
type Runtime interface {
	// SyncPod makes sandbox and containers match the spec, as far as one pass can:
	// it starts what is missing and kills what must go.
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

// Probes asks the containers of pods how they are. Its verdicts are about running
// containers; a container that it does not know, or that has no such probe, is started
// and ready.
type Probes interface {
	// Sync makes Probes probe exactly the running containers of the pod. last
	// returns the pod's last known status.
	Sync(pod *v1.Pod, observed *actual.PodStatus, last func() v1.PodStatus)
	// Quiet ends the probes that could restart a container of the pod.
	Quiet(uid types.UID)
	// Remove ends all probes of the pod.
	Remove(uid types.UID)
	Started(actual.ContainerID) bool
	Ready(actual.ContainerID) bool
	// Verdict is both, and whether the container is known.
	Verdict(actual.ContainerID) (started, ready, ok bool)
}

// noProbes takes the place of Probes where nothing is probed.
type noProbes struct{}

func (noProbes) Sync(*v1.Pod, *actual.PodStatus, func() v1.PodStatus) {}
func (noProbes) Quiet(types.UID)                                      {}
func (noProbes) Remove(types.UID)                                     {}
func (noProbes) Started(actual.ContainerID) bool                      { return true }
func (noProbes) Ready(actual.ContainerID) bool                        { return true }

func (noProbes) Verdict(actual.ContainerID) (started, ready, ok bool) { return true, true, false }
