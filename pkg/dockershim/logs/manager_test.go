package logs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mini-kubelet/mini-kubelet/test/testrun"
)

func TestLineAppearsThoughNobodyPolls(t *testing.T) {
	d := newDockerLog(t, 1<<20, 3)
	cri := filepath.Join(t.TempDir(), "pods", "web", "0.log")
	m, _ := startManager(t, Config{StateDir: t.TempDir(), PollInterval: time.Hour})
	follow(t, m, d, cri)
	if fi, err := os.Stat(cri); err != nil || fi.Mode() != 0o640 {
		t.Fatalf("log after Follow: %v, %v", fi, err)
	}
	if fi, err := os.Stat(filepath.Dir(cri)); err != nil || fi.Mode().Perm() != 0o755 {
		t.Fatalf("directory after Follow: %v, %v", fi, err)
	}
	for i := range 20 {
		text := d.line(t, 0)
		testrun.Eventually(t, text, func() bool { return len(texts(t, cri)) == i+1 })
	}
}

func TestEverythingIsCopiedThroughRotationsByDocker(t *testing.T) {
	d := newDockerLog(t, 64<<10, 9)
	cri := filepath.Join(t.TempDir(), "0.log")
	m, _ := startManager(t, Config{StateDir: t.TempDir(), PollInterval: time.Hour})
	follow(t, m, d, cri)
	var want []string
	for i := range 8000 {
		want = append(want, d.line(t, i%700))
		if i%400 == 399 { // do not outrun this small retention
			testrun.Eventually(t, "caught up", func() bool { return len(texts(t, cri)) == len(want) })
		}
	}
	finish(t, m, "c1")
	sameLines(t, texts(t, cri), want)
}

func TestDockerRotatedSeveralTimesBetweenLooks(t *testing.T) {
	for rotations := range 4 {
		t.Run(fmt.Sprint(rotations), func(t *testing.T) {
			d := newDockerLog(t, 1000, 5)
			cri, state := filepath.Join(t.TempDir(), "0.log"), t.TempDir()
			m, stop := startManager(t, Config{StateDir: state})
			follow(t, m, d, cri)
			want := []string{d.line(t, 10)}
			testrun.Eventually(t, "first line", func() bool { return len(texts(t, cri)) == 1 })
			stop()
			for size := int64(0); size < 1000*int64(rotations)+500; size += 180 {
				want = append(want, d.line(t, 100))
			}
			m, _ = startManager(t, Config{StateDir: state})
			follow(t, m, d, cri)
			finish(t, m, "c1")
			sameLines(t, texts(t, cri), want)
		})
	}
}

func TestLossBeyondDockersRetentionIsTold(t *testing.T) {
	d := newDockerLog(t, 1000, 3)
	cri, state := filepath.Join(t.TempDir(), "0.log"), t.TempDir()
	m, stop := startManager(t, Config{StateDir: state})
	follow(t, m, d, cri)
	first := d.line(t, 10)
	testrun.Eventually(t, "first line", func() bool { return len(texts(t, cri)) == 1 })
	stop()
	var want []string
	for range 100 {
		want = append(want, d.line(t, 100))
	}
	m, _ = startManager(t, Config{StateDir: state})
	follow(t, m, d, cri)
	finish(t, m, "c1")
	got := texts(t, cri)
	if got[0] != first || !strings.Contains(got[1], "lines are missing here") {
		t.Fatalf("log begins with %q", got[:2])
	}
	if kept := len(got) - 2; kept < 10 {
		t.Errorf("only %d lines that Docker had kept", kept)
	}
	sameLines(t, got[2:], want[len(want)-len(got)+2:])
}

func TestPartialLines(t *testing.T) {
	d := newDockerLog(t, 1<<20, 3)
	cri := filepath.Join(t.TempDir(), "0.log")
	m, _ := startManager(t, Config{StateDir: t.TempDir()})
	follow(t, m, d, cri)
	piece := strings.Repeat("a", maxText)
	now := time.Now()
	for range 3 {
		d.record(t, piece, now)
	}
	d.record(t, "end\n", now)
	d.record(t, "no newline", now)
	finish(t, m, "c1")
	sameLines(t, texts(t, cri), []string{piece + piece + piece + "end", "no newline[unterminated]"})
}

