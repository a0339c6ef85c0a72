package agent

import (
	"context"
	"errors"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/bounds"
	"github.com/mini-kubelet/mini-kubelet/pkg/config"
	"github.com/mini-kubelet/mini-kubelet/pkg/journal"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
	"github.com/mini-kubelet/mini-kubelet/pkg/source"
	"github.com/mini-kubelet/mini-kubelet/pkg/source/manifest"
)

// sources are the places where pods come from, and the mux that merges them.
type sources struct {
	mux   *source.Mux
	names []string
	parts []part
	// places say where in which file or answer something of a manifest stands.
	places []func(id manifest.Ident, field string) (from string, line int)
	// problems are what is wrong with manifests.
	problems []func() []manifest.Problem
}

// runner is a source of pods.
type runner interface {
	Run(context.Context, chan<- source.Snapshot) error
}

func newSources(cfg *config.Config, s *supplies, record *journal.Journal) (*sources, error) {
	report := reportTo(record)
	snapshots := make(chan source.Snapshot)
	all := &sources{}
	add := func(name, running string, r runner) {
		all.names = append(all.names, name)
		all.parts = append(all.parts, part{running, func(ctx context.Context) error { return r.Run(ctx, snapshots) }})
	}
	if cfg.StaticPodPath != "" {
		f, err := source.NewFile(source.FileConfig{
			Path: cfg.StaticPodPath, NodeName: cfg.NodeName, Period: cfg.FileCheckFrequency.Duration,
			StateDir: stateDir(cfg, "manifests-file"), Objects: cfg.Standalone(), Lenient: cfg.ManifestValidation == config.ManifestWarn,
			Report: report, Journal: record,
		})
		if err != nil {
			return nil, err
		}
		add(pods.SourceFile, "file source", f)
		all.places, all.problems = append(all.places, f.Where), append(all.problems, f.Problems)
	}
	if cfg.StaticPodURL != "" {
		h, err := source.NewHTTP(source.HTTPConfig{
			URL: cfg.StaticPodURL, Header: cfg.StaticPodURLHeader, NodeName: cfg.NodeName, Period: cfg.HTTPCheckFrequency.Duration,
			StateDir: stateDir(cfg, "manifests-http"), Objects: cfg.Standalone(), Lenient: cfg.ManifestValidation == config.ManifestWarn,
			Report: report, Journal: record,
		})
		if err != nil {
			return nil, err
		}
		add(pods.SourceHTTP, "URL source", h)
		all.places, all.problems = append(all.places, h.Where), append(all.problems, h.Problems)
	}
	if s.pods != nil {
		add(pods.SourceAPI, "API source", s.pods)
	}
	if len(all.names) == 0 {
		return nil, errors.New("nothing says which pods to run: set --kubeconfig, --pod-manifest-path or --manifest-url")
	}
	mux, err := source.NewMux(source.MuxConfig{Report: report, Sources: all.names, Objects: s.manifests})
	if err != nil {
		return nil, err
	}
	all.mux, all.problems = mux, append(all.problems, mux.Problems)
	all.parts = append(all.parts, part{"mux", func(ctx context.Context) error { return mux.Run(ctx, snapshots) }})
	return all, nil
}

// reportTo returns what tells of a problem of a manifest: in the log, and in the journal.
func reportTo(record *journal.Journal) func(manifest.Problem) {
	return func(p manifest.Problem) {
		record.Note(journal.Event{Kind: journal.Problem, Name: p.File, Reason: p.Field, Warning: p.Warning, Err: bounds.Cut(p.Error(), journal.MaxText)})
		manifest.LogProblem(p)
	}
}
