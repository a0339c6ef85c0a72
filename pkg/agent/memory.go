package agent

import (
	"fmt"

	"k8s.io/apimachinery/pkg/types"
	kubeletconfig "k8s.io/kubelet/config/v1beta1"

	"github.com/mini-kubelet/mini-kubelet/pkg/cluster/nodeobject"
	"github.com/mini-kubelet/mini-kubelet/pkg/resources/memorymanager"
	"github.com/mini-kubelet/mini-kubelet/pkg/resources/numa"
)

// newMemory makes the manager that says on which NUMA nodes the memory of containers is; nil if the
// configuration does not ask for it. Pods that nobody wants any more lose theirs.
func newMemory(f *foundation, m nodeobject.Machine) (*memorymanager.Manager, error) {
	if f.cfg.MemoryManagerPolicy != kubeletconfig.StaticMemoryManagerPolicy {
		return nil, memorymanager.CheckUnused(f.cfg.RootDir)
	}
	nodes, err := numa.Discover(systemDevices)
	if err != nil {
		return nil, err
	}
	kept := m.Capacity.Memory().DeepCopy()
	kept.Sub(*m.Allocatable.Memory())
	manager, err := memorymanager.New(memorymanager.Config{
		Nodes: nodes, Reserved: f.cfg.ReservedMemory, Kept: kept, Root: f.cfg.RootDir,
		Gone: func(uid types.UID) bool { return !f.store.MayBeWanted(uid) }, Metrics: f.metrics,
	})
	if err != nil {
		return nil, fmt.Errorf("memoryManagerPolicy Static: %w", err)
	}
	return manager, nil
}
