package agent

import (
	"context"
	"errors"

	"github.com/mini-kubelet/mini-kubelet/pkg/cluster/podobjects"
	"github.com/mini-kubelet/mini-kubelet/pkg/config"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
	"github.com/mini-kubelet/mini-kubelet/pkg/source"
)

// sources are the places where pods come from, and the mux that merges them.
type sources struct {
	mux       *source.Mux
	snapshots chan source.Snapshot
	names     []string
	parts     []part
}

// newSources makes those of static pods. local gets the objects that come with them.
func newSources(cfg *config.Config, api *cluster, local *podobjects.Local) (*sources, error) {
	snapshots := make(chan source.Snapshot)
	s := &sources{snapshots: snapshots}
	if cfg.StaticPodPath != "" {
		f, err := source.NewFile(source.FileConfig{
			Path: cfg.StaticPodPath, NodeName: cfg.NodeName, Period: cfg.FileCheckFrequency.Duration, StateDir: stateDir(cfg, "manifests-file"),
			Objects: cfg.Standalone(),
		})
		if err != nil {
			return nil, err
		}
		s.names = append(s.names, pods.SourceFile)
		s.parts = append(s.parts, part{"file source", func(ctx context.Context) error { return f.Run(ctx, snapshots) }})
	}
	if cfg.StaticPodURL != "" {
		h, err := source.NewHTTP(source.HTTPConfig{
			URL: cfg.StaticPodURL, Header: cfg.StaticPodURLHeader, NodeName: cfg.NodeName,
			Period: cfg.HTTPCheckFrequency.Duration, StateDir: stateDir(cfg, "manifests-http"),
			Objects: cfg.Standalone(),
		})
		if err != nil {
			return nil, err
		}
		s.names = append(s.names, pods.SourceHTTP)
		s.parts = append(s.parts, part{"URL source", func(ctx context.Context) error { return h.Run(ctx, snapshots) }})
	}
	if api != nil {
		s.names = append(s.names, pods.SourceAPI)
	}
	if len(s.names) == 0 {
		return nil, errors.New("nothing says which pods to run: set --kubeconfig, --pod-manifest-path or --manifest-url")
	}
	mux, err := source.NewMux(source.MuxConfig{Sources: s.names, Objects: local.Set})
	if err != nil {
		return nil, err
	}
	s.mux = mux
	s.parts = append(s.parts, part{"mux", func(ctx context.Context) error { return mux.Run(ctx, snapshots) }})
	return s, nil
}

// follow adds the pods that the API server binds to this node, once it is known
// what the API server has of the node.
func (s *sources) follow(cfg *config.Config, api *cluster) error {
	pods, err := source.NewAPI(source.APIConfig{Client: api.client, NodeName: cfg.NodeName, Ready: api.node.Synced()})
	if err != nil {
		return err
	}
	s.parts = append(s.parts, part{"API source", func(ctx context.Context) error { return pods.Run(ctx, s.snapshots) }})
	return nil
}
