package podresources

import (
	"context"
	"fmt"

	v1 "k8s.io/api/core/v1"
	api "k8s.io/kubelet/pkg/apis/podresources/v1"
	"k8s.io/utils/cpuset"

	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
	"github.com/mini-kubelet/mini-kubelet/pkg/resources/devicemanager"
	"github.com/mini-kubelet/mini-kubelet/pkg/resources/memorymanager"
)

const versionV1 = "v1"

// listerV1 is the service of version v1.
type listerV1 struct {
	api.UnimplementedPodResourcesListerServer
	s *Server
}

// List implements the API: what all active pods have.
func (l *listerV1) List(context.Context, *api.ListPodResourcesRequest) (*api.ListPodResourcesResponse, error) {
	l.s.metrics.list(versionV1)
	r := &api.ListPodResourcesResponse{}
	active := l.s.cfg.Active()
	for _, pod := range l.s.cfg.Pods() {
		if active(pod.UID) {
			r.PodResources = append(r.PodResources, l.s.resources(pod))
		}
	}
	return r, nil
}

// Get implements the API: what one active pod has.
func (l *listerV1) Get(_ context.Context, q *api.GetPodResourcesRequest) (*api.GetPodResourcesResponse, error) {
	l.s.metrics.get(versionV1)
	active := l.s.cfg.Active()
	for _, pod := range l.s.cfg.Pods() {
		if pod.Name == q.GetPodName() && pod.Namespace == q.GetPodNamespace() && active(pod.UID) {
			return &api.GetPodResourcesResponse{PodResources: l.s.resources(pod)}, nil
		}
	}
	l.s.metrics.getFailed(versionV1)
	// The kubelet's words, and like its error without a code of gRPC: clients see Unknown.
	return nil, fmt.Errorf("pod %s in namespace %s not found", q.GetPodName(), q.GetPodNamespace())
}

// GetAllocatableResources implements the API: all that pods can have, whoever has it now.
func (l *listerV1) GetAllocatableResources(context.Context, *api.AllocatableResourcesRequest) (*api.AllocatableResourcesResponse, error) {
	l.s.metrics.getAllocatable(versionV1)
	r := &api.AllocatableResourcesResponse{Devices: devices(l.s.cfg.Devices.AllocatableDevices())}
	if l.s.cfg.CPUs != nil {
		r.CpuIds = cpuIDs(l.s.cfg.CPUs.AllocatableCPUs())
	}
	if l.s.cfg.Memory != nil {
		r.Memory = memory(l.s.cfg.Memory.AllocatableMemory())
	}
	return r, nil
}

// resources returns what a pod's sidecars and containers have. Init containers are over, or will be.
func (s *Server) resources(pod *v1.Pod) *api.PodResources {
	r := &api.PodResources{Name: pod.Name, Namespace: pod.Namespace}
	for kind, c := range pods.Containers(pod) {
		if kind == pods.InitContainer {
			continue
		}
		has := &api.ContainerResources{Name: c.Name, Devices: devices(s.cfg.Devices.Devices(pod.UID, c.Name))}
		if s.cfg.CPUs != nil {
			has.CpuIds = cpuIDs(s.cfg.CPUs.ExclusiveCPUs(pod.UID, c.Name))
		}
		if s.cfg.Memory != nil {
			has.Memory = memory(s.cfg.Memory.Memory(pod.UID, c.Name))
		}
		r.Containers = append(r.Containers, has)
	}
	return r
}

// devices makes an entry of each device, as the kubelet does: of one that belongs to several NUMA nodes an entry
// for each, of one that belongs to none an entry without topology.
func devices(list []devicemanager.Device) (all []*api.ContainerDevices) {
	for _, d := range list {
		if len(d.Nodes) == 0 {
			all = append(all, &api.ContainerDevices{ResourceName: d.Resource, DeviceIds: []string{d.ID}})
		}
		for _, node := range d.Nodes {
			all = append(all, &api.ContainerDevices{ResourceName: d.Resource, DeviceIds: []string{d.ID}, Topology: topology(node)})
		}
	}
	return all
}

func cpuIDs(set cpuset.CPUSet) (ids []int64) {
	for _, id := range set.List() {
		ids = append(ids, int64(id))
	}
	return ids
}

// memory makes an entry of each block, in bytes.
func memory(blocks []memorymanager.Block) (all []*api.ContainerMemory) {
	for _, b := range blocks {
		all = append(all, &api.ContainerMemory{MemoryType: string(b.Type), Size: b.Size, Topology: topology(b.NUMAAffinity...)})
	}
	return all
}

func topology(nodes ...int) *api.TopologyInfo {
	t := &api.TopologyInfo{}
	for _, id := range nodes {
		t.Nodes = append(t.Nodes, &api.NUMANode{ID: int64(id)})
	}
	return t
}
