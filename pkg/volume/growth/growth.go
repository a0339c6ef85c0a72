// Package growth decides what this node has to do about a claim whose volume was enlarged, and
// what the claim's status says then (KEP-284 and KEP-1790, the kubelet's NodeExpander). Pure: it
// calls nobody.
package growth

import (
	"fmt"
	"slices"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/bounds"
)

// notRequired is the annotation by which the controller says of a claim that its driver grew
// the volume for all nodes at once.
const notRequired = "volume.kubernetes.io/node-expansion-not-required"

// State is what is known of a volume when it is looked at.
type State struct {
	Claim  *v1.PersistentVolumeClaim
	Volume *v1.PersistentVolume
	// Known is the size that the volume has on this node, as far as the agent knows. While it is
	// mounted that is the claim's capacity.
	Known resource.Quantity
	// Mounting means that no pod of this node has had the volume yet.
	Mounting bool
	ReadOnly bool
	// Failed means that an earlier attempt has ended with an error of the driver.
	Failed bool
}

// Step is what is to be done next. The zero Step is nothing.
type Step struct {
	Grow bool // ask the driver for Size
	Size resource.Quantity
	// Report means that the claim's status is to say the new size; otherwise it does already, since
	// another node was first.
	Report bool
	// Recovery means that the controller follows KEP-1790: the claim's status says, too, that a node
	// is at it, and how that failed.
	Recovery bool
	// Optional means that a driver which cannot grow volumes on nodes is no error.
	Optional bool
	// Infeasible means that a failure is to be reported as final, so that the controller takes
	// the size that the user asks for by now.
	Infeasible bool
	// Refused means that the volume must grow but was asked for read-only.
	Refused bool
	// Done means that nothing has to be done on this node until the size changes again.
	Done bool
}

// Decide returns what is to be done about a volume.
func Decide(s State) Step {
	wanted, has := s.Volume.Spec.Capacity[v1.ResourceStorage], s.Claim.Status.Capacity[v1.ResourceStorage]
	known := s.Known
	if s.Mounting {
		known = has
	}
	switch {
	case wanted.Cmp(known) <= 0:
		return Step{Done: true, Size: known}
	case s.ReadOnly:
		return Step{Refused: s.Mounting}
	case known.IsZero() && !s.Mounting:
		return Step{}
	}
	status := s.Claim.Status.AllocatedResourceStatuses[v1.ResourceStorage]
	if status == "" && s.Claim.Status.AllocatedResources == nil {
		// A controller from before KEP-1790 says nothing about who has to do what.
		return Step{Grow: true, Size: wanted, Report: has.Cmp(wanted) < 0, Optional: true}
	}
	if allocated, set := s.Claim.Status.AllocatedResources[v1.ResourceStorage]; set {
		wanted = allocated
	}
	switch status {
	case "":
		if has.Cmp(wanted) < 0 {
			return Step{} // the controller has not finished
		}
		if !slices.Contains(s.Claim.Spec.AccessModes, v1.ReadWriteMany) || metav1.HasAnnotation(s.Claim.ObjectMeta, notRequired) {
			return Step{Done: true, Size: wanted}
		}
		// Another node has told that it is done; this one has the volume too.
		return Step{Grow: true, Size: wanted, Recovery: true, Optional: true}
	case v1.PersistentVolumeClaimNodeResizePending, v1.PersistentVolumeClaimNodeResizeInProgress:
		asked := s.Claim.Spec.Resources.Requests[v1.ResourceStorage]
		return Step{Grow: true, Size: wanted, Report: true, Recovery: true, Infeasible: s.Failed && asked.Cmp(wanted) != 0}
	}
	return Step{} // the controller's turn
}

// Pending reports whether a claim's volume may have grown, or be about to: only then is it worth
// asking for the volume. known is the size on this node.
func Pending(c *v1.PersistentVolumeClaim, known resource.Quantity) bool {
	has, asked := c.Status.Capacity[v1.ResourceStorage], c.Spec.Resources.Requests[v1.ResourceStorage]
	return asked.Cmp(has) > 0 || has.Cmp(known) > 0 || len(c.Status.AllocatedResourceStatuses) > 0 ||
		slices.ContainsFunc(c.Status.Conditions, func(c v1.PersistentVolumeClaimCondition) bool { return resizes(c.Type) })
}

// resizes reports whether a condition is about a resize.
func resizes(t v1.PersistentVolumeClaimConditionType) bool {
	switch t {
	case v1.PersistentVolumeClaimFileSystemResizePending, v1.PersistentVolumeClaimResizing,
		v1.PersistentVolumeClaimControllerResizeError, v1.PersistentVolumeClaimNodeResizeError:
		return true
	}
	return false
}

// maxMessage bounds what a condition repeats of an answer of a driver, in bytes.
const maxMessage = 1024

// Begun returns the claim as it is while this node works on it.
func Begun(c *v1.PersistentVolumeClaim) *v1.PersistentVolumeClaim {
	return withStatus(c.DeepCopy(), v1.PersistentVolumeClaimNodeResizeInProgress)
}

// Finished returns the claim as it is once the volume has its size. What is said there of earlier
// troubles with it goes.
func Finished(c *v1.PersistentVolumeClaim, size resource.Quantity) *v1.PersistentVolumeClaim {
	c = c.DeepCopy()
	if c.Status.Capacity == nil {
		c.Status.Capacity = v1.ResourceList{}
	}
	c.Status.Capacity[v1.ResourceStorage] = size
	delete(c.Status.AllocatedResourceStatuses, v1.ResourceStorage)
	if len(c.Status.AllocatedResourceStatuses) == 0 {
		c.Status.AllocatedResourceStatuses = nil
	}
	c.Status.Conditions = slices.DeleteFunc(c.Status.Conditions, func(c v1.PersistentVolumeClaimCondition) bool { return resizes(c.Type) })
	return c
}

// Failed returns the claim as it is after a failure, which infeasible makes final.
func Failed(c *v1.PersistentVolumeClaim, cause error, infeasible bool, now metav1.Time) *v1.PersistentVolumeClaim {
	c = c.DeepCopy()
	if infeasible {
		c = withStatus(c, v1.PersistentVolumeClaimNodeResizeInfeasible)
	}
	const kind = v1.PersistentVolumeClaimNodeResizeError
	had := slices.IndexFunc(c.Status.Conditions, func(c v1.PersistentVolumeClaimCondition) bool { return c.Type == kind })
	if had >= 0 && c.Status.Conditions[had].Status == v1.ConditionTrue {
		return c // it says since when; the events say what happened last
	}
	if had >= 0 {
		c.Status.Conditions = slices.Delete(c.Status.Conditions, had, had+1)
	}
	c.Status.Conditions = append(c.Status.Conditions, v1.PersistentVolumeClaimCondition{
		Type: kind, Status: v1.ConditionTrue, LastTransitionTime: now, Message: bounds.Cut(fmt.Sprintf("failed to expand pvc with %v", cause), maxMessage),
	})
	return c
}

func withStatus(c *v1.PersistentVolumeClaim, status v1.ClaimResourceStatus) *v1.PersistentVolumeClaim {
	if c.Status.AllocatedResourceStatuses == nil {
		c.Status.AllocatedResourceStatuses = map[v1.ResourceName]v1.ClaimResourceStatus{}
	}
	c.Status.AllocatedResourceStatuses[v1.ResourceStorage] = status
	return c
}
