package nodepressure

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/config/options"
)

var noon = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

func hard(s options.Signal, quantity int64) options.Threshold {
	return options.Threshold{Signal: s, Amount: options.Amount{Quantity: quantity}}
}

func soft(s options.Signal, quantity int64, grace time.Duration) options.Threshold {
	t := hard(s, quantity)
	t.Grace = grace
	return t
}

func names(list []options.Threshold) string {
	var out []string
	for _, t := range list {
		kind := "hard"
		if !t.Hard() {
			kind = "soft"
		}
		out = append(out, kind+" "+string(t.Signal))
	}
	return strings.Join(out, ", ")
}

func TestDecide(t *testing.T) {
	// A step is a look: what is left of each signal, of 1000; the time of it since noon; and what follows.
	type left map[options.Signal]int64
	type step struct {
		at   time.Duration
		left left
		read time.Duration // when it was read, if not at the time of the look
		cond string
		act  string
	}
	const memory, disk = options.MemoryAvailable, options.NodefsAvailable
	reclaims := hard(disk, 100)
	reclaims.Reclaim = options.Amount{Quantity: 200}
	for name, tc := range map[string]struct {
		thresholds []options.Threshold
		hold       time.Duration
		steps      []step
	}{
		"just enough is enough": {[]options.Threshold{hard(memory, 100)}, time.Minute, []step{{0, left{memory: 100}, 0, "", ""}}},
		"a hard threshold counts at once, and the condition stays for a while": {[]options.Threshold{hard(memory, 100)}, time.Minute, []step{
			{0, left{memory: 99}, 0, "MemoryPressure", "hard memory.available"},
			{10 * time.Second, left{memory: 500}, 0, "MemoryPressure", ""},
			{59 * time.Second, left{memory: 500}, 0, "MemoryPressure", ""},
			{60 * time.Second, left{memory: 500}, 0, "", ""},
		}},
		"without a hold the condition is what is so now": {[]options.Threshold{hard(memory, 100)}, 0, []step{
			{0, left{memory: 99}, 0, "MemoryPressure", "hard memory.available"}, {1, left{memory: 100}, 0, "", ""}}},
		"a soft threshold makes the condition at once and counts after its grace, if it lasts": {[]options.Threshold{soft(disk, 100, 30*time.Second)}, time.Second, []step{
			{0, left{disk: 50}, 0, "DiskPressure", ""},
			{20 * time.Second, left{disk: 150}, 0, "", ""},
			{30 * time.Second, left{disk: 50}, 0, "DiskPressure", ""},
			{59 * time.Second, left{disk: 50}, 0, "DiskPressure", ""},
			{60 * time.Second, left{disk: 50}, 0, "DiskPressure", "soft nodefs.available"},
		}},
		"hard and soft of one signal: the hard one first": {[]options.Threshold{soft(memory, 200, time.Second), hard(memory, 100)}, 0, []step{
			{0, left{memory: 50}, 0, "MemoryPressure", "hard memory.available"},
			{2 * time.Second, left{memory: 50}, 0, "MemoryPressure", "hard memory.available, soft memory.available"},
			{3 * time.Second, left{memory: 150}, 0, "MemoryPressure", "soft memory.available"},
		}},
		"memory comes before anything else": {[]options.Threshold{hard(options.PIDAvailable, 10), hard(disk, 10), hard(options.AllocatableMemoryAvailable, 10), hard(memory, 10)}, 0, []step{
			{0, left{options.PIDAvailable: 1, disk: 1, options.AllocatableMemoryAvailable: 1, memory: 1}, 0, "DiskPressure MemoryPressure PIDPressure",
				"hard memory.available, hard allocatableMemory.available, hard nodefs.available, hard pid.available"}}},
		"once acted on, more than the threshold has to be there again": {[]options.Threshold{reclaims}, 0, []step{
			{0, left{disk: 150}, 0, "", ""},
			{1 * time.Second, left{disk: 99}, 0, "DiskPressure", "hard nodefs.available"},
			{2 * time.Second, left{disk: 150}, 0, "DiskPressure", "hard nodefs.available"},
			{3 * time.Second, left{disk: 300}, 0, "", ""},
			{4 * time.Second, left{disk: 150}, 0, "", ""},
		}},
		"the minimum reclaim of a soft threshold begins when its grace has ended": {[]options.Threshold{{Signal: disk, Amount: options.Amount{Quantity: 100}, Grace: 10 * time.Second, Reclaim: options.Amount{Percent: 20}}}, 0, []step{
			{0, left{disk: 99}, 0, "DiskPressure", ""}, {5 * time.Second, left{disk: 150}, 0, "", ""},
			{6 * time.Second, left{disk: 99}, 0, "DiskPressure", ""}, {16 * time.Second, left{disk: 99}, 0, "DiskPressure", "soft nodefs.available"},
			{17 * time.Second, left{disk: 299}, 0, "DiskPressure", "soft nodefs.available"}, {18 * time.Second, left{disk: 300}, 0, "", ""},
		}},
		"what was seen before is not acted on again": {[]options.Threshold{hard(memory, 100)}, 0, []step{
			{time.Second, left{memory: 1}, time.Second, "MemoryPressure", "hard memory.available"},
			{2 * time.Second, left{memory: 1}, time.Second, "MemoryPressure", ""},
			{3 * time.Second, left{memory: 1}, 3 * time.Second, "MemoryPressure", "hard memory.available"},
		}},
		"what cannot be measured is no pressure, and ends one": {[]options.Threshold{hard(memory, 100), hard(options.ContainerfsAvailable, 2000)}, 0, []step{
			{0, left{memory: 1}, 0, "MemoryPressure", "hard memory.available"}, {1, left{}, 0, "", ""}}},
		"a threshold that can never be kept": {[]options.Threshold{hard(memory, 5000)}, time.Minute, []step{
			{0, left{memory: 1000}, 0, "MemoryPressure", "hard memory.available"},
			{time.Hour, left{memory: 1000}, 0, "MemoryPressure", "hard memory.available"},
		}},
		"a minimum reclaim beyond all numbers": {[]options.Threshold{{Signal: disk, Amount: options.Amount{Quantity: 1<<63 - 1}, Reclaim: options.Amount{Quantity: 1<<63 - 1}}}, 0, []step{
			{0, left{disk: 1000}, 0, "DiskPressure", "hard nodefs.available"}, {time.Second, left{disk: 1000}, 0, "DiskPressure", "hard nodefs.available"}}},
		"a percentage": {[]options.Threshold{{Signal: options.ImagefsInodesFree, Amount: options.Amount{Percent: 5}}}, 0, []step{
			{0, left{options.ImagefsInodesFree: 50}, 0, "", ""}, {1, left{options.ImagefsInodesFree: 49}, 0, "DiskPressure", "hard imagefs.inodesFree"}}},
	} {
		t.Run(name, func(t *testing.T) {
			var m memoryOfTest
			for i, s := range tc.steps {
				now := noon.Add(s.at)
				seen := observations{}
				for signal, n := range s.left {
					at := now
					if s.read != 0 {
						at = noon.Add(s.read)
					}
					seen[signal] = observation{n, 1000, at}
				}
				var v verdict
				m, v = decide(m, input{thresholds: tc.thresholds, seen: seen, hold: tc.hold, now: now})
				if got := strings.Trim(fmt.Sprint(v.conditions), "[]"); got != s.cond || names(v.act) != s.act {
					t.Errorf("step %d: conditions %q, act on %q; want %q, %q", i, got, names(v.act), s.cond, s.act)
				}
			}
		})
	}
}

