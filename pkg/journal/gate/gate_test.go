package gate

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/mini-kubelet/mini-kubelet/pkg/journal"
)

// bench is gates with steps that wait at them.
type bench struct {
	t    *testing.T
	g    *Gate
	done chan string
}

func newBench(t *testing.T, cfg Config) *bench {
	return &bench{t: t, g: New(cfg), done: make(chan string, 100)}
}

// come makes a step come to a gate, and tells in done that it went on.
func (b *bench) come(ctx context.Context, pod types.UID, what string) {
	go func() {
		err := b.g.Wait(ctx, Step{Place: Worker, Pod: pod, What: what})
		if err != nil {
			what += ": " + err.Error()
		}
		b.done <- what
	}()
	synctest.Wait()
}

// want fails unless exactly these went on, in any order of those that could at once.
func (b *bench) want(steps ...string) {
	b.t.Helper()
	synctest.Wait()
	left := map[string]bool{}
	for _, s := range steps {
		left[s] = true
	}
	for len(b.done) > 0 {
		s := <-b.done
		if !left[s] {
			b.t.Errorf("%s went on", s)
		}
		delete(left, s)
	}
	for s := range left {
		b.t.Errorf("%s did not go on", s)
	}
}

func TestNoGateIsOpen(t *testing.T) {
	var g *Gate
	if err := g.Wait(t.Context(), Step{}); err != nil || g.Holds() {
		t.Error(err)
	}
	g.Done("u")
	g.Forget("u")
}

func TestGates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		record := journal.New(time.Now)
		b := newBench(t, Config{Closed: true, Journal: record})
		b.come(t.Context(), "1", "a")
		b.come(t.Context(), "2", "b")
		b.come(t.Context(), "1", "c")
		b.want()
		if s := b.g.State(); s.Mode != Paused || len(s.Waiting) != 3 || s.Waiting[0].What != "a" || !b.g.Holds() {
			t.Errorf("%+v", s)
		}
		time.Sleep(time.Second)
		b.g.Step()
		b.want("a")
		if e, _ := record.Get(record.Newest(journal.Gate, "1")); e.Reason != "a" || e.Took != time.Second {
			t.Errorf("noted as %+v", e)
		}
		b.g.Step()
		b.g.Step()
		b.want("b", "c")
		b.g.Step() // nobody waits: for the next that comes, but only one
		b.g.Step()
		b.come(t.Context(), "1", "d")
		b.come(t.Context(), "1", "e")
		b.want("d")
		b.g.Run()
		b.want("e")
		b.come(t.Context(), "1", "f")
		b.want("f")
		b.g.Pause()
		b.come(t.Context(), "1", "g")
		b.want()
		b.g.Run()
		b.want("g")
		time.Sleep(lately + time.Second)
		if b.g.Holds() {
			t.Error("what was held long ago is an excuse still")
		}
	})
}

func TestNextIsOneStepOfAPod(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, Config{Closed: true})
		b.come(t.Context(), "1", "a")
		b.come(t.Context(), "2", "b")
		b.g.Next("1")
		b.want("a")
		b.come(t.Context(), "1", "call") // within the step
		b.want("call")
		b.g.Done("1")
		b.come(t.Context(), "1", "c")
		b.want()
		b.g.Run()
		b.want("b", "c")
	})
}

func TestSettling(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, Config{Closed: true})
		begun := time.Now()
		b.g.Settle(t.Context(), time.Second)
		if took := time.Since(begun); took != time.Second {
			t.Errorf("nothing comes: %v", took)
		}
		go func() {
			time.Sleep(100 * time.Millisecond)
			if err := b.g.Wait(t.Context(), Step{What: "a"}); err != nil {
				t.Error(err)
			}
			b.done <- "a"
		}()
		begun = time.Now()
		b.g.Settle(t.Context(), time.Second)
		b.g.Settle(t.Context(), time.Second)
		if took := time.Since(begun); took != 100*time.Millisecond {
			t.Errorf("a step comes after 100 ms: %v", took)
		}
		b.g.Run()
		b.g.Settle(t.Context(), time.Second)
		b.want("a")
		if took := time.Since(begun); took != 100*time.Millisecond {
			t.Errorf("open gates: %v", took)
		}
	})
}

