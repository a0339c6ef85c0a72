package worker

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestComplaint(t *testing.T) {
	now := time.Unix(1000, 0)
	said := complaint{"no map", now.Add(-4 * time.Second)}
	for name, tc := range map[string]struct {
		said complaint
		text string
		want bool
	}{
		"the first":                      {complaint{}, "no map", true},
		"said a moment ago":              {said, "no map", false},
		"another":                        {said, "no key", true},
		"said, and its back-off is over": {complaint{"no map", now.Add(-errorBackOff)}, "no map", true},
	} {
		after := tc.said
		if got := after.isDue(tc.text, now); got != tc.want {
			t.Errorf("%s: %v, want %v", name, got, tc.want)
		}
		if want := (complaint{tc.text, now}); tc.want && after != want || !tc.want && after != tc.said {
			t.Errorf("%s: noted %v", name, after)
		}
	}
}

func TestAMissingVolumeIsToldOnceABackOffAndMountedAtOnceWhenItComes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		missing := errors.New("no map")
		n.setUp = func() error { return missing }
		w := start(t, n)
		pod := staticPod("1", "web")
		w.Update(Update{Kind: Create, Pod: pod})
		for range 5 {
			synctest.Wait()
			w.Update(Update{Kind: Sync, Pod: pod})
		}
		synctest.Wait()
		if got, want := n.told(), []string{"FailedMount: no map"}; !slices.Equal(got, want) {
			t.Errorf("events %q, want %q", got, want)
		}
		missing = nil
		w.Update(Update{Kind: Sync, Pod: pod})
		synctest.Wait()
		if calls := n.history(); !slices.Contains(calls, "sync 1") {
			t.Errorf("not started at once: %v", calls)
		}
	})
}

func TestAPodThatCannotBeSeenIsToldOf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		n.look = func() error { return errors.New("the runtime is away") }
		w := start(t, n)
		pod := staticPod("1", "web")
		w.Update(Update{Kind: Create, Pod: pod})
		synctest.Wait()
		w.Update(Update{Kind: Kill, Pod: pod})
		synctest.Wait()
		if got, want := n.told(), []string{"FailedSync: error determining status: the runtime is away"}; !slices.Equal(got, want) {
			t.Errorf("events %q, want %q", got, want)
		}
	})
}

func TestWhatIsLoggedOfAnErrorIsBounded(t *testing.T) {
	if short(nil) != nil {
		t.Error("an error of none")
	}
	whole := errors.New(strings.Repeat("x", maxLogged))
	if got := short(whole); got != whole {
		t.Errorf("%d bytes of %d", len(got.Error()), maxLogged)
	}
	if got := short(errors.Join(whole, whole)); len(got.Error()) != maxLogged {
		t.Errorf("%d bytes, want %d", len(got.Error()), maxLogged)
	}
}
