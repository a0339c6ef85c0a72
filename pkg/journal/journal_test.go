package journal

import (
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
)

type list []Entry

func (l *list) Record(e Entry) { *l = append(*l, e) }

func TestWhatIsSaidAgainAndAgainIsOneEventInTheRing(t *testing.T) {
	var got list
	j := New(time.Now, &got)
	var series Handle
	for range 1000 { // a night of a failing probe
		j.Container(&v1.Pod{}, "c").Again(&series).Warn("Unhealthy", "refused")
	}
	j.Container(&v1.Pod{}, "c").Again(&series).Warn("Unhealthy", "timed out")
	events, _ := j.Since(0)
	if len(events) != 2 || events[0].Count != 1000 || !events[0].Warning || events[1].Detail != Text("timed out") {
		t.Errorf("%+v", events)
	}
	if len(got) != 1001 {
		t.Errorf("%d entries, which sinks count themselves", len(got))
	}
}

func TestAMessageIsCutToWhatAnEventTakes(t *testing.T) {
	var got list
	j := New(time.Now, &got)
	whole := strings.Repeat("é", MaxText/2)
	for _, message := range []string{"short", whole, whole + "x", strings.Repeat("é", 1<<20)} {
		j.Warn(&v1.Pod{}, "Failed", message)
	}
	cut := whole[:1020] + "..."
	for i, want := range []string{"short", whole, cut, cut} {
		if got[i].Message != want {
			t.Errorf("message %d: %d bytes, want %d", i, len(got[i].Message), len(want))
		}
	}
}
