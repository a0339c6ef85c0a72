// Package cni attaches sandboxes to networks by CNI plug-ins, through libcni.
//
// A Driver takes its network from a Configuration: a watched directory (Dir) or
// one that the program composes (kubenet's). Every attachment has a record
// on disk, written before the first plug-in is called and removed when DEL has
// succeeded:
//
//	Add: record ─▶ ADD ─▶ result into the record      Del: DEL ─▶ remove record
//	            └─fails─▶ DEL ─▶ remove record             └─fails─▶ record stays
//
// so that an address is given back even when the agent, the sandbox or the
// machine died in between: Reconcile deletes what no sandbox owns, with the
// configuration with which it was added. All calls are safe for concurrent use.
package cni
