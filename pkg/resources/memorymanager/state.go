package memorymanager

import (
	"fmt"
	"maps"
	"slices"

	v1 "k8s.io/api/core/v1"
	apiresource "k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/component-helpers/resource"

	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
	"github.com/mini-kubelet/mini-kubelet/pkg/resources/numa"
)

// Block is memory of one type that a container has, of these nodes together. The types here have the
// names and fields of the kubelet's, since its checksum is made over both.
type Block struct {
	NUMAAffinity []int           `json:"numaAffinity"`
	Type         v1.ResourceName `json:"type"` // memory, hugepages-2Mi
	Size         uint64          `json:"size"` // bytes
}

func (b Block) nodes() numa.Set { return numa.Of(b.NUMAAffinity...) }

// MemoryTable is what one node has of one type of memory, in bytes.
type MemoryTable struct {
	TotalMemSize   uint64 `json:"total"`
	SystemReserved uint64 `json:"systemReserved"`
	Allocatable    uint64 `json:"allocatable"`
	Reserved       uint64 `json:"reserved"` // by containers
	Free           uint64 `json:"free"`
}

// NUMANodeState is what one node has, and how it is used: Cells are the nodes of the group that it
// serves, or itself.
type NUMANodeState struct {
	NumberOfAssignments int                              `json:"numberOfAssignments"` // blocks
	MemoryMap           map[v1.ResourceName]*MemoryTable `json:"memoryMap"`
	Cells               []int                            `json:"cells"`
}

// NUMANodeMap has all nodes by number.
type NUMANodeMap map[int]*NUMANodeState

// ContainerMemoryAssignments has the blocks by pod UID and container.
type ContainerMemoryAssignments map[string]map[string][]Block

// assignments record which container has what. They are immutable: decisions return new ones.
type assignments map[types.UID]map[string][]Block

// without leaves out pods.
func (a assignments) without(gone func(types.UID) bool) assignments {
	next := maps.Clone(a)
	maps.DeleteFunc(next, func(uid types.UID, _ map[string][]Block) bool { return gone(uid) })
	return next
}

// with puts a pod's blocks in.
func (a assignments) with(uid types.UID, blocks map[string][]Block) assignments {
	next := maps.Clone(a)
	next[uid] = blocks
	return next
}

// machine is what there is before containers have any of it: the nodes, and what is reserved on each
// (reservedMemory), in bytes.
type machine struct {
	nodes    numa.Nodes
	reserved map[int]map[v1.ResourceName]uint64
}

// empty returns the machine with nothing assigned. What huge pages occupy is not there as memory.
func (m machine) empty() NUMANodeMap {
	all := NUMANodeMap{}
	for _, n := range m.nodes {
		s := &NUMANodeState{MemoryMap: map[v1.ResourceName]*MemoryTable{}, Cells: []int{n.ID}}
		add := func(name v1.ResourceName, total, left uint64) {
			reserved := m.reserved[n.ID][name]
			left -= min(left, reserved)
			s.MemoryMap[name] = &MemoryTable{TotalMemSize: total, SystemReserved: reserved, Allocatable: left, Free: left}
		}
		memory := n.Memory
		for size, pages := range n.HugePages {
			add(hugePages(size), size*pages, size*pages)
			memory -= min(memory, size*pages)
		}
		add(v1.ResourceMemory, n.Memory, memory)
		all[n.ID] = s
	}
	return all
}

func hugePages(bytes uint64) v1.ResourceName {
	return v1.ResourceName(v1.ResourceHugePagesPrefix + apiresource.NewQuantity(int64(bytes), apiresource.BinarySI).String())
}

// use returns the machine with these assignments, or what of them it does not have.
func (m machine) use(a assignments) (NUMANodeMap, error) {
	state := m.empty()
	for _, uid := range slices.Sorted(maps.Keys(a)) {
		for _, container := range slices.Sorted(maps.Keys(a[uid])) {
			for _, b := range a[uid][container] {
				if err := state.use(b); err != nil {
					return nil, fmt.Errorf("(pod: %s, container: %s) %w", uid, container, err)
				}
			}
		}
	}
	return state, nil
}

// use takes a block from its nodes, in their order.
func (m NUMANodeMap) use(b Block) error {
	left := b.Size
	for _, id := range b.NUMAAffinity {
		node, ok := m[id]
		if !ok {
			return fmt.Errorf("the memory assignment uses the NUMA node %d, which does not exist", id)
		}
		node.NumberOfAssignments++
		node.Cells = b.NUMAAffinity
		table, ok := node.MemoryMap[b.Type]
		if !ok { // as huge pages of a node without memory
			continue
		}
		taken := min(left, table.Free)
		table.Free, table.Reserved, left = table.Free-taken, table.Reserved+taken, left-taken
	}
	if left > 0 {
		return fmt.Errorf("NUMA nodes %s lack %d bytes of %s", b.nodes(), left, b.Type)
	}
	return nil
}

// sum adds up what these nodes have of one type.
func (m NUMANodeMap) sum(nodes numa.Set, of v1.ResourceName, what func(*MemoryTable) uint64) (sum uint64) {
	for _, id := range nodes.Nodes() {
		if node := m[id]; node != nil && node.MemoryMap[of] != nil {
			sum += what(node.MemoryMap[of])
		}
	}
	return sum
}

// request is how many bytes of each type a container, or a pod, asks for.
type request map[v1.ResourceName]uint64

// entitled is what the container gets from certain nodes: the memory and huge pages that it requests,
// in a Guaranteed pod. Pods with resources of their own are served only by PodLevelResourceManagers,
// which is off by default.
func entitled(pod *v1.Pod, c *v1.Container) request {
	if resource.IsPodLevelResourcesSet(pod) || pods.QOSClass(pod) != v1.PodQOSGuaranteed {
		return nil
	}
	r := request{}
	for _, list := range []v1.ResourceList{c.Resources.Limits, c.Resources.Requests} { // the latter count
		for name, q := range list {
			if name != v1.ResourceMemory && !pods.IsHugePages(name) {
				continue
			}
			delete(r, name)
			if q.Sign() > 0 {
				r[name] = uint64(q.Value())
			}
		}
	}
	return r
}

// podEntitled is what the pod gets at most at any time: its containers and sidecars together, or an
// init container beside the sidecars before it.
func podEntitled(pod *v1.Pod) request {
	lasting, most := request{}, request{}
	for kind, c := range pods.Containers(pod) {
		for name, n := range entitled(pod, c) {
			if kind == pods.InitContainer {
				most[name] = max(most[name], lasting[name]+n)
			} else {
				lasting[name] += n
			}
		}
	}
	for name, n := range lasting {
		most[name] = max(most[name], n)
	}
	return most
}
