package csi

import (
	"context"
	"fmt"
	"sync"
	"time"

	csipb "github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	storage "k8s.io/api/storage/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/logonce"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
)

// How many volumes a node takes changes with its network interfaces, for example: drivers that
// ask for it say so anew every CSIDriver.spec.nodeAllocatableUpdatePeriodSeconds, and when the
// node turns out to be full (KEP-4876).

// exhaustedPatience is how long a pod waits for room for its volume on a full node. The kubelet
// waits as long as for any volume, 2 min; this ends before that, to be told.
const exhaustedPatience = 100 * time.Second

// reasonExhausted is the kubelet's.
const reasonExhausted = "VolumeAttachmentLimitExceeded"

// limits are how often drivers are asked about the node. Safe for concurrent use.
type limits struct {
	mu      sync.Mutex
	periods map[string]time.Duration // by driver: those that want it
	changed chan struct{}            // closed when periods have changed
}

// of returns how often a driver is to be asked, 0 for never, and what tells that this has changed.
func (l *limits) of(driver string) (time.Duration, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.changed == nil {
		l.changed = make(chan struct{})
	}
	return l.periods[driver], l.changed
}

func (l *limits) set(driver string, period time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.periods[driver] == period {
		return
	}
	if l.periods == nil {
		l.periods = map[string]time.Duration{}
	}
	if l.periods[driver] = period; period == 0 {
		delete(l.periods, driver)
	}
	if l.changed != nil {
		close(l.changed)
		l.changed = nil
	}
}

// watch follows the CSIDrivers until ctx ends; without an API server there are none.
func (l *limits) watch(ctx context.Context, client kubernetes.Interface) {
	if client == nil {
		return
	}
	factory := informers.NewSharedInformerFactory(client, 0)
	defer factory.Shutdown()
	_, err := factory.Storage().V1().CSIDrivers().Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(o any) { l.note(o, false) },
		UpdateFunc: func(_, o any) { l.note(o, false) },
		DeleteFunc: func(o any) { l.note(o, true) },
	})
	if err != nil {
		klog.ErrorS(err, "The limits of CSI drivers are not kept current") // an informer that has not started takes handlers
		return
	}
	factory.StartWithContext(ctx)
	<-ctx.Done()
}

func (l *limits) note(object any, gone bool) {
	if last, ok := object.(cache.DeletedFinalStateUnknown); ok {
		object = last.Obj
	}
	o, ok := object.(*storage.CSIDriver)
	switch {
	case !ok:
	case gone:
		l.set(o.Name, 0)
	default:
		l.set(o.Name, updatePeriod(o))
	}
}

// updatePeriod is how often a driver wants to be asked; the API has it at 10 s or more.
func updatePeriod(o *storage.CSIDriver) time.Duration {
	if o == nil || o.Spec.NodeAllocatableUpdatePeriodSeconds == nil {
		return 0
	}
	return max(time.Duration(*o.Spec.NodeAllocatableUpdatePeriodSeconds)*time.Second, time.Second)
}

// stay asks a registered driver about the node as often as it wants, until its socket goes.
func (m *Manager) stay(own context.Context, d *driver) {
	var failing logonce.Error
	for last := time.Now(); ; {
		period, changed := m.limits.of(d.name)
		var due <-chan time.Time
		if period > 0 {
			due = time.After(time.Until(last.Add(period)))
		}
		select {
		case <-own.Done():
			return
		case <-changed:
		case <-due:
			err := m.refresh(own, d)
			if failing.Note(err) && err != nil && own.Err() == nil {
				klog.ErrorS(err, "Could not bring the limits of a CSI driver up to date, trying again", "driver", d.name, "after", period)
			}
			last = time.Now()
		}
	}
}

// refresh asks a driver how many volumes the node takes, and says it in the CSINode.
func (m *Manager) refresh(ctx context.Context, d *driver) error {
	ctx, cancel := context.WithTimeoutCause(ctx, callTimeout, fmt.Errorf("no answer of driver %s within %v", d.name, callTimeout))
	defer cancel()
	r, err := d.NodeGetInfo(ctx, &csipb.NodeGetInfoRequest{})
	if err != nil {
		return fmt.Errorf("ask driver %s about the node: %w", d.name, err)
	}
	return m.announce(ctx, d.name, nodeInfo{r.NodeId, r.MaxVolumesPerNode, r.GetAccessibleTopology().GetSegments()})
}

// fullNode is a node on which a volume may find no room.
type fullNode struct {
	m      *Manager
	driver *driver
	since  time.Time
}

// is reports whether the node has no room for the volume, and has its driver say how many it takes
// when that is seen first. It is never so for drivers that do not want their limits kept current.
func (f *fullNode) is(ctx context.Context, a *storage.VolumeAttachment) bool {
	if e := a.Status.AttachError; e == nil || e.ErrorCode == nil || *e.ErrorCode != int32(codes.ResourceExhausted) {
		f.since = time.Time{}
		return false
	}
	o, err := f.m.info(ctx, f.driver.name)
	if err != nil || updatePeriod(o) == 0 {
		return false
	}
	if f.since.IsZero() {
		f.since = time.Now()
		if err := f.m.refresh(ctx, f.driver); err != nil {
			klog.ErrorS(err, "Could not bring the limits of a CSI driver up to date", "driver", f.driver.name)
		}
	}
	return true
}

func (f *fullNode) tooLong() bool { return time.Since(f.since) >= f.m.patience }

func (f *fullNode) rejection(d data, a *storage.VolumeAttachment) error {
	return &pods.Rejection{Reason: reasonExhausted, Message: fmt.Sprintf(
		"Node has reached its volume attachment limit, rejecting pod. Volume %s of driver %s could not be attached within %v: %s", d.Handle, d.Driver, f.m.patience, a.Status.AttachError.Message)}
}
