package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"

	"github.com/spf13/cobra"
	v1 "k8s.io/api/core/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/safefile"
	"github.com/mini-kubelet/mini-kubelet/pkg/base/visible"
	"github.com/mini-kubelet/mini-kubelet/pkg/journal/gate"
	"github.com/mini-kubelet/mini-kubelet/pkg/lifecycle/replay"
	"github.com/mini-kubelet/mini-kubelet/pkg/server"
	"github.com/mini-kubelet/mini-kubelet/pkg/server/ui"
)

const uiHelp = `Show what the agent does, live, in a browser on this machine: the loop and its channels, the
pods' workers, PLEG, each pod's steps on a time line with their reasons, and what is wanted
beside what is seen. The page moves back in time as far as the agent's journal reaches.

The command prints an address with a token and serves the page on 127.0.0.1 until it is ended;
who has the address may look. The page changes nothing, but for an agent in teaching mode
(mini-kubelet --teach): there it shows what waits at the gates, and opens them: one step, a pod's
next step, all, or all in slow motion. From another machine, forward the port:
ssh -L PORT:127.0.0.1:PORT node. The page outlives restarts of the agent.

With BUNDLE, a file that "mini-kubelet bundle" has written, it shows that and needs no agent: the
journal, and in place of specs each pod's decisions with what they were made from. The page also
opens bundles, and journals that it has saved, itself.`

func newUICommand() *cobra.Command {
	var c connection
	var port uint16
	cmd := &cobra.Command{
		Use:   "ui [BUNDLE]",
		Short: "Show what the agent does, live, in a browser",
		Long:  uiHelp,
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, what := cmd.Context(), "this node"
			var agent ui.Agent
			var err error
			if len(args) == 1 {
				what = filepath.Base(args[0])
				agent, err = bundleToShow(args[0])
			} else {
				agent, err = c.pageSource(ctx)
			}
			if err != nil {
				return err
			}
			s, err := ui.New(ui.Config{Agent: agent, Port: int(port)})
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "The page of %s, until Ctrl-C:\n\n  %s\n\n", visible.Text(what), s.URL())
			return s.Run(ctx)
		},
	}
	c.addTo(cmd)
	cmd.Flags().Uint16Var(&port, "port", 0, "port of 127.0.0.1 for the page; 0 is any that is free")
	return cmd
}

// bundleToShow reads a bundle, into which only the page looks.
func bundleToShow(path string) (*ui.Bundle, error) {
	f, err := openBundle(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	content, err := safefile.Read(f, replay.MaxBundle)
	if err != nil {
		return nil, fmt.Errorf("read the bundle: %w", err)
	}
	return &ui.Bundle{Name: filepath.Base(path), Content: content}, nil
}

// pageSource asks once whether there is an agent: what is wrong is then said on the terminal.
func (c *connection) pageSource(ctx context.Context) (ui.Agent, error) {
	client, err := c.client()
	if err != nil {
		return nil, err
	}
	if _, err := client.pods(ctx); err != nil {
		return nil, err
	}
	return pageSource{client}, nil
}

// pageSource is the agent as the page knows it.
type pageSource struct{ *agentClient }

// Journal implements ui.Agent.
func (s pageSource) Journal(ctx context.Context, lastEventID string) (io.ReadCloser, error) {
	resp, err := s.getWith(ctx, s.url(nil, server.JournalPath), http.Header{"Accept": {"text/event-stream"}, "Last-Event-Id": {lastEventID}})
	if err != nil {
		return nil, err
	}
	return resp.Body, nil
}

// Pods implements ui.Agent.
func (s pageSource) Pods(ctx context.Context) ([]v1.Pod, error) {
	list, err := s.pods(ctx)
	if err != nil {
		return nil, err
	}
	return list.Items, nil
}

// Teach implements ui.Agent.
func (s pageSource) Teach(ctx context.Context, do *server.TeachRequest) (*gate.State, error) {
	state, err := s.teach(ctx, do)
	if errors.Is(err, errNotTeaching) {
		return nil, nil
	}
	return state, err
}
