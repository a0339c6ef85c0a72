package volume

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"
)

// ReadFile returns the regular file at path of the named volume, which is set up.
// Containers may write to the volume meanwhile: links are followed as if the volume
// were the whole file system, by the kernel (openat2), mounts within are not
// entered, and what is no file, or one of more than limit bytes, is refused.
// fs.ErrNotExist holds for the error when there is none.
func (m *Manager) ReadFile(ctx context.Context, pod *v1.Pod, name, path string, limit int64) ([]byte, error) {
	v, err := m.Path(pod, name)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, m.timeout, errors.New("timed out waiting for the condition"))
	defer cancel()
	var text []byte
	err = m.serial.do(ctx, pod.UID, func(w *work) error {
		w.at(fmt.Sprintf("reading %q of volume %q", path, name))
		var err error
		text, err = readBeneath(v.Host, path, limit)
		return err
	})
	if err != nil {
		return nil, err
	}
	return text, nil
}

func readBeneath(root, path string, limit int64) ([]byte, error) {
	base, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open volume %s: %w", root, err)
	}
	defer unix.Close(base)
	// As a place first: to open a pipe waits, and to open a device does things.
	at, err := unix.Openat2(base, strings.TrimLeft(path, "/"), &unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV,
	})
	if err != nil {
		return nil, fmt.Errorf("open %q: %w", path, err)
	}
	defer unix.Close(at)
	var st unix.Stat_t
	if err := unix.Fstat(at, &st); err != nil {
		return nil, fmt.Errorf("stat %q: %w", path, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, fmt.Errorf("%q is not a regular file", path)
	}
	f, err := os.Open(procPath(at))
	if err != nil {
		return nil, fmt.Errorf("open %q: %w", path, err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(text)) > limit {
		return nil, fmt.Errorf("%q is larger than %d bytes", path, limit)
	}
	return text, nil
}
