package csi

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/metricset"
)

func newMetrics(r prometheus.Registerer) (*prometheus.HistogramVec, error) {
	set := metricset.New(r)
	calls := set.Histograms("csi_operations_seconds", "How long calls of CSI drivers took, by driver, method and the code of the answer",
		[]float64{.1, .25, .5, 1, 2.5, 5, 10, 15, 25, 50, 120, 300, 600}, "driver_name", "method_name", "grpc_status_code", "migrated")
	if err := set.Err(); err != nil {
		return nil, fmt.Errorf("csi: %w", err)
	}
	return calls, nil
}

// measure returns what measures the calls of one driver.
func measure(calls *prometheus.HistogramVec, driver string) grpc.UnaryClientInterceptor {
	return func(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		began := time.Now()
		err := invoke(ctx, method, req, reply, conn, opts...)
		calls.WithLabelValues(driver, method, codeOf(err), strconv.FormatBool(isMoved(ctx))).Observe(time.Since(began).Seconds())
		return err
	}
}

// codeOf is gRPC's name of an answer's code. A driver may answer with any number: all that gRPC does not know are one.
func codeOf(err error) string {
	code := status.Code(err)
	if code > codes.Unauthenticated {
		code = codes.Unknown
	}
	return code.String()
}

// movedKey is that of a context in which a volume is set up that was moved from an in-tree driver.
type movedKey struct{}

func withMoved(ctx context.Context, v Volume) context.Context {
	return context.WithValue(ctx, movedKey{}, v.Moved)
}

func isMoved(ctx context.Context) bool {
	moved, _ := ctx.Value(movedKey{}).(bool)
	return moved
}
