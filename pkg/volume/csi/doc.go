// Package csi is the node's part of the Container Storage Interface: drivers
// register themselves, and mount the volumes that pods name.
//
//	base/pluginregistry ──Register──▶ registry.go ──NodeGetInfo──▶ CSINode, labels of the node
//	volume ──SetUp──▶ mount.go ──NodeStageVolume, NodePublishVolume──▶ driver
//	volume ──TearDown, Clean──▶ unmount.go ──NodeUnpublishVolume, NodeUnstageVolume──▶ driver
//
// Directories are the kubelet's: a volume is staged once a node at
// plugins/kubernetes.io/csi/<driver>/<hash of its handle>/globalmount and published
// to each pod at pods/<uid>/volumes/kubernetes.io~csi/<name>/mount. Beside each lies
// vol_data.json, which says whose it is: an agent that was restarted needs nothing
// else to take it down. A volume is worked on by one call at a time, and a driver
// that hangs holds up only the pods that have its volumes.
package csi
