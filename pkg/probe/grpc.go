package probe

import (
	"context"
	"fmt"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	v1 "k8s.io/api/core/v1"
)

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
	conn, err := grpc.NewClient("passthrough:///"+address,
		grpc.WithUserAgent(userAgent),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithNoProxy(),
		grpc.WithDisableServiceConfig(),
		grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) { return dial(ctx, "tcp", address) }))
	if err != nil {
		return failed("error: failed to connect service at %q: %v", address, err)
	}
	defer conn.Close()
	service := ""
	if a.Service != nil {
		service = *a.Service
	}
	r, err := grpc_health_v1.NewHealthClient(conn).Check(ctx, &grpc_health_v1.HealthCheckRequest{Service: service})
	switch status.Code(err) {
	case codes.OK:
	case codes.Unimplemented:
		return failed("error: this server does not implement the grpc health protocol (grpc.health.v1.Health): %s", status.Convert(err).Message())
	case codes.DeadlineExceeded:
		return failed("timeout: health rpc did not complete within %v", timeout)
	default:
		return failed("error: health rpc probe failed: %v", err)
	}
	if st := r.GetStatus(); st != grpc_health_v1.HealthCheckResponse_SERVING {
		return failed("service unhealthy (responded with %q)", st.String())
	}
	return answer{result: success}, nil
}
