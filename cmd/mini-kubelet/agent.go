package main

import (
	"context"
	"io"

	"github.com/mini-kubelet/mini-kubelet/pkg/agent"
	"github.com/mini-kubelet/mini-kubelet/pkg/config"
)

func startAgent(ctx context.Context, cfg *config.Config, out io.Writer) error {
	return agent.Run(ctx, cfg, out)
}

func resetAgent(ctx context.Context, cfg *config.Config, out io.Writer) error {
	return agent.Reset(ctx, cfg, out)
}
