// Package replay makes decisions of an agent again, with the functions of this program, from what the agent has written down
// of them: its answer at /mini-kubelet/decisions, or a bundle, which holds that and what else a maintainer needs.
package replay

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/bounds"
	"github.com/mini-kubelet/mini-kubelet/pkg/base/visible"
	"github.com/mini-kubelet/mini-kubelet/pkg/journal"
	"github.com/mini-kubelet/mini-kubelet/pkg/lifecycle/worker"
	"github.com/mini-kubelet/mini-kubelet/pkg/runtime/kuberuntime"
)

// maxShown is how many bytes of a decision in words are told.
const maxShown = 1 << 10

// Result counts decisions.
type Result struct {
	Equal   int
	Differ  int
	Unknown int // of functions that this program does not have
}

// function makes a decision again from its input, which nobody vouches for.
type function func(json.RawMessage) (output string, err error)

// functions are those whose decisions can be made again, by their names.
func functions() map[string]function {
	return map[string]function{kuberuntime.ComputeActions: kuberuntime.ReplayActions, worker.Decide: worker.ReplayDecide}
}

// Decisions makes decisions again, one journal.ShownDecision a line, and tells of each that comes out differently.
func Decisions(in io.Reader, tell io.Writer) (Result, error) {
	var result Result
	functions, lines := functions(), bufio.NewScanner(in)
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		if len(lines.Bytes()) == 0 {
			continue
		}
		var d journal.ShownDecision
		if err := json.Unmarshal(lines.Bytes(), &d); err != nil {
			return result, err
		}
		f := functions[d.Function]
		if f == nil {
			result.Unknown++
			continue
		}
		now, err := f.again(d.Input)
		if err != nil {
			now = "an error: " + err.Error()
		}
		if now == d.Output {
			result.Equal++
			continue
		}
		result.Differ++
		show := func(text string) string { return visible.Text(bounds.Cut(text, maxShown)) }
		fmt.Fprintf(tell, "#%d %s %s %s: recorded \"%s\", now \"%s\"\n", d.Seq, d.Time.Format("15:04:05"), d.Function, show(d.Pod), show(d.Output), show(now))
	}
	return result, lines.Err()
}

// again makes a decision. What an agent never decides from may be more than the function can bear.
func (f function) again(input json.RawMessage) (output string, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%v", r)
		}
	}()
	return f(input)
}
