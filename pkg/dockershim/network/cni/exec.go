package cni

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/containernetworking/cni/pkg/invoke"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/version"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/bounds"
	"github.com/mini-kubelet/mini-kubelet/pkg/base/program"
)

const (
	maxOutput   = 1 << 20 // bytes of a plug-in's answer; a result is a few hundred
	maxComplain = 1024    // bytes of its words in an error
)

// runner runs plug-ins. Those of libcni's own are waited for as long as a child of theirs keeps
// their output open, and may answer at any length.
type runner struct {
	version.PluginDecoder
}

// FindInPath implements invoke.Exec.
func (*runner) FindInPath(plugin string, paths []string) (string, error) {
	return invoke.FindInPath(plugin, paths)
}

// ExecPlugin implements invoke.Exec, and refuses answers that cannot be used. Its errors say which plug-in failed at what.
func (*runner) ExecPlugin(ctx context.Context, path string, stdin []byte, environ []string) ([]byte, error) {
	began := time.Now()
	p := program.Program{Path: path, Env: environ, Stdin: stdin, MaxOutput: maxOutput}
	out, complaint, err := p.Run(ctx)
	if err == nil {
		_, _ = os.Stderr.Write(complaint)                // information for people, as with libcni
		if slices.Contains(environ, "CNI_COMMAND=ADD") { // the only one whose answer is a result
			if err := checkAnswer(out); err != nil {
				return nil, fmt.Errorf("the answer of plug-in %s cannot be used: %w", filepath.Base(path), err)
			}
		}
		return out, nil
	}
	failed := &types.Error{Code: types.ErrInternal}
	who := fmt.Sprintf("plug-in %s, %s", filepath.Base(path), command(environ))
	if ctx.Err() != nil {
		failed.Msg = fmt.Sprintf("%s: no answer within %v", who, time.Since(began).Round(time.Second))
		return nil, failed
	}
	var own types.Error
	if json.Unmarshal(out, &own) == nil && own.Msg != "" {
		failed.Code, failed.Msg = own.Code, who+": "+bounds.Cut(own.Msg, maxComplain)
		failed.Details = bounds.Cut(own.Details, maxComplain)
		return nil, failed
	}
	text := strings.TrimSpace(cmp.Or(string(out), string(complaint)))
	failed.Msg = fmt.Sprintf("%s: %v", who, err)
	if text != "" {
		failed.Msg += ": " + bounds.Cut(text, maxComplain)
	}
	return nil, failed
}

// command is what a plug-in is called for.
func command(environ []string) string {
	name := ""
	for _, e := range environ {
		if value, ok := strings.CutPrefix(e, "CNI_COMMAND="); ok {
			name = value
		}
	}
	return name
}
