package agent

import (
	"context"
	"slices"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mini-kubelet/mini-kubelet/pkg/cluster/nodeobject"
	"github.com/mini-kubelet/mini-kubelet/pkg/cluster/podobjects"
	"github.com/mini-kubelet/mini-kubelet/pkg/config"
	"github.com/mini-kubelet/mini-kubelet/pkg/lifecycle/podstore"
	"github.com/mini-kubelet/mini-kubelet/pkg/volume"
	"github.com/mini-kubelet/mini-kubelet/pkg/volume/csi"
)

// storage makes what mounts volumes of the cluster's: claims and CSI drivers. changed
// has pods synced whose claim is no longer as it was.
func (c *cluster) storage(cfg *config.Config, n *node, changed func([]types.UID), into *volume.Config) error {
	var err error
	c.claims, err = podobjects.NewClaims(podobjects.ClaimsConfig{Client: c.client.CoreV1(), Users: c.claimUsers, Changed: changed})
	if err != nil {
		return err
	}
	drivers, err := csi.New(csi.Config{
		Root: cfg.RootDir, NodeName: cfg.NodeName, Client: c.client, Token: c.tokens.TokenStatus, Secret: c.claims.Secret,
		Registered: func() { changed(volumeUsers(c.store, ofDrivers)) },
		Node:       func() *v1.Node { return c.node.Node() },
		Use:        func(ctx context.Context, name v1.UniqueVolumeName) error { return c.inUse.Use(ctx, name) },
		Release:    func(name v1.UniqueVolumeName) { c.inUse.Release(name) },
	})
	if err != nil {
		return err
	}
	c.drivers, c.inUse = drivers, nodeobject.NewInUse(drivers.InUse())
	into.Claims, into.CSI = c.claims, drivers
	into.NodeLabels = func() map[string]string { return n.now().Labels }
	return nil
}

// claimUsers are the pods of this node that have a claim.
func (c *cluster) claimUsers(namespace, claim string) []types.UID {
	return volumeUsers(c.store, func(pod *v1.Pod, v *v1.Volume) bool {
		return pod.Namespace == namespace && volume.ClaimName(pod, v) == claim
	})
}

// volumeUsers are the pods that have a volume of a kind.
func volumeUsers(store *podstore.Store, kind func(*v1.Pod, *v1.Volume) bool) []types.UID {
	var users []types.UID
	for _, pod := range store.Pods() {
		if slices.ContainsFunc(pod.Spec.Volumes, func(v v1.Volume) bool { return kind(pod, &v) }) {
			users = append(users, pod.UID)
		}
	}
	return users
}

// ofDrivers tells whether a volume may be one of a CSI driver.
func ofDrivers(pod *v1.Pod, v *v1.Volume) bool { return v.CSI != nil || volume.ClaimName(pod, v) != "" }

// localStorage is storage for a standalone node: claims of the manifests.
func localStorage(cfg *config.Config, n *node, local *podobjects.Local, store *podstore.Store, changed func([]types.UID), into *volume.Config) (*csi.Manager, error) {
	drivers, err := csi.New(csi.Config{
		Root: cfg.RootDir, NodeName: cfg.NodeName, Secret: local.Secret,
		Registered: func() { changed(volumeUsers(store, ofDrivers)) },
	})
	if err != nil {
		return nil, err
	}
	into.Claims, into.CSI = local, drivers
	into.NodeLabels = func() map[string]string { return n.offer.Labels }
	return drivers, nil
}
