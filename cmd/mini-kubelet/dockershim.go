package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	logsapi "k8s.io/component-base/logs/api/v1"
	"k8s.io/klog/v2"

	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim"
)

const dockershimHelp = `Serve only the container runtime: CRI v1 over Docker Engine, on a Unix socket, for
crictl or any kubelet. It runs no pods of its own, and stopping it stops no container.

  mini-kubelet dockershim --listen unix:///var/run/dockershim.sock
  crictl --runtime-endpoint unix:///var/run/dockershim.sock pods

A mini-kubelet that runs its own dockershim on the same machine needs another socket and
another state directory.`

func newDockershimCommand() *cobra.Command {
	var cfg dockershim.Config
	var verbosity uint32
	var podCIDR string
	cmd := &cobra.Command{
		Use:   "dockershim",
		Short: "Serve only the container runtime, CRI over Docker",
		Long:  dockershimHelp,
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			logging := logsapi.NewLoggingConfiguration()
			logging.Verbosity = logsapi.VerbosityLevel(verbosity)
			if err := logsapi.ValidateAndApply(logging, nil); err != nil {
				return fmt.Errorf("set up logging: %w", err)
			}
			defer klog.Flush()
			return runDockershim(cmd.Context(), cfg, podCIDR)
		},
	}
	f := cmd.Flags()
	f.StringVar(&cfg.Listen, "listen", "unix:///var/run/dockershim.sock", "socket to serve CRI on")
	f.StringVar(&cfg.DockerEndpoint, "docker-endpoint", "unix:///var/run/docker.sock", "Docker to run containers on")
	f.StringVar(&cfg.StateDir, "dockershim-root-directory", "/var/lib/dockershim", "directory of sandbox checkpoints and log positions")
	f.StringVar(&cfg.CgroupDriver, "cgroup-driver", "", "cgroup driver of the client, which must be Docker's; empty: not checked")
	f.StringVar(&cfg.SandboxImage, "pod-infra-container-image", "", "sandbox image instead of the built-in one")
	f.StringVar(&cfg.NetworkPlugin, "network-plugin", "cni", "cni, whose configuration may come later; docker, for pods on Docker's own bridge; or kubenet")
	f.StringVar(&cfg.CNIConfDir, "cni-conf-dir", "/etc/cni/net.d", "directory of CNI configurations")
	f.StringSliceVar(&cfg.CNIBinDirs, "cni-bin-dir", []string{"/opt/cni/bin", "/usr/lib/cni"}, "directories of CNI plug-ins")
	f.StringVar(&cfg.CNICacheDir, "cni-cache-dir", "/var/lib/cni/cache", "directory of CNI's cached results")
	f.StringVar(&cfg.HairpinMode, "hairpin-mode", "", "of kubenet: promiscuous-bridge, hairpin-veth or none")
	f.StringVar(&cfg.NonMasqueradeCIDR, "non-masquerade-cidr", "10.0.0.0/8", "where kubenet does not masquerade")
	f.Int32Var(&cfg.MTU, "network-plugin-mtu", 0, "MTU of kubenet's bridge; 0: the kernel's for a bridge")
	f.StringVar(&cfg.KubenetBridge, "kubenet-bridge", "cbr0", "kubenet's bridge")
	f.StringVar(&podCIDR, "pod-cidr", "", "addresses for pods with kubenet; empty: the client's UpdateRuntimeConfig brings them")
	f.StringSliceVar(&cfg.CDISpecDirs, "cdi-spec-dir", []string{"/etc/cdi", "/var/run/cdi"}, "directories of CDI files, for a Docker that gives no CDI devices itself")
	f.StringVar(&cfg.StreamingAddress, "streaming-address", "127.0.0.1:0", "where exec, attach and port-forward are served; they are not authenticated but by their URLs")
	f.DurationVar(&cfg.ImagePullProgressDeadline, "image-pull-progress-deadline", time.Minute, "how long a pull may get nothing before it is cancelled")
	f.DurationVar(&cfg.RequestTimeout, "runtime-request-timeout", 2*time.Minute, "how long Docker may take for a request other than a pull or a stop")
	f.Uint32Var(&verbosity, "v", 0, "log level: 2 a line a decision, 4 every step")
	f.SortFlags = false
	return cmd
}

func runDockershim(ctx context.Context, cfg dockershim.Config, podCIDR string) error {
	shim, err := dockershim.New(ctx, cfg)
	if err != nil {
		return err
	}
	if podCIDR != "" {
		if err := shim.SetPodCIDR(podCIDR); err != nil {
			return fmt.Errorf("--pod-cidr: %w", err)
		}
	}
	klog.InfoS("Serving CRI", "endpoint", cfg.Listen, "docker", cfg.DockerEndpoint)
	if err := shim.Run(ctx); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}
