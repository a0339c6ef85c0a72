package pleg

import "k8s.io/apimachinery/pkg/types"

// EventType is what happened to a container between two looks at it.
type EventType string

// The pod life-cycle events, by the kubelet's names.
const (
	ContainerStarted EventType = "ContainerStarted"
	ContainerDied    EventType = "ContainerDied"
	ContainerRemoved EventType = "ContainerRemoved"
	ContainerChanged EventType = "ContainerChanged" // to a state we do not know
)

// Event is one change of one pod's containers or sandboxes.
type Event struct {
	PodUID      types.UID
	Type        EventType
	ContainerID string // container or sandbox
	Cause       uint64 // its event in the journal
}
