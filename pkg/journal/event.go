package journal

import (
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// Kind is what sort of step an Event is.
type Kind uint8

// The kinds of events, in the order in which a change of the desired state makes its way through the agent.
const (
	None        Kind = iota
	Source           // a source was read. Name: its file or URL
	Problem          // of what a source wants. Name: the file; Err: what is wrong
	Change           // of what is wanted, as the loop hears it. Name: the source, Reason: the operation
	Admit            // a pod may run here
	Reject           // a pod may not. Reason and Err: the API's reason and message
	Wake             // the loop took something from a channel. Reason: which
	Step             // of a pod's worker. Reason: the phase
	Phase            // a worker has moved on. Name: from, Reason: to
	WaitName         // a static pod waits for the one before it. Name: the other's UID
	Plan             // what must be done about a pod. Detail: that
	Hold             // a container is left alone for a while. Name: container, Reason: the waiting reason
	Volume           // a step of setting up or taking down what the pod holds. Name: which
	Pull             // an image. Name: the image, Detail: how far it is
	CRI              // a call. Name: the method
	Docker           // a call to the Engine below a CRI call. Name: verb and route
	Engine           // the runtime's event stream says that something happens to a pod
	List             // PLEG's relist
	Look             // PLEG looks at one pod
	PodEvent         // PLEG's pod lifecycle event. Name: the container's ID, Reason: the event
	Probe            // a probe was run. Name: container and probe, Reason: the result
	Status           // a pod's status has changed. Detail: how
	StatusWrite      // it was sent to the API server
	Object           // an object that a pod refers to has changed, or a claim was bound. Name: which
	Signal           // a container is stopped. Name: container, Reason: why
	Said             // a Kubernetes event about a pod. Reason: its reason
	Gate             // a step was held in teaching mode. Name: where, Reason: what was held
	Timer            // a part of the agent does something by itself. Name: the part
	kinds
)

var kindNames = [kinds]string{
	None: "none", Source: "source", Problem: "problem", Change: "change", Admit: "admit", Reject: "reject", Wake: "wake", Step: "step",
	Phase: "phase", WaitName: "waitName", Plan: "plan", Hold: "hold", Volume: "volume", Pull: "pull", CRI: "cri", Docker: "docker",
	Engine: "engine", List: "list", Look: "look", PodEvent: "podEvent", Probe: "probe", Status: "status", StatusWrite: "statusWrite",
	Object: "object", Signal: "signal", Said: "event", Timer: "timer", Gate: "gate",
}

// String returns the kind's name in what is shown of a journal.
func (k Kind) String() string {
	if k >= kinds {
		return fmt.Sprintf("kind %d", uint8(k))
	}
	return kindNames[k]
}

// UnderWay is what Event.Took is while the step goes on.
const UnderWay time.Duration = -1

// Event is one step of a pod's life, or of the loop's. Noting one formats and allocates nothing: Name and Reason
// are strings that exist anyway, and Detail is made into words when somebody looks.
type Event struct {
	Seq     uint64 // its number, from 1; set by the journal
	Version uint64 // that of the journal when the event was noted or last changed; set by the journal
	Cause   uint64 // the event that made this one happen; 0: it comes from outside
	At      int64  // nanoseconds since the journal was made; set by the journal
	Last    int64  // the same, of the last of equal events that were merged; set by the journal
	Took    time.Duration
	Pod     types.UID // "": about the node
	Count   uint32    // how many equal events this is; set by the journal
	Step    uint32    // number of the step of the pod's worker to which it belongs; 0: none
	Kind    Kind
	Quiet   bool // it had no consequences: equal ones may be merged
	Warning bool // Said: its type
	Name    string
	Reason  string
	// Err is why it failed. Whoever notes it bounds it and keeps secrets out of it, as with a log.
	Err string
	// Detail must not change after it was noted, nor hold secrets. That of a step that goes on is replaced by Span.Tell.
	Detail fmt.Stringer
}

// Text is a detail in words.
type Text string

// String implements fmt.Stringer.
func (t Text) String() string { return string(t) }
