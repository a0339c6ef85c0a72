package journal

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

func TestEventsAreNumberedAndTheOldestForgotten(t *testing.T) {
	j := New(time.Now)
	for i := range Capacity + 10 {
		if seq := j.Note(Event{Kind: Wake}); seq != uint64(i+1) {
			t.Fatalf("event %d got number %d", i+1, seq)
		}
	}
	events, version := j.Since(0)
	if len(events) != Capacity || events[0].Seq != 11 || events[Capacity-1].Seq != Capacity+10 || version != Capacity+10 {
		t.Errorf("%d events from %d to %d, version %d", len(events), events[0].Seq, events[len(events)-1].Seq, version)
	}
	if _, there := j.Get(10); there {
		t.Error("a forgotten event is found")
	}
	if e, there := j.Get(11); !there || e.Seq != 11 {
		t.Errorf("event 11: %v, %v", e, there)
	}
}

func TestEqualQuietEventsAreOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := New(time.Now)
		var ours, others Handle
		probe := Event{Kind: Probe, Pod: "u", Name: "c/liveness", Reason: "success", Quiet: true}
		for range 1000 {
			j.Again(&ours, probe)
			j.Again(&others, Event{Kind: List, Quiet: true})
			time.Sleep(time.Second)
		}
		events, version := j.Since(0)
		if len(events) != 2 || events[0].Count != 1000 || events[0].At != 0 || events[0].Last != int64(999*time.Second) {
			t.Fatalf("%+v", events)
		}
		if version != 2000 {
			t.Errorf("version %d: who has seen the first must hear of the others", version)
		}
		if newer, _ := j.Since(1998); len(newer) != 2 {
			t.Errorf("%d events have changed since version 1998, want both", len(newer))
		}
		failed := probe
		failed.Quiet, failed.Reason = false, "failure"
		first := j.Again(&ours, failed)
		if second := j.Again(&ours, failed); second == first {
			t.Error("failures are merged")
		}
		if next := j.Again(&ours, probe); next == first {
			t.Error("a success after failures is merged with one before")
		}
		for range Capacity {
			j.Note(Event{Kind: Wake})
		}
		if e, there := j.Get(j.Again(&ours, probe)); !there || e.Count != 1 {
			t.Errorf("after its event was forgotten, a series goes on as %+v, %v", e, there)
		}
	})
}

func TestSpans(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := New(time.Now)
		s := j.Begin(Event{Kind: CRI, Name: "StopContainer", Pod: "u", Step: 7})
		if e, _ := j.Get(s.Seq()); e.Took != UnderWay {
			t.Errorf("took %v before its end", e.Took)
		}
		inner := j.Note(Within(In(t.Context(), s), Event{Kind: Docker}))
		if e, _ := j.Get(inner); e.Cause != s.Seq() || e.Pod != "u" || e.Step != 7 {
			t.Errorf("%+v is not part of its step", e)
		}
		time.Sleep(time.Second)
		s.End(errors.New("gone"))
		s.End(nil)
		if e, _ := j.Get(s.Seq()); e.Took != time.Second || e.Err != "gone" {
			t.Errorf("took %v, failed with %q", e.Took, e.Err)
		}
		long := j.Begin(Event{Kind: Pull})
		for range Capacity {
			j.Note(Event{Kind: Wake})
		}
		time.Sleep(time.Minute)
		long.End(nil)
		events, _ := j.Since(0)
		if last := events[len(events)-1]; last.Kind != Pull || last.Took == UnderWay {
			t.Errorf("the end of a step whose beginning is forgotten: %+v", last)
		}
	})
}

