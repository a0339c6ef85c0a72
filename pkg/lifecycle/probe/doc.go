// Package probe asks containers whether they have started, live and are ready, as
// their specs want it, and remembers what came of it. The pod workers tell it of
// the containers that run and read its verdicts; the sync loop is told of a pod
// whose verdict has changed.
//
//	worker ── Sync(pod, observed) ──▶ Manager ── due times ──▶ probe under way
//	worker, runtime ◀── Started, Ready, Failed ──┘                 │ result
//	loop ◀── Changed ◀──────────── verdict changed ◀── decide ◀────┘
//
// Results live in memory only, per container ID: a restarted container begins anew.
// A probe that is not due costs an entry in a heap; one that is under way costs a
// goroutine until its timeout.
package probe
