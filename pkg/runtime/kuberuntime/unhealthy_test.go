package kuberuntime

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	v1 "k8s.io/api/core/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/pods/actual"
)

// unhealthyPod has the container c1, whose liveness probe gives it three seconds to end.
func unhealthyPod(p v1.RestartPolicy) *v1.Pod {
	return testPod(policy(p, plain, func(p *v1.Pod) {
		grace := int64(3)
		p.Spec.Containers = p.Spec.Containers[:1]
		p.Spec.Containers[0].LivenessProbe = &v1.Probe{TerminationGracePeriodSeconds: &grace}
	}))
}

// syncUnhealthy syncs the pod whose c1 has failed its liveness probe.
func syncUnhealthy(t *testing.T, s *stopper, pod *v1.Pod, seen *actual.PodStatus) SyncResult {
	m := s.manager(t)
	m.cfg.Failed = func(id actual.ContainerID) actual.FailedProbe {
		if id.ID == "c1" {
			return actual.FailedLiveness
		}
		return ""
	}
	for _, c := range seen.Containers {
		c.Hash = 0 // what it was made from does not matter here
	}
	return m.SyncPod(t.Context(), pod, seen)
}

func TestAContainerThatKeepsFailingItsProbeBacksOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stopper{stops: map[string]time.Duration{"c1": time.Second}}
		seen := observed(one(0, true), "c1=running", "c1=exited:137")
		seen.Containers[0].RestartCount = 2
		before := seen.Containers[1]
		before.ID.ID, before.RestartCount = "before", 1
		before.StartedAt, before.FinishedAt = time.Now().Add(-10*time.Second), time.Now().Add(-2*time.Second)
		r := syncUnhealthy(t, s, unhealthyPod(v1.RestartPolicyAlways), seen)
		if want := []string{" 0s stop c1 within 3", " 1s event BackOff of p/c1"}; !slices.Equal(s.log, want) {
			t.Errorf("did %q, want %q", s.log, want)
		}
		// It waits ten seconds from the end before this one, three of which are over.
		if w := r.Waiting["c1"]; w.Reason != "CrashLoopBackOff" || r.RetryAfter != 7*time.Second || r.Err != nil {
			t.Errorf("%+v, want to wait for 7s in CrashLoopBackOff", r)
		}
	})
}

func TestAPodThatIsNotRestartedEndsWithItsProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stopper{}
		r := syncUnhealthy(t, s, unhealthyPod(v1.RestartPolicyNever), observed(one(0, true), "c1=running"))
		if want := []string{" 0s stop c1 within 3", " 0s sandbox"}; !slices.Equal(s.log, want) || r.Err != nil {
			t.Errorf("did %q (%v), want %q", s.log, r.Err, want)
		}
	})
}
