package volume

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/tree"
	"github.com/mini-kubelet/mini-kubelet/test/treetest"
)

func groupPod(gid int64) *v1.Pod {
	pod := testPod()
	pod.Spec.SecurityContext = &v1.PodSecurityContext{FSGroup: &gid}
	return pod
}

func openedPlace(t *testing.T, path string) *os.File {
	t.Helper()
	f, err := openPlace(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// owner tells nobody.
var owner = &Manager{warn: func(*v1.Pod, string, string) {}}

func TestAPodIsToldOfAVolumeThatTakesLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		events := make(chan string, 100)
		var files atomic.Int64
		stop := tellSlow(reportName("/var/lib/kubelet/pods/uid-1/volumes/x", "uid-1"), files.Load, func(m string) { events <- m })
		time.Sleep(firstSlowTold - time.Second)
		synctest.Wait()
		if len(events) != 0 {
			t.Errorf("told before it is slow: %q", <-events)
		}
		time.Sleep(time.Second)
		files.Store(700)
		time.Sleep(againSlowTold)
		synctest.Wait()
		stop()
		time.Sleep(time.Hour)
		close(events)
		var told []string
		for m := range events {
			told = append(told, m)
		}
		if len(told) != 2 || !strings.HasPrefix(told[0], "Setting volume ownership for uid-1/volumes/x is taking longer than expected, consider using OnRootMismatch - https://") ||
			told[1] != "Setting volume ownership for uid-1/volumes/x, processed 700 files." {
			t.Errorf("told %q", told)
		}
	})
}

func TestOwnershipIsChangedByPolicy(t *testing.T) {
	needRoot(t)
	onMismatch := v1.FSGroupChangeOnRootMismatch
	for name, tt := range map[string]struct {
		policy  *v1.PodFSGroupChangePolicy
		root    int // group of the root
		changed bool
	}{
		"always":                  {nil, 4321, true},
		"on mismatch, mismatched": {&onMismatch, 1, true},
		"on mismatch, matching":   {&onMismatch, 4321, false},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, filepath.Join(dir, "f"), "")
			if err := os.Symlink("/etc/hostname", filepath.Join(dir, "link")); err != nil {
				t.Fatal(err)
			}
			if err := os.Chown(dir, -1, tt.root); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(dir, 0o770|os.ModeSetgid); err != nil {
				t.Fatal(err)
			}
			pod := testPod()
			pod.Spec.SecurityContext = &v1.PodSecurityContext{FSGroup: ptr.To(int64(4321)), FSGroupChangePolicy: tt.policy}
			if err := owner.setOwnershipOf(t.Context(), dir, pod); err != nil {
				t.Fatal(err)
			}
			group := func(p string) uint32 {
				fi, err := os.Stat(p)
				if err != nil {
					t.Fatal(err)
				}
				return fi.Sys().(*syscall.Stat_t).Gid
			}
			if got := group(filepath.Join(dir, "f")) == 4321; got != tt.changed || tt.changed && !hasGroup(openedPlace(t, dir), 4321) {
				t.Errorf("changed: %v, want %v", got, tt.changed)
			}
			if group("/etc/hostname") == 4321 {
				t.Error("a link was followed")
			}
		})
	}
}

