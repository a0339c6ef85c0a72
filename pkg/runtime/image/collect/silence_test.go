package collect

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// silent is a full disk beside n containers that do not answer.
func silent(t *testing.T, n int) (*node, *Manager) {
	of := &node{capacity: 1000, other: 700, images: []*cri.Image{img("a", 100), img("b", 100)}, broken: errors.New("its metadata is damaged")}
	for i := range n {
		of.containers = append(of.containers, &cri.Container{Id: fmt.Sprint(i), ImageId: "sha256:new"})
	}
	return of, of.manager(t, Policy{HighPercent: 85, LowPercent: 80})
}

// The patience with each of them begins when the first is asked.
func TestManyContainersThatCanNeverBeAskedKeepImagesNoLongerThanOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, m := silent(t, 5)
		for began := time.Now(); time.Since(began) < patience; time.Sleep(period) {
			if _, err := m.GarbageCollect(t.Context()); err == nil {
				t.Errorf("after %v the images go that may be mounted", time.Since(began))
			}
		}
		mustCollect(t, m)
		n.expect(t, "the patience is over", "a")
	})
}

// Passes that have nothing to remove ask nobody: days may be between two questions.
func TestAContainerThatFailedLongAgoHasItsPatienceAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, m := silent(t, 1)
		for _, after := range []time.Duration{0, 24 * time.Hour, patience - time.Second} {
			time.Sleep(after)
			if _, err := m.GarbageCollect(t.Context()); err == nil {
				t.Errorf("%v later the images go", after)
			}
		}
		n.expect(t, "it has not been silent for long", "")
	})
}

// It is not the container that is silent while the whole runtime is away.
func TestARuntimeThatIsAwayTriesNobodysPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, m := silent(t, 2)
		n.broken = status.Error(codes.Unavailable, "connection refused")
		passes := 0
		for began := time.Now(); time.Since(began) <= 2*patience; time.Sleep(period) {
			passes++
			if _, err := m.GarbageCollect(t.Context()); err == nil {
				t.Errorf("after %v the images go", time.Since(began))
			}
		}
		n.expect(t, "nobody could be asked", "")
		if n.asked > 2*passes {
			t.Errorf("%d questions in %d passes, want each container to be asked once at most", n.asked, passes)
		}
	})
}

func TestContainersThatHangCostOneTimeoutTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, m := silent(t, asking)
		n.hangs, n.broken = 2*time.Minute, status.Error(codes.DeadlineExceeded, "it hangs")
		began := time.Now()
		if _, err := m.GarbageCollect(t.Context()); err == nil || time.Since(began) >= 2*n.hangs {
			t.Errorf("%v, after %v", err, time.Since(began))
		}
		if n.asked != asking {
			t.Errorf("%d containers were asked, want %d", n.asked, asking)
		}
	})
}
