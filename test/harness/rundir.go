package harness

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"
)

// base holds the run directories of all test runs. It is short because Unix
// socket paths under it must stay below 108 bytes.
const base = "/tmp/mini-kubelet-test"

// run is the run directory of this process.
var run = sync.OnceValues(openRun)

type runDir struct {
	id   string // six hex digits, part of every name that this run gives
	dir  string
	lock *os.File
}

// openRun takes away what dead runs left and makes a directory for this one.
func openRun() (*runDir, error) {
	if err := os.MkdirAll(base, 0o755); err != nil {
		return nil, err
	}
	// Between making a directory and locking it, nobody else may look.
	gate, err := os.Open(base)
	if err != nil {
		return nil, err
	}
	defer gate.Close()
	if err := unix.Flock(int(gate.Fd()), unix.LOCK_EX); err != nil {
		return nil, err
	}
	if err := reapDeadRuns(); err != nil {
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
	return r, nil
}

// reapDeadRuns takes away what runs left whose processes are dead. A run is
// alive while its process holds the lock file of its directory.
func reapDeadRuns() error {
	entries, err := os.ReadDir(base)
	if err != nil {
		return err
	}
	for _, e := range entries {
		dir := filepath.Join(base, e.Name())
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
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("run directory %s is in use: %w", dir, err)
	}
	return f, nil
}

// closeRun takes the run directory of this process away, with all that was
// started in it.
func closeRun() error {
	r, err := run()
	if err != nil {
		return nil // it was never there
	}
	defer r.lock.Close()
	return Reap(r.dir)
}

var (
	dirMu  sync.Mutex
	dirSeq = map[string]int{}
)

// newDir makes a directory for one thing of this run and returns its path and
// its name, which no other thing of any run has.
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
