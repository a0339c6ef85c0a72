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

	"github.com/mini-kubelet/mini-kubelet/pkg/config"
	"github.com/mini-kubelet/mini-kubelet/pkg/runtime/criclient"
)

// engine is what the runtime says about itself.
type engine struct {
	*criapi.VersionResponse
	systemd           bool // makes its cgroups through systemd
	recursiveReadOnly bool // can mount all below a mount read-only, by its default handler
	// imageFS returns a directory on the file system of the images, "" where that is not
	// known. It asks the runtime, once, when somebody needs it.
	imageFS func() string
	// layerFS returns a directory on that of the writable layers, in the same way.
	layerFS func() string
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
	fileSystems := sync.OnceValues(func() (images, layers string) { return fileSystems(running, client) })
	return engine{
		VersionResponse: version, systemd: usesSystemd(ctx, cfg, client),
		recursiveReadOnly: recursiveReadOnly(ctx, client),
		imageFS:           func() string { images, _ := fileSystems(); return images },
		layerFS:           func() string { _, layers := fileSystems(); return layers },
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

func fileSystems(ctx context.Context, client *criclient.Client) (images, layers string) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	info, err := client.ImageFsInfo(ctx, &criapi.ImageFsInfoRequest{})
	if err != nil || len(info.ImageFilesystems) == 0 {
		klog.InfoS("The runtime does not say where its images are; their file system counts as the pods'", "err", err)
		return "", ""
	}
	images = strings.TrimSpace(info.ImageFilesystems[0].GetFsId().GetMountpoint())
	if len(info.ContainerFilesystems) > 0 {
		layers = strings.TrimSpace(info.ContainerFilesystems[0].GetFsId().GetMountpoint())
	}
	return images, layers
}
