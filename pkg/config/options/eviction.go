package options

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
)

// Signal is what an eviction threshold is about: how much of something is left.
type Signal string

// The kubelet's signals, in the order in which they are looked after: memory first, since it
// runs out fastest.
const (
	MemoryAvailable            Signal = "memory.available"
	AllocatableMemoryAvailable Signal = "allocatableMemory.available"
	NodefsAvailable            Signal = "nodefs.available"
	NodefsInodesFree           Signal = "nodefs.inodesFree"
	ImagefsAvailable           Signal = "imagefs.available"
	ImagefsInodesFree          Signal = "imagefs.inodesFree"
	ContainerfsAvailable       Signal = "containerfs.available"
	ContainerfsInodesFree      Signal = "containerfs.inodesFree"
	PIDAvailable               Signal = "pid.available"
)

// Signals returns all of them, in that order.
func Signals() []Signal {
	return []Signal{
		MemoryAvailable, AllocatableMemoryAvailable, NodefsAvailable, NodefsInodesFree, ImagefsAvailable, ImagefsInodesFree,
		ContainerfsAvailable, ContainerfsInodesFree, PIDAvailable,
	}
}

// Amount is a quantity, or a percentage of the whole.
type Amount struct {
	Quantity int64
	Percent  float64
}

// Of returns the amount in the signal's unit, for a capacity.
func (a Amount) Of(capacity int64) int64 {
	if a.Percent > 0 {
		return int64(float64(capacity) * a.Percent / 100)
	}
	return a.Quantity
}

// Threshold is the least of something that must be left.
type Threshold struct {
	Signal Signal
	Amount
	// Grace is how long less has to be left before pods are evicted; 0: a hard threshold.
	Grace time.Duration
	// Reclaim is how much beyond the threshold has to be left again before an eviction counts as
	// having helped.
	Reclaim Amount
}

// Hard reports whether pods are evicted at once.
func (t Threshold) Hard() bool { return t.Grace == 0 }

// Eviction is how the thresholds are configured, each field as the one of KubeletConfiguration of
// that name.
type Eviction struct {
	Hard, Soft, SoftGracePeriod, MinimumReclaim map[string]string
	// Allocatable says that the limit of all pods is enforced: what memory.available asks for of
	// the machine then holds within that limit, too, as in the kubelet.
	Allocatable bool
}

// Thresholds reads the configuration, hard thresholds first. What it refuses is what the kubelet
// refuses: unknown signals, quantities that are not positive, percentages beyond 0 and 100, a soft
// threshold without a grace period. 0% and 100% turn a threshold off. The error begins with the
// name of the field.
func (e Eviction) Thresholds() ([]Threshold, error) {
	hard, err := thresholds("evictionHard", e.Hard)
	if err != nil {
		return nil, err
	}
	soft, err := thresholds("evictionSoft", e.Soft)
	if err != nil {
		return nil, err
	}
	graces, err := graces(e.SoftGracePeriod)
	if err != nil {
		return nil, err
	}
	reclaims, err := reclaims(e.MinimumReclaim)
	if err != nil {
		return nil, err
	}
	for i, t := range soft {
		grace, ok := graces[t.Signal]
		if !ok {
			return nil, fmt.Errorf("evictionSoft: %s: there is no evictionSoftGracePeriod for it", t.Signal)
		}
		soft[i].Grace = grace
	}
	all := slices.Concat(hard, soft)
	for i := range all {
		all[i].Reclaim = reclaims[all[i].Signal]
	}
	if e.Allocatable {
		for _, t := range all {
			if t.Signal == MemoryAvailable && t.Hard() {
				t.Signal = AllocatableMemoryAvailable
				all = append(all, t)
			}
		}
	}
	return all, nil
}

func thresholds(field string, in map[string]string) ([]Threshold, error) {
	var out []Threshold
	for _, name := range slices.Sorted(maps.Keys(in)) {
		signal, err := signal(field, name)
		if err != nil {
			return nil, err
		}
		text := in[name]
		if text == "0%" || text == "100%" {
			continue
		}
		a, err := amount(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %s: %w", field, name, err)
		}
		if a.Quantity < 0 || a.Quantity == 0 && !strings.HasSuffix(text, "%") {
			return nil, fmt.Errorf("%s: %s: must be more than nothing, got %q; 0%% turns it off", field, name, text)
		}
		if a != (Amount{}) && a.Percent < 100 {
			out = append(out, Threshold{Signal: signal, Amount: a})
		}
	}
	return out, nil
}

func signal(field, name string) (Signal, error) {
	if !slices.Contains(Signals(), Signal(name)) {
		return "", fmt.Errorf("%s: %q is not an eviction signal", field, name)
	}
	return Signal(name), nil
}

func amount(text string) (Amount, error) {
	if p, ok := strings.CutSuffix(text, "%"); ok {
		percent, err := strconv.ParseFloat(p, 64)
		if err != nil || !(percent >= 0 && percent <= 100) { // refuses NaN, too
			return Amount{}, fmt.Errorf("%q is not a percentage", text)
		}
		return Amount{Percent: percent}, nil
	}
	q, err := resource.ParseQuantity(text)
	if err != nil {
		return Amount{}, fmt.Errorf("%q is neither a quantity nor a percentage", text)
	}
	return Amount{Quantity: q.Value()}, nil
}

func graces(in map[string]string) (map[Signal]time.Duration, error) {
	const field = "evictionSoftGracePeriod"
	out := map[Signal]time.Duration{}
	for _, name := range slices.Sorted(maps.Keys(in)) {
		signal, err := signal(field, name)
		if err != nil {
			return nil, err
		}
		d, err := time.ParseDuration(in[name])
		if err != nil || d < 0 {
			return nil, fmt.Errorf("%s: %s: %q is not a duration, such as 90s", field, name, in[name])
		}
		out[signal] = d
	}
	return out, nil
}

func reclaims(in map[string]string) (map[Signal]Amount, error) {
	const field = "evictionMinimumReclaim"
	out := map[Signal]Amount{}
	for _, name := range slices.Sorted(maps.Keys(in)) {
		signal, err := signal(field, name)
		if err != nil {
			return nil, err
		}
		a, err := amount(in[name])
		if err != nil {
			return nil, fmt.Errorf("%s: %s: %w", field, name, err)
		}
		if a.Quantity < 0 || strings.HasSuffix(in[name], "%") && a.Percent == 0 {
			return nil, fmt.Errorf("%s: %s: must be more than nothing, got %q", field, name, in[name])
		}
		out[signal] = a
	}
	return out, nil
}
