// Package volume makes what a pod's containers mount, and takes it away again:
//
//	worker ──SetUp──▶ Manager ──▶ one kind a file: emptydir.go, hostpath.go, …
//	criconfig ─Path─▶    │
//	worker ─TearDown▶    └──▶ <root>/pods/<uid>/{volumes/<plugin>/<name>, claims,
//	loop ──Orphans──▶          volume-subpaths, containers/<name>, etc-hosts}
//
// All state is on disk, so every call may be repeated after a crash between any
// two steps. Work on one pod is done by one goroutine at a time and apart from
// its caller: a mount that hangs holds up its own pod and no other. Nothing is
// ever deleted through a mount point.
package volume
