package grpccode

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"testing"

	"github.com/containerd/errdefs"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func TestOf(t *testing.T) {
	for _, tc := range []struct {
		err  error
		want codes.Code
	}{
		{nil, codes.OK},
		{status.Error(codes.AlreadyExists, "x"), codes.AlreadyExists},
		{context.DeadlineExceeded, codes.DeadlineExceeded},
		{context.Canceled, codes.Canceled},
		{&net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}, codes.Unavailable},
		{io.ErrUnexpectedEOF, codes.Unavailable},
		{errdefs.ErrNotFound, codes.NotFound},
		{errdefs.ErrInvalidArgument, codes.InvalidArgument},
		{errdefs.ErrConflict, codes.FailedPrecondition},
		{errdefs.ErrUnauthenticated, codes.Unauthenticated},
		{errdefs.ErrPermissionDenied, codes.PermissionDenied},
		{errdefs.ErrNotImplemented, codes.Unimplemented},
		{errors.New("whatever"), codes.Internal},
	} {
		wrapped := tc.err
		if wrapped != nil {
			wrapped = fmt.Errorf("do it for a pod: %w", tc.err)
		}
		if got := Of(wrapped); got != tc.want {
			t.Errorf("Of(%v) = %v, want %v", wrapped, got, tc.want)
		}
	}
}
