// Command mini-kubelet is the node agent, and the command line that inspects it.
// Without a subcommand it runs the agent, with the kubelet's own flags:
//
//	mini-kubelet [flags]          the agent, until SIGINT or SIGTERM
//	mini-kubelet pods|ps|images   what runs, read from the agent and over CRI
//	mini-kubelet logs|exec|attach|port-forward|top|events|why|trace
//	                              into a pod, by the agent's socket or kubelet API
//	mini-kubelet ui               a page that shows what the agent does, live
//	mini-kubelet reset            remove everything that the agent made
//
// Nothing is decided here: flags become a config.Config, which package agent runs.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/visible"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	// After the first signal the default action is restored, so that a second one ends
	// a shutdown that hangs.
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// run executes one command line and returns the exit code. It writes errors as
// plain lines to stderr.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	raw := streams{in: stdin, out: stdout, err: stderr}
	stdout, stderr = visible.Lines(stdout), visible.Lines(stderr) // pods and images name things
	root := newRootCommand(raw)
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	if err := root.ExecuteContext(ctx); err != nil {
		var ended exitCode
		if errors.As(err, &ended) {
			if ended.text != "" {
				fmt.Fprintln(stderr, ended.text)
			}
			return ended.code
		}
		for line := range strings.SplitSeq(err.Error(), "\n") {
			fmt.Fprintf(stderr, "mini-kubelet: %s\n", line)
		}
		return 1
	}
	return 0
}
