package devicemanager

import (
	"fmt"
	"maps"
	"slices"

	"google.golang.org/protobuf/proto"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	api "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"

	"github.com/mini-kubelet/mini-kubelet/pkg/resources/devicemanager/checkpoint"
	"github.com/mini-kubelet/mini-kubelet/pkg/resources/numa"
)

// grant is what a container has of one resource. It is never changed, only replaced.
type grant struct {
	devices map[string]numa.Set // by ID, with the NUMA nodes that each belongs to
	// response is what the plug-in gives for them; nil while they are only reserved.
	response *api.ContainerAllocateResponse
	// near are the NUMA nodes that the topology manager wants them from; empty: any.
	near numa.Set
}

func (g *grant) ids() []string { return slices.Sorted(maps.Keys(g.devices)) }

// grants are all that containers have: by pod, container and resource.
type grants map[types.UID]map[string]map[string]*grant

// with returns the grants with one more, or in place of another.
func (all grants) with(uid types.UID, container, resource string, g *grant) grants {
	out := maps.Clone(all)
	if out == nil {
		out = grants{}
	}
	containers := maps.Clone(out[uid])
	if containers == nil {
		containers = map[string]map[string]*grant{}
	}
	resources := maps.Clone(containers[container])
	if resources == nil {
		resources = map[string]*grant{}
	}
	resources[resource], containers[container], out[uid] = g, resources, containers
	return out
}

// without returns the grants less those of some pods.
func (all grants) without(gone func(types.UID) bool) grants {
	out := maps.Clone(all)
	maps.DeleteFunc(out, func(uid types.UID, _ map[string]map[string]*grant) bool { return gone(uid) })
	return out
}

// used returns the devices of a resource that pods have, but those of some.
func (all grants) used(resource string, but func(types.UID) bool) map[string]bool {
	ids := map[string]bool{}
	for uid, containers := range all {
		if but(uid) {
			continue
		}
		for _, resources := range containers {
			if g := resources[resource]; g != nil {
				for id := range g.devices {
					ids[id] = true
				}
			}
		}
	}
	return ids
}

// counts returns how many devices of each resource pods have.
func (all grants) counts() map[string]int {
	n := map[string]int{}
	for _, containers := range all {
		for _, resources := range containers {
			for resource := range resources {
				n[resource] = 0
			}
		}
	}
	for resource := range n {
		n[resource] = len(all.used(resource, func(types.UID) bool { return false }))
	}
	return n
}

// users returns the pods that have a device for which has is true.
func (all grants) users(resource string, has func(id string) bool) (uids []types.UID) {
	for uid, containers := range all {
		for _, resources := range containers {
			if g := resources[resource]; g != nil && slices.ContainsFunc(g.ids(), has) {
				uids = append(uids, uid)
				break
			}
		}
	}
	return uids
}

// encode makes the checkpoint. What is only reserved is not in it: nothing of it can run.
func (all grants) encode(registered map[string][]string) ([]byte, error) {
	entries := []checkpoint.PodDevicesEntry{}
	for _, uid := range slices.Sorted(maps.Keys(all)) {
		for _, container := range slices.Sorted(maps.Keys(all[uid])) {
			for _, resource := range slices.Sorted(maps.Keys(all[uid][container])) {
				g := all[uid][container][resource]
				if g.response == nil {
					continue
				}
				response, err := proto.MarshalOptions{Deterministic: true}.Marshal(g.response)
				if err != nil {
					return nil, fmt.Errorf("encode what container %s of pod %s has of %s: %w", container, uid, resource, err)
				}
				entries = append(entries, checkpoint.PodDevicesEntry{
					PodUID: string(uid), ContainerName: container, ResourceName: resource, DeviceIDs: perNUMA(g), AllocResp: response,
				})
			}
		}
	}
	return checkpoint.Encode(entries, registered)
}

// withoutNode is where the checkpoint lists devices that belong to no NUMA node.
const withoutNode = -1

func perNUMA(g *grant) checkpoint.DevicesPerNUMA {
	out := checkpoint.DevicesPerNUMA{}
	for _, id := range g.ids() {
		nodes := g.devices[id].Nodes()
		if len(nodes) == 0 {
			nodes = []int{withoutNode}
		}
		for _, n := range nodes {
			out[int64(n)] = append(out[int64(n)], id)
		}
	}
	return out
}

// decode reads a checkpoint: what containers have, and which resources plug-ins have registered.
func decode(text []byte) (grants, []string, error) {
	entries, registered, err := checkpoint.Decode(text)
	if err != nil {
		return nil, nil, err
	}
	all := grants{}
	for _, e := range entries {
		g := &grant{devices: map[string]numa.Set{}, response: &api.ContainerAllocateResponse{}}
		if err := proto.Unmarshal(e.AllocResp, g.response); err != nil {
			return nil, nil, fmt.Errorf("checkpoint is corrupted: what container %q of pod %q has of %q: %w", e.ContainerName, e.PodUID, e.ResourceName, err)
		}
		for node, ids := range e.DeviceIDs {
			for _, id := range ids {
				nodes := g.devices[id]
				if node >= 0 && node < numa.MaxNodes {
					nodes |= numa.Of(int(node))
				}
				g.devices[id] = nodes
			}
		}
		all = all.with(types.UID(e.PodUID), e.ContainerName, e.ResourceName, g)
	}
	return all, slices.Sorted(maps.Keys(registered)), nil
}

// wanted returns how many devices a container wants of each extended resource, by the limits: requests are the same.
func wanted(c *v1.Container) map[string]int {
	out := map[string]int{}
	for name, q := range c.Resources.Limits {
		if n := q.Value(); n > 0 {
			out[string(name)] = int(n)
		}
	}
	return out
}
