package logrotate

import (
	"cmp"
	"errors"
	"slices"
	"time"

	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
)

const (
	stampLayout = pods.LogTimeLayout
	compressed  = pods.CompressedLog
	temporary   = pods.UnfinishedLog
)

// Limits bound the log of one container.
type Limits struct {
	// Size is the length in bytes at which a log is rotated. With 0, each that is not empty is
	// whenever it is looked at; a negative one rotates none.
	Size int64
	// Files is how many files a log has at most, the current one included: at least 2.
	Files int
}

// entry is one name in the directory of a log.
type entry struct {
	name    string
	size    int64
	regular bool
}

// scene is what a plan is made from.
type scene struct {
	log     string // the log's file name, e.g. "0.log"
	entries []entry
	running bool // the container runs: its log can be reopened
	// unsure: the last reopening has failed, and the runtime may write to the file that was
	// renamed, although there is a new one.
	unsure bool
}

type action string

const (
	rotate  action = "rotate"  // rename the log to step.to
	reopen  action = "reopen"  // have the runtime write to a new file at the log's name
	restore action = "restore" // rename step.name back to the log
	remove  action = "remove"
	squeeze action = "compress"
)

type step struct {
	do   action
	name string
	to   string
}

var errNotRegular = errors.New("it is not a regular file")

// rotated is one file that the log was rotated to, by the time in its name. Both of its forms
// are there when the agent was killed after it had compressed it.
type rotated struct {
	stamp         string
	plain, packed bool
}

// plan says what is to be done about a log: first what is quick, to be done in this order, and
// then what takes time. It looks only at names that the kubelet gives; others are not ours.
//
// The newest file that the log was rotated to is neither compressed nor removed. After a kill
// between rotate and reopen the runtime still writes to it, and then there is no log, so
// that reopen comes first.
func plan(s scene, l Limits, now time.Time) (first, then []step, err error) {
	files, unfinished, taken := rotatedFiles(s)
	i := slices.IndexFunc(s.entries, func(e entry) bool { return e.name == s.log })
	newest := func() (last rotated) {
		if len(files) > 0 {
			last = files[len(files)-1]
		}
		return last
	}
	switch {
	case i >= 0 && !s.entries[i].regular:
		return nil, nil, errNotRegular
	case !s.running:
		// It ended before its log could be reopened, and nothing will be written any more.
		if last := newest(); i < 0 && last.plain {
			first = append(first, step{do: restore, name: s.log + "." + last.stamp})
		}
		return first, nil, nil
	case i < 0 || s.unsure:
		// If that fails, at least the log is there to be read.
		first = append(first, step{do: reopen})
		if last := newest(); i < 0 && last.plain {
			first[0].name = s.log + "." + last.stamp
		}
		if s.unsure {
			return first, nil, nil
		}
	case due(s.entries[i].size, l):
		stamp := nextStamp(now, newest().stamp, taken)
		name := s.log + "." + stamp
		first = append(first, step{rotate, s.log, name}, step{do: reopen, name: name})
		files = append(files, rotated{stamp: stamp, plain: true})
	}
	for len(files) > max(l.Files-1, 1) {
		first = append(first, removals(s.log, files[0])...)
		files = files[1:]
	}
	for _, name := range unfinished {
		then = append(then, step{do: remove, name: name})
	}
	for i, f := range files {
		name := s.log + "." + f.stamp
		// That there is a compressed file already does not mean that it is whole.
		if f.plain && i < len(files)-1 {
			then = append(then, step{squeeze, name, name + compressed})
		}
	}
	return first, then, nil
}

// due reports whether a log of this size is to be rotated.
func due(size int64, l Limits) bool { return l.Size >= 0 && size > 0 && size >= l.Size }

func removals(log string, f rotated) (steps []step) {
	name := log + "." + f.stamp
	for _, of := range []struct {
		is     bool
		suffix string
	}{{f.packed, compressed}, {f.plain, ""}} {
		if of.is {
			steps = append(steps, step{do: remove, name: name + of.suffix})
		}
	}
	return steps
}

// rotatedFiles returns what the log was rotated to, oldest first, the names of copies that
// were not finished, and all times that are taken by whatever has such a name.
func rotatedFiles(s scene) (files []rotated, unfinished []string, taken map[string]bool) {
	taken = map[string]bool{}
	for _, e := range s.entries {
		stamp, suffix, ok := pods.RotatedLog(s.log, e.name)
		if !ok {
			continue
		}
		taken[stamp] = true
		if !e.regular {
			continue
		}
		if suffix == temporary {
			unfinished = append(unfinished, e.name)
			continue
		}
		i, known := slices.BinarySearchFunc(files, stamp, func(f rotated, s string) int { return cmp.Compare(f.stamp, s) })
		if !known {
			files = slices.Insert(files, i, rotated{stamp: stamp})
		}
		if suffix == "" {
			files[i].plain = true
		} else {
			files[i].packed = true
		}
	}
	return files, unfinished, taken
}

// nextStamp returns the time for the name of a file that is rotated now: local time, as the
// kubelet's, but later than that of the last one, whatever became of the clock, since the order
// of names is that of age.
func nextStamp(now time.Time, last string, taken map[string]bool) string {
	stamp := now.Format(stampLayout)
	later := func(s string) string {
		t, _ := time.Parse(stampLayout, s) // times without a zone
		return t.Add(time.Second).Format(stampLayout)
	}
	if stamp <= last {
		stamp = later(last)
	}
	for taken[stamp] {
		stamp = later(stamp)
	}
	if len(stamp) > len(stampLayout) { // somebody has put a file of the year 9999 there
		for stamp = now.Format(stampLayout); taken[stamp]; {
			stamp = later(stamp)
		}
	}
	return stamp
}
