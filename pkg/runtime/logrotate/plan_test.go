package logrotate

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestPlan(t *testing.T) {
	const (
		old, older, oldest = "0.log.20261130-003200", "0.log.20261130-003100", "0.log.20261130-003000"
		next               = "0.log.20261130-003300"
	)
	now := time.Date(2026, 11, 30, 0, 33, 0, 0, time.UTC)
	ended, unsure := func(s *scene) { s.running = false }, func(s *scene) { s.unsure = true }
	limits := func(size int64, files int) Limits { return Limits{size, files} }
	for name, tc := range map[string]struct {
		names  string // of files; "/" makes it a directory, "!" after the log a full one
		limits Limits
		change func(*scene)
		first  []step
		then   []step
		err    error
	}{
		"nothing to do":                            {names: "0.log"},
		"nothing, with files of every kind":        {names: "0.log " + old + " " + older + ".gz"},
		"full":                                     {names: "0.log!", first: []step{{rotate, "0.log", next}, {reopen, next, ""}}},
		"full, but never rotated":                  {names: "0.log!", limits: limits(-1, 5)},
		"each that is not empty":                   {names: "0.log", limits: limits(0, 5), first: []step{{rotate, "0.log", next}, {reopen, next, ""}}},
		"full, and compressed is the last but one": {names: "0.log! " + old + " " + older + ".gz", first: []step{{rotate, "0.log", next}, {reopen, next, ""}}, then: []step{{squeeze, old, old + ".gz"}}},
		"with as many as there may be, the oldest goes": {
			names: "0.log! " + old + " " + older + ".gz " + oldest + ".gz", limits: limits(10, 4),
			first: []step{{rotate, "0.log", next}, {reopen, next, ""}, {remove, oldest + ".gz", ""}}, then: []step{{squeeze, old, old + ".gz"}},
		},
		"two files are the log and one more": {
			names: "0.log! " + old, limits: limits(10, 2),
			first: []step{{rotate, "0.log", next}, {reopen, next, ""}, {remove, old, ""}},
		},
		"fewer than there were, as the limit is lower now": {
			names: "0.log " + old + " " + older + ".gz " + oldest + ".gz", limits: limits(10, 2),
			first: []step{{remove, oldest + ".gz", ""}, {remove, older + ".gz", ""}},
		},
		"killed after rotate":                              {names: old + " " + older, first: []step{{reopen, old, ""}}, then: []step{{squeeze, older, older + ".gz"}}},
		"the first killed after rotate":                    {names: old, first: []step{{reopen, old, ""}}},
		"removed by somebody":                              {names: "", first: []step{{do: reopen}}},
		"removed, and what was rotated last is compressed": {names: old + ".gz", first: []step{{do: reopen}}},
		"killed while compressing": {
			names: "0.log " + old + " " + older + " " + older + ".tmp", then: []step{{do: remove, name: older + ".tmp"}, {squeeze, older, older + ".gz"}},
		},
		"killed after compressing": {names: "0.log " + old + " " + older + " " + older + ".gz", then: []step{{squeeze, older, older + ".gz"}}},
		"both forms of the oldest go": {
			names: "0.log " + old + " " + older + " " + older + ".gz", limits: limits(10, 2),
			first: []step{{remove, older + ".gz", ""}, {remove, older, ""}},
		},
		"an unfinished copy is no file": {
			names: "0.log " + old + ".tmp " + older + ".gz", limits: limits(10, 2), then: []step{{do: remove, name: old + ".tmp"}},
		},
		"the runtime may still write to the last":  {names: "0.log! " + old + " " + older, change: unsure, first: []step{{do: reopen}}},
		"the same, and the new one is gone":        {names: old, change: unsure, first: []step{{reopen, old, ""}}},
		"ended before it was reopened":             {names: old + " " + older, change: ended, first: []step{{restore, old, ""}}},
		"ended before it was reopened, and unsure": {names: "0.log " + old, change: func(s *scene) { ended(s); unsure(s) }},
		"ended, full":         {names: "0.log! " + old + " " + older, change: ended},
		"ended without a log": {names: old + ".gz", change: ended},
		"names of others": {
			names:  "0.log! 0.log.1 0.log.bak 0.log.20261130 0.log.20261399-000000 0.log.20261130-003200.gz.bak 0.log.20261130-003200.gz.tmp 1.log.20261130-003100 0.logs 00.log.20261130-003100 0.log.20261130-003200.",
			limits: limits(10, 2), first: []step{{rotate, "0.log", next}, {reopen, next, ""}},
		},
		"the same second, taken by a directory": {
			names: "0.log! " + next + "/", first: []step{{rotate, "0.log", "0.log.20261130-003301"}, {reopen, "0.log.20261130-003301", ""}},
		},
		"the same second, taken by a compressed file": {
			names: "0.log! " + next + ".gz", first: []step{{rotate, "0.log", "0.log.20261130-003301"}, {reopen, "0.log.20261130-003301", ""}},
		},
		"the clock was set back": {
			names: "0.log! 0.log.20270101-235959", first: []step{{rotate, "0.log", "0.log.20270102-000000"}, {reopen, "0.log.20270102-000000", ""}},
			then: []step{{squeeze, "0.log.20270101-235959", "0.log.20270101-235959.gz"}},
		},
		"no time is later": {
			names: "0.log! 0.log.99991231-235959.gz " + next, first: []step{{rotate, "0.log", "0.log.20261130-003301"}, {reopen, "0.log.20261130-003301", ""}},
			then: []step{{squeeze, next, next + ".gz"}},
		},
		"a directory in its place": {names: "0.log/ " + old + " " + older, err: errNotRegular},
	} {
		t.Run(name, func(t *testing.T) {
			s := scene{log: "0.log", running: true}
			for n := range strings.FieldsSeq(tc.names) {
				e := entry{name: strings.TrimRight(n, "!/"), size: 9, regular: !strings.HasSuffix(n, "/")}
				if strings.HasSuffix(n, "!") {
					e.size = 10
				}
				s.entries = append(s.entries, e)
			}
			if tc.change != nil {
				tc.change(&s)
			}
			if tc.limits == (Limits{}) {
				tc.limits = limits(10, 5)
			}
			for range 2 { // in any order of names
				first, then, err := plan(s, tc.limits, now)
				if !errors.Is(err, tc.err) || !reflect.DeepEqual(first, tc.first) || !reflect.DeepEqual(then, tc.then) {
					t.Errorf("first %v, then %v, %v\nwant %v, then %v, %v", first, then, err, tc.first, tc.then, tc.err)
				}
				slices.Reverse(s.entries)
			}
		})
	}
}

func TestAnEmptyLogIsNotRotated(t *testing.T) {
	for _, size := range []int64{-1, 0, 1} {
		if due(0, Limits{Size: size, Files: 5}) {
			t.Errorf("size %d: an empty log is rotated", size)
		}
	}
}
