package main

import (
	"archive/tar"
	"bufio"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/bounds"
	"github.com/mini-kubelet/mini-kubelet/pkg/base/safefile"
	"github.com/mini-kubelet/mini-kubelet/pkg/base/visible"
	"github.com/mini-kubelet/mini-kubelet/pkg/journal"
	"github.com/mini-kubelet/mini-kubelet/pkg/lifecycle/worker"
	"github.com/mini-kubelet/mini-kubelet/pkg/runtime/kuberuntime"
)

const replayHelp = `Make the decisions of a bundle again, with this program, and print each that comes out differently.
It needs no agent and no Docker. It ends with 1 if there is any difference, and with 0 if not.`

// Bounds of a bundle: whoever sends one is not trusted.
const (
	maxBundleFile    = 64 << 20 // bytes of the file
	maxBundleContent = 4 * maxBundlePart
	maxDecisionLine  = 1 << 20
	maxShownDecision = 1 << 10 // bytes of a decision in words
)

func newReplayCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "replay FILE",
		Short: "Make the decisions of a bundle again, and tell what comes out differently",
		Long:  replayHelp,
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			dir, name := filepath.Split(args[0])
			f, err := safefile.Open(dir, name)
			if err != nil {
				return fmt.Errorf("read the bundle: %w", err)
			}
			defer f.Close()
			r := replay{out: cmd.OutOrStdout(), functions: decisions()}
			if err := r.read(f); err != nil {
				return fmt.Errorf("read the bundle %s: %w", args[0], err)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%d decisions, %d come out differently\n", r.equal+r.differ, r.differ)
			if r.unknown > 0 {
				fmt.Fprintf(cmd.ErrOrStderr(), "%d more are of functions that this program does not have\n", r.unknown)
			}
			if r.differ > 0 {
				return exitCode{code: 1}
			}
			return nil
		},
	}
}

// decisions are the functions whose decisions can be made again.
func decisions() map[string]func(json.RawMessage) (string, error) {
	return map[string]func(json.RawMessage) (string, error){
		kuberuntime.ComputeActions: kuberuntime.ReplayActions, worker.Decide: worker.ReplayDecide,
	}
}

// replay reads one bundle.
type replay struct {
	out                    io.Writer
	functions              map[string]func(json.RawMessage) (string, error)
	equal, differ, unknown int
}

var errBundleTooLarge = errors.New("it has more than a bundle may have")

// bounded reads no more than left bytes.
type bounded struct {
	from io.Reader
	left int64
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errBundleTooLarge
	}
	n, err := b.from.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}

// read makes all decisions of a bundle again.
func (r *replay) read(f *os.File) error {
	unzipped, err := gzip.NewReader(&bounded{f, maxBundleFile})
	if err != nil {
		return err
	}
	archive, had := tar.NewReader(&bounded{unzipped, maxBundleContent}), map[string]bool{}
	for {
		h, err := archive.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		switch h.Name {
		case bundleVersions, bundleConfig, bundleJournal, bundleDecisions:
		default:
			return fmt.Errorf("a bundle has no file %s", visible.Text(bounds.Quote(h.Name)))
		}
		if h.Typeflag != tar.TypeReg || had[h.Name] || h.Size > maxBundlePart {
			return fmt.Errorf("%s is not one file of at most %d bytes", h.Name, maxBundlePart)
		}
		had[h.Name] = true
		switch h.Name {
		case bundleVersions:
			err = checkVersion(archive)
		case bundleDecisions:
			err = r.decisions(archive)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", h.Name, err)
		}
	}
	if !had[bundleVersions] || !had[bundleDecisions] {
		return errors.New("it has no " + bundleVersions + " or no " + bundleDecisions)
	}
	return nil
}

func checkVersion(in io.Reader) error {
	var v versions
	if err := json.NewDecoder(io.LimitReader(in, maxDecisionLine)).Decode(&v); err != nil {
		return err
	}
	if v.Bundle != 1 {
		return fmt.Errorf("it is a bundle of format %d, and this program reads 1", v.Bundle)
	}
	return nil
}

func (r *replay) decisions(in io.Reader) error {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, maxDecisionLine)
	for lines.Scan() {
		if len(lines.Bytes()) == 0 {
			continue
		}
		var d journal.ShownDecision
		if err := json.Unmarshal(lines.Bytes(), &d); err != nil {
			return err
		}
		function := r.functions[d.Function]
		if function == nil {
			r.unknown++
			continue
		}
		now, err := again(function, d.Input)
		if err != nil {
			now = "an error: " + err.Error()
		}
		if now == d.Output {
			r.equal++
			continue
		}
		r.differ++
		show := func(text string) string { return visible.Text(bounds.Cut(text, maxShownDecision)) }
		fmt.Fprintf(r.out, "#%d %s %s %s: recorded \"%s\", now \"%s\"\n", d.Seq, d.Time.Format("15:04:05"), d.Function, show(d.Pod), show(d.Output), show(now))
	}
	return lines.Err()
}

// again makes a decision. What an agent never decides from may be more than the function can bear.
func again(function func(json.RawMessage) (string, error), input json.RawMessage) (output string, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%v", r)
		}
	}()
	return function(input)
}
