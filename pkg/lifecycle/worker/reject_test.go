package worker

import (
	"errors"
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

// Its containers run on; nothing of it can be started anew, which its event explains.
func TestAPodThatRunsIsToldWhatItLacksAndStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		n.run("1", "web")
		n.setUp = func() error {
			return fmt.Errorf("its memory: %w", &pods.Rejection{Reason: "UnexpectedAdmissionError", Message: "no node has as much"})
		}
		w := start(t, n)
		w.Update(Update{Kind: Create, Pod: staticPod("1", "web")})
		synctest.Wait()
		if got := n.told(); !slices.Contains(got, "UnexpectedAdmissionError: no node has as much") {
			t.Errorf("events %q", got)
		}
		if s, _ := n.Get("1"); s.Phase == v1.PodFailed || slices.Contains(n.history(), "kill 1") {
			t.Errorf("phase %s, calls %v", s.Phase, n.history())
		}
	})
}

func TestAHoldingSaysWhatIsAnEvent(t *testing.T) {
	plain, special := errors.New("plain"), errors.New("special")
	of := func(err error) string {
		if err == special {
			return "Special"
		}
		return ""
	}
	for name, tt := range map[string]struct {
		h    Holding
		err  error
		want string
	}{
		"no event":             {Holding{}, plain, ""},
		"one for all":          {Holding{Reason: "All"}, plain, "All"},
		"another for this one": {Holding{Reason: "All", ReasonOf: of}, special, "Special"},
		"not this one":         {Holding{Reason: "All", ReasonOf: of}, plain, "All"},
		"only this one":        {Holding{ReasonOf: of}, special, "Special"},
		"only others":          {Holding{ReasonOf: of}, plain, ""},
	} {
		if got := tt.h.reason(tt.err); got != tt.want {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
}
