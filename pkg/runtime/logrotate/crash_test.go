package logrotate

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// writer is a container and its runtime: it writes numbered lines to the file that it has
// open, whatever the name of that is by now.
type writer struct {
	t    *testing.T
	path string
	file *os.File
	last int
}

func newWriter(t *testing.T) *writer {
	w := &writer{t: t, path: filepath.Join(t.TempDir(), "0.log")}
	if err := w.reopen(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.file.Close() })
	return w
}

func (w *writer) reopen() error {
	f, err := os.OpenFile(w.path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o640)
	if err != nil {
		return err
	}
	if w.file != nil {
		w.file.Close()
	}
	w.file = f
	return nil
}

func (w *writer) write(lines int) {
	for range lines {
		w.last++
		if _, err := fmt.Fprintln(w.file, w.last); err != nil {
			w.t.Fatal(err)
		}
	}
}

// lines returns the numbers in all files of the log, oldest first, and how many files
// there are.
func (w *writer) lines() (numbers []int, files int) {
	w.t.Helper()
	dir := directoryOf(w.t, filepath.Dir(w.path))
	entries, err := dir.list()
	if err != nil {
		w.t.Fatal(err)
	}
	rotated, unfinished, _ := rotatedFiles(scene{log: "0.log", entries: entries})
	if len(unfinished) > 0 {
		w.t.Errorf("left: %v", unfinished)
	}
	names := make([]string, 0, len(rotated)+1)
	for i, r := range rotated {
		name := w.path + "." + r.stamp
		if r.plain == r.packed || r.plain != (i == len(rotated)-1) {
			w.t.Errorf("%s: plain %v, compressed %v, at %d of %d", name, r.plain, r.packed, i+1, len(rotated))
		}
		if r.packed {
			name += compressed
		}
		names = append(names, name)
	}
	for _, name := range append(names, w.path) {
		b, err := os.ReadFile(name)
		if err != nil {
			w.t.Fatal(err)
		}
		if strings.HasSuffix(name, compressed) {
			b = unpacked(w.t, b)
		}
		for n := range strings.FieldsSeq(string(b)) {
			i, _ := strconv.Atoi(n)
			numbers = append(numbers, i)
		}
	}
	return numbers, len(names) + 1
}

func unpacked(t *testing.T, b []byte) []byte {
	t.Helper()
	r, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	if b, err = io.ReadAll(r); err != nil {
		t.Fatal(err)
	}
	return b
}

func directoryOf(t *testing.T, path string) directory {
	t.Helper()
	d, err := openDirectory(filepath.Dir(path), filepath.Base(path))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.close)
	return d
}

// mortal dies before, or after, one of its steps, and then does nothing any more.
type mortal struct {
	directory
	steps int
	after bool
	dead  bool
}

var errDead = errors.New("killed")

func (m *mortal) do(step func() error) error {
	if m.dead {
		return errDead
	}
	if m.steps--; m.steps >= 0 {
		return step()
	}
	m.dead = true
	if m.after {
		_ = step()
	}
	return errDead
}

func (m *mortal) rename(from, to string) error {
	return m.do(func() error { return m.directory.rename(from, to) })
}

func (m *mortal) remove(name string) error {
	return m.do(func() error { return m.directory.remove(name) })
}

func (m *mortal) commit(from, to string) error {
	return m.do(func() error { return m.directory.commit(from, to) })
}

func (m *mortal) pack(ctx context.Context, from, to string) error {
	err := m.do(func() error { return m.directory.pack(ctx, from, to) })
	if m.dead && !m.after { // in the middle of it
		half := filepath.Join(m.file.Name(), to)
		if _, err := os.Stat(half); err != nil {
			_ = os.WriteFile(half, []byte("\x1f\x8b half"), 0o640)
		}
	}
	return err
}

// life looks at the log as often as that, a second apart, while the container writes.
func life(t *testing.T, w *writer, m *mortal, l Limits, now *time.Time, looks int) {
	t.Helper()
	for range looks {
		if m.dead {
			return
		}
		w.write(10)
		*now = now.Add(time.Second)
		entries, err := m.list()
		if err != nil {
			t.Fatal(err)
		}
		first, then, err := plan(scene{log: "0.log", entries: entries, running: true}, l, *now)
		if err != nil {
			t.Fatal(err)
		}
		err = act(t.Context(), m, "0.log", first, func(context.Context) error { return m.do(w.reopen) })
		if err == nil {
			w.write(1)
			err = tidy(t.Context(), m, then)
		}
		if err != nil && !m.dead {
			t.Fatal(err)
		}
	}
}

