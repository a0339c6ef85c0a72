package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mini-kubelet/mini-kubelet/pkg/lifecycle/replay"
	"github.com/mini-kubelet/mini-kubelet/pkg/server"
)

const bundleHelp = `Write down what the agent knows of what happened lately, for somebody who has neither this machine nor
Docker: the journal, the last decisions with what they were made from, the configuration, versions.
With POD only what is about that pod. Values of environments and arguments are replaced by their
length and a hash; nothing of Secrets is in it. "mini-kubelet replay" makes the decisions again.`

func newBundleCommand() *cobra.Command {
	var f podFlags
	var path string
	cmd := &cobra.Command{
		Use:   "bundle [POD]",
		Short: "Write down what happened lately, so that it can be looked into elsewhere",
		Long:  bundleHelp,
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if path == "" {
				return errors.New("name the file to write with -o")
			}
			c, err := f.client()
			if err != nil {
				return err
			}
			var uid types.UID
			if len(args) == 1 {
				_, p, err := f.find(cmd.Context(), args[0])
				if err != nil {
					return err
				}
				uid = p.UID
			}
			text, err := c.bundle(cmd.Context(), uid)
			if err != nil {
				return err
			}
			if err := os.WriteFile(path, text, 0o600); err != nil {
				return fmt.Errorf("write the bundle: %w", err)
			}
			return nil
		},
	}
	f.addTo(cmd)
	cmd.Flags().StringVarP(&path, "output", "o", "", "the file to write, such as x.mkb")
	return cmd
}

// bundle makes a bundle of what is about a pod, or of all if uid is "".
func (c *agentClient) bundle(ctx context.Context, uid types.UID) ([]byte, error) {
	parts := map[string][]byte{}
	for name, path := range map[string]string{
		replay.VersionsFile: server.VersionsPath, replay.JournalFile: server.JournalPath, replay.DecisionsFile: server.DecisionsPath, replay.ConfigFile: "configz",
	} {
		var err error
		if parts[name], err = c.part(ctx, path); err != nil {
			return nil, err
		}
	}
	if uid != "" {
		for _, name := range []string{replay.JournalFile, replay.DecisionsFile} {
			parts[name] = linesOf(parts[name], uid)
		}
	}
	var out bytes.Buffer
	if err := replay.Write(&out, parts); err != nil {
		return nil, fmt.Errorf("write the bundle: %w", err)
	}
	return out.Bytes(), nil
}

// part reads an answer as it is.
func (c *agentClient) part(ctx context.Context, path string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	resp, err := c.get(ctx, c.url(nil, path))
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, replay.MaxPart+1))
	switch {
	case err != nil && isCanceled(ctx):
		return nil, interrupted
	case err != nil:
		return nil, fmt.Errorf("read %s of the agent: %w", path, err)
	case len(text) > replay.MaxPart:
		return nil, fmt.Errorf("%s of the agent has more than %d bytes", path, replay.MaxPart)
	}
	return text, nil
}

// linesOf returns the lines that are about a pod.
func linesOf(text []byte, uid types.UID) []byte {
	var own []byte
	for line := range bytes.Lines(text) {
		var about struct{ UID types.UID }
		if json.Unmarshal(line, &about) == nil && about.UID == uid {
			own = append(own, line...)
		}
	}
	return own
}
