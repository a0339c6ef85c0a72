package worker

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"

	v1 "k8s.io/api/core/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
)

func TestAPodIsRejectedWhenWhatItNeedsTurnsOutNotToBeThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		n.setUp = func() error {
			return fmt.Errorf("the volume: %w", &pods.Rejection{Reason: "VolumeAttachmentLimitExceeded", Message: "no slot is left"})
		}
		w := start(t, n)
		pod := staticPod("1", "web")
		for _, kind := range []Kind{Create, Sync, Change} {
			w.Update(Update{Kind: kind, Pod: pod})
			synctest.Wait()
		}
		if s, _ := n.Get("1"); s.Phase != v1.PodFailed || s.Reason != "VolumeAttachmentLimitExceeded" || s.Message != "Pod was rejected: no slot is left" {
			t.Errorf("phase %s, reason %q, message %q", s.Phase, s.Reason, s.Message)
		}
		calls := n.history()
		if slices.Contains(calls, "sync 1") || !slices.Contains(calls, "teardown 1") {
			t.Errorf("calls = %v", calls)
		}
	})
}
