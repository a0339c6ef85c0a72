package admission

import (
	"errors"
	"slices"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"

	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
)

// Allocator gives pods something of the node to themselves: CPUs, memory, devices. An error is a
// *pods.Rejection if the pod cannot have what it is entitled to; after any other the worker tries
// again. Nothing here may wait for others than the disk: the sync loop waits meanwhile.
type Allocator interface {
	// Check says why Allocate would reject the pod, nil where it would not, and changes nothing.
	Check(*v1.Pod) error
	// Allocate gives the pod what it is entitled to, once. Idempotent.
	Allocate(*v1.Pod) error
	// Release takes back what the pod was given. Idempotent.
	Release(types.UID) error
}

// Config is what an Admitter is made of; Node is required.
type Config struct {
	// Node returns what pods are checked against now.
	Node func() Node
	// Allocated returns a pod with the resources that it has been given; nil: pods have
	// what they ask for.
	Allocated func(*v1.Pod) *v1.Pod
	// Allocators are asked in this order.
	Allocators []Allocator
}

// Admitter judges pods that do not run yet, and gives those that may start what they are entitled
// to have to themselves. Safe for concurrent use.
type Admitter struct{ cfg Config }

// New checks the configuration.
func New(cfg Config) (*Admitter, error) {
	if cfg.Node == nil {
		return nil, errors.New("admission: no Node")
	}
	if cfg.Allocated == nil {
		cfg.Allocated = func(pod *v1.Pod) *v1.Pod { return pod }
	}
	return &Admitter{cfg: cfg}, nil
}

// Admit returns nil when the pod may start beside the others. A rejected pod has nothing to itself:
// it gives back what it was given just now, and what it may still have from before the node was
// restarted.
func (a *Admitter) Admit(pod *v1.Pod, others []*v1.Pod) *pods.Rejection {
	r := a.judge(pod, others)
	if r == nil {
		return nil
	}
	for _, give := range slices.Backward(a.cfg.Allocators) {
		if err := give.Release(pod.UID); err != nil {
			klog.ErrorS(err, "Could not take back what a rejected pod was given", "pod", klog.KObj(pod), "podUID", pod.UID)
		}
	}
	return r
}

// Victims says whose end makes room for a critical pod beside others and those that wait for room
// before it, and what it is short of. Both are empty if there is room. The error is that of Victims.
func (a *Admitter) Victims(pod *v1.Pod, others, waiting []*v1.Pod) ([]*v1.Pod, []pods.Shortage, error) {
	given := map[*v1.Pod]*v1.Pod{}
	allocated := func(list []*v1.Pod) []*v1.Pod {
		out := make([]*v1.Pod, len(list))
		for i, p := range list {
			out[i] = a.cfg.Allocated(p)
			given[out[i]] = p
		}
		return out
	}
	pod = a.cfg.Allocated(pod)
	candidates := allocated(without(others, pod))
	short := shortages(pod, slices.Concat(candidates, allocated(without(waiting, pod))), a.cfg.Node().Allocatable)
	chosen, err := Victims(pod, candidates, short)
	for i, p := range chosen {
		chosen[i] = given[p]
	}
	return chosen, short, err
}

func (a *Admitter) judge(pod *v1.Pod, others []*v1.Pod) *pods.Rejection {
	pod = a.cfg.Allocated(pod)
	others = slices.Clone(others)
	for i, o := range others {
		others[i] = a.cfg.Allocated(o)
	}
	node := a.cfg.Node()
	node.Check = a.check
	if r := Admit(pod, others, node); r != nil {
		return r
	}
	for _, give := range a.cfg.Allocators {
		if r := rejection(give.Allocate(pod)); r != nil {
			return r
		}
	}
	return nil
}

// check returns why the first of the allocators that cannot would not give the pod what it is entitled
// to.
func (a *Admitter) check(pod *v1.Pod) error {
	for _, give := range a.cfg.Allocators {
		if err := give.Check(pod); rejection(err) != nil {
			return err
		}
	}
	return nil
}

// rejection returns the *pods.Rejection in an error, nil if there is none: anything else
// that fails is tried again when the pod is synced.
func rejection(err error) *pods.Rejection {
	var r *pods.Rejection
	if errors.As(err, &r) {
		return r
	}
	return nil
}

// In returns the node as it is in the cluster: labels, taints and resources that are not ours,
// such as extended ones, come from the API server's Node object. object is nil if that is not
// known.
func (n Node) In(object *v1.Node) Node {
	if object == nil {
		return n
	}
	n.Labels, n.Taints = object.Labels, object.Spec.Taints
	allocatable := n.Allocatable.DeepCopy()
	for name, q := range object.Status.Allocatable {
		if _, own := allocatable[name]; !own {
			allocatable[name] = q
		}
	}
	n.Allocatable = allocatable
	return n
}
