package dockershim

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/recovery"
	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/grpccode"
)

// unaryErrors gives every error that leaves the server its gRPC code, once. A panic is such an
// error, and ends only its call.
func unaryErrors(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (reply any, err error) {
	err = recovery.Call(func() (err error) {
		reply, err = handle(ctx, req)
		return err
	})
	if err != nil {
		return nil, withCode(err)
	}
	return reply, nil
}

// streamErrors is unaryErrors for streams.
func streamErrors(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
	if err := recovery.Call(func() error { return handle(srv, stream) }); err != nil {
		return withCode(err)
	}
	return nil
}

func withCode(err error) error {
	if _, is := err.(interface{ GRPCStatus() *status.Status }); is {
		return status.Convert(err).Err()
	}
	return status.Error(grpccode.Of(err), err.Error())
}