func TestRenameAndReopen(t *testing.T) {
	d := newDockerLog(t, 64<<10, 3)
	cri := filepath.Join(t.TempDir(), "0.log")
	m, _ := startManager(t, Config{StateDir: t.TempDir()})
	follow(t, m, d, cri)
	var want []string
	write := func(n int) {
		for range n {
			want = append(want, d.line(t, 30))
		}
		testrun.Eventually(t, "copied", func() bool { return len(texts(t, cri)) == len(want) })
	}
	write(100)
	for i := range 5 {
		old := fmt.Sprintf("%s.%d", cri, i+1)
		if err := os.Rename(cri, old); err != nil {
			t.Fatal(err)
		}
		// Until Reopen lines still go to the renamed file, as kubelet expects: should
		// Reopen fail it renames back.
		before, err := os.Stat(old)
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, d.line(t, 30))
		testrun.Eventually(t, "line in the renamed file", func() bool {
			fi, err := os.Stat(old)
			return err == nil && fi.Size() > before.Size()
		})
		if err := m.Reopen("c1"); err != nil {
			t.Fatal(err)
		}
		if fi, err := os.Stat(cri); err != nil || fi.Size() != 0 {
			t.Fatalf("after Reopen: %v, %v", fi, err)
		}
		write(100)
	}
	sameLines(t, texts(t, cri), want)
	if err := m.Reopen("c1"); err != nil { // nothing was renamed
		t.Fatal(err)
	}
	sameLines(t, texts(t, cri), want)
}

