package probe

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	v1 "k8s.io/api/core/v1"
)

// checkMethod is the call of the gRPC health protocol.
const checkMethod = "/grpc.health.v1.Health/Check"

// runGRPC succeeds when the server says by the gRPC health protocol that it, or one
// of its services, is serving.
func runGRPC(ctx context.Context, a *v1.GRPCAction, s subject, timeout time.Duration) (answer, error) {
	address, err := addressOf("", s.host, int(a.Port))
	if err != nil {
		return answer{}, err
	}
	failed := func(format string, args ...any) (answer, error) {
		return answer{result: failure, text: fmt.Sprintf(format, args...)}, nil
	}
	ask := &grpc_health_v1.HealthCheckRequest{}
	if a.Service != nil {
		ask.Service = *a.Service
	}
	request, err := proto.Marshal(ask)
	if err != nil {
		return failed("error: health rpc probe failed: %v", err) // not UTF-8
	}
	response, err := unary(ctx, address, checkMethod, request, timeout)
	var away connectError
	switch code := status.Code(err); {
	case errors.As(err, &away) && ctx.Err() != nil:
		return failed("timeout: failed to connect service %q within %v: %v", address, timeout, ctx.Err())
	case errors.As(err, &away):
		return failed("error: failed to connect service at %q: %v", address, away.error)
	case err == nil:
	case code == codes.Unimplemented:
		return failed("error: this server does not implement the grpc health protocol (grpc.health.v1.Health): %s", status.Convert(err).Message())
	case code == codes.DeadlineExceeded || ctx.Err() != nil:
		return failed("timeout: health rpc did not complete within %v", timeout)
	default:
		return failed("error: health rpc probe failed: %v", err)
	}
	var says grpc_health_v1.HealthCheckResponse
	if err := proto.Unmarshal(response, &says); err != nil {
		return failed("error: health rpc probe failed: %v", status.Error(codes.Internal, err.Error()))
	}
	if st := says.GetStatus(); st != grpc_health_v1.HealthCheckResponse_SERVING {
		return failed("service unhealthy (responded with %q)", st.String())
	}
	return answer{result: success}, nil
}
