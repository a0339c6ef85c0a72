package agent

import (
	"context"
	"fmt"
	"io"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mini-kubelet/mini-kubelet/pkg/server/evidence"
	"github.com/mini-kubelet/mini-kubelet/pkg/server/why"
	"github.com/mini-kubelet/mini-kubelet/pkg/source/manifest"
)

// newWhy makes what says why pods do not run as wanted.
func newWhy(f *foundation, s *supplies, rt *runtimeStage, l *life, shown func() []*v1.Pod,
	logs func(context.Context, types.NamespacedName, *v1.PodLogOptions, io.Writer, io.Writer) error) (*evidence.Desk, error) {
	return evidence.New(evidence.Config{
		Node: f.cfg.NodeName, Labels: s.nodeLabels, Pods: shown, Problems: l.sources.refused, Where: l.sources.where,
		Journal: f.journal, CRI: f.client, Objects: s.objects, Logs: logs, Unsuitable: s.unsuitable, NextTry: rt.manager.NextTry,
	})
}

// refused returns why documents of manifests are not used.
func (s *sources) refused() []why.Problem {
	var all []why.Problem
	for _, problems := range s.problems {
		for _, p := range problems() {
			if !p.Warning {
				all = append(all, why.Problem{Kind: p.Kind, Name: p.Name, File: p.File, Document: p.Document, Line: p.Line, Field: p.Field, Message: p.Message})
			}
		}
	}
	return all
}

// where returns the file or URL and the line of a field of what comes from a manifest, "" for all else.
func (s *sources) where(kind string, name types.NamespacedName, field string) string {
	for _, place := range s.places {
		switch from, line := place(manifest.Ident{Kind: kind, Name: name}, field); {
		case from == "":
		case line == 0:
			return from
		default:
			return fmt.Sprintf("%s:%d", from, line)
		}
	}
	return ""
}