// The agent was killed after it had made the new file, and before it was on record that lines
// go there.
func TestKilledWhileReopening(t *testing.T) {
	for name, beyond := range map[string]int{"all is on record": 0, "the old file holds more": 50} {
		t.Run(name, func(t *testing.T) {
			d := newDockerLog(t, 64<<10, 3)
			cri, state := filepath.Join(t.TempDir(), "0.log"), t.TempDir()
			var want []string
			write := func(n int) {
				for range n {
					want = append(want, d.line(t, 30))
				}
			}
			m, stop := startManager(t, Config{StateDir: state})
			follow(t, m, d, cri)
			write(100)
			testrun.Eventually(t, "copied", func() bool { return len(texts(t, cri)) == 100 })
			stop()
			record, err := os.ReadFile(filepath.Join(state, "c1"))
			if err != nil {
				t.Fatal(err)
			}
			m, stop = startManager(t, Config{StateDir: state})
			follow(t, m, d, cri)
			write(beyond)
			testrun.Eventually(t, "copied", func() bool { return len(texts(t, cri)) == 100+beyond })
			stop()
			if err := os.WriteFile(filepath.Join(state, "c1"), record, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Rename(cri, cri+".1"); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(cri, nil, 0o640); err != nil {
				t.Fatal(err)
			}

			m, stop = startManager(t, Config{StateDir: state})
			follow(t, m, d, cri)
			testrun.Eventually(t, "the new file is the log's", func() bool {
				p, ok := loadPosition(filepath.Join(state, "c1"))
				now, err := statPath(cri)
				return ok && err == nil && p.CRI == now.fileID
			})
			write(100)
			finish(t, m, "c1")
			stop()
			sameLines(t, texts(t, cri), want)
			if fi, err := os.Stat(cri); err != nil || fi.Size() == 0 {
				t.Errorf("the log has no lines: %v", err)
			}
		})
	}
}

// As long as it cannot be put on record where lines go, they go where the record says.
func TestReopeningThatCannotBeRecorded(t *testing.T) {
	d := newDockerLog(t, 64<<10, 3)
	dir := t.TempDir()
	cri := filepath.Join(dir, "0.log")
	f := &follower{id: "c1", dockerPath: d.path, criPath: cri, statePath: filepath.Join(dir, "state", "c1"), fresh: true}
	if err := os.Mkdir(filepath.Join(dir, "state"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := f.begin(); err != nil {
		t.Fatal(err)
	}
	want := []string{d.line(t, 30)}
	if _, err := f.pump(); err != nil {
		t.Fatal(err)
	}
	for old, new := range map[string]string{cri: cri + ".1", filepath.Join(dir, "state"): filepath.Join(dir, "away")} {
		if err := os.Rename(old, new); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.reopen(); err == nil {
		t.Fatal("reopened without a record")
	}
	want = append(want, d.line(t, 30))
	_, _ = f.pump()
	if err := os.Rename(filepath.Join(dir, "away"), filepath.Join(dir, "state")); err != nil {
		t.Fatal(err)
	}
	// Killed: only what is on disk counts.
	f = &follower{id: f.id, dockerPath: f.dockerPath, criPath: f.criPath, statePath: f.statePath, fresh: true}
	if err := f.begin(); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if _, err := f.pump(); err != nil {
			t.Fatal(err)
		}
		want = append(want, d.line(t, 30))
	}
	if _, err := f.pump(); err != nil {
		t.Fatal(err)
	}
	sameLines(t, texts(t, cri), want)
}

func TestLogDeletedOrTruncatedBySomeoneElse(t *testing.T) {
	d := newDockerLog(t, 64<<10, 3)
	cri := filepath.Join(t.TempDir(), "web", "0.log")
	m, _ := startManager(t, Config{StateDir: t.TempDir()})
	follow(t, m, d, cri)
	count := func(n int) func() bool {
		return func() bool {
			_, err := os.Stat(cri)
			return err == nil && len(texts(t, cri)) == n
		}
	}
	d.line(t, 0)
	testrun.Eventually(t, "first line", count(1))
	if err := os.Truncate(cri, 0); err != nil {
		t.Fatal(err)
	}
	d.line(t, 0)
	testrun.Eventually(t, "line after truncation", count(1))
	if err := os.RemoveAll(filepath.Dir(cri)); err != nil {
		t.Fatal(err)
	}
	d.line(t, 0)
	testrun.Eventually(t, "line after removal", count(1))
	if got := texts(t, cri)[0]; !strings.HasPrefix(got, "line 3") {
		t.Errorf("line %q", got)
	}
}

func TestDockersLogTruncatedByHand(t *testing.T) {
	d := newDockerLog(t, 64<<10, 3)
	cri := filepath.Join(t.TempDir(), "0.log")
	m, _ := startManager(t, Config{StateDir: t.TempDir()})
	follow(t, m, d, cri)
	for range 10 {
		d.line(t, 100)
	}
	testrun.Eventually(t, "ten lines", func() bool { return len(texts(t, cri)) == 10 })
	d.f.Close()
	d.open(t) // truncates
	d.line(t, 0)
	finish(t, m, "c1")
	got := texts(t, cri)
	if len(got) != 12 || !strings.Contains(got[10], "missing") || !strings.HasPrefix(got[11], "line 11") {
		t.Errorf("log ends with %q", got[10:])
	}
}

func TestLostOrDamagedPositionIsFoundAgain(t *testing.T) {
	damage := map[string]func(t *testing.T, position, cri string){
		"position is lost": func(t *testing.T, position, cri string) {
			if err := os.Remove(position); err != nil {
				t.Fatal(err)
			}
		},
		"position is torn": func(t *testing.T, position, cri string) {
			if err := os.Truncate(position, 20); err != nil {
				t.Fatal(err)
			}
		},
		"end of the log was lost in a power cut": func(t *testing.T, position, cri string) {
			if err := os.Truncate(cri, 3000); err != nil {
				t.Fatal(err)
			}
		},
		"end of the log and position were lost": func(t *testing.T, position, cri string) {
			if err := errors.Join(os.Truncate(cri, 3000), os.Remove(position)); err != nil {
				t.Fatal(err)
			}
		},
	}
	for name, damage := range damage {
		t.Run(name, func(t *testing.T) {
			d := newDockerLog(t, 8000, 9)
			cri, state := filepath.Join(t.TempDir(), "0.log"), t.TempDir()
			m, stop := startManager(t, Config{StateDir: state})
			follow(t, m, d, cri)
			var want []string
			now := time.Now()
			for range 100 {
				want = append(want, d.line(t, 100))
				d.record(t, "same\n", now) // equal lines of equal time
				want = append(want, "same")
			}
			testrun.Eventually(t, "copied", func() bool { return len(texts(t, cri)) == len(want) })
			stop()
			damage(t, filepath.Join(state, "c1"), cri)
			for range 10 {
				want = append(want, d.line(t, 100))
			}
			m, _ = startManager(t, Config{StateDir: state})
			follow(t, m, d, cri)
			finish(t, m, "c1")
			got := texts(t, cri)
			if name == "end of the log and position were lost" {
				// The torn line cannot be told from a foreign one: it stays, and comes again.
				for i := range got {
					if got[i] != want[i] {
						got = append(got[:i], got[i+1:]...)
						break
					}
				}
			}
			sameLines(t, got, want)
		})
	}
}

func TestLinesOfAnEarlierContainerStay(t *testing.T) {
	d := newDockerLog(t, 8000, 3)
	cri := filepath.Join(t.TempDir(), "0.log")
	old := "2099-01-01T00:00:00Z stdout F of another container\n2099-01-01T00:00:00Z stdout F torn"
	if err := os.WriteFile(cri, []byte(old), 0o640); err != nil {
		t.Fatal(err)
	}
	m, _ := startManager(t, Config{StateDir: t.TempDir()})
	follow(t, m, d, cri)
	want := []string{"of another container", "torn", d.line(t, 0), d.line(t, 0)}
	finish(t, m, "c1")
	sameLines(t, texts(t, cri), want)
}

func TestSymbolicLinkIsRefused(t *testing.T) {
	d := newDockerLog(t, 8000, 3)
	dir := t.TempDir()
	target, cri := filepath.Join(dir, "target"), filepath.Join(dir, "0.log")
	m, _ := startManager(t, Config{StateDir: t.TempDir()})
	if err := os.Symlink(target, cri); err != nil {
		t.Fatal(err)
	}
	if err := m.Follow(context.Background(), "c1", d.path, cri); err == nil || !strings.Contains(err.Error(), "symbolic link") {
		t.Errorf("dangling link: %v", err)
	}
	if err := os.WriteFile(target, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := m.Follow(context.Background(), "c1", d.path, cri); err == nil || !strings.Contains(err.Error(), "symbolic link") {
		t.Errorf("link: %v", err)
	}
	// Nor when it comes later.
	if err := os.Remove(cri); err != nil {
		t.Fatal(err)
	}
	follow(t, m, d, cri)
	if err := errors.Join(os.Remove(cri), os.Symlink(target, cri)); err != nil {
		t.Fatal(err)
	}
	d.line(t, 0)
	if err := m.Finish(context.Background(), "c1"); err == nil {
		t.Error("wrote through a link")
	}
	if b, err := os.ReadFile(target); string(b) != "precious" {
		t.Errorf("target of the link is now %q, %v", b, err)
	}
	fifo := filepath.Join(dir, "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := m.Follow(context.Background(), "c2", d.path, fifo); err == nil || !strings.Contains(err.Error(), "regular") {
		t.Errorf("fifo: %v", err)
	}
}

func TestBadInput(t *testing.T) {
	m, _ := startManager(t, Config{StateDir: t.TempDir()})
	ctx := context.Background()
	for _, tc := range [][3]string{{"", "/a/b", "/c"}, {"../x", "/a/b", "/c"}, {"a/b", "/a/b", "/c"}, {".", "/a/b", "/c"}, {"c1", "", "/c"}, {"c1", "/a/b", "c"}} {
		if err := m.Follow(ctx, tc[0], tc[1], tc[2]); err == nil {
			t.Errorf("Follow%q succeeded", tc)
		}
	}
	if err := m.Reopen("nobody"); !errors.Is(err, ErrNotFollowed) {
		t.Errorf("Reopen: %v", err)
	}
	if err := m.Finish(ctx, "nobody"); !errors.Is(err, ErrNotFollowed) {
		t.Errorf("Finish: %v", err)
	}
	m.Forget("nobody")
	if _, err := New(Config{}); err == nil {
		t.Error("New without StateDir succeeded")
	}
}

func TestDiskFull(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Skipf("needs to mount a small filesystem: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	ballast := filepath.Join(dir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 40<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	d := newDockerLog(t, 1<<20, 3)
	cri, state := filepath.Join(dir, "0.log"), t.TempDir()
	m, stop := startManager(t, Config{StateDir: state})
	follow(t, m, d, cri)
	var want []string
	for range 300 {
		want = append(want, d.line(t, 70)) // about 36 KiB
	}
	if err := m.Finish(context.Background(), "c1"); !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("Finish on a full disk: %v", err)
	}
	// What is there ends with a whole line, and survives another agent.
	got := texts(t, cri)
	sameLines(t, got, want[:len(got)])
	stop()
	m, _ = startManager(t, Config{StateDir: state})
	follow(t, m, d, cri)
	if err := m.Finish(context.Background(), "c1"); !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("Finish on a full disk: %v", err)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	testrun.Eventually(t, "copied once there is space", func() bool { return len(texts(t, cri)) == len(want) })
	sameLines(t, texts(t, cri), want)
}

func TestForgetDropsThePosition(t *testing.T) {
	state := t.TempDir()
	d := newDockerLog(t, 1<<20, 3)
	cri := filepath.Join(t.TempDir(), "0.log")
	m, _ := startManager(t, Config{StateDir: state})
	follow(t, m, d, cri)
	d.line(t, 0)
	finish(t, m, "c1")
	position := filepath.Join(state, "c1")
	if _, err := os.Stat(position); err != nil {
		t.Fatal(err)
	}
	m.Forget("c1")
	if _, err := os.Stat(position); !os.IsNotExist(err) {
		t.Errorf("position after Forget: %v", err)
	}
	if err := m.Reopen("c1"); !errors.Is(err, ErrNotFollowed) {
		t.Errorf("Reopen after Forget: %v", err)
	}

}

// A container may vanish while no agent runs. Others keep files in the directory, too.
func TestNewPrunesPositionsAndNothingElse(t *testing.T) {
	state := t.TempDir()
	id := func(digit string) string { return filepath.Join(state, strings.Repeat(digit, 64)) }
	docker := t.TempDir()
	gone := position{Docker: fileID{Inode: 1}, Log: filepath.Join(docker, "gone", "gone-json.log")}
	there := gone
	there.Log = filepath.Join(docker, "there", "there-json.log")
	theirs := []string{filepath.Join(state, "my-own.log"), filepath.Join(state, "c0ffee"), id("2"), id("3"), id("4") + ".tmp"}
	for _, err := range []error{
		os.Mkdir(filepath.Dir(there.Log), 0o700), there.save(id("0")), gone.save(id("1")),
		os.WriteFile(id("5")+".tmp", []byte("{"), 0o600), os.WriteFile(id("6"), nil, 0o600),
		os.WriteFile(theirs[0], nil, 0o600), os.WriteFile(theirs[1], nil, 0o600),
		os.MkdirAll(filepath.Join(theirs[2], "not", "empty"), 0o700), unix.Mkfifo(theirs[3], 0o600), os.Symlink("my-own.log", theirs[4]),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := New(Config{StateDir: state}); err != nil {
		t.Fatal(err)
	}
	left, err := filepath.Glob(filepath.Join(state, "*"))
	want := append(theirs, id("0"))
	slices.Sort(want)
	if err != nil || !slices.Equal(left, want) {
		t.Errorf("left are %q, want %q (%v)", left, want, err)
	}
}

// Hundreds of idle logs hold no goroutine and no file.
func TestIdleLogsHoldNothing(t *testing.T) {
	m, _ := startManager(t, Config{StateDir: t.TempDir()})
	first, firstLog := newDockerLog(t, 1<<20, 3), filepath.Join(t.TempDir(), "0.log")
	follow(t, m, first, firstLog)
	first.line(t, 0)
	testrun.Eventually(t, "running", func() bool { return len(texts(t, firstLog)) == 1 })
	goroutines, files := runtime.NumGoroutine(), openFDs(t)
	dir := t.TempDir()
	for i := range 300 {
		id := fmt.Sprintf("id%d", i)
		if err := os.MkdirAll(filepath.Join(dir, id), 0o700); err != nil {
			t.Fatal(err)
		}
		path, cri := filepath.Join(dir, id, id+"-json.log"), filepath.Join(dir, id, "0.log")
		rec := `{"log":"hi\n","stream":"stdout","time":"2026-11-21T03:30:03.714085622Z"}` + "\n"
		if err := os.WriteFile(path, []byte(rec), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := m.Follow(context.Background(), id, path, cri); err != nil {
			t.Fatal(err)
		}
	}
	testrun.Eventually(t, "all copied", func() bool {
		for i := range 300 {
			if len(texts(t, filepath.Join(dir, fmt.Sprintf("id%d", i), "0.log"))) != 1 {
				return false
			}
		}
		return true
	})
	testrun.Eventually(t, "no goroutine and no file more than before", func() bool {
		return runtime.NumGoroutine() <= goroutines && openFDs(t) <= files
	})
}

func openFDs(t testing.TB) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// A container that runs as root can take all inotify instances that root has.
func TestLinesAreCopiedWithoutInotify(t *testing.T) {
	if !testrun.WithoutInotify(t) {
		return
	}
	d := newDockerLog(t, 1<<20, 3)
	cri := filepath.Join(t.TempDir(), "0.log")
	m, _ := startManager(t, Config{StateDir: t.TempDir(), PollInterval: time.Hour})
	follow(t, m, d, cri)
	for i := range 3 {
		text := d.line(t, 0)
		testrun.Eventually(t, text, func() bool { return len(texts(t, cri)) == i+1 })
	}
	if m.events != nil {
		t.Error("there is an inotify instance")
	}
}
