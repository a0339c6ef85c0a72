package criclient

import (
	"context"
	"errors"
	"testing"
	"time"

	"google.golang.org/grpc"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/journal"
)

func TestWhatIsNotedOfCalls(t *testing.T) {
	const service = "/runtime.v1.RuntimeService/"
	j := journal.New(time.Now)
	c, err := newCalls(Config{Timeout: time.Minute, Journal: j})
	if err != nil {
		t.Fatal(err)
	}
	var fails error
	call := func(ctx context.Context, method string, req, reply any) {
		t.Helper()
		err := c.unary(ctx, service+method, req, reply, nil, func(context.Context, string, any, any, *grpc.ClientConn, ...grpc.CallOption) error { return fails })
		if !errors.Is(err, fails) {
			t.Fatal(err)
		}
	}
	var series journal.Handle
	quiet := func() (context.Context, *journal.Span) {
		s := j.BeginQuiet(&series, journal.Event{Kind: journal.Step, Pod: "p"})
		return journal.In(t.Context(), s), s
	}
	ctx, step := quiet()
	for range 3 { // one event
		call(ctx, "ListContainers", &cri.ListContainersRequest{}, &cri.ListContainersResponse{})
	}
	call(ctx, "ExecSync", &cri.ExecSyncRequest{ContainerId: "probed"}, &cri.ExecSyncResponse{})
	step.End(nil)
	ctx, step = quiet()
	call(ctx, "CreateContainer", &cri.CreateContainerRequest{Config: &cri.ContainerConfig{Metadata: &cri.ContainerMetadata{Name: "c"}, Envs: []*cri.KeyValue{{Key: "A", Value: []byte("hidden")}}}},
		&cri.CreateContainerResponse{ContainerId: "made"})
	step.End(nil)
	call(t.Context(), "Exec", &cri.ExecRequest{ContainerId: "entered"}, &cri.ExecResponse{})
	fails = errors.New("broken")
	ctx, step = quiet()
	for range 2 { // a runtime that is away fails each second
		call(ctx, "ContainerStatus", &cri.ContainerStatusRequest{ContainerId: "seen"}, &cri.ContainerStatusResponse{})
	}
	step.End(nil)

	type noted struct {
		kind, name, detail, err string
		count                   uint32
		cause                   string // kind
	}
	want := []noted{
		{kind: "step", count: 2},
		{kind: "cri", name: "ListContainers", count: 3, cause: "step"},
		{kind: "cri", name: "ExecSync", count: 1, cause: "step"},
		{kind: "step", count: 1},
		{kind: "cri", name: "CreateContainer", detail: "c made", count: 1, cause: "step"},
		{kind: "timer", name: "request", count: 1},
		{kind: "cri", name: "Exec", detail: "entered", count: 1, cause: "timer"},
		{kind: "cri", name: "ContainerStatus", detail: "seen", err: "broken", count: 2, cause: "step"},
	}
	events, _ := j.Since(0)
	kinds := map[uint64]string{}
	for i, e := range events {
		kinds[e.Seq] = e.Kind.String()
		got := noted{kind: e.Kind.String(), name: e.Name, err: e.Err, count: e.Count, cause: kinds[e.Cause]}
		if e.Detail != nil {
			got.detail = e.Detail.String()
		}
		if i >= len(want) || got != want[i] {
			t.Errorf("%d: %+v", i, got)
		}
	}
	if len(events) != len(want) {
		t.Errorf("%d events, want %d", len(events), len(want))
	}
}
