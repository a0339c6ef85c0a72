package agent

import (
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mini-kubelet/mini-kubelet/pkg/resources/devicemanager"
	"github.com/mini-kubelet/mini-kubelet/pkg/resources/numa"
	"github.com/mini-kubelet/mini-kubelet/pkg/runtime/criconfig"
)

// newDevices makes the part that device plug-ins register with.
func newDevices(f *foundation, nodes numa.Nodes) (*devicemanager.Manager, error) {
	return devicemanager.New(devicemanager.Config{
		Root: f.cfg.RootDir, Nodes: nodes.All(), Metrics: f.metrics,
		Gone:    func(uid types.UID) bool { return !f.store.MayBeWanted(uid) },
		State:   func(uid types.UID) (begun, running bool) { s, _ := f.statuses.Get(uid); return begins(s) },
		Changed: f.readinessChanged, Wake: f.wakeups.For("a device has changed"),
	})
}

// begins reports whether a container of a pod has ever been made, and whether one runs.
func begins(s v1.PodStatus) (begun, running bool) {
	for _, list := range [][]v1.ContainerStatus{s.InitContainerStatuses, s.ContainerStatuses} {
		for _, c := range list {
			begun = begun || c.ContainerID != ""
			running = running || c.State.Running != nil
		}
	}
	return begun, running
}

// nodeDevices returns what the node's status says of extended resources.
func (h *host) nodeDevices() (capacity, allocatable v1.ResourceList) {
	r := h.devices.Resources()
	return r.Capacity, r.Allocatable
}

// deviceContent returns what a container gets for its devices.
func (h *host) deviceContent(pod types.UID, container string) criconfig.Devices {
	return criconfig.Devices(h.devices.Content(pod, container))
}
