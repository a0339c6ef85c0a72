// Package node makes this machine a node of a cluster: it registers the node
// object, says every ten seconds by a lease that it lives, and reports its status
// when that has changed, or every five minutes besides.
//
//	machine ── Measure ──┐
//	pressure, runtime ───┼─▶ Status (pure) ─▶ PATCH nodes/NAME/status
//	images, addresses ───┘
//	                           lease ─▶ kube-node-lease/NAME
//	API server ── watch of the one node ─▶ Manager.Node: labels and taints for admission
package nodeobject
