package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/safefile"
	"github.com/mini-kubelet/mini-kubelet/pkg/config"
	"github.com/mini-kubelet/mini-kubelet/pkg/lifecycle/replay"
)

const replayHelp = `Make the decisions of a bundle again, with this program, and print each that comes out differently.
It needs no agent and no Docker, and says when another version of the agent has decided. It ends with 1 if there is any difference, and with 0 if not.`

func newReplayCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "replay FILE",
		Short: "Make the decisions of a bundle again, and tell what comes out differently",
		Long:  replayHelp,
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			f, err := openBundle(args[0])
			if err != nil {
				return err
			}
			defer f.Close()
			versions, result, err := replay.Read(f, cmd.OutOrStdout())
			if err != nil {
				return fmt.Errorf("read the bundle %s: %w", args[0], err)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%d decisions, %d come out differently\n", result.Equal+result.Differ, result.Differ)
			if other := versions.Other(config.AgentVersion()); other != "" {
				fmt.Fprintln(cmd.ErrOrStderr(), other)
			}
			if result.Unknown > 0 {
				fmt.Fprintf(cmd.ErrOrStderr(), "%d more are of functions that this program does not have\n", result.Unknown)
			}
			if result.Differ > 0 {
				return exitCode{code: 1}
			}
			return nil
		},
	}
}

// openBundle opens what somebody has sent.
func openBundle(path string) (*os.File, error) {
	dir, name := filepath.Split(path)
	f, err := safefile.Open(dir, name)
	if err != nil {
		return nil, fmt.Errorf("read the bundle: %w", err)
	}
	return f, nil
}
