package streaming

import (
	"fmt"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/grpccode"
)

func invalid(format string, args ...any) error {
	return status.Errorf(codes.InvalidArgument, format, args...)
}

func notRunning(what, id string) error {
	return status.Errorf(codes.FailedPrecondition, "%s %s is not running", what, id)
}

// dockerError gives an error of a Docker call its gRPC code, and adds what was tried.
func dockerError(err error, format string, args ...any) error {
	return status.Errorf(codeOf(err), "%s: %v", fmt.Sprintf(format, args...), err)
}

func codeOf(err error) codes.Code {
	// Docker's client reports a refused upgrade only as text.
	switch msg := err.Error(); {
	case strings.HasSuffix(msg, "received 404"):
		return codes.NotFound
	case strings.HasSuffix(msg, "received 409"):
		return codes.FailedPrecondition
	case strings.HasSuffix(msg, "received 400"):
		return codes.InvalidArgument
	}
	return grpccode.Of(err)
}
