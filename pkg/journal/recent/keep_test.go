package recent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/journal"
	"github.com/mini-kubelet/mini-kubelet/test/damage"
	"github.com/mini-kubelet/mini-kubelet/test/safefiletest"
	"github.com/mini-kubelet/mini-kubelet/test/testrun"
)

func kept(path string) *Sink {
	return New(Config{Node: "n1", Now: func() time.Time { return born }, File: path})
}

// agent records with a sink that keeps the file, and ends.
func agent(t *testing.T, path string, record func(*Sink)) {
	t.Helper()
	s := kept(path)
	stop := testrun.Start(t, s.Run)
	record(s)
	stop()
}

func place(t *testing.T) string { return filepath.Join(t.TempDir(), "mini-kubelet", "events.jsonl") }

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func all(s *Sink) string {
	events, _ := s.Since(0)
	return messages(events)
}

func TestEventsOutliveTheAgent(t *testing.T) {
	path := place(t)
	agent(t, path, func(s *Sink) {
		s.Record(entry(0, "a"))
		s.Record(entry(1, "b\x1b\n"))
		for i := range 99 {
			s.Record(entry(2+i, "a"))
		}
		s.Node(v1.EventTypeNormal, "Starting", "c")
	})
	if fi, err := os.Stat(path); err != nil || fi.Mode() != 0o600 {
		t.Errorf("%v, %v", fi.Mode(), err)
	}
	agent(t, path, func(s *Sink) {
		events, version := s.Since(0)
		if got := messages(events); got != "b\x1b\n x1, a x100, c x1" || version != 102 {
			t.Fatalf("%s, version %d", got, version)
		}
		a := events[1]
		if !a.FirstTimestamp.Time.Equal(born) || !a.LastTimestamp.Time.Equal(born.Add(100*time.Second)) || a.InvolvedObject.FieldPath != "spec.containers{c}" || a.ResourceVersion != "101" {
			t.Errorf("%+v", a)
		}
		s.Record(entry(200, "a"))
		if newer, version := s.Since(102); messages(newer) != "a x101" || version != 103 || newer[0].Name != a.Name {
			t.Errorf("%s, version %d", messages(newer), version)
		}
	})
	if got := all(kept(path)); got != "b\x1b\n x1, c x1, a x101" {
		t.Error(got)
	}
	agent(t, path, func(*Sink) {})
	if got := all(kept(path)); got != "b\x1b\n x1, c x1, a x101" {
		t.Errorf("after a start without events: %s", got)
	}
}

// What comes again and again is no line each time, and yet hardly out of date after a SIGKILL.
func TestALineIsDueWhenItSaysSomething(t *testing.T) {
	var disk onDisk
	lines := 0
	for count := int32(1); count <= 60480; count++ { // a week's crash loop, each 10 s
		last := born.Add(time.Duration(count) * 10 * time.Second)
		if due(count, last, disk) {
			disk, lines = onDisk{count, last}, lines+1
		}
		if short := count - disk.count; short > count/8 || last.Sub(disk.last) >= stale {
			t.Fatalf("at %d the file says %d, %v ago", count, disk.count, last.Sub(disk.last))
		}
	}
	if lines < 20 || lines > 260 {
		t.Errorf("%d lines", lines)
	}
	if due(8, born.Add(2*stale), onDisk{8, born}) {
		t.Error("what is written already is due")
	}
}

func TestWhatASIGKILLLeaves(t *testing.T) {
	path := place(t)
	s := kept(path)
	testrun.Start(t, s.Run) // and at the end of the test, when the other has read it
	for i := range 20 {
		s.Record(entry(i, "a"))
		testrun.Eventually(t, "the file has what is due", func() bool {
			want := i + 1
			if want > 16 {
				want -= (want - 16) % 2
			}
			return all(kept(path)) == fmt.Sprintf("a x%d", want)
		})
	}
}

// Wherever the machine dies while a line is written, those before it are there, and those that the next agent adds.
func TestTornAtEveryByte(t *testing.T) {
	path := place(t)
	agent(t, path, func(s *Sink) { s.Record(entry(0, "a")) })
	first := read(t, path)
	agent(t, path, func(s *Sink) { s.Record(entry(1, "b")) })
	whole := read(t, path)
	for _, rest := range []string{"", strings.Repeat("\x00", 100), "\x00\n\xff{"} { // a file may have grown without its content
		for at := 0; at <= len(whole); at++ {
			if at > 0 && (at < len(first)-41 || rest != "" && at != len(first) && at < len(whole)-2) {
				at = min(at+40, len(whole)-2) // each costs a flush of the disk
			}
			if err := os.WriteFile(path, []byte(whole[:at]+rest), 0o600); err != nil {
				t.Fatal(err)
			}
			agent(t, path, func(s *Sink) { s.Record(entry(2, "c")) })
			want := "c x1"
			if strings.HasPrefix(whole[:at]+"\n"+rest, first) && (at >= len(first) || rest == "" || rest[0] == '\n') {
				want = "a x1, " + want
			}
			if at == len(whole) || at == len(whole)-1 && rest == "" {
				want = "a x1, b x1, c x1"
			}
			if got := all(kept(path)); got != want {
				t.Fatalf("%q: %s, want %s", whole[:at]+rest, got, want)
			}
			if now := read(t, path); strings.Contains(now, "\x00") || strings.Contains(now, "\xff") {
				t.Fatalf("%q: what is damaged stays", whole[:at]+rest)
			}
		}
	}
}

