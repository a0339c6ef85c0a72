package nodeobject

import (
	"context"
	"fmt"
	"slices"
	"sync"

	v1 "k8s.io/api/core/v1"
)

// InUse holds the attachable volumes that pods of this node have or are about to
// have: the node's status.volumesInUse, which keeps the attach/detach controller
// from detaching them. Safe for concurrent use.
type InUse struct {
	changed chan struct{} // holds one token while a change has not been looked at

	mu       sync.Mutex
	names    map[v1.UniqueVolumeName]bool
	told     map[v1.UniqueVolumeName]bool // those that the API server knows
	reported chan struct{}                // closed at the next report
}

// NewInUse returns an InUse of no volumes.
func NewInUse() *InUse {
	return &InUse{changed: make(chan struct{}, 1), names: map[v1.UniqueVolumeName]bool{}, reported: make(chan struct{})}
}

// Keep adds the volumes that earlier agents have left: the API server knows of them.
func (u *InUse) Keep(left []v1.UniqueVolumeName) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, n := range left {
		u.names[n] = true
	}
}

// Use adds a volume and returns once the API server knows that it is in use: the
// volume must not be mounted before.
func (u *InUse) Use(ctx context.Context, name v1.UniqueVolumeName) error {
	for {
		u.mu.Lock()
		if u.told[name] && u.names[name] {
			u.mu.Unlock()
			return nil
		}
		u.names[name] = true
		next := u.reported
		u.mu.Unlock()
		u.poke()
		select {
		case <-next:
		case <-ctx.Done():
			return fmt.Errorf("volume %s has not been added to the list of VolumesInUse in the node's volume status: %w", name, context.Cause(ctx))
		}
	}
}

// Release removes a volume that is no longer mounted from the list. Fine for one
// that is not on it.
func (u *InUse) Release(name v1.UniqueVolumeName) {
	u.mu.Lock()
	had := u.names[name]
	delete(u.names, name)
	u.mu.Unlock()
	if had {
		u.poke()
	}
}

func (u *InUse) poke() {
	select {
	case u.changed <- struct{}{}:
	default:
	}
}

// list returns the volumes to report, never nil.
func (u *InUse) list() []v1.UniqueVolumeName {
	u.mu.Lock()
	defer u.mu.Unlock()
	all := make([]v1.UniqueVolumeName, 0, len(u.names))
	for n := range u.names {
		all = append(all, n)
	}
	slices.Sort(all)
	return all
}

// tell notes what the API server has.
func (u *InUse) tell(has []v1.UniqueVolumeName) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.told = map[v1.UniqueVolumeName]bool{}
	for _, n := range has {
		u.told[n] = true
	}
	close(u.reported)
	u.reported = make(chan struct{})
}
