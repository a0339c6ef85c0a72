package logs

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mini-kubelet/mini-kubelet/test/safefiletest"
)

func emptyFile(t *testing.T) string {
	path := filepath.Join(t.TempDir(), "0.log")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestLogThatIsNone: a pod with a hostPath can put anything in the place of a log.
func TestLogThatIsNone(t *testing.T) {
	t.Run("CRI", func(t *testing.T) { safefiletest.Each(t, emptyFile, appends) })
	t.Run("Docker", func(t *testing.T) { safefiletest.Each(t, emptyFile, reads) })
}

func appends(t *testing.T, what, path string) {
	f, err := openCRI(path, true)
	if appends := what == safefiletest.Grown || what == safefiletest.Removed; (err == nil) != appends {
		t.Errorf("%v", err)
	}
	if err == nil {
		f.Close()
	}
}

func reads(t *testing.T, what, path string) {
	s, err := openFile(path)
	if reads := what == safefiletest.Grown || what == safefiletest.HardLink; (err == nil) != reads {
		t.Errorf("%v", err)
	}
	if err == nil {
		s.Close()
	}
}

// TestPositionThatIsNone: neither a start nor a copy waits for what is in the place of a
// position, or goes through it.
func TestPositionThatIsNone(t *testing.T) {
	safefiletest.Each(t, emptyFile, func(t *testing.T, _, path string) {
		if p, ok := loadPosition(path); ok {
			t.Errorf("read %+v", p)
		}
		if err := prunePositions(filepath.Dir(path)); err != nil {
			t.Errorf("prune: %v", err)
		}
	})
	beside := func(t *testing.T) string {
		path := emptyFile(t) + ".tmp"
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	safefiletest.Each(t, beside, func(t *testing.T, what, path string) {
		if err := (position{Size: 1}).save(path[:len(path)-len(".tmp")]); (err == nil) != (what != safefiletest.Directory) {
			t.Errorf("save: %v", err)
		}
	})
}

func TestFollowingALogThatGrewIsBounded(t *testing.T) {
	d, path := newDockerLog(t, 1<<20, 3), emptyFile(t)
	if err := os.Truncate(path, 8<<40); err != nil {
		t.Fatal(err)
	}
	want := d.line(t, 10)
	m, _ := startManager(t, Config{StateDir: t.TempDir()})
	safefiletest.Within(t, func() {
		if err := m.Follow(context.Background(), "c1", d.path, path); err != nil {
			t.Error(err)
		} else if err := m.Finish(context.Background(), "c1"); err != nil {
			t.Error(err)
		}
	})
	end := make([]byte, 1<<10)
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	n, _ := f.ReadAt(end, fi.Size()-int64(len(end)))
	if got := string(end[:n]); !strings.HasSuffix(got, want+"\n") {
		t.Errorf("the end is %q, want the line %q", got, want)
	}
}