type memoryOfTest = memory

func TestContainerfsIsTheFileSystemThatItIs(t *testing.T) {
	in := []options.Threshold{hard(options.NodefsAvailable, 1), hard(options.ImagefsAvailable, 2), soft(options.NodefsInodesFree, 3, time.Minute), hard(options.ContainerfsAvailable, 9)}
	for name, tc := range map[string]struct {
		l    layout
		want int64 // of containerfs.available
		soft bool  // containerfs.inodesFree is there
	}{
		"one for all":                {layout{}, 1, true},
		"images have one":            {layout{images: true}, 2, false},
		"layers are with the nodefs": {layout{images: true, split: true}, 1, true},
	} {
		t.Run(name, func(t *testing.T) {
			got := withContainerfs(in, tc.l)
			var of []int64
			for _, g := range got {
				if g.Signal == options.ContainerfsAvailable {
					of = append(of, g.Quantity)
				}
			}
			if !slices.Equal(of, []int64{tc.want}) || slices.Contains(got, soft(options.ContainerfsInodesFree, 3, time.Minute)) != tc.soft {
				t.Errorf("%+v", got)
			}
		})
	}
}

func TestWhatHelpsAndWhatCountsByFileSystem(t *testing.T) {
	one, images, split := layout{}, layout{images: true}, layout{images: true, split: true}
	all := counted{layers: true, logs: true, volumes: true}
	for _, tc := range []struct {
		s     options.Signal
		l     layout
		clean cleanup
		count counted
	}{
		{options.NodefsAvailable, one, cleanup{true, true}, all},
		{options.ImagefsInodesFree, one, cleanup{true, true}, all},
		{options.NodefsInodesFree, images, cleanup{}, counted{logs: true, volumes: true}},
		{options.ImagefsAvailable, images, cleanup{true, true}, counted{layers: true}},
		{options.ContainerfsAvailable, images, cleanup{true, true}, counted{layers: true}},
		{options.NodefsAvailable, split, cleanup{containers: true}, all},
		{options.ContainerfsInodesFree, split, cleanup{containers: true}, all},
		{options.ImagefsAvailable, split, cleanup{images: true}, counted{}},
	} {
		if c, n := cleanupFor(tc.s, tc.l), countedFor(tc.s, tc.l); c != tc.clean || n != tc.count {
			t.Errorf("%s with %+v: clean %+v, count %+v; want %+v, %+v", tc.s, tc.l, c, n, tc.clean, tc.count)
		}
	}
	for _, s := range []options.Signal{options.MemoryAvailable, options.AllocatableMemoryAvailable, options.PIDAvailable} {
		if cleanupFor(s, one) != (cleanup{}) {
			t.Errorf("%s: something is cleaned up", s)
		}
	}
}

func TestMemoryIsLookedAtTheSoonerTheLessIsLeft(t *testing.T) {
	for left, want := range map[int64]time.Duration{
		-1: 250 * time.Millisecond, 0: 250 * time.Millisecond, 100 << 20: 250 * time.Millisecond, 2 << 30: 2 * time.Second, 100 << 30: 10 * time.Second, 1<<63 - 1: 10 * time.Second,
	} {
		if got := nextLook(left); got != want {
			t.Errorf("with %d left: after %v, want %v", left, got, want)
		}
	}
}

func TestEverySignalHasAConditionAndAResource(t *testing.T) {
	for _, s := range options.Signals() {
		if k := signals[s]; k.condition == "" || k.resource == "" {
			t.Errorf("%s: %+v", s, k)
		}
	}
	if !ofDisk(options.ContainerfsInodesFree) || ofDisk(options.PIDAvailable) || !ofMemory(options.AllocatableMemoryAvailable) {
		t.Error("signals of disk or memory")
	}
	if got := quantity(v1.ResourceMemory, 100<<20) + " " + quantity(inodes, 2048); got != "100Mi 2048" {
		t.Error(got)
	}
}
