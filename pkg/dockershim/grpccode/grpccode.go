// Package grpccode says by which gRPC code an error of Docker's client, of a context
// or of ours is told. All parts of the dockershim use it.
package grpccode

import (
	"context"
	"errors"

	"github.com/containerd/errdefs"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/docker"
)

// Of is the code of an error; Internal for one of which nothing is known.
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