func TestGarbageIsLeftOut(t *testing.T) {
	path := place(t)
	agent(t, path, func(s *Sink) { s.Record(entry(0, "a")) })
	good := read(t, path)
	garbage := strings.Join([]string{
		"", "\x7fELF", "null", "[1]", `"text"`, "{}", `{"a":1}`, `{"metadata":1}`, strings.Repeat("[", 10000),
		strings.Replace(good, `"resourceVersion":"1"`, `"resourceVersion":"9223372036854775807"`, 1),
		strings.Replace(good, `"resourceVersion":"1"`, `"resourceVersion":"-1"`, 1),
		strings.Replace(good, `"count":1`, `"count":2147483647`, 1),
		strings.Replace(good, `"count":1`, `"count":0`, 1),
		strings.Replace(good, `"kind":"Pod"`, `"kind":""`, 1),
		strings.Replace(good, `2026-01-01`, `yesterday`, -1),
		strings.Replace(good, `"message":"a"`, `"message":"`+strings.Repeat("x", 10000)+`"`, 1),
	}, "\n")
	if err := os.WriteFile(path, []byte(garbage+good), 0o600); err != nil {
		t.Fatal(err)
	}
	events, version := kept(path).Since(0)
	if len(events) != 2 || version != 1 {
		t.Fatalf("%s, version %d", messages(events), version)
	}
	for _, e := range events {
		if e.Message != "a" && len(e.Message) != journal.MaxText {
			t.Errorf("%+v", e)
		}
	}
	// More than is ever written: the newest lines are read.
	if err := os.WriteFile(path, append(bytes.Repeat([]byte("x"), 3*maxFile), "\n"+good...), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := all(kept(path)); got != "a x1" {
		t.Errorf("at the end of a large file: %s", got)
	}
}

// What stands in the file's place is moved aside, at the start and while the agent runs.
func TestNothingElseIsTakenForTheFile(t *testing.T) {
	whole := func(t *testing.T) string {
		path := place(t)
		agent(t, path, func(s *Sink) { s.Record(entry(0, "a")) })
		return path
	}
	t.Run("at the start", func(t *testing.T) {
		safefiletest.Each(t, whole, func(t *testing.T, what, path string) {
			agent(t, path, func(s *Sink) { s.Record(entry(1, "b")) })
			if got := all(kept(path)); !strings.HasSuffix(got, "b x1") {
				t.Error(got)
			}
			switch what {
			case safefiletest.Removed, safefiletest.HardLink, safefiletest.Grown: // files all the same
			default:
				damage.MovedAside(t, path)
			}
			if fi, err := os.Stat(path); err != nil || fi.Size() > maxFile {
				t.Errorf("%v, %v", fi, err)
			}
		})
	})
	t.Run("while the agent runs", func(t *testing.T) {
		for what, replace := range map[string]func(string) error{
			"nothing":      os.Remove,
			"no directory": func(p string) error { return os.RemoveAll(filepath.Dir(p)) },
			"a directory":  func(p string) error { return errors.Join(os.Remove(p), os.MkdirAll(filepath.Join(p, "full"), 0o755)) },
			"a pipe":       func(p string) error { return errors.Join(os.Remove(p), unix.Mkfifo(p, 0o600)) },
			"a link":       func(p string) error { return errors.Join(os.Remove(p), os.Symlink("/etc/hostname", p)) },
			"another name": func(p string) error { return os.Link(p, p+"2") },
		} {
			path := whole(t)
			s := kept(path)
			if err := replace(path); err != nil {
				t.Fatal(err)
			}
			s.Record(entry(1, "b"))
			if err := s.save(false); err != nil {
				t.Errorf("%s in its place: %v", what, err)
			}
			if got := all(kept(path)); got != "a x1, b x1" && !(what == "nothing" && got == "b x1") {
				t.Errorf("%s in its place: %s", what, got)
			}
			if what == "another name" && strings.Count(read(t, path+"2"), "\n") != 1 {
				t.Error("the other file was written to")
			}
		}
	})
}

func TestTheFileIsBounded(t *testing.T) {
	path := place(t)
	s := kept(path)
	long, most := strings.Repeat("\x01", journal.MaxText-10), int64(0) // of which JSON makes six times as much
	for i := range 700 {
		s.Record(entry(i, fmt.Sprint(i)+long))
		if err := s.save(false); err != nil {
			t.Fatal(err)
		}
		fi, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		most = max(most, fi.Size())
	}
	if most > maxFile || most < maxFile/2 {
		t.Errorf("the file had up to %d bytes", most)
	}
	events, _ := s.Since(0)
	again, _ := kept(path).Since(0)
	if len(again) < 100 || again[len(again)-1].Name != events[len(events)-1].Name {
		t.Errorf("%d of %d events are kept", len(again), len(events))
	}
	if entries, err := os.ReadDir(filepath.Dir(path)); err != nil || len(entries) != 1 {
		t.Errorf("%v, %v", entries, err)
	}
	// Small ones are all there, whenever the file was written anew.
	path = place(t)
	s = kept(path)
	for i := range 6000 {
		s.Record(entry(i, fmt.Sprint(i)))
		if i%70 == 0 {
			if err := s.save(false); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := s.save(true); err != nil {
		t.Fatal(err)
	}
	if want, got := all(s), all(kept(path)); got != want {
		t.Errorf("kept are %.200s, not %.200s", got, want)
	}
}

// A disk that is full or read-only is no hindrance, and once it is none all is written that is remembered.
func TestADiskThatIsFullOrReadOnly(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Skipf("no tmpfs can be mounted here: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	path := filepath.Join(dir, "mini-kubelet", "events.jsonl")
	s := kept(path)
	s.Record(entry(0, "a"))
	if err := s.save(false); err != nil {
		t.Fatal(err)
	}
	for i := range 200 {
		s.Record(entry(i, fmt.Sprintf("%d %s", i, strings.Repeat("x", 500))))
	}
	if err := s.save(false); !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("a full disk: %v", err)
	}
	if got := all(kept(path)); !strings.HasPrefix(got, "a x1") {
		t.Errorf("on the full disk: %.100s", got)
	}
	remount := func(flags uintptr, options string) {
		t.Helper()
		if err := unix.Mount("", dir, "", unix.MS_REMOUNT|flags, options); err != nil {
			t.Fatal(err)
		}
	}
	remount(unix.MS_RDONLY, "size=4m")
	if err := s.save(false); !errors.Is(err, unix.EROFS) {
		t.Fatalf("a read-only disk: %v", err)
	}
	if got := all(kept(path)); !strings.HasPrefix(got, "a x1") {
		t.Errorf("on the read-only disk: %.100s", got)
	}
	remount(0, "size=4m")
	if err := s.save(false); err != nil {
		t.Fatal(err)
	}
	if got, want := all(kept(path)), all(s); got != want {
		t.Errorf("once there is room: %.200s, want %.200s", got, want)
	}
}

// broken is a disk that says what it is told to, or waits.
type broken struct {
	mu     sync.Mutex
	err    error
	hang   chan struct{} // nil: it does not
	calls  int
	lines  []byte
	called chan struct{}
}

func (b *broken) read() ([]byte, error) { return nil, unix.EIO }

func (b *broken) append(lines []byte) (bool, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.calls++
	if b.hang != nil {
		b.called <- struct{}{}
		<-b.hang
		b.hang = nil
	}
	if b.err == nil {
		b.lines = append(b.lines, lines...)
	}
	return false, b.err
}

func (b *broken) replace([]byte) error { return b.err }

func (b *broken) set(err error) (calls int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.err = err
	return b.calls
}

func TestADiskThatFailsIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Config{MaxEvents: 10})
		b := &broken{err: unix.EIO}
		s.disk = b
		s.load()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx) }()
		for i := range 15 { // of which 5 are forgotten before they are written
			s.Record(entry(i, fmt.Sprint(i)))
			synctest.Wait()
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if calls := b.set(nil); calls < 5 || calls > 8 {
			t.Errorf("it was tried %d times in a minute", calls)
		}
		time.Sleep(retry)
		synctest.Wait()
		if n := bytes.Count(b.lines, []byte("\n")); n != 10 || s.takeDropped() != 0 {
			t.Errorf("%d lines once it works again", n)
		}
		if got := all(s); !strings.HasPrefix(got, "5 x1, ") {
			t.Error(got)
		}
		b.set(unix.EIO)
		s.Record(entry(20, "last"))
		synctest.Wait()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestADiskThatHangsHoldsUpNobody(t *testing.T) {
	s := New(Config{MaxEvents: 10})
	b := &broken{hang: make(chan struct{}), called: make(chan struct{})}
	s.disk = b
	stop := testrun.Start(t, s.Run)
	s.Record(entry(0, "first"))
	<-b.called
	for i := range 1000 {
		s.Record(entry(i, fmt.Sprint(i)))
	}
	if got := all(s); !strings.HasSuffix(got, "999 x1") {
		t.Error(got)
	}
	close(b.hang)
	stop()
	if n := bytes.Count(b.lines, []byte("\n")); n != 11 {
		t.Errorf("%d lines", n)
	}
}
