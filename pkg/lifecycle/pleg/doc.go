// Package pleg, the pod life-cycle event generator, looks at the runtime and
// tells the sync loop what has changed.
//
// Why look again and again, when the runtime sends events? Because an event can
// be lost, doubled or late, and a node agent that believes one is wrong for ever.
// A relist, two list calls, finds the truth whatever was missed:
//
//	  every period ────────▶ list all ──▶ compare with the last view ──▶ inspect what changed
//	runtime event, demand ─▶ list one pod ─────────▲                           │
//	                                             cache ◀───────────────────────┤
//	                                                          events to the loop
//
// So events only say where to look first, and losing their stream costs latency,
// never correctness. One goroutine owns view and cache. A pod whose inspection
// hangs holds up neither the others nor the node's health: it is bounded, keeps
// its last good status, and is tried again.
package pleg
