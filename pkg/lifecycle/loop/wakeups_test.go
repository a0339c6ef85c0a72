package loop

import (
	"slices"
	"testing"
	"testing/synctest"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mini-kubelet/mini-kubelet/pkg/lifecycle/worker"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
	"github.com/mini-kubelet/mini-kubelet/pkg/source"
)

func TestWakeupsAndEvictionsReachTheWorkersOfWantedPods(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startBlind(t, pods.SourceFile)
		for range 100 { // nobody reads yet, and nobody is blocked
			b.wakeups.For("an object")([]types.UID{"1", "unwanted"})
		}
		b.wakeups.For("an object")(nil)
		p := pod("1", "web")
		b.store.Set(p)
		close(b.listed)
		synctest.Wait()
		b.changes <- source.Change{Op: source.Add, Source: pods.SourceFile, Pods: []*v1.Pod{p}}
		synctest.Wait()
		b.updates = nil
		b.wakeups.For("an object")([]types.UID{"1", "1"})
		b.evictions <- worker.Update{Kind: worker.Kill, Pod: p}
		synctest.Wait()
		got := b.said()
		slices.Sort(got)
		if want := []string{"kill 1", "sync 1"}; !slices.Equal(got, want) {
			t.Errorf("updates %q, want %q", got, want)
		}
	})
}