func TestSlowMotion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, Config{})
		b.g.Slow(10)
		b.come(t.Context(), "1", "a")
		b.want("a") // nothing lies before it
		time.Sleep(100 * time.Millisecond)
		b.come(t.Context(), "1", "b")
		time.Sleep(899 * time.Millisecond)
		b.want()
		time.Sleep(2 * time.Millisecond)
		b.want("b")
		time.Sleep(time.Hour)
		b.come(t.Context(), "1", "c")
		time.Sleep(longest + time.Millisecond)
		b.want("c")
		if s := b.g.State(); s.Mode != Slowed || s.Factor != 10 {
			t.Errorf("%+v", s)
		}
	})
}

func TestGatesThatNobodyOpensOpenThemselves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, Config{Closed: true})
		time.Sleep(time.Hour) // nothing waits
		b.come(t.Context(), "1", "a")
		b.come(t.Context(), "1", "b")
		time.Sleep(Patience - time.Second)
		b.g.Step() // somebody is there
		b.want("a")
		time.Sleep(Patience - time.Second)
		b.want()
		time.Sleep(2 * time.Second)
		b.want("b")
		if s := b.g.State(); s.Mode != Running || len(s.Waiting) != 0 {
			t.Errorf("%+v", s)
		}
	})
}

func TestWhatIsNoLongerWantedDoesNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, Config{Closed: true})
		ctx, cancel := context.WithCancelCause(t.Context())
		b.come(ctx, "1", "a")
		cancel(errors.New("stopped"))
		b.want("a: stopped")
		b.g.Slow(10)
		b.come(t.Context(), "1", "b")
		time.Sleep(time.Second)
		ctx, cancel = context.WithCancelCause(t.Context())
		b.come(ctx, "1", "c")
		cancel(errors.New("stopped"))
		b.want("b", "c: stopped")
		if s := b.g.State(); len(s.Waiting) != 0 {
			t.Errorf("%+v", s)
		}
	})
}

func TestWhatAPersonSays(t *testing.T) {
	for _, tc := range []struct {
		what   string
		pod    types.UID
		factor int
		ok     bool
	}{
		{"pause", "", 0, true}, {"run", "", 0, true}, {"step", "", 0, true}, {"next", "u", 0, true}, {"slow", "", 10, true},
		{"next", "", 0, false}, {"slow", "", 1, false}, {"slow", "", 1 << 30, false}, {"", "", 0, false}, {"stop", "", 0, false},
	} {
		if err := New(Config{}).Do(tc.what, tc.pod, tc.factor); (err == nil) != tc.ok {
			t.Errorf("%+v: %v", tc, err)
		}
	}
}

func TestManyAtOnce(t *testing.T) {
	g := New(Config{Closed: true})
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			for range 20 {
				if err := g.Wait(t.Context(), Step{Pod: types.UID(fmt.Sprint(i % 7))}); err != nil {
					t.Error(err)
				}
				g.Done(types.UID(fmt.Sprint(i % 7)))
			}
		})
	}
	all := make(chan struct{})
	go func() { wg.Wait(); close(all) }()
	for i := 0; ; i++ {
		select {
		case <-all:
			return
		default:
			g.Step()
			g.Next(types.UID(fmt.Sprint(i % 7)))
			if i == 1000 {
				g.Run()
			}
			g.Holds()
			g.State()
		}
	}
}

func BenchmarkWithoutTeaching(b *testing.B) {
	var g *Gate
	ctx := b.Context()
	b.ReportAllocs()
	for b.Loop() {
		_ = g.Wait(ctx, Step{Place: CRI, Pod: "u", What: "StartContainer"})
	}
}
