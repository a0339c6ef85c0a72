package harness

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/client"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/durable"
	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/pause"
	"github.com/mini-kubelet/mini-kubelet/test/controlplane"
)

// borrowed is what a run records, in its directory, before it uses the machine's own
// Docker: Reap undoes it.
type borrowed struct {
	Endpoint string   `json:"endpoint"`
	Images   []string `json:"images"` // names that were unused
}

const borrowedFile = "machine.json"

var borrowedMu sync.Mutex

// MachineDocker is the machine's own daemon: that of DOCKER_HOST, or the default one.
// It is used as any client would use it, never restarted, and has the same content
// again when the run ends. If none answers, the test is skipped.
func MachineDocker(t T) *Dockerd {
	t.Helper()
	c, err := client.NewClientWithOpts(client.FromEnv, client.WithAPIVersionNegotiation())
	if err != nil {
		t.Fatalf("make a Docker client: %v", err)
	}
	if _, err := c.Ping(t.Context()); err != nil {
		t.Skipf("the machine's own Docker does not answer: %v", err)
	}
	t.Cleanup(func() { _ = c.Close() })
	d := &Dockerd{Endpoint: c.DaemonHost(), Client: c, machine: true}
	if err := d.borrow(t.Context(), pause.Ref); err != nil {
		t.Fatalf("%v", err)
	}
	return d
}

// Own returns a name for an image in the machine's Docker that only this run uses: the
// repository with the run as its tag. The image is removed when the run ends.
func (d *Dockerd) Own(t T, repository string) string {
	t.Helper()
	r, err := run()
	if err != nil {
		t.Fatalf("%v", err)
	}
	ref := repository + ":" + r.id
	if err := d.borrow(t.Context(), ref); err != nil {
		t.Fatalf("%v", err)
	}
	return ref
}

// borrow records that the run may give an image this name, unless the name is in
// use.
func (d *Dockerd) borrow(ctx context.Context, ref string) error {
	borrowedMu.Lock()
	defer borrowedMu.Unlock()
	r, err := run()
	if err != nil {
		return err
	}
	b, err := readBorrowed(r.dir)
	if err != nil {
		return err
	}
	b.Endpoint = d.Endpoint
	if _, err := d.Client.ImageInspect(ctx, ref); cerrdefs.IsNotFound(err) && !slices.Contains(b.Images, ref) {
		b.Images = append(b.Images, ref)
	} else if err != nil && !cerrdefs.IsNotFound(err) {
		return fmt.Errorf("look for image %s: %w", ref, err)
	}
	text, err := json.Marshal(b)
	if err != nil {
		return err
	}
	return durable.Write(filepath.Join(r.dir, borrowedFile), text)
}

func readBorrowed(dir string) (b borrowed, err error) {
	text, err := os.ReadFile(filepath.Join(dir, borrowedFile))
	if errors.Is(err, os.ErrNotExist) {
		return b, nil
	}
	if err == nil {
		err = json.Unmarshal(text, &b)
	}
	if err != nil {
		return b, fmt.Errorf("read what was done to the machine's Docker: %w", err)
	}
	return b, nil
}

// giveBack undoes what a run has done to the machine itself: nodes that kubeadm made of
// it, containers and images in its Docker, links to logs. dir is the directory of the
// run, or of one thing in it. It can be repeated.
func giveBack(dir string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*Patience)
	defer cancel()
	for _, record := range below(dir, controlplane.JoinedFile) {
		var out strings.Builder
		if err := (controlplane.Machine{Dir: filepath.Dir(record), Env: environOf(dir)}).Leave(ctx, &out); err != nil {
			return fmt.Errorf("%w\n%s", err, out.String())
		}
	}
	removeLinks("/var/log/containers", dir)
	b, err := readBorrowed(dir)
	if err != nil || b.Endpoint == "" {
		return err
	}
	c, err := client.NewClientWithOpts(client.FromEnv, client.WithHost(b.Endpoint), client.WithAPIVersionNegotiation())
	if err != nil {
		return err
	}
	defer c.Close()
	return b.undo(ctx, c, dir)
}

// undo removes the containers of agents below dir, and the images.
func (b borrowed) undo(ctx context.Context, c *client.Client, dir string) error {
	all, err := c.ContainerList(ctx, container.ListOptions{All: true})
	if client.IsErrConnectionFailed(err) {
		return nil // the daemon is gone, and with it all that it had
	}
	if err != nil {
		return fmt.Errorf("list the containers of the machine's Docker: %w", err)
	}
	var errs []error
	for _, it := range all {
		if !strings.HasPrefix(it.Labels[stateLabel], dir+"/") {
			continue
		}
		err := c.ContainerRemove(ctx, it.ID, container.RemoveOptions{Force: true, RemoveVolumes: true})
		if err != nil && !cerrdefs.IsNotFound(err) && !cerrdefs.IsConflict(err) {
			errs = append(errs, err)
		}
	}
	for _, ref := range b.Images {
		// A conflict: somebody else's container uses it now.
		if _, err := c.ImageRemove(ctx, ref, image.RemoveOptions{}); err != nil && !cerrdefs.IsNotFound(err) && !cerrdefs.IsConflict(err) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// removeLinks removes the links in a directory that lead below dir.
func removeLinks(links, dir string) {
	entries, _ := os.ReadDir(links)
	for _, e := range entries {
		name := filepath.Join(links, e.Name())
		if target, err := os.Readlink(name); err == nil && strings.HasPrefix(target, dir+"/") {
			_ = os.Remove(name)
		}
	}
}

// machineDirs are directories of the machine that agents, shims and plug-ins make if
// they are missing, and leave behind; inner ones first.
var machineDirs = []string{
	"/var/log/containers", "/run/containerd/s", "/run/containerd", "/run/docker/containerd", "/run/docker/plugins",
	"/var/lib/cni/results", "/var/lib/cni/cache", "/var/lib/cni", "/run/netns",
}

// noteMissing writes the list of those directories that do not exist, unless it has
// been written.
func noteMissing(file string) error {
	if _, err := os.Lstat(file); err == nil {
		return nil
	}
	var missing []string
	for _, dir := range machineDirs {
		if _, err := os.Lstat(dir); os.IsNotExist(err) {
			missing = append(missing, dir)
		}
	}
	return durable.Write(file, []byte(strings.Join(missing, "\n")+"\n"))
}

// removeMissing removes the directories that were missing, exist now, and are
// empty.
func removeMissing(file string) {
	for _, dir := range readLines(file) {
		if slices.Contains(machineDirs, dir) {
			_ = os.Remove(dir)
		}
	}
	_ = os.Remove(file)
}
