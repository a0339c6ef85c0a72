package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
)

const criTimeout = 10 * time.Second

// criMaxMessage is the kubelet's limit for one CRI answer.
const criMaxMessage = 16 << 20

// dialCRI connects to a CRI socket, and says what to do when nothing serves there.
// gRPC alone would connect lazily and report only "unavailable".
func dialCRI(endpoint string) (*grpc.ClientConn, error) {
	path, ok := strings.CutPrefix(endpoint, "unix://")
	if !ok || !strings.HasPrefix(path, "/") {
		return nil, fmt.Errorf("--runtime-endpoint must be like unix:///var/run/dockershim.sock, got %q", endpoint)
	}
	probe, err := net.DialTimeout("unix", path, criTimeout)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("no permission to open %s: run this as root", path)
	case err != nil:
		return nil, fmt.Errorf("no container runtime answers at %s: start mini-kubelet, or give another CRI socket with --runtime-endpoint (%w)", endpoint, err)
	}
	probe.Close()
	return grpc.NewClient("unix:"+path,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(criMaxMessage)))
}

// withCRI calls f with a connection and a deadline.
func withCRI(ctx context.Context, endpoint string, f func(context.Context, *grpc.ClientConn) error) error {
	conn, err := dialCRI(endpoint)
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(ctx, criTimeout)
	defer cancel()
	err = f(ctx, conn)
	answer, ofRuntime := status.FromError(err)
	switch {
	case err == nil || !ofRuntime:
		return err
	case answer.Code() == codes.DeadlineExceeded:
		return fmt.Errorf("the container runtime did not answer within %s; is Docker running?", criTimeout)
	}
	return errors.New(answer.Message())
}
