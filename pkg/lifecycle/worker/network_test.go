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
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/utils/clock"

	"github.com/mini-kubelet/mini-kubelet/pkg/journal"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods/actual"
	"github.com/mini-kubelet/mini-kubelet/test/testrun"
)

// attached is a node whose running pods have a sandbox.
type attached struct{ *node }

func (a attached) GetNewerThan(ctx context.Context, uid types.UID, t time.Time) (*actual.PodStatus, error) {
	s, err := a.node.GetNewerThan(ctx, uid, t)
	if err == nil && len(s.Containers) > 0 {
		s.Sandboxes = []*cri.PodSandboxStatus{{Id: "s", State: cri.PodSandboxState_SANDBOX_READY, Metadata: &cri.PodSandboxMetadata{}}}
		s.Containers[0].SandboxID = "s"
	}
	return s, err
}

func TestWithoutANetworkOnlyThePodsThatNeedItWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		away := errors.New("container runtime network not ready")
		var asked []types.UID
		w, err := New(Config{
			Cache: attached{n}, Runtime: n, Holdings: []Holding{n.volumes()}, Statuses: n, Clock: clock.RealClock{}, Journal: journal.New(time.Now, n),
			SyncFrequency: time.Minute, HostIPs: func() []string { return nil },
			Network: func(_ context.Context, uid types.UID) error {
				n.mu.Lock()
				defer n.mu.Unlock()
				asked = append(asked, uid)
				return away
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		testrun.Start(t, w.Run)
		hostPod, pod, old := staticPod("host", "host"), staticPod("pod", "pod"), staticPod("old", "old")
		hostPod.Spec.HostNetwork = true
		n.run("old", "old") // since before the network went away
		for _, p := range []*v1.Pod{hostPod, pod, old} {
			w.Update(Update{Kind: Create, Pod: p})
		}
		for range 3 {
			synctest.Wait()
			w.Update(Update{Kind: Sync, Pod: pod})
		}
		synctest.Wait()
		calls := n.history()
		for call, want := range map[string]bool{"sync host": true, "sync old": true, "setup pod": false, "sync pod": false} {
			if slices.Contains(calls, call) != want {
				t.Errorf("%s: %v, want %v", call, !want, want)
			}
		}
		if slices.ContainsFunc(asked, func(uid types.UID) bool { return uid != "pod" }) {
			t.Errorf("asked for the network: %v", asked)
		}
		if got, want := n.told(), []string{"NetworkNotReady: network is not ready: container runtime network not ready"}; !slices.Equal(got, want) {
			t.Errorf("events %q, want %q", got, want)
		}
		n.mu.Lock()
		away = nil
		n.mu.Unlock()
		w.Update(Update{Kind: Sync, Pod: pod}) // as the loop does once the network is ready
		synctest.Wait()
		if !slices.Contains(n.history(), "sync pod") {
			t.Errorf("not started at once: %v", n.history())
		}
	})
}
