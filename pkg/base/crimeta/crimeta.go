// Package crimeta carries what the agent has to tell the dockershim with a CRI call and
// CRI has no field for, as gRPC metadata. Other runtimes do not look at it.
package crimeta

import (
	"context"

	"google.golang.org/grpc/metadata"
)

const (
	unlessRunning   = "mini-kubelet-unless-running"
	withoutStatuses = "mini-kubelet-without-statuses"
)

// UnlessRunning has RemoveContainer refuse a container that runs, with
// codes.FailedPrecondition, where CRI wants it killed: the caller takes it for one that
// was never started or has ended, and it may have been started since.
func UnlessRunning(ctx context.Context) context.Context {
	return metadata.AppendToOutgoingContext(ctx, unlessRunning, "true")
}

// IsUnlessRunning tells the server of a call whether it was made with UnlessRunning.
func IsUnlessRunning(ctx context.Context) bool {
	return len(metadata.ValueFromIncomingContext(ctx, unlessRunning)) > 0
}

// WithoutStatuses makes GetContainerEvents leave out the statuses of pod and containers, for
// which the dockershim asks Docker with each event: the caller looks for itself. An event
// then has its container, kind and time, and the ID and metadata of the pod's sandbox.
func WithoutStatuses(ctx context.Context) context.Context {
	return metadata.AppendToOutgoingContext(ctx, withoutStatuses, "true")
}

// IsWithoutStatuses reports to the server of a call whether it was made with WithoutStatuses.
func IsWithoutStatuses(ctx context.Context) bool {
	return len(metadata.ValueFromIncomingContext(ctx, withoutStatuses)) > 0
}