func TestWhatIsMeasuredIsMeasuredOnce(t *testing.T) {
	j := New(time.Now)
	var series, other Handle
	for _, m := range []Measured{j.Measure(Event{Kind: Look}), j.MeasureQuiet(&series, Event{Kind: List}), j.MeasureQuiet(&other, Event{Kind: List, Pod: "u"})} {
		if m.Span.e.Pod == "u" {
			m.Seq() // it has consequences
		}
		took := m.End(nil)
		e, there := j.Get(m.Seq())
		if !there || e.Took != took || took < 0 || e.At != int64(m.Began.Sub(j.ring.start)) {
			t.Errorf("%v, and the event says %+v", took, e)
		}
	}
	long := j.Measure(Event{Kind: Pull})
	for range Capacity {
		j.Note(Event{Kind: Wake})
	}
	took := long.End(nil)
	if events, _ := j.Since(0); events[len(events)-1].Took != took {
		t.Errorf("%v, and the event of a step whose beginning is forgotten says %v", took, events[len(events)-1].Took)
	}
	for _, none := range []*Journal{nil, {}} {
		m := none.Measure(Event{})
		quiet := none.MeasureQuiet(&series, Event{})
		time.Sleep(time.Microsecond)
		if m.End(nil) <= 0 || quiet.End(nil) <= 0 {
			t.Error("without a journal nothing is measured")
		}
	}
}

func TestAStepTellsHowFarItIs(t *testing.T) {
	j := New(time.Now)
	s := j.Begin(Event{Kind: Pull, Name: "i"})
	for range 3 {
		s.Tell(Text("1 of 2"))
	}
	changed, version := j.Since(1)
	if len(changed) != 1 || changed[0].Detail != Text("1 of 2") || changed[0].Took != UnderWay || version != 4 {
		t.Errorf("%+v, version %d", changed, version)
	}
	s.End(nil)
	s.Tell(Text("2 of 2"))
	if e, _ := j.Get(s.Seq()); e.Detail != Text("1 of 2") || e.Took < 0 {
		t.Errorf("after its end: %+v", e)
	}
	var none *Span
	none.Tell(Text(""))
	j.Root("part").Tell(Text("")) // which is of no moment
	var series Handle
	quiet := j.BeginQuiet(&series, Event{Kind: Probe})
	quiet.Tell(Text("half"))
	quiet.End(nil)
	if events, _ := j.Since(0); len(events) != 2 || events[1].Detail != Text("half") {
		t.Errorf("a quiet one: %+v", events)
	}
}

func TestQuietSpans(t *testing.T) {
	j := New(time.Now)
	var h Handle
	step := Event{Kind: Step, Pod: "u", Reason: "syncing"}
	for range 3 {
		j.BeginQuiet(&h, step).End(nil)
	}
	s := j.BeginQuiet(&h, step)
	if !s.Quiet() {
		t.Error("a step without consequences is not quiet")
	}
	j.Note(Within(In(t.Context(), s), Event{Kind: Plan}))
	if s.Quiet() {
		t.Error("a step with consequences is quiet")
	}
	s.End(nil)
	j.BeginQuiet(&h, step).End(errors.New("no"))
	var got []string
	events, _ := j.Since(0)
	for _, e := range events {
		got = append(got, fmt.Sprintf("%s x%d %q %d", e.Kind, e.Count, e.Err, e.Cause))
	}
	if want := `[step x3 "" 0 step x1 "" 0 plan x1 "" 2 step x1 "no" 0]`; fmt.Sprint(got) != want {
		t.Errorf("%v, want %v", got, want)
	}
}

func TestWhatAPartDoesByItselfIsCausedByItsTimer(t *testing.T) {
	j := New(time.Now)
	root := j.Root("readiness")
	for range 3 {
		j.Note(Within(In(t.Context(), root), Event{Kind: CRI}))
	}
	if !root.Quiet() {
		t.Error("a root is not quiet")
	}
	root.End(errors.New("x"))
	events, _ := j.Since(0)
	if len(events) != 4 || events[0].Kind != Timer || events[0].Name != "readiness" || events[0].Count != 3 || events[3].Cause != events[0].Seq {
		t.Errorf("%+v", events)
	}
}

