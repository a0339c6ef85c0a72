package nodepressure

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/mini-kubelet/mini-kubelet/pkg/config/options"
)

// Resources that events and messages name, as in the kubelet.
const (
	inodes v1.ResourceName = "inodes"
	pids   v1.ResourceName = "pids"
)

// signals says which condition and which resource each signal is about.
var signals = map[options.Signal]struct {
	condition v1.NodeConditionType
	resource  v1.ResourceName
}{
	options.MemoryAvailable:            {v1.NodeMemoryPressure, v1.ResourceMemory},
	options.AllocatableMemoryAvailable: {v1.NodeMemoryPressure, v1.ResourceMemory},
	options.NodefsAvailable:            {v1.NodeDiskPressure, v1.ResourceEphemeralStorage},
	options.NodefsInodesFree:           {v1.NodeDiskPressure, inodes},
	options.ImagefsAvailable:           {v1.NodeDiskPressure, v1.ResourceEphemeralStorage},
	options.ImagefsInodesFree:          {v1.NodeDiskPressure, inodes},
	options.ContainerfsAvailable:       {v1.NodeDiskPressure, v1.ResourceEphemeralStorage},
	options.ContainerfsInodesFree:      {v1.NodeDiskPressure, inodes},
	options.PIDAvailable:               {v1.NodePIDPressure, pids},
}

// ofMemory reports whether a signal is about memory.
func ofMemory(s options.Signal) bool { return signals[s].resource == v1.ResourceMemory }

// ofDisk reports whether a signal is about a file system.
func ofDisk(s options.Signal) bool { return signals[s].condition == v1.NodeDiskPressure }

// observation is how much of something is left, how much there is, and when that was read.
type observation struct {
	available, capacity int64
	at                  time.Time
}

// observations by signal. What could not be read is absent: there is no pressure on something
// unknown.
type observations map[options.Signal]observation

// input is all that a decision follows from, beside what the last one left.
type input struct {
	thresholds []options.Threshold
	seen       observations
	// hold is how long a condition stays after its cause has gone (evictionPressureTransitionPeriod).
	hold time.Duration
	now  time.Time
}

// memory is what decisions leave for the next one. The zero value is that of a node which was
// never looked at.
type memory struct {
	first     map[options.Threshold]time.Time // since when a threshold has been met, those that are
	acting    []options.Threshold             // met for as long as their grace period, and not yet resolved
	condition map[v1.NodeConditionType]time.Time
	last      observations
}

// verdict is what follows from a look at the node.
type verdict struct {
	// conditions are those that hold, in the order of their names.
	conditions []v1.NodeConditionType
	// act are the thresholds to act on, most urgent first: met, grace period over, and seen anew
	// since the last look.
	act []options.Threshold
}

// decide is the kubelet's rule. A threshold is met while less than its amount is left and, once it
// was acted on, until its minimum reclaim is left besides. A met threshold makes its condition, whether
// its grace period is over or not.
func decide(m memory, in input) (memory, verdict) {
	met := missed(in.thresholds, in.seen, false)
	for _, t := range missed(m.acting, in.seen, true) {
		if !slices.Contains(met, t) {
			met = append(met, t)
		}
	}
	next := memory{first: map[options.Threshold]time.Time{}, condition: map[v1.NodeConditionType]time.Time{}, last: in.seen}
	var v verdict
	for _, t := range met {
		since, ok := m.first[t]
		if !ok {
			since = in.now
		}
		next.first[t] = since
		next.condition[signals[t.Signal].condition] = in.now
		if in.now.Sub(since) < t.Grace {
			continue
		}
		next.acting = append(next.acting, t)
		if last, ok := m.last[t.Signal]; !ok || in.seen[t.Signal].at.After(last.at) {
			v.act = append(v.act, t)
		}
	}
	for c, at := range m.condition {
		if _, now := next.condition[c]; !now && in.now.Sub(at) < in.hold {
			next.condition[c] = at
		}
	}
	v.conditions = slices.Sorted(maps.Keys(next.condition))
	slices.SortStableFunc(v.act, urgency)
	return next, v
}

