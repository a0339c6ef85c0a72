package worker

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"

	"github.com/mini-kubelet/mini-kubelet/test/testrun"
)

// diary is what holdings were asked to do, in order.
type diary struct{ said []string }

func (d *diary) holding(name string) Holding {
	say := func(what string) error { d.said = append(d.said, what+" "+name); return nil }
	return Holding{
		Name:    name,
		SetUp:   func(context.Context, *v1.Pod) error { return say("set up") },
		Settle:  func(*v1.Pod) error { return say("settle") },
		Stopped: func(types.UID) error { return say("stopped") },
		Release: func(context.Context, types.UID) error { return say("release") },
		Orphans: func(context.Context, func(types.UID) bool) error { return say("orphans") },
	}
}

func TestHoldingsAreSetUpInOrderAndReleasedBackwards(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, d := newNode(t), &diary{}
		w, err := New(Config{
			Cache: n, Runtime: n, Statuses: n, Clock: clock.RealClock{}, SyncFrequency: time.Hour, HostIPs: func() []string { return nil },
			Holdings: []Holding{d.holding("cgroup"), {Name: "nothing"}, d.holding("volumes")},
		})
		if err != nil {
			t.Fatal(err)
		}
		testrun.Start(t, w.Run)
		pod := staticPod("1", "web")
		w.Update(Update{Kind: Create, Pod: pod})
		synctest.Wait()
		want := []string{"set up cgroup", "set up volumes", "settle cgroup", "settle volumes"}
		if !slices.Equal(d.said, want) {
			t.Errorf("a sync: %q, want %q", d.said, want)
		}
		d.said = nil
		w.Update(Update{Kind: Kill, Pod: pod})
		synctest.Wait()
		want = []string{"stopped cgroup", "stopped volumes", "release volumes", "release cgroup"}
		if !slices.Equal(d.said, want) {
			t.Errorf("its end: %q, want %q", d.said, want)
		}
		d.said = nil
		if err := w.Orphans(t.Context(), func(types.UID) bool { return true }); err != nil {
			t.Fatal(err)
		}
		if want := []string{"orphans volumes", "orphans cgroup"}; !slices.Equal(d.said, want) {
			t.Errorf("orphans: %q, want %q", d.said, want)
		}
	})
}

func TestOrphansGoOnAfterAFailure(t *testing.T) {
	d, full := &diary{}, errors.New("disk full")
	failing := d.holding("volumes")
	failing.Orphans = func(context.Context, func(types.UID) bool) error { return full }
	w := &Workers{cfg: Config{Holdings: []Holding{d.holding("cgroup"), failing}}}
	if err := w.Orphans(t.Context(), nil); !errors.Is(err, full) || !slices.Equal(d.said, []string{"orphans cgroup"}) {
		t.Errorf("%v after %q", err, d.said)
	}
}
