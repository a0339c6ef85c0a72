// Package lifecycle is the wing that runs pods from the first wish to the last trace. It has
// no code of its own; its rooms are:
//
//	podstore   the pods that should be here, and their mirror pods
//	loop       the sync loop: every input in, worker updates out
//	worker     one goroutine and state machine per pod
//	probe      startup, liveness and readiness probes and their verdicts
//	pleg       what runs at the runtime: relists, events, the status cache
//	podstatus  a pod's API status: made, stored, written to the API server
//	eviction   ending pods because of what they use: local storage; later pressure on the node
//	preemption ending pods because a critical one needs their room
package lifecycle
