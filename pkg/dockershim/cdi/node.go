package cdi

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// HostNode looks at a device node of this machine, following links, as Docker does. It opens nothing.
func HostNode(path string) (Node, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return Node{}, fmt.Errorf("look at %s: %w", path, err)
	}
	n := Node{Major: int64(unix.Major(st.Rdev)), Minor: int64(unix.Minor(st.Rdev)), Mode: st.Mode & 0o7777, UID: st.Uid, GID: st.Gid}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFBLK:
		n.Type = "b"
	case unix.S_IFCHR:
		n.Type = "c"
	default:
		return Node{}, fmt.Errorf("%s is no device on this machine", path)
	}
	return n, nil
}
