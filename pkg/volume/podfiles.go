package volume

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
	"k8s.io/apimachinery/pkg/types"
)

// HostsPath is where the pod's managed /etc/hosts is, if it has one.
func (m *Manager) HostsPath(uid types.UID) (string, error) {
	dir, err := m.layout.pod(uid)
	return filepath.Join(dir, hostsFile), err
}

// HostsFile writes the pod's managed /etc/hosts and returns its path. Running
// containers have the file itself mounted, so it is rewritten in place, and only
// when content differs.
func (m *Manager) HostsFile(uid types.UID, content []byte) (string, error) {
	path, err := m.HostsPath(uid)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return "", fmt.Errorf("write hosts file of pod %s: %w", uid, err)
	}
	if have, err := os.ReadFile(path); err == nil && bytes.Equal(have, content) {
		return path, nil
	}
	if err := os.WriteFile(path, content, 0o644); err != nil {
		return "", fmt.Errorf("write hosts file of pod %s: %w", uid, err)
	}
	// Whatever the umask: processes of any user resolve names.
	if err := os.Chmod(path, 0o644); err != nil {
		return "", fmt.Errorf("write hosts file of pod %s: %w", uid, err)
	}
	return path, nil
}

// TerminationLog makes the empty file that an attempt of a container may write
// its termination message to, as any user, and returns its path. It is called
// before that attempt is created; what a failed creation left is emptied.
func (m *Manager) TerminationLog(uid types.UID, container string, attempt uint32) (string, error) {
	dir, err := m.layout.pod(uid)
	if err == nil {
		err = element("container name", container)
	}
	if err != nil {
		return "", err
	}
	dir = filepath.Join(dir, containersDir, container)
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return "", fmt.Errorf("make termination log of container %s: %w", container, err)
	}
	path := filepath.Join(dir, strconv.FormatUint(uint64(attempt), 10))
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY|unix.O_NOFOLLOW, 0o666)
	if err != nil {
		return "", fmt.Errorf("make termination log of container %s: %w", container, err)
	}
	defer f.Close()
	if err := f.Chmod(0o666); err != nil {
		return "", fmt.Errorf("make termination log of container %s: %w", container, err)
	}
	return path, nil
}
