package agent

import (
	"context"

	v1 "k8s.io/api/core/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/config"
	"github.com/mini-kubelet/mini-kubelet/pkg/csi"
	nodeobject "github.com/mini-kubelet/mini-kubelet/pkg/node"
	"github.com/mini-kubelet/mini-kubelet/pkg/objects"
	"github.com/mini-kubelet/mini-kubelet/pkg/volume"
)

// storage makes what mounts volumes of the cluster's: claims and CSI drivers.
func (c *cluster) storage(cfg *config.Config, n *node, into *volume.Config) error {
	drivers, err := csi.New(csi.Config{
		Root: cfg.RootDir, NodeName: cfg.NodeName, Client: c.client, Token: c.tokens.TokenStatus,
		Node:    func() *v1.Node { return c.node.Node() },
		Use:     func(ctx context.Context, name v1.UniqueVolumeName) error { return c.inUse.Use(ctx, name) },
		Release: func(name v1.UniqueVolumeName) { c.inUse.Release(name) },
	})
	if err != nil {
		return err
	}
	c.drivers, c.inUse = drivers, nodeobject.NewInUse(drivers.InUse())
	into.Claims, into.CSI = objects.Claims{Client: c.client.CoreV1()}, drivers
	into.NodeLabels = func() map[string]string { return n.now().Labels }
	return nil
}