func TestWhatIsQuietIsCausedByTheSeriesOfItsStep(t *testing.T) {
	j := New(time.Now)
	var lists Handle
	for want := range uint32(3) {
		list := j.BeginQuiet(&lists, Event{Kind: List})
		if got := list.Series(); got != 1 || !list.Quiet() {
			t.Errorf("number %d: %d, quiet %v", want, got, list.Quiet())
		}
		if e, _ := j.Get(1); e.Count != want {
			t.Errorf("%d are counted, want %d", e.Count, want)
		}
		list.End(nil)
	}
	last := j.BeginQuiet(&lists, Event{Kind: List})
	if got := last.Seq(); got != 2 || last.Series() != 2 {
		t.Errorf("with consequences: %d, %d", got, last.Series())
	}
	var runs Handle
	probe := j.BeginQuiet(&runs, Event{Kind: Probe})
	if got := probe.Series(); got != 3 {
		t.Errorf("the first of another series: %d", got)
	}
	if e, _ := j.Get(3); e.Took != UnderWay || e.Count != 0 {
		t.Errorf("as long as it runs: %+v", e)
	}
	if got := probe.Seq(); got != 3 || probe.Quiet() {
		t.Errorf("with consequences: %d, quiet %v", got, probe.Quiet())
	}
	probe.EndWith(nil, func(e *Event) { e.Reason = "failure" })
	if e, _ := j.Get(3); e.Took < 0 || e.Count != 1 || e.Quiet || e.Reason != "failure" {
		t.Errorf("once it is over: %+v", e)
	}
	for range 2 {
		probe = j.BeginQuiet(&runs, Event{Kind: Probe})
		probe.Series()
		probe.EndWith(nil, func(e *Event) { e.Reason = "success" })
	}
	if e, _ := j.Get(4); e.Took < 0 || e.Count != 2 || !e.Quiet || e.Reason != "success" {
		t.Errorf("without consequences: %+v", e)
	}
	root := j.Root("part")
	if first, again := root.Series(), root.Series(); first != 5 || again != 5 {
		t.Error("a root has no event")
	}
	if got := (*Span)(nil).Series(); got != 0 {
		t.Errorf("of no journal: %d", got)
	}
}

func TestWithoutAJournal(t *testing.T) {
	for _, j := range []*Journal{nil, {}} {
		var h Handle
		j.Note(Event{})
		j.Again(&h, Event{})
		s := j.Begin(Event{})
		s.End(nil)
		j.BeginQuiet(&h, Event{}).End(errors.New("x"))
		ctx := In(t.Context(), s)
		if e := Within(ctx, Event{}); e.Cause != 0 || Of(ctx) != nil || s.Quiet() || s.Seq() != 0 || j.NextStep("u") != 0 {
			t.Errorf("%+v", e)
		}
		j.Know(Who{UID: "u", Name: "web"})
		if events, version := j.Since(0); events != nil || version != 0 || j.Who("u").Name != "" {
			t.Errorf("%v, %d", events, version)
		}
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if err := j.Wait(ended, 0); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}
}

func TestWhoWaitsHearsOfEachChange(t *testing.T) {
	j := New(time.Now)
	const changes = 2000
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			var version uint64
			for version < changes {
				if err := j.Wait(t.Context(), version); err != nil {
					t.Error(err)
					return
				}
				_, version = j.Since(version)
			}
		})
	}
	var h Handle
	for i := range changes {
		if i%2 == 0 {
			j.Note(Event{Kind: Wake})
		} else {
			j.Again(&h, Event{Kind: List, Quiet: true})
		}
	}
	wg.Wait()
}

func TestNamesAreBounded(t *testing.T) {
	j := New(time.Now)
	for i := range maxNames + 1 {
		j.Know(Who{UID: uid(i), Name: fmt.Sprint(i)})
	}
	j.Know(Who{UID: uid(1), Name: "again"})
	if j.Who(uid(0)).Name != "" || j.Who(uid(1)).Name != "again" || len(j.ring.names.known) != maxNames {
		t.Errorf("%+v, %+v, %d names", j.Who(uid(0)), j.Who(uid(1)), len(j.ring.names.known))
	}
}

