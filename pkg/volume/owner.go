package volume

import (
	"io/fs"
	"os"
	"syscall"

	v1 "k8s.io/api/core/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
)

// owned reports whether a file belongs to that user and group; -1 is root.
func owned(fi fs.FileInfo, uid, gid int) bool {
	st, ok := fi.Sys().(*syscall.Stat_t)
	return ok && st.Uid == id(uid) && st.Gid == id(gid)
}

// id replaces the owner -1 by the one that the agent runs as.
func id(n int) uint32 {
	if n < 0 {
		return uint32(os.Getuid())
	}
	return uint32(n)
}

// fsUser is the user that all containers of the pod run as, or -1 if they differ or
// an image decides: the owner of a token (KEP-2451).
func fsUser(pod *v1.Pod) int {
	user := -1
	same := true
	for _, c := range pods.AllContainers(pod) {
		uid := runAsUser(pod, c.SecurityContext)
		if uid < 0 || user >= 0 && uid != user {
			same = false
		}
		user = uid
	}
	if !same {
		return -1
	}
	return user
}

// runAsUser is what the spec sets for one container, -1 for nothing.
func runAsUser(pod *v1.Pod, c *v1.SecurityContext) int {
	switch {
	case c != nil && c.RunAsUser != nil:
		return int(*c.RunAsUser)
	case pod.Spec.SecurityContext != nil && pod.Spec.SecurityContext.RunAsUser != nil:
		return int(*pod.Spec.SecurityContext.RunAsUser)
	}
	return -1
}
