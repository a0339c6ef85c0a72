package dockershim

import (
	"context"
	"errors"
	"io"
	"syscall"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/client"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// invalid refuses a request by the name of the field that is wrong.
func invalid(field, format string, args ...any) error {
	return status.Errorf(codes.InvalidArgument, field+": "+format, args...)
}

// unaryErrors gives every error that leaves the server its gRPC code, once.
func unaryErrors(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	reply, err := handle(ctx, req)
	if err != nil {
		return nil, withCode(err)
	}
	return reply, nil
}

func streamErrors(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
	if err := handle(srv, stream); err != nil {
		return withCode(err)
	}
	return nil
}

func withCode(err error) error {
	return status.Error(codeOf(err), err.Error())
}

// codeOf is the gRPC code of an error of ours, of Docker's client or of a context.
func codeOf(err error) codes.Code {
	var coded interface{ GRPCStatus() *status.Status }
	switch {
	case errors.As(err, &coded) && coded.GRPCStatus().Code() != codes.Unknown:
		return coded.GRPCStatus().Code()
	case errors.Is(err, context.DeadlineExceeded):
		return codes.DeadlineExceeded
	case errors.Is(err, context.Canceled):
		return codes.Canceled
	case isAway(err):
		return codes.Unavailable
	case errdefs.IsNotFound(err):
		return codes.NotFound
	case errdefs.IsInvalidArgument(err):
		return codes.InvalidArgument
	case errdefs.IsConflict(err), errdefs.IsFailedPrecondition(err):
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

// isAway tells an error of the way to Docker from an answer of Docker's: the daemon
// does not run, or went away during the call.
func isAway(err error) bool {
	return client.IsErrConnectionFailed(err) || errdefs.IsUnavailable(err) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

func notFound(what, id string) error {
	return status.Errorf(codes.NotFound, "%s %q does not exist", what, id)
}
