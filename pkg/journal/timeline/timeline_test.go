package timeline

import (
	"bufio"
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mini-kubelet/mini-kubelet/pkg/journal"
)

var update = flag.Bool("update", false, "rewrite golden files")

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("got:\n%s\nwant %s (or run with -update):\n%s", got, file, want)
	}
}

// recorded is what a real agent has sent: of a pod web that was started and ended, and of a pod crash that exits at once.
func recorded(t testing.TB) []journal.Shown {
	t.Helper()
	text, err := os.ReadFile("testdata/recorded.ndjson")
	if err != nil {
		t.Fatal(err)
	}
	var all []journal.Shown
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		var e journal.Shown
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			t.Fatal(err)
		}
		all = append(all, e)
	}
	return all
}

// uidOf returns the UID of the recorded pod whose name begins so.
func uidOf(t *testing.T, all []journal.Shown, name string) string {
	t.Helper()
	i := slices.IndexFunc(all, func(e journal.Shown) bool { return strings.HasPrefix(e.Pod, name+"-") })
	if i < 0 {
		t.Fatalf("no pod %s was recorded", name)
	}
	return all[i].UID
}

func TestRecordedPods(t *testing.T) {
	all := recorded(t)
	now := over(all).Add(1500 * time.Millisecond)
	for name, tt := range map[string]struct {
		pod string
		o   Options
	}{
		"web.txt":       {"web", Options{Gone: true}},
		"crash.txt":     {"crash", Options{}},
		"container.txt": {"crash", Options{Container: "c", Gaps: time.Hour}},
		"since.txt":     {"web", Options{Gone: true, Since: now.Add(-1650 * time.Millisecond)}},
	} {
		tt.o.Now = now
		uid := uidOf(t, all, tt.pod)
		line := New(Of(all, uid), uid, tt.o)
		var out strings.Builder
		if err := line.Write(&out); err != nil {
			t.Fatal(err)
		}
		golden(t, name, out.String())
	}
}

func TestEachKindHasALayer(t *testing.T) {
	kinds := 0
	for k := journal.None + 1; !strings.HasPrefix(k.String(), "kind "); k++ {
		kinds++
		if layer := layers[k.String()]; !slices.Contains(order, layer) {
			t.Errorf("%s is of layer %q", k, layer)
		}
		if f := (forest{}); f.words(&node{Shown: journal.Shown{Kind: k.String(), Name: "NAME", Reason: "REASON"}}) == "" {
			t.Errorf("%s has no words", k)
		}
	}
	if kinds < 20 {
		t.Errorf("%d kinds", kinds)
	}
}

func TestHowLongAPodTookToRun(t *testing.T) {
	at := func(ms int) time.Time { return time.Unix(100, int64(ms)*1e6) }
	source := journal.Shown{Seq: 1, Kind: "source", Name: "web.yaml", Time: at(0), TookNS: 1e6}
	change := journal.Shown{Seq: 2, Cause: 1, Kind: "change", UID: "u", Pod: "web", Namespace: "default", Time: at(2)}
	step := journal.Shown{Seq: 3, Cause: 2, Kind: "step", UID: "u", Time: at(3), TookNS: 6e6}
	runs := journal.Shown{Seq: 4, Cause: 3, Kind: "status", UID: "u", Time: at(8), Reason: "Running", Detail: "phase Pending → Running"}
	again := journal.Shown{Seq: 5, Cause: 3, Kind: "status", UID: "u", Time: at(9), Reason: "Running", Detail: "c terminated (Error, exit 3)"}
	for name, tt := range map[string]struct {
		events []journal.Shown
		o      Options
		want   string
	}{
		"nothing":                {nil, Options{}, " () u  nothing is remembered of it"},
		"it runs":                {[]journal.Shown{source, change, step, runs, again}, Options{Runs: true}, "web (default) u  8.0 ms from file to Running"},
		"it ran":                 {[]journal.Shown{source, change, step, runs}, Options{Gone: true}, "web (default) u  8.0 ms from file to Running"},
		"not yet":                {[]journal.Shown{source, change, step}, Options{}, "web (default) u  50 ms from file until now, not Running yet"},
		"it never ran":           {[]journal.Shown{source, change, step}, Options{Gone: true}, "web (default) u  9.0 ms from file to its end; it was not seen to be Running"},
		"its start is forgotten": {[]journal.Shown{step, again}, Options{Runs: true}, " () u  47 ms from the first thing remembered until now; since when it is Running is forgotten"},
		"its source is":          {[]journal.Shown{change, step, runs}, Options{Runs: true}, "web (default) u  6.0 ms from the first thing remembered to Running"},
	} {
		tt.o.Now = at(50)
		if got := New(Of(tt.events, "u"), "u", tt.o).Header(); got != tt.want {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
}

// over is when the last event was over.
func over(all []journal.Shown) time.Time {
	var at time.Time
	for _, e := range all {
		if end := e.Time.Add(time.Duration(max(0, e.TookNS))); end.After(at) {
			at = end
		}
	}
	return at
}

func TestTheSumOfThePartsIsTheWhole(t *testing.T) {
	all := recorded(t)
	for _, pod := range []string{"web", "crash"} {
		uid := uidOf(t, all, pod)
		line := New(Of(all, uid), uid, Options{Now: over(all)})
		var sum time.Duration
		for _, p := range line.Parts {
			sum += p.Took
		}
		if !line.Running || sum != line.Total || line.Total == 0 {
			t.Errorf("%s: parts of %v, total %v, %+v", pod, sum, line.Total, line.Parts)
		}
	}
}

func TestChromeNests(t *testing.T) {
	all := recorded(t)
	for _, pod := range []string{"web", "crash"} {
		uid := uidOf(t, all, pod)
		own := Of(all, uid)
		trace := Chrome(own, uid, over(all))
		events, tracks := 0, map[int]string{}
		for _, e := range trace.Events {
			if e.Phase == "X" {
				events++
			}
			if e.Name == "thread_name" {
				tracks[e.TID] = e.Args["name"].(string)
			}
		}
		if events != len(own) || len(tracks) < 8 {
			t.Errorf("%s: %d of %d events on tracks %v", pod, events, len(own), tracks)
		}
		if what := overlap(trace); what != "" {
			t.Errorf("%s: %s", pod, what)
		}
	}
}

// overlap returns a pair of a trace's events that overlap on one track without one being in the other; "" if there is none.
func overlap(trace ChromeTrace) string {
	open := map[int][]ChromeEvent{}
	for _, e := range trace.Events {
		if e.Phase != "X" {
			continue
		}
		stack := open[e.TID]
		for len(stack) > 0 && stack[len(stack)-1].At+*stack[len(stack)-1].Took <= e.At {
			stack = stack[:len(stack)-1]
		}
		if len(stack) > 0 {
			if in := stack[len(stack)-1]; e.At < in.At || e.At+*e.Took > in.At+*in.Took {
				return fmt.Sprintf("%+v overlaps %+v", e, in)
			}
		}
		open[e.TID] = append(stack, e)
	}
	return ""
}
