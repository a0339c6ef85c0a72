package agent

import (
	"errors"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mini-kubelet/mini-kubelet/pkg/config/options"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods/actual"
	"github.com/mini-kubelet/mini-kubelet/pkg/resources/numa"
	"github.com/mini-kubelet/mini-kubelet/pkg/resources/topologymanager"
)

// addManagers makes what gives containers parts of the machine to themselves, and the topology
// manager, which has them give parts that are near each other.
func (h *host) addManagers(f *foundation) error {
	alignment, err := topologymanager.NewAlignment(f.metrics)
	if err != nil {
		return err
	}
	if h.cpus, err = newCPUs(f, h.reserved, alignment); err != nil {
		return err
	}
	cfg := topologymanager.Config{
		Policy: f.cfg.TopologyManagerPolicy, Scope: topologymanager.Scope(f.cfg.TopologyManagerScope), Alignment: alignment, Metrics: f.metrics,
	}
	if h.cpus != nil {
		h.assigned = h.cpus.CPUs
		cfg.Providers = append(cfg.Providers, h.cpus)
	}
	if h.memory, err = newMemory(f, h.machine.Kept()); err != nil {
		return err
	}
	if h.memory != nil {
		cfg.Providers = append(cfg.Providers, h.memory)
	}
	if cfg.Policy != topologymanager.None {
		if cfg.Options, err = options.ParseTopologyManager(f.cfg.TopologyManagerPolicyOptions); err != nil {
			return err
		}
		if cfg.Nodes, err = numa.Discover(systemDevices); err != nil {
			return err
		}
	}
	if h.devices, err = newDevices(f, cfg.Nodes); err != nil {
		return err
	}
	cfg.Providers = append(cfg.Providers, h.devices)
	h.parts = append(h.parts, part{"device plug-ins", h.devices.Run})
	h.topology, err = topologymanager.New(cfg)
	return err
}

// allocate returns what gives a pod its parts of the machine before it starts. Admission did this
// already, except for a pod that came back before it was gone, and for one that runs and of which
// there is no record.
func (h *host) allocate(observed interface{ Pods() []*actual.Pod }) func(*v1.Pod) error {
	runs := func(uid types.UID) bool {
		for _, p := range observed.Pods() {
			if p.UID == uid {
				return p.Running()
			}
		}
		return false
	}
	return func(pod *v1.Pod) error {
		if runs(pod.UID) {
			return h.topology.Restore(pod)
		}
		return h.topology.Allocate(pod)
	}
}

// unrecorded is the reason of a pod's event when what it has to itself could not be put on record. A rejection is told by
// the worker.
func unrecorded(err error) string {
	var r *pods.Rejection
	if errors.As(err, &r) {
		return ""
	}
	return "FailedSync"
}
