package streaming

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/containerd/errdefs"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func invalid(format string, args ...any) error {
	return status.Errorf(codes.InvalidArgument, format, args...)
}

func notRunning(what, id string) error {
	return status.Errorf(codes.FailedPrecondition, "%s %s is not running", what, id)
}

// dockerError gives an error of a Docker call its gRPC code and says what was tried.
func dockerError(err error, format string, args ...any) error {
	return status.Errorf(codeOf(err), "%s: %v", fmt.Sprintf(format, args...), err)
}

func codeOf(err error) codes.Code {
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return codes.DeadlineExceeded
	case errors.Is(err, context.Canceled):
		return codes.Canceled
	case errdefs.IsNotFound(err):
		return codes.NotFound
	case errdefs.IsConflict(err): // not running, or paused
		return codes.FailedPrecondition
	case errdefs.IsInvalidArgument(err):
		return codes.InvalidArgument
	case errdefs.IsUnavailable(err):
		return codes.Unavailable
	}
	// A refused upgrade is reported by Docker's client as nothing but text.
	switch msg := err.Error(); {
	case strings.HasSuffix(msg, "received 404"):
		return codes.NotFound
	case strings.HasSuffix(msg, "received 409"):
		return codes.FailedPrecondition
	case strings.HasSuffix(msg, "received 400"):
		return codes.InvalidArgument
	}
	return codes.Internal
}
