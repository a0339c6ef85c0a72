package podstatus

import (
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
)

// Resize is the progress of a change of the pod's resources (KEP-1287).
type Resize struct {
	// Pending is why the pod has not been given the resources that it asks for:
	// Deferred or Infeasible; "" when it has been.
	Pending, PendingMessage string
	// InProgress is true while running containers do not have what the pod was given.
	InProgress bool
	Error      string // why they do not
}

func (r Resize) conditions() []v1.PodCondition {
	var all []v1.PodCondition
	if r.Pending != "" {
		all = append(all, v1.PodCondition{Type: v1.PodResizePending, Status: v1.ConditionTrue, Reason: r.Pending, Message: r.PendingMessage})
	}
	if r.InProgress {
		c := v1.PodCondition{Type: v1.PodResizeInProgress, Status: v1.ConditionTrue}
		if r.Error != "" {
			c.Reason, c.Message = v1.PodReasonError, r.Error
		}
		all = append(all, c)
	}
	return all
}

// applied returns the resources that the pod as a whole has, nil if its spec says nothing of them. Until
// a resize is done they are those from before it.
func applied(in Input) *v1.ResourceRequirements {
	if in.Resize.InProgress && in.Pod.Spec.Resources != nil && in.Old.Resources != nil {
		return in.Old.Resources.DeepCopy()
	}
	return in.Pod.Spec.Resources.DeepCopy()
}

// resourcesOf returns the resources that a running container has: the allocated ones,
// overridden by what the runtime reports. A limit or request that rounds to the
// runtime's value is shown as it was allocated.
func resourcesOf(c v1.Container, now *cri.LinuxContainerResources) *v1.ResourceRequirements {
	r := c.Resources.DeepCopy()
	if now == nil {
		return r
	}
	if q, ok := r.Requests[v1.ResourceCPU]; ok && now.CpuShares > 0 && pods.CPUShares(q.MilliValue()) != now.CpuShares {
		r.Requests[v1.ResourceCPU] = *resource.NewMilliQuantity((now.CpuShares*1000+1023)/1024, resource.DecimalSI)
	}
	if q, ok := r.Limits[v1.ResourceCPU]; ok && now.CpuQuota > 0 && now.CpuPeriod > 0 && pods.CPUQuota(q.MilliValue(), now.CpuPeriod) != now.CpuQuota {
		r.Limits[v1.ResourceCPU] = *resource.NewMilliQuantity(now.CpuQuota*1000/now.CpuPeriod, resource.DecimalSI)
	}
	if q, ok := r.Limits[v1.ResourceMemory]; ok && now.MemoryLimitInBytes > 0 && q.Value() != now.MemoryLimitInBytes {
		r.Limits[v1.ResourceMemory] = *resource.NewQuantity(now.MemoryLimitInBytes, resource.BinarySI)
	}
	return r
}
