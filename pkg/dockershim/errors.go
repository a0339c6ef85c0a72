package dockershim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"syscall"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/client"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// refusal is an error with its gRPC code. Unlike a status it reads well when it is
// wrapped.
type refusal struct {
	code    codes.Code
	message string
}

func (r refusal) Error() string              { return r.message }
func (r refusal) GRPCStatus() *status.Status { return status.New(r.code, r.message) }

func refused(code codes.Code, format string, args ...any) error {
	return refusal{code, fmt.Sprintf(format, args...)}
}

// invalid refuses a request by the name of the field that is wrong.
func invalid(field, format string, args ...any) error {
	return refused(codes.InvalidArgument, "%s: %s", field, fmt.Sprintf(format, args...))
}

func notFound(what, id string) error {
	return refused(codes.NotFound, "%s %q does not exist", what, id)
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
	if _, is := err.(interface{ GRPCStatus() *status.Status }); is {
		return status.Convert(err).Err()
	}
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
