package harness

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// base contains the run directories of all test runs. It is short because Unix
// socket paths under it must stay below 108 bytes.
const base = "/tmp/mini-kubelet-test"

// run is the run directory of this process.
var run = sync.OnceValues(openRun)

type runDir struct {
	id   string // six hex digits, part of every name that this run gives
	dir  string
	lock *os.File
}

// openRun removes what dead runs left, and makes a directory for this one.
func openRun() (*runDir, error) {
	gate, err := openBase()
	if err != nil {
		return nil, err
	}
	defer gate.Close()
	if err := reapDeadRuns(); err != nil {
		return nil, err
	}
	if err := noteMissing(missingDirs); err != nil {
		return nil, err
	}
	b := make([]byte, 3)
	if _, err := rand.Read(b); err != nil {
		return nil, err
	}
	r := &runDir{id: hex.EncodeToString(b)}
	r.dir = filepath.Join(base, r.id)
	if err := os.Mkdir(r.dir, 0o755); err != nil {
		return nil, err
	}
	if r.lock, err = lockRun(r.dir); err != nil {
		return nil, err
	}
	if err := makeHome(r.dir); err != nil {
		return nil, err
	}
	return r, os.Setenv(runVariable, r.dir)
}

// missingDirs lists the directories of the machine that did not exist when the first of
// the current runs started.
const missingDirs = base + "/missing"

// openBase opens the directory of the run directories, and locks it until it is closed:
// a run that has made its directory but not yet locked it looks dead. If others may
// write to base, it is refused: root deletes what is found below.
func openBase() (*os.File, error) {
	if err := os.Mkdir(base, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, err
	}
	gate, err := os.OpenFile(base, unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	info, err := gate.Stat()
	if err == nil && (!own(info) || info.Mode().Perm()&0o022 != 0) {
		err = fmt.Errorf("%s belongs to somebody else, or others may write to it", base)
	}
	if err == nil {
		err = unix.Flock(int(gate.Fd()), unix.LOCK_EX)
	}
	if err != nil {
		gate.Close()
		return nil, err
	}
	return gate, nil
}

func own(info os.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(st.Uid) == os.Geteuid()
}

// runName is the form of run directories' names; nothing else in base is touched.
var runName = regexp.MustCompile(`^[0-9a-f]{6}$`)

// isRun distinguishes a run directory from what others may have put beside it.
func isRun(dir string) bool {
	info, err := os.Lstat(dir)
	if err != nil || !info.IsDir() || !own(info) || !runName.MatchString(filepath.Base(dir)) {
		return false
	}
	lock, err := os.Lstat(filepath.Join(dir, "lock"))
	if errors.Is(err, os.ErrNotExist) {
		_ = os.Remove(dir) // empty: it died before it did anything
		return false
	}
	return err == nil && lock.Mode().IsRegular()
}

// reapDeadRuns removes what is left of runs whose processes are dead. A run is
// alive while its process holds the lock file of its directory.
func reapDeadRuns() error {
	entries, err := os.ReadDir(base)
	if err != nil {
		return err
	}
	for _, e := range entries {
		dir := filepath.Join(base, e.Name())
		if !isRun(dir) {
			continue
		}
		lock, err := lockRun(dir)
		if err != nil {
			continue // in use
		}
		err = Reap(dir)
		lock.Close()
		if err != nil {
			return fmt.Errorf("take away what an earlier test run left in %s: %w", dir, err)
		}
	}
	return nil
}

// lockRun takes the lock of a run directory without waiting for it.
func lockRun(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("run directory %s is in use: %w", dir, err)
	}
	return f, nil
}

// closeRun removes the run directory of this process, with everything started in
// it.
func closeRun() error {
	r, err := run()
	if err != nil {
		return nil // it never existed
	}
	defer r.lock.Close()
	if err := Reap(r.dir); err != nil {
		return err
	}
	gate, err := openBase()
	if err != nil {
		return err
	}
	defer gate.Close()
	if entries, err := os.ReadDir(base); err == nil && !slices.ContainsFunc(entries, func(e os.DirEntry) bool { return isRun(filepath.Join(base, e.Name())) }) {
		removeMissing(missingDirs) // this was the last run
	}
	return nil
}

// Dir makes a directory of this run, for what must be found again and undone even if the
// test is killed.
func Dir(t T, kind string) string {
	t.Helper()
	dir, _, err := newDir(kind)
	if err != nil {
		t.Fatalf("%v", err)
	}
	return dir
}

// CgroupRoot is the name of a cgroup of this run, for an agent that the harness does not
// start; it is removed with the run.
func CgroupRoot(t T) string {
	t.Helper()
	dir, name, err := newDir("g")
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, cgroupFile), []byte("/n"+name+"\n"), 0o644)
	}
	if err != nil {
		t.Fatalf("%v", err)
	}
	return "/n" + name
}

var (
	dirMu  sync.Mutex
	dirSeq = map[string]int{}
)

// newDir makes a directory for one thing of this run and returns its path and its
// name, which nothing else in any run has.
func newDir(kind string) (dir, name string, err error) {
	r, err := run()
	if err != nil {
		return "", "", err
	}
	dirMu.Lock()
	dirSeq[kind]++
	short := fmt.Sprintf("%s%d", kind, dirSeq[kind])
	dirMu.Unlock()
	dir = filepath.Join(r.dir, short)
	return dir, r.id + short, os.Mkdir(dir, 0o755)
}
