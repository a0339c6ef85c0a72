package volume

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/tree"
)

// The rights that a volume's group gets, as with the kubelet: to read and write
// everything and to enter directories; new entries belong to the group as well.
const (
	groupFile = 0o660
	groupDir  = 0o770 | unix.S_ISGID
)

// setOwnership gives a volume that was just mounted to the pod's fsGroup, according to
// fsGroupChangePolicy. A file that cannot be changed is skipped (kubelet behaviour).
// Another pod may have the volume and change it meanwhile: only what was opened is
// changed, never a path, so that no link leads out of the volume. Links are changed, not
// followed; pipes and devices are changed without being opened; what is mounted within
// the volume is left alone.
//
// A file with several hard links is changed as well (the kubelet does so, and package
// stores are full of them). This gives a pod no access to a file of the host: a hard link
// stays within one mount, so a container that can link a file into a volume already has
// the file there.
func (m *Manager) setOwnership(ctx context.Context, root *os.File, pod *v1.Pod) error {
	gid := fsGroup(pod)
	if gid == nil {
		return nil
	}
	if p := pod.Spec.SecurityContext.FSGroupChangePolicy; p != nil && *p == v1.FSGroupChangeOnRootMismatch && hasGroup(root, int(*gid)) {
		return nil
	}
	g := giver{gid: int(*gid)}
	defer tellSlow(reportName(root.Name(), pod.UID), g.seen.Load, func(message string) { m.warn(pod, slowOwnership, message) })()
	// Directories after everything in them, the root last: an interrupted walk must not
	// look complete to OnRootMismatch.
	if err := tree.Walk(ctx, root, tree.Visitor{Entry: g.entry, Leave: g.leave}); err != nil {
		return fmt.Errorf("give volume to group %d: %w", g.gid, err)
	}
	if g.failed > 0 {
		klog.ErrorS(g.first, "Could not give files of a volume to its group; the error is the first one's", "pod", klog.KObj(pod), "podUID", pod.UID, "path", root.Name(), "gid", g.gid, "files", g.failed)
	}
	return nil
}

// setOwnershipOf is setOwnership for the directory that a path leads to.
func (m *Manager) setOwnershipOf(ctx context.Context, dir string, pod *v1.Pod) error {
	root, err := openPlace(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	return m.setOwnership(ctx, root, pod)
}

// When the pod is told of a volume that takes long to be given to its group, and how often again, as with the
// kubelet.
const (
	slowOwnership     = "VolumePermissionChangeInProgress"
	firstSlowTold     = 30 * time.Second
	againSlowTold     = 60 * time.Second
	slowOwnershipText = "Setting volume ownership for %s is taking longer than expected, consider using OnRootMismatch - " +
		"https://kubernetes.io/docs/tasks/configure-pod-container/security-context/#configure-volume-permission-and-ownership-change-policy-for-pods"
)

// tellSlow tells that a volume takes long, and then how many of its files have been processed, until the function that
// it returns is called.
func tellSlow(name string, files func() int64, tell func(message string)) (stop func()) {
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		timer := time.NewTimer(firstSlowTold)
		defer timer.Stop()
		for first := true; ; first = false {
			select {
			case <-end:
				return
			case <-timer.C:
			}
			if first {
				tell(fmt.Sprintf(slowOwnershipText, name))
			} else {
				tell(fmt.Sprintf("Setting volume ownership for %s, processed %d files.", name, files()))
			}
			timer.Reset(againSlowTold)
		}
	}()
	return func() { close(end); <-ended }
}

// reportName is a directory of a pod from the pod's UID on, as events name it.
func reportName(dir string, uid types.UID) string {
	if i := strings.Index(dir, string(uid)); i >= 0 {
		return dir[i:]
	}
	return dir
}

// giver gives files to a group, and counts those that it could not change.
type giver struct {
	gid    int
	seen   atomic.Int64 // entries, also those that needed no change
	failed int
	first  error
}

func (g *giver) entry(dir int, name string) (enter bool, err error) {
	fd, err := tree.OpenPlace(dir, name)
	if tree.Gone(err) || errors.Is(err, unix.EXDEV) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return false, err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return true, nil // given when the walk leaves it
	}
	g.note(name, g.give(fd, &st, groupFile))
	return false, nil
}

func (g *giver) leave(dir int, _ bool) (again bool, err error) {
	var st unix.Stat_t
	if err := unix.Fstat(dir, &st); err != nil {
		return false, err
	}
	g.note("a directory", g.give(dir, &st, groupDir))
	return false, nil
}

func (g *giver) note(name string, err error) {
	g.seen.Add(1)
	if err == nil {
		return
	}
	if g.failed++; g.failed == 1 {
		g.first = fmt.Errorf("%q: %w", name, err)
	}
}

// give gives an open file to the group, even one opened with O_PATH.
func (g *giver) give(fd int, st *unix.Stat_t, rights uint32) error {
	given := int(st.Gid) == g.gid
	if !given {
		if err := unix.Fchownat(fd, "", -1, g.gid, unix.AT_EMPTY_PATH); err != nil {
			return fmt.Errorf("change the group: %w", err)
		}
	}
	if st.Mode&unix.S_IFMT == unix.S_IFLNK || given && st.Mode&rights == rights {
		return nil
	}
	// Even if the rights are right already: chown drops set-user-ID bits, which the
	// kubelet keeps. fchmod does not work with O_PATH, and fchmodat2 needs Linux 6.6,
	// but /proc works with all kernels.
	if err := unix.Chmod(procPath(fd), st.Mode&0o7777|rights); err != nil {
		return fmt.Errorf("change the mode: %w", err)
	}
	return nil
}

// hasGroup reports whether the root of a volume looks as setOwnership leaves it.
func hasGroup(root *os.File, gid int) bool {
	var st unix.Stat_t
	err := unix.Fstat(int(root.Fd()), &st)
	return err == nil && int(st.Gid) == gid && st.Mode&groupDir == groupDir
}
