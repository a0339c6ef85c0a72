package journal

import (
	"context"
	"strings"
	"testing"
	"time"
)

type fixed struct {
	size int
	text string
}

func (f *fixed) Size() int                          { return f.size }
func (f *fixed) Input(hide func(string) string) any { return map[string]string{"text": hide(f.text)} }
func (f *fixed) Output() string                     { return "done" }
func (f *fixed) Idle() bool                         { return f.text == "" }

func TestTheLastDecisionsAreRemembered(t *testing.T) {
	j := New(time.Now)
	j.Know(Who{UID: "u", Namespace: "shop", Name: "web"})
	step := j.Begin(Event{Kind: Step, Pod: "u"})
	for range maxDecisions + 10 {
		j.Decide(In(t.Context(), step), "u", "f", &fixed{1, "hunter2"})
	}
	all := j.Decisions()
	if len(all) != maxDecisions || all[0].Seq != 11 || all[0].Cause != step.Seq() {
		t.Fatalf("%d, the first is %+v", len(all), all[0])
	}
	for range 20 {
		j.Decide(t.Context(), "u", "f", &fixed{1 << 20, "hunter2"})
	}
	if all = j.Decisions(); len(all) != 8 {
		t.Errorf("%d of 1 MiB each", len(all))
	}
	j.Decide(t.Context(), "u", "f", &fixed{1 << 30, "hunter2"})
	if all = j.Decisions(); len(all) != 1 {
		t.Errorf("%d with one that is too large", len(all))
	}
	for range 100 { // a pod that is left as it is
		j.Decide(t.Context(), "v", "f", &fixed{1, ""})
	}
	j.Decide(t.Context(), "v", "f", &fixed{1, "hunter2"})
	j.Decide(t.Context(), "v", "f", &fixed{1, ""})
	if all = j.Decisions(); len(all) != 3 || j.decisions.bytes != 3 {
		t.Errorf("%d decisions of %d bytes, want the last of a row, the one between and another", len(all), j.decisions.bytes)
	}
	for range maxDecisions {
		j.Decide(t.Context(), "u", "f", &fixed{1, "hunter2"})
	}
	if all = j.Decisions(); len(j.decisions.idle) != 0 {
		t.Error("a row that is forgotten goes on")
	}
	hide := NewHider()
	one, err := j.ShowDecision(all[0], hide)
	if err != nil || one.Pod != "web" || one.Namespace != "shop" || one.Output != "done" || strings.Contains(string(one.Input), "hunter2") {
		t.Errorf("%+v, %v", one, err)
	}
	if again, _ := j.ShowDecision(all[0], hide); string(again.Input) != string(one.Input) {
		t.Errorf("%s and %s", one.Input, again.Input)
	}
	if other, _ := j.ShowDecision(all[0], NewHider()); string(other.Input) == string(one.Input) {
		t.Error("two dumps hide by the same key")
	}
	var none *Journal
	quiet := j.BeginQuiet(&Handle{}, Event{Kind: Step, Pod: "u"})
	if j.Decide(In(t.Context(), quiet), "u", "f", &fixed{1, ""}); !quiet.Quiet() {
		t.Error("a decision makes a quiet step an event of its own")
	}
	none.Decide(context.Background(), "u", "f", &fixed{})
	if none.Decisions() != nil {
		t.Error("no journal remembers")
	}
}
