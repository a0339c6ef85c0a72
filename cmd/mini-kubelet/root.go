package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	logsapi "k8s.io/component-base/logs/api/v1"
	_ "k8s.io/component-base/logs/json/register" // registers --logging-format=json
	"k8s.io/klog/v2"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/visible"
	"github.com/mini-kubelet/mini-kubelet/pkg/config"
)

const rootHelp = `mini-kubelet is a node agent: it runs Kubernetes pods on Docker Engine. It takes the
kubelet's flags and its configuration file. Without --kubeconfig it works standalone,
on the pods of a manifest directory or URL:

  mini-kubelet --pod-manifest-path /etc/kubernetes/manifests

While it runs, pods, ps, images, top and events say what it runs, why and trace what it does about
it, and logs, exec, attach and port-forward lead into a pod, as with kubectl; ui shows it all in a
browser. Flags that the kubelet knows and that are not listed here are accepted;
docs/configuration.md tells which are acted on.`

func newRootCommand(raw streams) *cobra.Command {
	var flags config.Flags
	var version string
	cmd := &cobra.Command{
		Use:           "mini-kubelet",
		Short:         "Run pods on Docker Engine",
		Long:          rootHelp,
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if version != "" && version != "false" {
				return printVersion(cmd, version)
			}
			return runAgent(cmd.Context(), &flags, cmd.OutOrStdout())
		},
	}
	flags.AddTo(cmd.Flags())
	cmd.Flags().SortFlags = false
	cmd.Flags().StringVar(&version, "version", "", "print the version of Kubernetes whose kubelet this is; --version=raw: this program's own")
	cmd.Flags().Lookup("version").NoOptDefVal = "true"
	cmd.CompletionOptions.HiddenDefaultCmd = true
	cmd.AddCommand(newPodsCommand(), newLogsCommand(raw), newExecCommand(raw), newAttachCommand(raw), newPortForwardCommand(), newTopCommand(), newEventsCommand(), newWhyCommand(), newBundleCommand(), newReplayCommand(), newTraceCommand(), newUICommand())
	cmd.AddCommand(newPsCommand(), newImagesCommand(), newResetCommand(), newDockershimCommand(), newVersionCommand(), newTeachCommand())
	return cmd
}

// printVersion answers --version in the form that kubeadm parses.
func printVersion(cmd *cobra.Command, how string) error {
	switch how {
	case "true":
		fmt.Fprintf(cmd.OutOrStdout(), "Kubernetes %s\n", config.KubernetesVersion)
	case "raw":
		fmt.Fprintf(cmd.OutOrStdout(), "mini-kubelet %s, Kubernetes %s\n", config.AgentVersion(), config.KubernetesVersion)
	default:
		return fmt.Errorf("--version: want nothing or raw, got %q", how)
	}
	return nil
}

func newVersionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the versions of this program and of its Kubernetes libraries",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return printVersion(cmd, "raw") },
	}
}

// loadConfig reads the configuration, sets up logging and prints the warnings.
func loadConfig(flags *config.Flags) (*config.Config, error) {
	cfg, warnings, err := flags.Load()
	if err != nil {
		return nil, err
	}
	// A value with a line break in it is logged as it is.
	streams := &logsapi.LoggingOptions{ErrorStream: visible.Lines(os.Stderr), InfoStream: visible.Lines(os.Stdout)}
	if err := logsapi.ValidateAndApplyWithOptions(&cfg.Logging, streams, cfg.FeatureGate()); err != nil {
		return nil, fmt.Errorf("set up logging: %w", err)
	}
	for _, w := range warnings {
		klog.Warning(w)
	}
	return cfg, nil
}

func runAgent(ctx context.Context, flags *config.Flags, out io.Writer) error {
	cfg, err := loadConfig(flags)
	if err != nil {
		return err
	}
	defer klog.Flush()
	klog.InfoS("Starting mini-kubelet", "version", config.AgentVersion(), "kubernetesVersion", config.KubernetesVersion,
		"node", cfg.NodeName, "standalone", cfg.Standalone(), "rootDirectory", cfg.RootDir)
	if err := startAgent(ctx, cfg, out); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}
