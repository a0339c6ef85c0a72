package agent

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	criapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/klog/v2"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/logonce"
	"github.com/mini-kubelet/mini-kubelet/pkg/config"
	"github.com/mini-kubelet/mini-kubelet/pkg/runtime/criclient"
)

// engine is what the runtime says about itself.
type engine struct {
	*criapi.VersionResponse
	systemd           bool // makes its cgroups through systemd
	recursiveReadOnly bool // can mount all below a mount read-only, by its default handler
	// fileSystems returns a directory on the file system of the images and one on that of the writable layers, ""
	// where the runtime names none. It asks the runtime when somebody needs it, until it has an answer.
	fileSystems func() (images, layers string, ok bool)
}

func (e engine) isDocker() bool { return e.RuntimeName == "docker" }

// waitForEngine waits until the runtime answers and asks it what it can do.
func waitForEngine(running context.Context, cfg *config.Config, client *criclient.Client) (engine, error) {
	ctx, cancel := context.WithTimeoutCause(running, runtimeWait, fmt.Errorf("no answer within %v", runtimeWait))
	defer cancel()
	version, err := client.Wait(ctx)
	if err != nil {
		return engine{}, err
	}
	klog.InfoS("Container runtime", "endpoint", cfg.RuntimeEndpoint(), "name", version.RuntimeName, "version", version.RuntimeVersion, "apiVersion", version.RuntimeApiVersion)
	return engine{
		VersionResponse: version, systemd: usesSystemd(ctx, cfg, client),
		recursiveReadOnly: recursiveReadOnly(ctx, client),
		fileSystems:       onceAnswered(func() (images, layers string, err error) { return fileSystems(running, client) }),
	}, nil
}

// usesSystemd reports whether the runtime manages cgroups through systemd: by its own
// answer, or else by the configuration.
func usesSystemd(ctx context.Context, cfg *config.Config, client *criclient.Client) bool {
	r, err := client.RuntimeConfig(ctx, &criapi.RuntimeConfigRequest{})
	if err != nil || r.GetLinux() == nil {
		klog.V(2).InfoS("The runtime does not tell its cgroup driver, going by the configuration", "cgroupDriver", cfg.CgroupDriver, "err", err)
		return cfg.CgroupDriver == "systemd"
	}
	return r.Linux.CgroupDriver == criapi.CgroupDriver_SYSTEMD
}

func recursiveReadOnly(ctx context.Context, client *criclient.Client) bool {
	s, err := client.Status(ctx, &criapi.StatusRequest{})
	if err != nil {
		klog.ErrorS(err, "The runtime does not tell what it can do; it is asked for no recursive read-only mounts")
		return false
	}
	return slices.ContainsFunc(s.RuntimeHandlers, func(h *criapi.RuntimeHandler) bool {
		return h.Name == "" && h.GetFeatures().GetRecursiveReadOnlyMounts()
	})
}

// onceAnswered remembers the first answer. The function that it returns is safe for concurrent use.
func onceAnswered(ask func() (images, layers string, err error)) func() (images, layers string, ok bool) {
	var mu sync.Mutex
	var images, layers string
	var known bool
	var failing logonce.Error
	return func() (string, string, bool) {
		mu.Lock()
		defer mu.Unlock()
		if known {
			return images, layers, true
		}
		var err error
		if images, layers, err = ask(); failing.Note(err) {
			klog.ErrorS(err, "The runtime does not say where its images are; their file system counts as the pods' until it does")
		}
		known = err == nil
		return images, layers, known
	}
}

// fileSystems returns "" for those that the runtime does not name.
func fileSystems(ctx context.Context, client *criclient.Client) (images, layers string, err error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	info, err := client.ImageFsInfo(ctx, &criapi.ImageFsInfoRequest{})
	if err != nil {
		return "", "", err
	}
	if len(info.ImageFilesystems) > 0 {
		images = strings.TrimSpace(info.ImageFilesystems[0].GetFsId().GetMountpoint())
	}
	if len(info.ContainerFilesystems) > 0 {
		layers = strings.TrimSpace(info.ContainerFilesystems[0].GetFsId().GetMountpoint())
	}
	return images, layers, nil
}