// A pod that already has the volume replaces a directory with a link while another
// pod's fsGroup is applied: no file of the host is given to the group.
func TestOwnershipIsSafeAgainstAContainerThatExchangesDirectoriesForLinks(t *testing.T) {
	needRoot(t)
	for name, names := range map[string]struct{ inVolume, onHost string }{
		"the same names in both": {"f", "f"},      // won by the chmod of what was listed
		"other names":            {"f", "only/h"}, // won by the walk following the link
	} {
		t.Run(name, func(t *testing.T) {
			base := t.TempDir()
			host, vol := filepath.Join(base, "host"), filepath.Join(base, "vol")
			for _, d := range []string{filepath.Join(host, "only"), filepath.Join(vol, "d")} {
				if err := os.MkdirAll(d, 0o755); err != nil {
					t.Fatal(err)
				}
			}
			var files []string
			for i := range 200 {
				write(t, filepath.Join(vol, "d", names.inVolume+fmt.Sprint(i)), "")
				files = append(files, filepath.Join(host, names.onHost+fmt.Sprint(i)))
				write(t, files[i], "secret")
				if err := os.Chmod(files[i], 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.Symlink(host, filepath.Join(vol, "l")); err != nil {
				t.Fatal(err)
			}
			treetest.Exchange(t, filepath.Join(vol, "d"), filepath.Join(vol, "l"))
			// The old walk by paths lost within 15 ms.
			walks := 0
			for start := time.Now(); walks < 10 || time.Since(start) < 2*time.Second; walks++ {
				if err := owner.setOwnershipOf(t.Context(), vol, groupPod(4242)); err != nil {
					t.Fatal(err)
				}
				for _, f := range files {
					if st := stat(t, f); st.Gid != 0 || st.Mode&0o7777 != 0o600 {
						t.Fatalf("after %d walks: %s of the host has group %d and mode %o", walks, f, st.Gid, st.Mode)
					}
				}
			}
		})
	}
}

func stat(t *testing.T, path string) (st unix.Stat_t) {
	t.Helper()
	if err := unix.Lstat(path, &st); err != nil {
		t.Fatal(err)
	}
	return st
}

// The modes are the kubelet's; nothing is opened that waits or has effects when
// opened.
func TestOwnershipOfEachKindOfFile(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	for name, mode := range map[string]uint32{
		"plain": unix.S_IFREG | 0o600, "program": unix.S_IFREG | 0o755, "setuid": unix.S_IFREG | 0o4755, "no rights": unix.S_IFREG,
		"pipe": unix.S_IFIFO | 0o600, "socket": unix.S_IFSOCK | 0o600, "null": unix.S_IFCHR | 0o600,
	} {
		if err := unix.Mknod(at(name), mode, int(unix.Mkdev(1, 3))); err != nil {
			t.Fatal(err)
		}
		if err := unix.Chmod(at(name), mode&0o7777); err != nil { // without the umask
			t.Fatal(err)
		}
	}
	for _, d := range []string{"mounted", "empty", "below"} {
		if err := os.Mkdir(at(d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	write(t, at("below/f"), "")
	outside := t.TempDir()
	write(t, filepath.Join(outside, "f"), "")
	treetest.Bind(t, outside, at("mounted"))
	for link, err := range map[string]error{
		"link": os.Symlink(filepath.Join(outside, "f"), at("link")), "second name": os.Link(at("plain"), at("second name")),
	} {
		if err != nil {
			t.Fatal(link, err)
		}
	}
	before := stat(t, filepath.Join(outside, "f"))
	if err := owner.setOwnershipOf(t.Context(), dir, groupPod(4321)); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]uint32{
		"plain": 0o660, "second name": 0o660, "program": 0o775, "setuid": 0o4775, "no rights": 0o660, "pipe": 0o660, "socket": 0o660, "null": 0o660,
		"link": 0o777, "below": 0o2770, "below/f": 0o660, "empty": 0o2770, ".": 0o2770,
	} {
		if st := stat(t, at(name)); st.Gid != 4321 || st.Mode&0o7777&^0o005 != want&^0o005 {
			t.Errorf("%s has group %d and mode %o, want %o", name, st.Gid, st.Mode&0o7777, want)
		}
	}
	if st := stat(t, filepath.Join(outside, "f")); st.Gid != before.Gid || st.Mode != before.Mode || stat(t, at("mounted")).Gid == 4321 {
		t.Error("something outside was given to the group")
	}
}

func TestOwnershipOfWhatIsTooDeepIsAnErrorThatSaysSo(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	vol := filepath.Join(dir, "vol")
	if err := os.Mkdir(vol, 0o755); err != nil {
		t.Fatal(err)
	}
	treetest.Deep(t, vol, 5000)
	err := owner.setOwnershipOf(t.Context(), vol, groupPod(4321))
	want := "give volume to group 4321: " + vol + "/..." + strings.Repeat("/directory", 8) + ": more than 4096 directories below each other"
	if !errors.Is(err, tree.ErrTooDeep) || err.Error() != want {
		t.Errorf("error = %v, want %s", err, want)
	}
	if stat(t, vol).Gid == 4321 {
		t.Error("the volume looks as if all of it was given")
	}
	if err := tree.Remove(t.Context(), dir, "vol"); err != nil { // t.TempDir cannot
		t.Error(err)
	}
}