// missed returns the thresholds that are not kept, with their minimum reclaim on top or not.
func missed(thresholds []options.Threshold, seen observations, reclaim bool) []options.Threshold {
	var out []options.Threshold
	for _, t := range thresholds {
		o, ok := seen[t.Signal]
		if !ok {
			continue
		}
		want := t.Of(o.capacity)
		if reclaim {
			want += min(t.Reclaim.Of(o.capacity), math.MaxInt64-want) // quantities may be as large as they like
		}
		if o.available < want {
			out = append(out, t)
		}
	}
	return out
}

// urgency puts memory first, as the kubelet does, then the other signals in the order of
// options.Signals; of one signal the hard threshold first, which leaves pods less time.
func urgency(a, b options.Threshold) int {
	order := options.Signals()
	return cmp.Or(cmp.Compare(slices.Index(order, a.Signal), slices.Index(order, b.Signal)), cmp.Compare(a.Grace, b.Grace))
}

// layout says which file systems a node has: whether images are on another than the agent's
// directory (imagefs), and whether writable layers are on another than images (containerfs).
type layout struct{ images, split bool }

// withContainerfs gives containerfs the thresholds of the file system that it is, whatever was
// configured for it (the kubelet's rule): imagefs where images have one that they share with
// writable layers, else nodefs.
func withContainerfs(thresholds []options.Threshold, l layout) []options.Threshold {
	like := map[options.Signal]options.Signal{options.NodefsAvailable: options.ContainerfsAvailable, options.NodefsInodesFree: options.ContainerfsInodesFree}
	if l.images && !l.split {
		like = map[options.Signal]options.Signal{options.ImagefsAvailable: options.ContainerfsAvailable, options.ImagefsInodesFree: options.ContainerfsInodesFree}
	}
	var out []options.Threshold
	for _, t := range thresholds {
		if t.Signal != options.ContainerfsAvailable && t.Signal != options.ContainerfsInodesFree {
			out = append(out, t)
		}
	}
	for _, t := range slices.Clone(out) {
		if s, ok := like[t.Signal]; ok {
			t.Signal = s
			out = append(out, t)
		}
	}
	return out
}

// cleanup is what the node can give back itself before a pod has to go.
type cleanup struct{ containers, images bool }

// cleanupFor returns what helps a signal (the kubelet's rule): dead containers occupy the file system of
// writable layers, unused images theirs. Nothing helps memory and processes.
func cleanupFor(s options.Signal, l layout) cleanup {
	nodefs := s == options.NodefsAvailable || s == options.NodefsInodesFree
	imagefs := s == options.ImagefsAvailable || s == options.ImagefsInodesFree
	switch {
	case !ofDisk(s), l.images && !l.split && nodefs:
		return cleanup{}
	case l.split && imagefs:
		return cleanup{images: true}
	case l.split:
		return cleanup{containers: true}
	}
	return cleanup{containers: true, images: true}
}

// counted is which of a pod's files occupy the file system of a signal.
type counted struct{ layers, logs, volumes bool }

func countedFor(s options.Signal, l layout) counted {
	nodefs := s == options.NodefsAvailable || s == options.NodefsInodesFree
	imagefs := s == options.ImagefsAvailable || s == options.ImagefsInodesFree
	switch {
	case l.images && l.split && imagefs:
		return counted{} // images alone
	case l.images && !l.split && nodefs:
		return counted{logs: true, volumes: true}
	case l.images && !l.split:
		return counted{layers: true}
	}
	return counted{layers: true, logs: true, volumes: true}
}

// pace is how fast a program may take memory, in bytes a second.
const pace = 1 << 30

// nextLook is how long memory may go unwatched with that much left beyond a threshold: as long as a
// program needs at least to take it; between a quarter of a second and the ten
// seconds of the kubelet.
func nextLook(left int64) time.Duration {
	return min(max(time.Duration(float64(left)/pace*float64(time.Second)), 250*time.Millisecond), period)
}

// quantity words an amount of something as the kubelet does.
func quantity(what v1.ResourceName, n int64) string {
	format := resource.BinarySI
	if what == inodes || what == pids {
		format = resource.DecimalSI
	}
	return resource.NewQuantity(n, format).String()
}
