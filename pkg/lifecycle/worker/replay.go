package worker

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/mini-kubelet/mini-kubelet/pkg/pods/actual"
)

// Decide is the name under which the workers' decisions are in the journal; ReplayDecide makes them again.
const Decide = "decide"

// decided is a decision of decide.
type decided struct {
	in  decideInput
	out verdict
}

// decideInput is what decide goes by.
type decideInput struct {
	Phase    Phase `json:"phase"`
	Failed   bool  `json:"failed,omitempty"` // the step
	Done     bool  `json:"done,omitempty"`
	InTheWay bool  `json:"inTheWay,omitempty"`
	Removed  bool  `json:"removed,omitempty"`
}

// Size implements journal.Decision.
func (*decided) Size() int { return 256 }

// Idle implements journal.Decision.
func (d *decided) Idle() bool { return d.out == verdict{phase: d.in.Phase, due: true} }

// Input implements journal.Decision. It holds no texts.
func (d *decided) Input(func(string) string) any { return d.in }

// Output implements journal.Decision.
func (d *decided) Output() string { return d.out.told() }

// told is the verdict in words.
func (v verdict) told() string {
	text := v.phase.String()
	for _, is := range []struct {
		so   bool
		word string
	}{{v.now, "goes on at once"}, {v.retry, "is tried again"}, {v.due, "is looked at again"}, {v.gone, "is gone"}} {
		if is.so {
			text += ", " + is.word
		}
	}
	return text
}

// ReplayDecide makes a decision of decide again from what its Input was, and returns what this binary decides.
func ReplayDecide(text json.RawMessage) (output string, err error) {
	var in decideInput
	if err := json.Unmarshal(text, &in); err != nil {
		return "", fmt.Errorf("read the input of %s: %w", Decide, err)
	}
	o := outcome{done: in.Done}
	if in.Failed {
		o.err = errors.New("the step failed")
	}
	if in.InTheWay {
		o.inTheWay = &actual.Pod{}
	}
	return decide(in.Phase, o, in.Removed).told(), nil
}
