package volume

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/bounds"
	"github.com/mini-kubelet/mini-kubelet/pkg/base/hostdir"
)

// hostPath is a file or directory of the node, checked or made according to its
// type. It is not ours: it is never removed, relabelled or given to the fsGroup.
type hostPath struct {
	source   *v1.HostPathVolumeSource
	readOnly bool // by its claim
}

func (h *hostPath) path() Path { return Path{Host: h.source.Path, ReadOnly: h.readOnly} }

func (h *hostPath) setUp(context.Context) error {
	p := h.source.Path
	if err := bounds.Path(p); err != nil {
		return fmt.Errorf("hostPath %w", err)
	}
	switch {
	case !filepath.IsAbs(p):
		// A runtime may take a relative path for the name of one of its own volumes.
		return fmt.Errorf("hostPath %q is not an absolute path", bounds.Quote(p))
	case slices.Contains(strings.Split(p, "/"), ".."):
		return fmt.Errorf("hostPath %q must not contain '..'", bounds.Quote(p))
	}
	want := v1.HostPathUnset
	if h.source.Type != nil {
		want = *h.source.Type
	}
	switch want {
	case v1.HostPathUnset:
		return nil // unchecked; the runtime makes a missing directory, as under any kubelet
	case v1.HostPathDirectoryOrCreate:
		if err := hostdir.Make(p); err != nil {
			return err
		}
	case v1.HostPathFileOrCreate:
		if err := makeFile(p); err != nil {
			return err
		}
	}
	return checkType(p, want)
}

// makeFile makes an empty file of mode 0644, whatever the umask, if nothing is at p,
// not even a broken link.
func makeFile(p string) error {
	f, err := os.OpenFile(p, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if errors.Is(err, os.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(f.Chmod(0o644), f.Close())
}

// checkType compares what is at p, following links, with the type asked for.
func checkType(p string, want v1.HostPathType) error {
	is := map[v1.HostPathType]struct {
		name string
		test func(fs.FileMode) bool
	}{
		v1.HostPathDirectory:         {"directory", fs.FileMode.IsDir},
		v1.HostPathDirectoryOrCreate: {"directory", fs.FileMode.IsDir},
		v1.HostPathFile:              {"file", fs.FileMode.IsRegular},
		v1.HostPathFileOrCreate:      {"file", fs.FileMode.IsRegular},
		v1.HostPathSocket:            {"socket file", func(m fs.FileMode) bool { return m&fs.ModeSocket != 0 }},
		v1.HostPathCharDev:           {"character device", func(m fs.FileMode) bool { return m&fs.ModeCharDevice != 0 }},
		v1.HostPathBlockDev: {"block device", func(m fs.FileMode) bool {
			return m&fs.ModeDevice != 0 && m&fs.ModeCharDevice == 0
		}},
	}
	check, ok := is[want]
	if !ok {
		return fmt.Errorf("hostPath type %q is not known", want)
	}
	fi, err := os.Stat(p)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("hostPath type check failed: %w", err)
	}
	if err != nil || !check.test(fi.Mode()) {
		return fmt.Errorf("hostPath type check failed: %s is not a %s", p, check.name)
	}
	return nil
}
