// Package shutdown ends the node's pods in order when the machine is shut down (KEP-2000
// and KEP-2712): systemd's logind is asked to wait (an inhibitor lock of mode "delay"), says
// when a shutdown begins, and goes on once the lock is let go.
//
//	logind ──PrepareForShutdown──▶ Manager ──▶ groups by priority ──▶ worker: stop, and be Failed
//	       ◀──────── lock ────────────┘ let go when all groups have ended, or their time is up
//
// While that lasts the node is not ready and takes no new pods. A shutdown that is called
// off ends no more pods, and the lock is taken again.
package shutdown
