// Package network gives sandboxes their network, by one of three plug-ins behind
// one interface, chosen by --network-plugin:
//
//	docker   the engine's own bridge: Docker attaches the sandbox when it starts
//	cni      CNI plug-ins, from a watched configuration directory
//	kubenet  CNI plug-ins on the bridge cbr0, with the node's pod CIDR
//
// With cni and kubenet Docker starts the sandbox with network "none", and SetUp
// then attaches it by its network namespace. The dockershim calls SetUp once for each
// sandbox, and TearDown until it succeeds; sandboxes on the host's network are never
// passed to a plug-in. All methods are safe for concurrent use.
package network
