package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/durable"
	"github.com/mini-kubelet/mini-kubelet/pkg/base/tree"
	"github.com/mini-kubelet/mini-kubelet/pkg/config"
	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods/actual"
	"github.com/mini-kubelet/mini-kubelet/pkg/resources/cgroup"
	"github.com/mini-kubelet/mini-kubelet/pkg/resources/cpumanager"
	"github.com/mini-kubelet/mini-kubelet/pkg/resources/devicemanager/checkpoint"
	"github.com/mini-kubelet/mini-kubelet/pkg/resources/memorymanager"
	"github.com/mini-kubelet/mini-kubelet/pkg/runtime/criclient"
	"github.com/mini-kubelet/mini-kubelet/pkg/runtime/criconfig"
	"github.com/mini-kubelet/mini-kubelet/pkg/runtime/kuberuntime"
	"github.com/mini-kubelet/mini-kubelet/pkg/volume"
)

// resetGrace is how long a container may take to end when the node is reset.
const resetGrace int64 = 10

// Reset removes everything that an agent with this configuration made: the pods'
// containers, sandboxes and logs, their directories and volumes, and the agent's
// own state. It refuses while an agent runs. It prints to out what it removed, and
// may be repeated after a failure.
func Reset(ctx context.Context, cfg *config.Config, out io.Writer) error {
	_, missing := os.Lstat(filepath.Join(cfg.RootDir, "mini-kubelet")) // which lock makes
	unlock, err := lock(ctx, cfg.RootDir)
	if errors.Is(err, errLocked) {
		return fmt.Errorf("stop the agent first: %w", err)
	}
	if err != nil {
		return err
	}
	defer unlock()
	if err := resetPods(ctx, cfg, out); err != nil {
		return err // what still runs may use the rest
	}
	var errs []error
	if cfg.InProcessDockershim() {
		errs = append(errs, dockershim.Reset(ctx, shimConfig(cfg, nil), out))
	}
	// While the marks are there that say which pods are ours.
	errs = append(errs, resetLogs(ctx, cfg.PodLogsDir, linksDir, func(uid types.UID) bool { return volume.Owns(cfg.RootDir, uid) }, out))
	errs = append(errs, volume.Reset(ctx, cfg.RootDir), cgroup.Reset(cfg.CgroupRoot))
	if err := errors.Join(errs...); err != nil {
		return err // keep the record of what is ours for the next try
	}
	if err := resetState(ctx, cfg); err != nil {
		return err
	}
	if missing != nil {
		fmt.Fprintf(out, "found no state of an agent in %s\n", cfg.RootDir)
		return nil
	}
	fmt.Fprintf(out, "removed the pods' directories and the agent's state in %s\n", cfg.RootDir)
	return nil
}

// resetPods stops and removes, over CRI, every pod that this agent has made. The
// in-process dockershim shows no others; in another runtime, which others may use
// too, the root directory tells which pods are ours.
func resetPods(ctx context.Context, cfg *config.Config, out io.Writer) error {
	ctx, stop := context.WithCancel(ctx)
	var group errgroup.Group
	defer func() {
		stop()
		_ = group.Wait() // its error has been reported by the calls that failed because of it
	}()
	if ownDockershim(cfg) {
		shim, err := newDockershim(ctx, cfg, &engineCalls{})
		if err != nil {
			return err
		}
		group.Go(func() error { return shim.Run(ctx) })
	}
	client, err := criclient.New(criclient.Config{Endpoint: cfg.RuntimeEndpoint(), ImageEndpoint: cfg.ImageEndpoint(), Timeout: cfg.RuntimeRequestTimeout.Duration})
	if err != nil {
		return err
	}
	defer client.Close()
	wait, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	version, err := client.Wait(wait)
	if err != nil {
		return err
	}
	rt, err := kuberuntime.New(kuberuntime.Config{
		CRI: client, Node: criconfig.NodeConfig{PodLogsRoot: cfg.PodLogsDir},
		Clock: clock.RealClock{}, Name: version.RuntimeName,
	})
	if err != nil {
		return err
	}
	pods, err := rt.GetPods(ctx)
	if err != nil {
		return err
	}
	var mu sync.Mutex
	var errs []error
	var wg sync.WaitGroup
	for _, pod := range pods {
		if !cfg.InProcessDockershim() && !volume.Owns(cfg.RootDir, pod.UID) {
			continue
		}
		wg.Go(func() {
			err := resetPod(ctx, rt, pod)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				errs = append(errs, err)
				return
			}
			fmt.Fprintf(out, "removed pod %s/%s\n", pod.Namespace, pod.Name)
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

func resetPod(ctx context.Context, rt *kuberuntime.Manager, pod *actual.Pod) error {
	grace := resetGrace
	err := rt.KillPod(ctx, nil, pod, &grace)
	if err == nil {
		err = rt.RemovePod(ctx, pod.UID, types.NamespacedName{Namespace: pod.Namespace, Name: pod.Name})
	}
	if err != nil {
		return fmt.Errorf("remove pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	return nil
}

// resetState removes the agent's own files, and the root directory if nothing is left in
// it. What was there before the first agent stays.
func resetState(ctx context.Context, cfg *config.Config) error {
	found, err := volume.ReadFound(cfg.RootDir)
	if err != nil {
		return err
	}
	var errs []error
	// The record is removed last.
	for _, name := range []string{"image_manager/pulling", "image_manager/pulled", "image_manager", cpumanager.FileName, memorymanager.FileName, "device-plugins/" + checkpoint.FileName, "device-plugins/kubelet.sock", "pod-resources/kubelet.sock", lockName, "mini-kubelet"} {
		if found.Has(name) {
			continue
		}
		path := filepath.Join(cfg.RootDir, name)
		remove := durable.Aside(path)
		if name != "image_manager" { // in which others may keep something
			remove = append(remove, path)
		}
		for _, p := range remove {
			if err := tree.Remove(ctx, filepath.Dir(p), filepath.Base(p)); !errors.Is(err, unix.ENOTDIR) { // below a file there is nothing
				errs = append(errs, err)
			}
		}
	}
	for _, dir := range []string{"pods", "image_manager", "plugins_registry", "device-plugins", "pod-resources", "plugins", ""} {
		if !found.Has(dir) {
			if dir != "" {
				for _, aside := range durable.Aside(filepath.Join(cfg.RootDir, dir)) {
					_ = os.Remove(aside)
				}
			}
			_ = os.Remove(filepath.Join(cfg.RootDir, dir)) // not empty is fine: the rest is somebody else's
		}
	}
	return errors.Join(errs...)
}
