// Package streaming runs commands in containers and connects clients to them: CRI's
// ExecSync, and Exec, Attach and PortForward, which answer with a URL that works once.
// The dockershim calls it; kubelets and crictl visit the URLs.
//
//	gRPC Exec ──▶ token in a URL                      ┌─▶ Docker exec / attach
//	client ──▶ /exec/TOKEN ──▶ SPDY or WebSocket ─────┤
//	                   (protocols v1 to v5)           └─▶ socket made in the pod's netns
//
// A session ends with its process, its client (noticed at once, even on a silent connection,
// and within ten seconds when nobody reads its input) or the idle timeout, and leaves neither goroutine
// nor connection behind. Streams that a client opens and nobody wants are few (spdy.go).
// Port-forwarding needs no program on the node. A command of ExecSync that outlives its
// timeout is killed with all its descendants, which Docker has no call for.
package streaming
