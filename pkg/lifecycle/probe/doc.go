// Package probe asks containers whether they have started, are alive and are ready,
// as their specs want it, and remembers the results. The pod workers tell it which
// containers run, and read its verdicts; the sync loop is told of pods whose
// verdict has changed.
//
//	worker ── Sync(pod, observed) ──▶ Manager ── due times ──▶ probe under way
//	worker, runtime ◀── Started, Ready, Failed ──┘                 │ result
//	loop ◀── Changed ◀──────────── verdict changed ◀── decide ◀────┘
//
// Results live in memory only, per container ID: a restarted container begins anew.
// A probe that is not due costs an entry in a heap; a running one costs a goroutine
// until its timeout at the latest.
package probe
