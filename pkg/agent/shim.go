package agent

import (
	"context"
	"net"
	"strings"
	"time"

	"github.com/mini-kubelet/mini-kubelet/pkg/config"
	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim"
)

func shimConfig(cfg *config.Config) dockershim.Config {
	return dockershim.Config{
		Listen: cfg.DockershimSocket, DockerEndpoint: cfg.DockerEndpoint, StateDir: cfg.DockershimRootDir,
		CgroupDriver: cfg.CgroupDriver, SandboxImage: cfg.PodInfraContainerImage, NetworkPlugin: cfg.NetworkPlugin,
		CNIConfDir: cfg.CNIConfDir, CNIBinDirs: cfg.CNIBinDirs, CNICacheDir: cfg.CNICacheDir,
		HairpinMode: cfg.HairpinMode, NonMasqueradeCIDR: cfg.NonMasqueradeCIDR, MTU: cfg.NetworkPluginMTU, KubenetBridge: cfg.KubenetBridge,
		CDISpecDirs:               cfg.CDISpecDirs,
		ImagePullProgressDeadline: cfg.ImagePullProgressDeadline, RequestTimeout: cfg.RuntimeRequestTimeout.Duration,
	}
}

// ownDockershim reports whether this process has to serve the dockershim: not if
// its socket was named and another process (mini-kubelet dockershim) serves it.
func ownDockershim(cfg *config.Config) bool {
	if !cfg.InProcessDockershim() {
		return false
	}
	if cfg.ContainerRuntimeEndpoint == "" {
		return true
	}
	conn, err := net.DialTimeout("unix", strings.TrimPrefix(cfg.DockershimSocket, "unix://"), time.Second)
	if err != nil {
		return true
	}
	conn.Close()
	return false
}

func newDockershim(ctx context.Context, cfg *config.Config) (*dockershim.Server, error) {
	return dockershim.New(ctx, shimConfig(cfg))
}
