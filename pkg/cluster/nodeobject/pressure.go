package nodeobject

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/mini-kubelet/mini-kubelet/pkg/resources/machine"
)

// Signals of eviction thresholds.
const (
	memoryAvailable   = "memory.available"
	nodefsAvailable   = "nodefs.available"
	nodefsInodesFree  = "nodefs.inodesFree"
	imagefsAvailable  = "imagefs.available"
	imagefsInodesFree = "imagefs.inodesFree"
	pidAvailable      = "pid.available"
)

// conditionOf is the condition that each signal belongs to.
var conditionOf = map[string]v1.NodeConditionType{
	memoryAvailable: v1.NodeMemoryPressure,
	nodefsAvailable: v1.NodeDiskPressure, nodefsInodesFree: v1.NodeDiskPressure,
	imagefsAvailable: v1.NodeDiskPressure, imagefsInodesFree: v1.NodeDiskPressure,
	pidAvailable: v1.NodePIDPressure,
}

// Threshold is the least of something that must be left: a quantity, or a
// percentage of the total.
type Threshold struct {
	Signal   string
	Quantity int64
	Percent  float64
}

// of returns the threshold in the signal's unit, for a capacity.
func (t Threshold) of(capacity int64) int64 {
	if t.Percent > 0 {
		return int64(float64(capacity) * t.Percent / 100)
	}
	return t.Quantity
}

// ParseThresholds reads thresholds in the form of evictionHard, e.g.
// "memory.available": "100Mi". Signals that this node does not observe are ignored;
// 0% and 100% turn one off, as in the kubelet.
func ParseThresholds(in map[string]string) ([]Threshold, error) {
	var out []Threshold
	for _, signal := range slices.Sorted(maps.Keys(in)) {
		text := in[signal]
		if _, ok := conditionOf[signal]; !ok {
			continue
		}
		if p, ok := strings.CutSuffix(text, "%"); ok {
			percent, err := strconv.ParseFloat(p, 64)
			if err != nil || !(percent >= 0 && percent <= 100) { // rejects NaN, too
				return nil, fmt.Errorf("evictionHard: %s: %q is not a percentage", signal, text)
			}
			if percent > 0 && percent < 100 {
				out = append(out, Threshold{Signal: signal, Percent: percent})
			}
			continue
		}
		q, err := resource.ParseQuantity(text)
		if err != nil || q.Sign() < 0 {
			return nil, fmt.Errorf("evictionHard: %s: %q is neither a quantity nor a percentage", signal, text)
		}
		if q.Sign() > 0 {
			out = append(out, Threshold{Signal: signal, Quantity: q.Value()})
		}
	}
	return out, nil
}

// Observation is how much of something is left, and how much there is.
type Observation struct{ Available, Capacity int64 }

// pressing returns the conditions for which a threshold is crossed.
func pressing(thresholds []Threshold, seen map[string]Observation) map[v1.NodeConditionType]bool {
	out := map[v1.NodeConditionType]bool{}
	for _, t := range thresholds {
		if o, ok := seen[t.Signal]; ok && o.Available < t.of(o.Capacity) {
			out[conditionOf[t.Signal]] = true
		}
	}
	return out
}

// pressure keeps a condition for a while after its cause has gone, so that it does
// not flap.
type pressure struct {
	hold time.Duration // evictionPressureTransitionPeriod
	last map[v1.NodeConditionType]time.Time
}

// update returns the conditions that hold at now, given those whose threshold is
// crossed now.
func (p *pressure) update(crossed map[v1.NodeConditionType]bool, now time.Time) map[v1.NodeConditionType]bool {
	if p.last == nil {
		p.last = map[v1.NodeConditionType]time.Time{}
	}
	for c := range crossed {
		p.last[c] = now
	}
	out := map[v1.NodeConditionType]bool{}
	for c, at := range p.last {
		if crossed[c] || now.Sub(at) < p.hold {
			out[c] = true
		} else {
			delete(p.last, c)
		}
	}
	return out
}

// observe examines memory, file systems and processes. What cannot be read is left
// out: there is no pressure on something unknown. An empty imagefs means nodefs.
func observe(nodefs, imagefs string) map[string]Observation {
	seen := map[string]Observation{}
	if m, err := machine.ReadMemory(); err == nil {
		seen[memoryAvailable] = Observation{m.Available(), m.Total}
	}
	file := func(path, space, inodes string) {
		var fs unix.Statfs_t
		if path == "" || unix.Statfs(path, &fs) != nil {
			return
		}
		seen[space] = Observation{int64(fs.Bavail) * fs.Frsize, int64(fs.Blocks) * fs.Frsize}
		if fs.Files > 0 { // some file systems do not count them
			seen[inodes] = Observation{int64(fs.Ffree), int64(fs.Files)}
		}
	}
	file(nodefs, nodefsAvailable, nodefsInodesFree)
	file(cmp.Or(imagefs, nodefs), imagefsAvailable, imagefsInodesFree)
	if running, most, ok := machine.Processes(); ok {
		seen[pidAvailable] = Observation{most - running, most}
	}
	return seen
}
