package agent

import (
	"context"

	"github.com/mini-kubelet/mini-kubelet/pkg/config"
	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim"
)

func shimConfig(cfg *config.Config) dockershim.Config {
	return dockershim.Config{
		Listen: cfg.DockershimSocket, DockerEndpoint: cfg.DockerEndpoint, StateDir: cfg.DockershimRootDir,
		CgroupDriver: cfg.CgroupDriver, SandboxImage: cfg.PodInfraContainerImage, NetworkPlugin: cfg.NetworkPlugin,
		CNIConfDir: cfg.CNIConfDir, CNIBinDirs: cfg.CNIBinDirs, CNICacheDir: cfg.CNICacheDir,
		HairpinMode: cfg.HairpinMode, NonMasqueradeCIDR: cfg.NonMasqueradeCIDR,
		ImagePullProgressDeadline: cfg.ImagePullProgressDeadline, RequestTimeout: cfg.RuntimeRequestTimeout.Duration,
	}
}

func newDockershim(ctx context.Context, cfg *config.Config) (*dockershim.Server, error) {
	return dockershim.New(ctx, shimConfig(cfg))
}
