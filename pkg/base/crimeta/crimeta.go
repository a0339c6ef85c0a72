// Package crimeta carries, as gRPC metadata, what the agent has to tell the dockershim
// with a CRI call and CRI has no field for. Other runtimes ignore it.
package crimeta

import (
	"context"
	"strconv"

	"google.golang.org/grpc/metadata"
)

const (
	unlessRunning   = "mini-kubelet-unless-running"
	withoutStatuses = "mini-kubelet-without-statuses"
	outputLimit     = "mini-kubelet-output-limit"
	cause           = "mini-kubelet-cause"
)

// UnlessRunning makes RemoveContainer refuse a running container, with
// codes.FailedPrecondition, where CRI wants it killed: the caller believes that the
// container was never started or has ended, but it may have been started since.
func UnlessRunning(ctx context.Context) context.Context {
	return metadata.AppendToOutgoingContext(ctx, unlessRunning, "true")
}

// IsUnlessRunning reports to the server of a call whether UnlessRunning was set.
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

// Because says which event of the agent's journal a call is, so that what the dockershim asks of Docker for it
// can be told to be its consequence.
func Because(ctx context.Context, event uint64) context.Context {
	return metadata.AppendToOutgoingContext(ctx, cause, strconv.FormatUint(event, 10))
}

// CauseOf returns to the server of a call what Because has said; 0 if nothing.
func CauseOf(ctx context.Context) uint64 {
	for _, text := range metadata.ValueFromIncomingContext(ctx, cause) {
		if n, err := strconv.ParseUint(text, 10, 64); err == nil {
			return n
		}
	}
	return 0
}

// CausedBy returns a context in which CauseOf returns that event, for what a server does later because of a call; 0 for
// what counts as caused by nothing.
func CausedBy(ctx context.Context, event uint64) context.Context {
	said, _ := metadata.FromIncomingContext(ctx)
	said = said.Copy()
	said.Set(cause, strconv.FormatUint(event, 10))
	return metadata.NewIncomingContext(ctx, said)
}

// OutputLimit makes ExecSync keep only the first bytes of a command's output, of both
// streams together: for callers that need no more. The command runs on as without a limit.
func OutputLimit(ctx context.Context, bytes int) context.Context {
	return metadata.AppendToOutgoingContext(ctx, outputLimit, strconv.Itoa(bytes))
}

// OutputLimitOf returns to the server of a call what OutputLimit has set, but no more than
// most, which also counts where nothing was set.
func OutputLimitOf(ctx context.Context, most int) int {
	for _, text := range metadata.ValueFromIncomingContext(ctx, outputLimit) {
		if n, err := strconv.Atoi(text); err == nil && n >= 0 {
			most = min(most, n)
		}
	}
	return most
}
