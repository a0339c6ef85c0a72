// Package volume makes what a pod's containers mount, and removes it again:
//
//	worker ──SetUp──▶ Manager ──▶ one kind a file: emptydir.go, hostpath.go, …
//	criconfig ─Path─▶    │
//	worker ─TearDown▶    └──▶ <root>/pods/<uid>/{volumes/<plugin>/<name>, claims,
//	loop ──Orphans──▶          volume-subpaths, containers/<name>, etc-hosts}
//
// All state is on disk, so every call can be repeated after a crash between any two
// steps. Only one goroutine at a time works on a pod, separate from the caller: a mount
// that hangs delays its own pod and no other. Nothing is ever deleted through a mount
// point. The room csi is the node's part of the Container Storage Interface.
package volume
