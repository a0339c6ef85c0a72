package csi

import (
	"context"
	"errors"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func TestCallsAreMeasuredByWhatADriverAnswers(t *testing.T) {
	r := prometheus.NewPedanticRegistry()
	calls, err := newMetrics(r)
	if err != nil {
		t.Fatal(err)
	}
	around := measure(calls, "d.example")
	call := func(ctx context.Context, answer error) {
		err := around(ctx, "/csi.v1.Node/NodePublishVolume", nil, nil, nil, func(context.Context, string, any, any, *grpc.ClientConn, ...grpc.CallOption) error { return answer })
		if !errors.Is(err, answer) {
			t.Errorf("%v, want %v", err, answer)
		}
	}
	call(t.Context(), nil)
	call(withMoved(t.Context(), Volume{}), nil)
	call(withMoved(t.Context(), Volume{Moved: true}), nil)
	call(t.Context(), status.Error(codes.NotFound, "no such volume"))
	for code := range 50 { // a driver makes up as many codes as it likes
		call(t.Context(), status.Error(codes.Code(1000+code), "cheese"))
	}
	call(t.Context(), errors.New("no answer at all"))
	families, err := r.Gather()
	if err != nil || len(families) != 1 || families[0].GetName() != "csi_operations_seconds" {
		t.Fatalf("%v, %v", families, err)
	}
	got := map[string]uint64{}
	for _, m := range families[0].Metric {
		who := ""
		for _, l := range m.Label {
			who += l.GetName() + "=" + l.GetValue() + " "
		}
		got[who] = m.GetHistogram().GetSampleCount()
	}
	of := func(code, migrated string) string {
		return "driver_name=d.example grpc_status_code=" + code + " method_name=/csi.v1.Node/NodePublishVolume migrated=" + migrated + " "
	}
	for who, want := range map[string]uint64{of("OK", "false"): 2, of("OK", "true"): 1, of("NotFound", "false"): 1, of("Unknown", "false"): 51} {
		if got[who] != want {
			t.Errorf("%s: %d calls, want %d", who, got[who], want)
		}
	}
	if n := testutil.CollectAndCount(calls); n != 4 {
		t.Errorf("%d series, want 4: %v", n, got)
	}
}
