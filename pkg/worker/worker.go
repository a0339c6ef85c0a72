package worker

import (
	"context"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mini-kubelet/mini-kubelet/pkg/runtime"
)

// Cache is the pod status cache that PLEG keeps.
type Cache interface {
	// GetNewerThan returns the pod's status as observed at or after t, having the
	// runtime looked at again where the cached one is older. An error is that
	// look's error or the context's. A pod without containers has an empty status.
	GetNewerThan(ctx context.Context, uid types.UID, t time.Time) (*runtime.PodStatus, error)
	// Pods returns the last full view of the runtime. It is not modified by anyone.
	Pods() []*runtime.Pod
}

// Runtime makes one pod's containers what its spec wants. The worker calls it
// from one goroutine per pod, never twice at once for one pod.
type Runtime interface {
	// SyncPod makes sandbox and containers match the spec, as far as one pass
	// can: it starts what is missing and kills what must go.
	SyncPod(ctx context.Context, pod *v1.Pod, observed *runtime.PodStatus) runtime.SyncResult
	// KillPod stops all running containers of the pod and then its sandboxes.
	// pod may be nil (an orphan known only from the runtime); grace, when not
	// nil, overrides the pod's own grace period in seconds. Cancelling ctx
	// abandons the wait, and a later call may come with a shorter grace.
	KillPod(ctx context.Context, pod *v1.Pod, running *runtime.Pod, grace *int64) error
	// RemovePod removes the dead containers and sandboxes of a pod and its logs.
	// It succeeds when there are none.
	RemovePod(ctx context.Context, observed *runtime.PodStatus) error
}

// Volumes prepares and removes what a pod's containers mount.
type Volumes interface {
	// SetUp makes every volume of the pod ready. Idempotent.
	SetUp(ctx context.Context, pod *v1.Pod) error
	// TearDown unmounts and removes the volumes of a pod by its UID. Idempotent.
	TearDown(ctx context.Context, uid types.UID) error
}

// Statuses is the store of the pods' API statuses.
type Statuses interface {
	Get(uid types.UID) (v1.PodStatus, bool)
	Set(pod *v1.Pod, s v1.PodStatus) (changed bool)
	Delete(uid types.UID)
}