// The agent is killed before and after each step, in turn, and started again: every line is
// there once.
func TestKilledBetweenAnyTwoSteps(t *testing.T) {
	for name, l := range map[string]Limits{"all are kept": {Size: 10, Files: 100}, "the last are kept": {Size: 10, Files: 3}} {
		t.Run(name, func(t *testing.T) {
			died := 0
			for _, after := range []bool{false, true} {
				for steps := 0; ; steps++ {
					w, now := newWriter(t), time.Now()
					m := &mortal{directory: directoryOf(t, filepath.Dir(w.path)), steps: steps, after: after}
					life(t, w, m, l, &now, 5)
					if !m.dead {
						break
					}
					died++
					life(t, w, &mortal{directory: m.directory, steps: 1 << 30}, l, &now, 3)
					numbers, files := w.lines()
					if files > l.Files || l.Files == 3 && files < 3 {
						t.Errorf("%d files of at most %d", files, l.Files)
					}
					if l.Files > 10 && numbers[0] != 1 {
						t.Errorf("the first line is %d", numbers[0])
					}
					for i, n := range numbers {
						if n != numbers[0]+i {
							t.Fatalf("dead at step %d (after it: %v): %v", steps, after, numbers)
						}
					}
					if numbers[len(numbers)-1] != w.last {
						t.Errorf("the last line is %d of %d", numbers[len(numbers)-1], w.last)
					}
				}
			}
			if died < 30 {
				t.Errorf("it died only %d times", died)
			}
		})
	}
}

// A container whose log could not be reopened before it ended has its log back.
func TestKilledAndTheContainerEnds(t *testing.T) {
	for steps := range 2 {
		w := newWriter(t)
		now := time.Now()
		m := &mortal{directory: directoryOf(t, filepath.Dir(w.path)), steps: steps, after: true}
		life(t, w, m, Limits{Size: 10, Files: 5}, &now, 1)
		w.write(5)
		if entries, err := m.list(); err != nil {
			t.Fatal(err)
		} else if first, _, err := plan(scene{log: "0.log", entries: entries}, Limits{Size: 10, Files: 5}, now); err != nil {
			t.Fatal(err)
		} else if err := act(t.Context(), m.directory, "0.log", first, nil); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(w.path)
		if want := fmt.Sprintln(w.last); err != nil || !strings.HasSuffix(string(b), want) {
			t.Errorf("dead after step %d: the log is %q, %v, the last line %q", steps, b, err, want)
		}
	}
}

// What a runtime that fails leaves: the log where it was, or the new one that it has made.
func TestRuntimeDoesNotReopen(t *testing.T) {
	failed := errors.New("broken")
	for name, tc := range map[string]struct {
		reopen func(*writer) error
		unsure bool
	}{
		"nothing done":                     {func(*writer) error { return failed }, false},
		"a new file made, and not used":    {func(w *writer) error { _ = os.WriteFile(w.path, nil, 0o640); return failed }, true},
		"done, and the answer got lost":    {func(w *writer) error { _ = w.reopen(); return failed }, true},
		"the container's logs are removed": {func(w *writer) error { _ = os.RemoveAll(filepath.Dir(w.path)); return failed }, false},
	} {
		t.Run(name, func(t *testing.T) {
			w, l := newWriter(t), Limits{Size: 10, Files: 5}
			dir := directoryOf(t, filepath.Dir(w.path))
			w.write(10)
			s := scene{log: "0.log", running: true}
			s.entries, _ = dir.list()
			first, _, err := plan(s, l, time.Now())
			if err != nil {
				t.Fatal(err)
			}
			err = act(t.Context(), dir, "0.log", first, func(context.Context) error { return tc.reopen(w) })
			if !errors.Is(err, failed) || errors.Is(err, errUnsure) != tc.unsure {
				t.Fatalf("%v", err)
			}
			if strings.Contains(name, "removed") {
				return
			}
			// Then it recovers.
			w.write(10)
			for range 3 {
				s.entries, _ = dir.list()
				s.unsure = errors.Is(err, errUnsure)
				first, then, planErr := plan(s, l, time.Now())
				if planErr != nil {
					t.Fatal(planErr)
				}
				if err = act(t.Context(), dir, "0.log", first, func(context.Context) error { return w.reopen() }); err != nil {
					t.Fatal(err)
				}
				if err := tidy(t.Context(), dir, then); err != nil {
					t.Fatal(err)
				}
				w.write(10)
			}
			numbers, _ := w.lines()
			for i, n := range numbers {
				if n != i+1 {
					t.Fatalf("%v", numbers)
				}
			}
			if len(numbers) != w.last {
				t.Errorf("%d lines of %d", len(numbers), w.last)
			}
		})
	}
}
