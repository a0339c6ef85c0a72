package journal

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// Bounds of the decisions that are remembered: how many, and how large what they were made from would be in JSON, about. In
// memory an observed status may be ten times that, as long as no other part has the same one.
const (
	maxDecisions     = 2048
	maxDecisionBytes = 8 << 20
)

// Decision is a decision that can be made again: a pure function's arguments and what it said. It and all that it refers
// to must not change.
type Decision interface {
	// Size is about how many bytes the input has.
	Size() int
	// Input returns the arguments for JSON. All texts that may hold a secret go through hide.
	Input(hide func(string) string) any
	// Output is what the function said, in words. Equal words are equal decisions.
	Output() string
	// Idle reports whether it was to leave everything as it is. Of those only the last of a row is remembered.
	Idle() bool
}

// Decided is a decision that was made.
type Decided struct {
	Seq      uint64 // its number, from 1
	Cause    uint64 // the event of the journal in which it was made
	Time     time.Time
	Pod      types.UID
	Function string
	Decision Decision
}

// decisions remembers the last decisions: pointers to what exists anyway, which is made into JSON when somebody asks.
type decisions struct {
	mu    sync.Mutex
	seq   uint64
	bytes int
	list  []*Decided // the oldest first
	idle  map[made]*Decided
}

// made says who has decided about whom.
type made struct {
	pod      types.UID
	function string
}

// Decide remembers a decision about a pod as part of the context's step.
func (j *Journal) Decide(ctx context.Context, pod types.UID, function string, d Decision) {
	if j == nil || j.decisions == nil {
		return
	}
	cause, key := Of(ctx).Series(), made{pod, function}
	all := j.decisions
	all.mu.Lock()
	defer all.mu.Unlock()
	last := all.idle[key]
	delete(all.idle, key)
	if last != nil && d.Idle() {
		all.bytes += d.Size() - last.Decision.Size()
		last.Cause, last.Time, last.Decision = cause, time.Now(), d
		all.idle[key] = last
		return
	}
	all.seq++
	now := &Decided{Seq: all.seq, Cause: cause, Time: time.Now(), Pod: pod, Function: function, Decision: d}
	if d.Idle() {
		all.idle[key] = now
	}
	all.bytes += d.Size()
	all.list = append(all.list, now)
	for len(all.list) > maxDecisions || all.bytes > maxDecisionBytes && len(all.list) > 1 {
		all.forgetOldest()
	}
}

func (all *decisions) forgetOldest() {
	oldest := all.list[0]
	all.bytes -= oldest.Decision.Size()
	if key := (made{oldest.Pod, oldest.Function}); all.idle[key] == oldest {
		delete(all.idle, key)
	}
	all.list[0] = nil // what it held can go
	all.list = all.list[1:]
}

// Decisions returns the decisions that are remembered, the oldest first.
func (j *Journal) Decisions() []Decided {
	if j == nil || j.decisions == nil {
		return nil
	}
	j.decisions.mu.Lock()
	defer j.decisions.mu.Unlock()
	list := make([]Decided, len(j.decisions.list))
	for i, d := range j.decisions.list {
		list[i] = *d
	}
	return list
}

// ShownDecision is a decision as it is sent to whoever looks: one JSON object a line.
type ShownDecision struct {
	Seq       uint64          `json:"seq"`
	Cause     uint64          `json:"cause,omitempty"`
	Time      time.Time       `json:"time"`
	Function  string          `json:"function"`
	UID       string          `json:"uid,omitempty"`
	Namespace string          `json:"namespace,omitempty"`
	Pod       string          `json:"pod,omitempty"`
	Input     json.RawMessage `json:"input"`
	Output    string          `json:"output"`
}

// ShowDecision puts a decision into JSON. hide is of one Hider for all that are shown together.
func (j *Journal) ShowDecision(d Decided, hide func(string) string) (ShownDecision, error) {
	input, err := json.Marshal(d.Decision.Input(hide))
	if err != nil {
		return ShownDecision{}, fmt.Errorf("encode what %s decided from: %w", d.Function, err)
	}
	who := j.Who(d.Pod)
	return ShownDecision{
		Seq: d.Seq, Cause: d.Cause, Time: d.Time, Function: d.Function, UID: string(d.Pod), Namespace: who.Namespace, Pod: who.Name,
		Input: input, Output: d.Decision.Output(),
	}, nil
}

// NewHider returns a function that replaces texts: equal ones by equal ones, which say how long they were. By a key that is
// used for nothing else and forgotten, so that nobody finds a short secret by trying all.
func NewHider() func(string) string {
	key := make([]byte, 32)
	_, _ = rand.Read(key) // which never fails
	return func(text string) string {
		if text == "" {
			return ""
		}
		mac := hmac.New(sha256.New, key)
		_, _ = mac.Write([]byte(text)) // which never fails
		return fmt.Sprintf("hidden:%d:%x", len(text), mac.Sum(nil)[:8])
	}
}