func TestAPodThatTakesStepsKeepsItsName(t *testing.T) {
	j := New(time.Now)
	j.Know(Who{UID: "quiet", Name: "quiet"})
	j.Know(Who{UID: "gone", Name: "gone"})
	for i := range 3 * maxNames {
		j.Know(Who{UID: uid(i), Name: fmt.Sprint(i)})
		if i%(maxNames/2) == 0 {
			j.NextStep("quiet")
		}
	}
	j.NextStep("never heard of")
	last := uid(3*maxNames - 1)
	if j.Who("quiet").Name != "quiet" || j.Who("gone").Name != "" || j.Who(last).Name == "" || j.Who(uid(maxNames)).Name != "" {
		t.Errorf("%+v, %+v, %+v", j.Who("quiet"), j.Who("gone"), j.Who(last))
	}
	listed := 0
	for n := j.ring.names.oldest; n != nil; n = n.newer {
		if listed++; j.ring.names.known[n.UID] != n || n.older != nil && n.older.newer != n || n.newer == nil && n != j.ring.names.newest {
			t.Fatalf("%+v is not where it should be", n.Who)
		}
	}
	if listed != maxNames || len(j.ring.names.known) != maxNames {
		t.Errorf("%d in order, %d known", listed, len(j.ring.names.known))
	}
}

func TestTwoMillionEventsNeedNoMoreMemoryThanTenThousand(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	j := New(time.Now)
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	note := func(n int) {
		for range n {
			j.Note(Event{Kind: Wake, Pod: "u", Name: "pleg"})
		}
	}
	note(10_000)
	before := heap()
	note(2_000_000)
	if after := heap(); after > before+1<<20 {
		t.Errorf("%d bytes before, %d after", before, after)
	}
}

// No event may cost more than 100 ns or allocate: it is always on.
func TestNotingAllocatesNothing(t *testing.T) {
	j := New(time.Now)
	var h Handle
	detail := Text("x")
	var shown Event
	shown.Detail = detail
	if n := testing.AllocsPerRun(1000, func() {
		j.Note(Event{Kind: Wake, Pod: "u", Name: "pleg", Detail: shown.Detail})
		j.Again(&h, Event{Kind: Probe, Pod: "u", Name: "c", Quiet: true})
		j.NextStep("u")
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkNote(b *testing.B) {
	j := New(time.Now)
	b.ReportAllocs()
	for b.Loop() {
		j.Note(Event{Kind: Wake, Pod: "u", Name: "pleg", Cause: 1})
	}
}

func BenchmarkNoteContended(b *testing.B) {
	j := New(time.Now)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			j.Note(Event{Kind: Wake, Pod: "u", Name: "pleg", Cause: 1})
		}
	})
}

func BenchmarkAgain(b *testing.B) {
	j := New(time.Now)
	var h Handle
	b.ReportAllocs()
	for b.Loop() {
		j.Again(&h, Event{Kind: Probe, Pod: "u", Name: "c/liveness", Reason: "success", Quiet: true})
	}
}

func BenchmarkNextStep(b *testing.B) {
	j := New(time.Now)
	var uids []types.UID
	for i := range maxNames {
		uids = append(uids, uid(i))
		j.Know(Who{UID: uids[i], Name: fmt.Sprint(i)})
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		j.NextStep(uids[i*61%maxNames])
	}
}

func BenchmarkWithoutAJournal(b *testing.B) {
	var j *Journal
	b.ReportAllocs()
	for b.Loop() {
		j.Note(Event{Kind: Wake, Pod: "u", Name: "pleg", Cause: 1})
	}
}

func uid(i int) types.UID { return types.UID(fmt.Sprint("uid-", i)) }
