package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"k8s.io/apimachinery/pkg/types"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/tree"
	"github.com/mini-kubelet/mini-kubelet/pkg/runtime/kuberuntime"
)

// linksDir is where log collectors look for the logs of all containers.
const linksDir = "/var/log/containers"

// resetLogs removes the log directories of pods that own says are ours, and the links into
// these: what is left of pods whose containers somebody has removed by hand. Other
// directories, as those of another kubelet, and links that lead elsewhere stay.
func resetLogs(ctx context.Context, logs, links string, own func(types.UID) bool, out io.Writer) error {
	entries, err := os.ReadDir(logs)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look for logs that are left: %w", err)
	}
	var errs []error
	for _, e := range entries {
		if uid, ok := kuberuntime.PodOfLogs(e.Name()); !ok || !own(uid) {
			continue
		}
		dir := filepath.Join(logs, e.Name())
		if err := errors.Join(removeLinks(links, dir), tree.Remove(ctx, logs, e.Name())); err != nil {
			errs = append(errs, err)
			continue
		}
		fmt.Fprintf(out, "removed the logs in %s\n", dir)
	}
	return errors.Join(errs...)
}

// removeLinks removes the links of a directory that lead below dir.
func removeLinks(links, dir string) error {
	entries, err := os.ReadDir(links)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("look for links to logs: %w", err)
	}
	var errs []error
	for _, e := range entries {
		name := filepath.Join(links, e.Name())
		if target, err := os.Readlink(name); err != nil || !strings.HasPrefix(target, dir+"/") {
			continue
		}
		if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
