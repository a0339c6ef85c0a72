// Package worker drives each pod through its life. The loop calls Update with
// what it has learned; the pod's own goroutine does the work, one step at a time,
// so that a pod's containers are never touched by two goroutines and a slow pod
// holds up no other.
//
//	          name free          kill · deletion · done        nothing runs
//	Waiting ─────────────▶ Syncing ──────────────▶ Terminating ────────────▶ Terminated
//	   └──────────────────────── kill ──────────────────▲                        │ not wanted
//	                                                                             ▼
//	                                                              (gone) ◀── Removing
//
// Updates are merged, the latest wins; a step that fails is repeated after a
// back-off. Every step may be repeated, also after a crash of the agent: phases are
// not stored but derived again from what runs and what is wanted.
package worker
