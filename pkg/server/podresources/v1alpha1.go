package podresources

import (
	"context"

	"k8s.io/kubelet/pkg/apis/podresources/v1alpha1"
)

const versionV1alpha1 = "v1alpha1"

// listerV1alpha1 is the service of version v1alpha1.
type listerV1alpha1 struct {
	v1alpha1.UnimplementedPodResourcesListerServer
	s *Server
}

// List implements the API: the devices of all pods, also of those that are over, but not of sidecars, as in the kubelet.
func (l *listerV1alpha1) List(context.Context, *v1alpha1.ListPodResourcesRequest) (*v1alpha1.ListPodResourcesResponse, error) {
	l.s.metrics.total(versionV1alpha1)
	r := &v1alpha1.ListPodResourcesResponse{}
	for _, pod := range l.s.cfg.Pods() {
		p := &v1alpha1.PodResources{Name: pod.Name, Namespace: pod.Namespace}
		for _, c := range pod.Spec.Containers {
			has := &v1alpha1.ContainerResources{Name: c.Name}
			for _, d := range devices(l.s.cfg.Devices.Devices(pod.UID, c.Name)) {
				has.Devices = append(has.Devices, &v1alpha1.ContainerDevices{ResourceName: d.ResourceName, DeviceIds: d.DeviceIds})
			}
			p.Containers = append(p.Containers, has)
		}
		r.PodResources = append(r.PodResources, p)
	}
	return r, nil
}
