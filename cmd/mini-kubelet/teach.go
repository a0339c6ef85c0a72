package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mini-kubelet/mini-kubelet/pkg/journal/gate"
	"github.com/mini-kubelet/mini-kubelet/pkg/server"
)

const teachHelp = `Let the steps of an agent in teaching mode (mini-kubelet --teach, standalone only) go on, one by one:

  teach             say what waits
  teach step        let one step go on: the one that has waited longest, or else the next that comes
  teach next POD    let a pod's worker go on to the end of its step
  teach run         let everything go on
  teach slow N      let everything go on, but make what takes 1 s take N s
  teach pause       hold each step again

There is a gate before each turn of the sync loop that tells a worker something, each step of a pod's worker, each CRI call of such a step and each run of a
probe. Gates at which nobody does anything for 10 minutes open by themselves. The page of "mini-kubelet ui" does the same with buttons.`

func newTeachCommand() *cobra.Command {
	var f podFlags
	cmd := &cobra.Command{
		Use:   "teach [pause | step | next POD | run | slow N]",
		Short: "Go step by step through what an agent in teaching mode does",
		Long:  teachHelp,
		Args:  cobra.MaximumNArgs(2),
	}
	f.addTo(cmd)
	cmd.ValidArgsFunction = func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return []string{"pause", "step", "next", "run", "slow"}, cobra.ShellCompDirectiveNoFileComp
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := f.client()
		if err != nil {
			return err
		}
		list, err := c.pods(cmd.Context())
		if err != nil {
			return err
		}
		names := map[types.UID]string{}
		for i := range list.Items {
			names[list.Items[i].UID] = list.Items[i].Name
		}
		do, err := teachRequest(args, func(name string) (types.UID, error) {
			p, err := findPod(list.Items, f.namespace, name)
			if err != nil {
				return "", err
			}
			return p.UID, nil
		})
		if err != nil {
			return err
		}
		state, err := c.teach(cmd.Context(), do)
		if err != nil {
			return err
		}
		writeGates(cmd.OutOrStdout(), state, names)
		return nil
	}
	return cmd
}

// teachRequest understands the command's arguments; nil is only to look.
func teachRequest(args []string, find func(name string) (types.UID, error)) (*server.TeachRequest, error) {
	if len(args) == 0 {
		return nil, nil
	}
	do := &server.TeachRequest{Do: args[0]}
	switch takes := args[0] == "next" || args[0] == "slow"; {
	case takes && len(args) != 2:
		return nil, fmt.Errorf("teach %s wants one more word", args[0])
	case !takes && len(args) != 1:
		return nil, fmt.Errorf("teach %s takes no more words", args[0])
	}
	var err error
	switch args[0] {
	case "next":
		do.Pod, err = find(args[1])
	case "slow":
		if do.Factor, err = strconv.Atoi(args[1]); err != nil {
			err = fmt.Errorf("teach slow wants a number, not %q", args[1])
		}
	}
	return do, err
}

var errNotTeaching = errors.New("not in teaching mode")

// teach asks what the gates are at, after something is done if do is not nil. The error is errNotTeaching where there are none.
func (c *agentClient) teach(ctx context.Context, do *server.TeachRequest) (*gate.State, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	u := c.url(nil, server.TeachPath)
	method, body := http.MethodGet, []byte(nil)
	if do != nil {
		method = http.MethodPost
		body, _ = json.Marshal(do)
	}
	req, err := http.NewRequestWithContext(ctx, method, u.String(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.explain(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	switch {
	case err != nil:
		return nil, fmt.Errorf("read the answer of %s: %w", c.where, err)
	case resp.StatusCode == http.StatusNotFound:
		return nil, fmt.Errorf("the agent at %s is %w: start it with --teach", c.where, errNotTeaching)
	case resp.StatusCode != http.StatusOK:
		return nil, c.refused(u.Path, resp.StatusCode, strings.TrimSpace(string(answer)))
	}
	state := &gate.State{}
	if err := json.Unmarshal(answer, state); err != nil {
		return nil, fmt.Errorf("%s does not answer %s as an agent does: %w", c.where, u.Path, err)
	}
	return state, nil
}

// writeGates says what waits at the gates.
func writeGates(out io.Writer, s *gate.State, names map[types.UID]string) {
	mode := string(s.Mode)
	if s.Factor > 0 {
		mode += fmt.Sprintf(", %d times", s.Factor)
	}
	fmt.Fprintf(out, "%s; %d waiting\n", mode, len(s.Waiting))
	for i, w := range s.Waiting {
		mark := "  "
		if i == 0 {
			mark = "> " // the one that teach step lets go on
		}
		about := names[w.Pod]
		if about == "" {
			about = string(w.Pod)
		}
		fmt.Fprintf(out, "%s%-7s%s  %s\n", mark, w.Place, w.What, about)
	}
}
