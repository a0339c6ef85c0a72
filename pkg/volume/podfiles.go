package volume

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"k8s.io/apimachinery/pkg/types"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/safefile"
)

// HostsPath is where the pod's managed /etc/hosts is, if it has one.
func (m *Manager) HostsPath(uid types.UID) (string, error) {
	dir, err := m.layout.pod(uid)
	return filepath.Join(dir, hostsFile), err
}

// HostsFile writes the pod's managed /etc/hosts and returns its path. Running
// containers have the file itself mounted, and root in them may write to it: it is
// rewritten in place, and its present content is not trusted.
func (m *Manager) HostsFile(uid types.UID, content []byte) (string, error) {
	path, err := m.HostsPath(uid)
	if err != nil {
		return "", err
	}
	err = m.makePodDir(string(uid))
	if err == nil {
		// Whatever the umask: processes of any user resolve names.
		err = safefile.Rewrite(m.layout.pods(), filepath.Join(string(uid), hostsFile), content, 0o644)
	}
	if err != nil {
		return "", fmt.Errorf("write hosts file of pod %s: %w", uid, err)
	}
	return path, nil
}

// TerminationLog makes the empty file to which an attempt of a container may write
// its termination message, as any user, and returns its path. It is called before
// that attempt is created; what a failed creation left is replaced.
func (m *Manager) TerminationLog(uid types.UID, container string, attempt uint32) (string, error) {
	_, err := m.layout.pod(uid)
	if err = errors.Join(err, element("container name", container)); err != nil {
		return "", err
	}
	dir := filepath.Join(string(uid), containersDir, container)
	name := filepath.Join(dir, strconv.FormatUint(uint64(attempt), 10))
	err = m.makePodDir(dir)
	if err == nil {
		var f *os.File
		if f, err = safefile.Create(m.layout.pods(), name, 0o666); err == nil {
			err = f.Close()
		}
	}
	if err != nil {
		return "", fmt.Errorf("make termination log of container %s of pod %s: %w", container, uid, err)
	}
	return filepath.Join(m.layout.pods(), name), nil
}

// makePodDir makes a directory of a pod. No link can lead it out of the pods'
// directory.
func (m *Manager) makePodDir(dir string) error {
	if err := os.MkdirAll(m.layout.pods(), 0o750); err != nil {
		return err
	}
	pods, err := os.OpenRoot(m.layout.pods())
	if err != nil {
		return err
	}
	return errors.Join(pods.MkdirAll(dir, 0o750), pods.Close())
}
