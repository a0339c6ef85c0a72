package stats

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/diskusage"
)

func TestPlacesAreMeasuredInTheBackground(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		m := newMeter()
		ended := make(chan struct{})
		go func() { defer close(ended); _ = m.run(ctx) }()
		count := uint64(0)
		measure := func(context.Context) (diskusage.Space, error) {
			count++
			return diskusage.Space{Used: &count}, nil
		}
		look := func(what string, known bool, times uint64) {
			t.Helper()
			if _, ok := m.of(place{pod: "a"}, time.Minute, measure); ok != known {
				t.Errorf("%s: known %v", what, ok)
			}
			synctest.Wait()
			if count != times {
				t.Errorf("%s: measured %d times, want %d", what, count, times)
			}
		}
		look("at first", false, 1)
		look("measured", true, 1)
		time.Sleep(59 * time.Second)
		look("not old", true, 1)
		time.Sleep(2 * time.Second)
		look("old", true, 2)

		broken := func(context.Context) (diskusage.Space, error) { return diskusage.Space{}, errors.New("cheese") }
		_, _ = m.of(place{pod: "b"}, time.Minute, broken)
		synctest.Wait()
		if _, ok := m.of(place{pod: "b"}, time.Minute, broken); ok {
			t.Error("a failure is told as a measurement")
		}

		hangs := func(ctx context.Context) (diskusage.Space, error) {
			<-ctx.Done()
			return diskusage.Space{}, ctx.Err()
		}
		_, _ = m.of(place{pod: "c"}, time.Minute, hangs)
		time.Sleep(forgottenAfter + time.Minute)
		look("beside one that hangs, and forgotten meanwhile by nobody", true, 3)
		if len(m.all) != 2 {
			t.Errorf("%d are remembered, want the one that is asked for and the one that hangs", len(m.all))
		}
		cancel()
		<-ended
	})
}
