package pods

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
}

// Error implements error.
func (r *Rejection) Error() string { return r.Message }
