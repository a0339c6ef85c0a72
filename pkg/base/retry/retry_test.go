package retry

import (
	"testing"
	"time"
)

func TestLimiterDoublesWithJitterUpToTheMost(t *testing.T) {
	l := Limiter[string](time.Second, 8*time.Second)
	spread := map[time.Duration]bool{}
	for i, base := range []time.Duration{1, 2, 4, 8, 8, 8} {
		d := l.When("a")
		if low, high := base*time.Second, base*time.Second*3/2; d < low || d > high {
			t.Errorf("failure %d: again after %v, want between %v and %v", i, d, low, high)
		}
		spread[d] = true
	}
	if len(spread) < 5 {
		t.Errorf("no jitter: %v", spread)
	}
	if d := l.When("b"); d > 3*time.Second/2 {
		t.Errorf("another item waits %v", d)
	}
	l.Forget("a")
	if d := l.When("a"); d > 3*time.Second/2 {
		t.Errorf("after Forget: %v", d)
	}
}
