package agent

import (
	"fmt"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	kubeletconfig "k8s.io/kubelet/config/v1beta1"

	"github.com/mini-kubelet/mini-kubelet/pkg/resources/memorymanager"
	"github.com/mini-kubelet/mini-kubelet/pkg/resources/numa"
)

// newMemory makes the manager that says on which NUMA nodes the memory of containers is; nil if the
// configuration does not ask for it. kept is what the node keeps from pods. Pods that nobody wants any more lose theirs.
func newMemory(f *foundation, kept v1.ResourceList) (*memorymanager.Manager, error) {
	if f.cfg.MemoryManagerPolicy != kubeletconfig.StaticMemoryManagerPolicy {
		return nil, memorymanager.CheckUnused(f.cfg.RootDir)
	}
	nodes, err := numa.Discover(systemDevices)
	if err != nil {
		return nil, err
	}
	manager, err := memorymanager.New(memorymanager.Config{
		Nodes: nodes, Reserved: f.cfg.ReservedMemory, Kept: *kept.Memory(), Root: f.cfg.RootDir,
		Gone: func(uid types.UID) bool { return !f.store.MayBeWanted(uid) }, Metrics: f.metrics,
	})
	if err != nil {
		return nil, fmt.Errorf("memoryManagerPolicy Static: %w", err)
	}
	return manager, nil
}
