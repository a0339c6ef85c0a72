package volume

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	v1 "k8s.io/api/core/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/safefile"
)

// ReadFile returns the regular file at path in the named volume, which is set up.
// Containers may write to the volume meanwhile: the kernel follows links as if the
// volume were the whole file system (openat2), mounts within it are not entered,
// and anything that is not a regular file, or has more than limit bytes, is
// refused. If there is no file, the error satisfies fs.ErrNotExist.
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
		text, err = readInVolume(v.Host, path, limit)
		return err
	})
	if err != nil {
		return nil, err
	}
	return text, nil
}

func readInVolume(root, path string, limit int64) (text []byte, err error) {
	f, err := safefile.OpenInRoot(root, path)
	if err == nil {
		defer f.Close()
		text, err = safefile.Read(f, limit)
	}
	// With the path that the pod knows, not the node's.
	if at, ok := errors.AsType[*fs.PathError](err); ok {
		err = fmt.Errorf("%s %q: %w", at.Op, path, at.Err)
	}
	return text, err
}
