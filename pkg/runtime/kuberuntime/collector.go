package kuberuntime

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/trace"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/logonce"
	"github.com/mini-kubelet/mini-kubelet/pkg/journal"
)

// Collector removes dead containers in the background. NodeEvent and Traces may be nil.
type Collector struct {
	Runtime   *Manager
	Policy    Policy
	Wanted    func(types.UID) bool // see GarbageCollect
	NodeEvent journal.NodeEvent
	Traces    trace.TracerProvider // makes each collection a span
}

// collect removes what the policy does not keep.
func (c Collector) collect(ctx context.Context, p Policy) error {
	if c.Traces != nil {
		var span trace.Span
		ctx, span = c.Traces.Tracer("k8s.io/kubernetes/pkg/kubelet/kuberuntime").Start(ctx, "Containers/GarbageCollect") // the kubelet's names
		defer span.End()
	}
	return c.Runtime.GarbageCollect(ctx, p, c.Wanted)
}

// collectPeriod is the kubelet's ContainerGCPeriod.
const collectPeriod = time.Minute

// Run collects once a minute until ctx ends.
func (c Collector) Run(ctx context.Context) error {
	tick := time.NewTicker(collectPeriod)
	defer tick.Stop()
	var failing logonce.Error
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		err := c.collect(ctx, c.Policy)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			c.NodeEvent.Warn("ContainerGCFailed", err.Error())
		}
		if failing.Note(err) {
			klog.ErrorS(err, "Container garbage collection failed, trying again each minute")
		}
	}
}

// Unused removes what the node can do without when it is short of disk: beside what the policy does not keep,
// all that is left of pods that have stopped for good (the kubelet's DeleteAllUnusedContainers). The one dead
// container of a pod that goes on is what says how it ended: it stays.
type Unused struct {
	Collector
	Over func(types.UID) bool
}

// DeleteUnused implements nodepressure.Reclaimer.
func (u Unused) DeleteUnused(ctx context.Context) error {
	p := u.Policy
	p.Over = u.Over
	return u.collect(ctx, p)
}
