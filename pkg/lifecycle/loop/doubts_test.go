package loop

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/lifecycle/worker"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
	"github.com/mini-kubelet/mini-kubelet/pkg/source"
)

var unlabelled = pods.Rejection{Reason: "NodeAffinity", Message: "no label", OfNode: true}

func (b *bench) add(wanted ...*v1.Pod) {
	b.changes <- source.Change{Op: source.Add, Source: pods.SourceAPI, Pods: wanted}
}

func TestPodIsJudgedAgainByTheNodeAsItIsAtTheAPIServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, pods.SourceAPI)
		asked, answer := 0, make(chan struct{})
		b.refresh = func(context.Context) error { asked++; <-answer; return nil }
		b.reject["a"], b.reject["b"], b.reject["other"] = unlabelled, unlabelled, unlabelled
		b.reject["port"] = pods.Rejection{Reason: "NodePorts", Message: "taken"}
		b.add(pod("1", "a"), pod("2", "b"), pod("3", "port"))
		synctest.Wait()
		// The loop goes on meanwhile, and pods that come later wait for a later answer.
		b.add(pod("4", "other"), pod("5", "c"))
		synctest.Wait()
		if got := b.said(); asked != 1 || !slices.Equal(got, []string{"create 5"}) {
			t.Errorf("asked %d times, updates %v", asked, got)
		}
		if want := []string{"port: Failed NodePorts: Pod was rejected: taken beside 0"}; !slices.Equal(b.told, want) {
			t.Errorf("told %v, want %v", b.told, want)
		}
		delete(b.reject, "a") // the label was there all the time
		answer <- struct{}{}
		synctest.Wait()
		if got := b.said(); asked != 2 || !slices.Equal(got, []string{"create 5", "create 1"}) {
			t.Errorf("asked %d times, updates %v", asked, got)
		}
		if want := "b: Failed NodeAffinity: Pod was rejected: no label beside 2"; len(b.told) != 2 || b.told[1] != want {
			t.Errorf("told %v, want %s", b.told, want)
		}
		delete(b.reject, "other")
		answer <- struct{}{}
		synctest.Wait()
		if got := b.said(); asked != 2 || !slices.Equal(got, []string{"create 5", "create 1", "create 4"}) {
			t.Errorf("asked %d times, updates %v", asked, got)
		}
	})
}

func TestPodThatGoesWhileItIsInDoubtIsNotJudged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, pods.SourceAPI)
		answer := make(chan struct{})
		b.refresh = func(context.Context) error { <-answer; return nil }
		b.reject["removed"], b.reject["deleted"] = unlabelled, unlabelled
		removed, deleted := pod("1", "removed"), pod("2", "deleted")
		b.add(removed, deleted)
		b.changes <- source.Change{Op: source.Remove, Source: pods.SourceAPI, Pods: []*v1.Pod{removed}}
		deleted.DeletionTimestamp = &metav1.Time{Time: time.Now()}
		b.changes <- source.Change{Op: source.Delete, Source: pods.SourceAPI, Pods: []*v1.Pod{deleted}}
		synctest.Wait()
		b.mu.Lock()
		b.known["2"] = worker.Terminating
		b.mu.Unlock()
		clear(b.reject)
		answer <- struct{}{}
		synctest.Wait()
		if got, want := b.said(), []string{"kill removed 1", "kill 2"}; !slices.Equal(got, want) {
			t.Errorf("updates %v, want %v", got, want)
		}
	})
}

func TestPodThatComesBackWhileItIsInDoubtIsJudged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, pods.SourceAPI)
		answer := make(chan struct{})
		b.refresh = func(context.Context) error { <-answer; return nil }
		b.reject["back"] = unlabelled
		back := pod("1", "back")
		b.changes <- source.Change{Op: source.Remove, Source: pods.SourceAPI, Pods: []*v1.Pod{back}}
		b.add(back)
		synctest.Wait()
		b.mu.Lock()
		b.known["1"] = worker.Terminating // of its first life
		b.mu.Unlock()
		clear(b.reject)
		answer <- struct{}{}
		synctest.Wait()
		if got, want := b.said(), []string{"kill removed 1", "create 1"}; !slices.Equal(got, want) {
			t.Errorf("updates %v, want %v", got, want)
		}
	})
}

func TestPodInDoubtIsRejectedWhenTheAPIServerIsSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, pods.SourceAPI)
		b.refresh = func(ctx context.Context) error { <-ctx.Done(); return errors.New("no answer") }
		b.reject["a"] = unlabelled
		b.add(pod("1", "a"))
		time.Sleep(askTimeout + time.Second)
		synctest.Wait()
		if want := []string{"a: Failed NodeAffinity: Pod was rejected: no label beside 0"}; !slices.Equal(b.told, want) {
			t.Errorf("told %v, want %v", b.told, want)
		}
	})
}
