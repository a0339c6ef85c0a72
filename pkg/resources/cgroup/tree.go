package cgroup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/component-helpers/resource"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/logonce"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
)

// updatePeriod is how often the values above the pods are written again, in case
// somebody has changed them. It is the kubelet's.
const updatePeriod = time.Minute

// Config is what a Tree is made of.
type Config struct {
	Layout   Layout
	Capacity func() v1.ResourceList // of the machine now, including "pid" for processes; nil: not known
	// Resized has a token when Capacity has changed; nil: it never does.
	Resized <-chan struct{}
	// Reserved is withheld from pods, which is enforced if EnforcePods is set
	// (enforceNodeAllocatable: pods).
	Reserved    []v1.ResourceList
	EnforcePods bool
	// MemoryQoS protects memory, or withdraws a protection from before, depending on
	// Pods.ReserveMemory: to be set wherever there is cgroup v2 (KEP-2570).
	MemoryQoS bool
	Pods      PodSettings
	Clock     clock.WithTicker
	// Event records something about the node; nil: nobody is told. It must not block.
	Event func(eventType, reason, message string)
	// Metrics is where the tree's own are registered; nil: nowhere.
	Metrics prometheus.Registerer
}

// Tree manages the cgroups of all pods. Safe for concurrent use.
type Tree struct {
	cfg    Config
	kernel driver

	mu   sync.Mutex
	pods map[types.UID]written // those that have a cgroup

	above   sync.Mutex // held while the cgroups above the pods are written
	sums    *requests  // that the classes were last written with; nil: never
	held    bool       // the limit of all pods has been written once
	refused logonce.Error
}

// written is the content of a pod's cgroup.
type written struct {
	pod    *v1.Pod // the pod that it was written for
	values Values
}

// driver writes cgroups; kernel is the only implementation outside tests.
type driver interface {
	write(n name, v Values) error
	remove(n name, kill bool) error
	exists(n name) bool
	pods() (map[types.UID]name, error)
	hugePageSizes() []int64
}

// New makes the cgroups above those of pods. The error is ErrRefused, by errors.Is,
// if the host does not let this process make cgroups at all.
func New(cfg Config) (*Tree, error) {
	k, err := counted(newKernel(cfg.Layout), cfg.Metrics)
	if err != nil {
		return nil, err
	}
	t, err := newTree(cfg, k)
	if err != nil {
		return nil, err
	}
	return t, t.export(cfg.Metrics)
}

// ErrRefused is returned when the host does not let this process make cgroups.
var ErrRefused = errors.New("this host does not let the agent make cgroups")

func newTree(cfg Config, k driver) (*Tree, error) {
	switch {
	case cfg.Layout.root == nil:
		return nil, errors.New("cgroup: no Layout")
	case cfg.Clock == nil:
		return nil, errors.New("cgroup: no Clock")
	}
	if cfg.Capacity == nil {
		cfg.Capacity = func() v1.ResourceList { return nil }
	}
	t := &Tree{cfg: cfg, kernel: k, pods: map[types.UID]written{}}
	// Made without limits first: limits that the kernel refuses, because of what
	// already runs, are tried again later.
	for _, n := range []name{cfg.Layout.root, cfg.Layout.qos(v1.PodQOSBurstable), cfg.Layout.qos(v1.PodQOSBestEffort)} {
		if err := k.write(n, Values{}); err != nil {
			if errors.Is(err, fs.ErrPermission) || errors.Is(err, unix.EROFS) {
				return nil, fmt.Errorf("%w: %w", ErrRefused, err)
			}
			return nil, err
		}
	}
	return t, nil
}

// Run writes the values above the pods, at once and once a minute, until ctx ends.
func (t *Tree) Run(ctx context.Context) error {
	tick := t.cfg.Clock.NewTicker(updatePeriod)
	defer tick.Stop()
	for {
		t.update()
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C():
		case <-t.cfg.Resized:
		}
	}
}

// update writes the values of the cgroup of all pods and of the QoS classes.
func (t *Tree) update() {
	t.above.Lock()
	defer t.above.Unlock()
	err := t.kernel.write(t.cfg.Layout.root, forAllPods(t.cfg.Capacity(), t.cfg.Reserved, t.cfg.EnforcePods))
	t.tell(err)
	t.note(errors.Join(err, t.writeClasses()))
}

// tell records, as the kubelet's event, whether the limit of all pods is enforced,
// until it is for the first time.
func (t *Tree) tell(err error) {
	if t.held || t.cfg.Event == nil {
		return
	}
	if t.held = err == nil; t.held {
		t.cfg.Event(v1.EventTypeNormal, enforced, "Updated Node Allocatable limit across pods")
		return
	}
	t.cfg.Event(v1.EventTypeWarning, failedEnforcement, fmt.Sprintf("Failed to update Node Allocatable Limits %q: %v", t.cfg.Layout.root, err))
}

// podsChanged writes the values of the QoS classes if they have changed.
func (t *Tree) podsChanged() {
	t.above.Lock()
	defer t.above.Unlock()
	if t.sums == nil || *t.sums != t.requests() {
		t.note(t.writeClasses())
	}
}

// writeClasses is called with t.above locked.
func (t *Tree) writeClasses() error {
	sums := t.requests()
	t.sums = &sums
	var all error
	for _, class := range []v1.PodQOSClass{v1.PodQOSBurstable, v1.PodQOSBestEffort} {
		v := forClass(class, sums.milliCPU, t.kernel.hugePageSizes())
		if t.cfg.MemoryQoS && class == v1.PodQOSBurstable {
			v.Unified = bytesIn(nil, memoryLow, sums.burstable)
		}
		all = errors.Join(all, t.kernel.write(t.cfg.Layout.qos(class), v))
	}
	if t.cfg.MemoryQoS {
		// A parent protects no less than its children.
		v := Values{Unified: bytesIn(bytesIn(nil, memoryMin, sums.guaranteed+sums.burstable), memoryLow, sums.burstable)}
		all = errors.Join(all, t.kernel.write(t.cfg.Layout.root, v))
	}
	return all
}

// requests are the sums of the pods' requests that determine the classes' cgroups.
type requests struct {
	milliCPU              int64 // of burstable pods, in thousandths of a CPU
	guaranteed, burstable int64 // memory that is protected, in bytes
}

func (t *Tree) requests() (sums requests) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, p := range t.pods {
		list := resource.PodRequests(p.pod, resource.PodResourcesOptions{})
		memory := list.Memory().Value()
		if !t.cfg.MemoryQoS || !t.cfg.Pods.ReserveMemory {
			memory = 0
		}
		switch pods.QOSClass(p.pod) {
		case v1.PodQOSGuaranteed:
			sums.guaranteed += memory
		case v1.PodQOSBurstable:
			sums.milliCPU += list.Cpu().MilliValue()
			sums.burstable += memory
		}
	}
	return sums
}

// note logs a refusal of the kernel, once until it changes.
func (t *Tree) note(err error) {
	if t.refused.Note(err) {
		klog.ErrorS(err, "Could not set limits for all pods, will try again every minute")
	}
}
