package volume

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	v1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"
)

// What the group of a volume gets, the kubelet's: all may be read and written,
// directories entered, and what is made in them is the group's as well.
const (
	groupFile = os.FileMode(0o660)
	groupDir  = os.FileMode(0o770) | os.ModeSetgid
)

// setOwnership gives a volume that was just mounted to the pod's fsGroup, as
// fsGroupChangePolicy says. A file that cannot be changed is skipped (kubelet
// behaviour); links are not followed.
func setOwnership(ctx context.Context, dir string, pod *v1.Pod) error {
	gid := fsGroup(pod)
	if gid == nil {
		return nil
	}
	if p := pod.Spec.SecurityContext.FSGroupChangePolicy; p != nil && *p == v1.FSGroupChangeOnRootMismatch && hasGroup(dir, int(*gid)) {
		return nil
	}
	// The root last: a walk that was interrupted must not look complete to OnRootMismatch.
	var dirs []string
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, os.ErrNotExist):
			return nil
		case err != nil:
			return err
		case d.IsDir():
			dirs = append(dirs, p)
			return nil
		}
		giveTo(p, int(*gid))
		return nil
	})
	if err != nil {
		return err
	}
	for i := len(dirs) - 1; i >= 0; i-- {
		giveTo(dirs[i], int(*gid))
	}
	return nil
}

func giveTo(p string, gid int) {
	if err := os.Lchown(p, -1, gid); err != nil {
		klog.ErrorS(err, "Could not give a volume's file to its group", "path", p, "gid", gid)
	}
	fi, err := os.Lstat(p)
	if err != nil || fi.Mode()&os.ModeSymlink != 0 {
		return
	}
	mode := groupFile
	if fi.IsDir() {
		mode = groupDir
	}
	if err := os.Chmod(p, fi.Mode()|mode); err != nil {
		klog.ErrorS(err, "Could not set the mode of a volume's file", "path", p)
	}
}

// hasGroup tells whether the root of a volume looks as setOwnership leaves it.
func hasGroup(dir string, gid int) bool {
	fi, err := os.Stat(dir)
	if err != nil {
		return false
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	return ok && int(st.Gid) == gid && fi.IsDir() && fi.Mode()&groupDir == groupDir
}
