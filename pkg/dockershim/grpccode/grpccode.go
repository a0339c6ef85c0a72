// Package grpccode gives errors their gRPC codes: those of Docker's client and of contexts by
// what they are, our own refusals as they are made.
package grpccode

import (
	"context"
	"errors"

	"github.com/containerd/errdefs"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/docker"
)

// Of returns the code of an error, OK for nil, and Internal for an error that it does not know.
func Of(err error) codes.Code {
	var coded interface{ GRPCStatus() *status.Status }
	switch {
	case err == nil:
		return codes.OK
	case errors.As(err, &coded) && coded.GRPCStatus().Code() != codes.Unknown:
		return coded.GRPCStatus().Code()
	case errors.Is(err, context.DeadlineExceeded):
		return codes.DeadlineExceeded
	case errors.Is(err, context.Canceled):
		return codes.Canceled
	case docker.Away(err):
		return codes.Unavailable
	case errdefs.IsNotFound(err):
		return codes.NotFound
	case errdefs.IsInvalidArgument(err):
		return codes.InvalidArgument
	case errdefs.IsConflict(err), errdefs.IsFailedPrecondition(err): // not running, paused, in use
		return codes.FailedPrecondition
	case errdefs.IsAlreadyExists(err):
		return codes.AlreadyExists
	case errdefs.IsUnauthorized(err):
		return codes.Unauthenticated
	case errdefs.IsPermissionDenied(err):
		return codes.PermissionDenied
	case errdefs.IsNotImplemented(err):
		return codes.Unimplemented
	case errdefs.IsResourceExhausted(err):
		return codes.ResourceExhausted
	}
	return codes.Internal
}
