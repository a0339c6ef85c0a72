package pods

import v1 "k8s.io/api/core/v1"

// Rejection is why a pod may not start on this node, in the kubelet's words, from admission
// to its status: phase Failed with this reason, and the message after "Pod was rejected: ".
// The pod's event has reason and message as they are. As an error, a Rejection is its
// message.
type Rejection struct {
	Reason  string
	Message string
	// OfNode is true if the node's labels or taints are why: at the API server these may be
	// newer than what the node knows of them.
	OfNode bool
	// Short are the resources that the node does not have left, if that is all that is
	// in the way: the end of other pods would help.
	Short []Shortage
	// Pressure is true if the node is short of something, and that is why.
	Pressure bool
	// Shutdown is true if the machine is being shut down, and that is why.
	Shutdown bool
}

// Shortage is a resource of which a pod wants more than the others leave, in
// thousandths of a CPU, bytes or pieces.
type Shortage struct {
	Resource                  v1.ResourceName
	Requested, Used, Capacity int64
}

// Missing is how much has to be given back until the pod has room.
func (s Shortage) Missing() int64 { return s.Requested + s.Used - s.Capacity }

// Error implements error.
func (r *Rejection) Error() string { return r.Message }
