package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/mini-kubelet/mini-kubelet/pkg/config"
)

const resetHelp = `Remove all that the agent made on this machine: the pods' containers and sandboxes,
their volumes and logs, the agent's own state, and the built-in sandbox image. Other
images, and everything that the agent did not make, stay. It refuses while an agent runs.

Give it the flags that the agent had, above all --root-dir, --dockershim-root-directory
and --docker-endpoint, where they were not the defaults.`

func newResetCommand() *cobra.Command {
	var flags config.Flags
	var yes bool
	cmd := &cobra.Command{
		Use:   "reset",
		Short: "Remove all that the agent made on this machine",
		Long:  resetHelp,
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := loadConfig(&flags)
			if err != nil {
				return err
			}
			if !yes && isTerminal(cmd.InOrStdin()) {
				question := fmt.Sprintf("Remove all pods that mini-kubelet runs on node %s, with their data in %s? [y/N] ", cfg.NodeName, cfg.RootDir)
				if err := confirm(cmd.InOrStdin(), cmd.ErrOrStderr(), question); err != nil {
					return err
				}
			}
			return resetAgent(cmd.Context(), cfg, cmd.OutOrStdout())
		},
	}
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask; nothing is asked either when input is not a terminal")
	flags.AddTo(cmd.Flags())
	cmd.Flags().SortFlags = false
	return cmd
}

func isTerminal(in any) bool {
	f, ok := in.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

var errNotConfirmed = errors.New("nothing was removed")

// confirm asks the question and returns nil only for a yes.
func confirm(in io.Reader, out io.Writer, question string) error {
	fmt.Fprint(out, question)
	line, err := bufio.NewReader(in).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read the answer: %w", err)
	}
	switch strings.ToLower(strings.TrimSpace(line)) {
	case "y", "yes":
		return nil
	}
	return errNotConfirmed
}
