package kuberuntime

import (
	"time"

	"github.com/mini-kubelet/mini-kubelet/pkg/pods/actual"
)

// SyncResult is the result of one SyncPod.
type SyncResult struct {
	// Waiting holds, per container name, why it could not be started this time.
	// A container that is not in it was fine or was not touched.
	Waiting map[string]actual.Waiting
	// RetryAfter, when positive, is when the earliest back-off ends: without a new
	// event, syncing before that is pointless.
	RetryAfter time.Duration
	// Reset is true if all containers were removed in order to start again: what
	// was observed of them is out of date, and the pod must be synced again.
	Reset bool
	// Resized is true if running containers were given other limits: what was
	// observed of them before is out of date. ResizeError says why one was not.
	Resized     bool
	ResizeError string
	// Err is the first thing that failed, wrapped; nil when the pod is as wanted
	// or only waits for a back-off.
	Err error
}
