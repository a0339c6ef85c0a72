// Package nodeobject makes this machine a node of a cluster: it registers the node
// object, renews a lease every ten seconds as a sign of life, and reports the node's
// status when it has changed, and otherwise every five minutes.
//
//	machine ── Measure ──┐
//	pressure, runtime ───┼─▶ Status (pure) ─▶ PATCH nodes/NAME/status
//	images, addresses ───┘
//	                           lease ─▶ kube-node-lease/NAME
//	API server ── watch of the one node ─▶ Manager.Node: labels and taints for admission
package nodeobject
