package podstatus

import (
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/utils/ptr"

	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods/actual"
	"github.com/mini-kubelet/mini-kubelet/pkg/runtime/criconfig"
)

func TestDeadline(t *testing.T) {
	began := now.Truncate(time.Second).Add(-10 * time.Second)
	limited := func(seconds int64, also ...func(*v1.Pod)) func(*v1.Pod) {
		return func(p *v1.Pod) {
			plain(p)
			p.Spec.ActiveDeadlineSeconds = &seconds
			for _, f := range also {
				f(p)
			}
		}
	}
	ended := func(ago time.Duration, containers ...string) *actual.PodStatus {
		st := observed(containers...)
		for _, c := range st.Containers {
			c.FinishedAt = now.Add(-ago)
		}
		return st
	}
	for name, tc := range map[string]struct {
		pod  func(*v1.Pod)
		seen *actual.PodStatus
		old  v1.PodPhase
		want string
	}{
		"no deadline":           {plain, observed("c1=running", "c2=running"), "", "Running "},
		"in time":               {limited(11), observed("c1=running", "c2=running"), "", "Running "},
		"at its deadline":       {limited(10), observed("c1=running", "c2=running"), "", "Failed DeadlineExceeded"},
		"before it ran":         {limited(5), nil, "", "Failed DeadlineExceeded"},
		"in a crash loop":       {limited(5), observed("c1=running", "c2=exited:1"), "", "Failed DeadlineExceeded"},
		"succeeded in time":     {limited(5, never), ended(6*time.Second, "c1=exited:0", "c2=exited:0"), "", "Succeeded "},
		"failed in time":        {limited(5, never), ended(6*time.Second, "c1=exited:1", "c2=exited:0"), "", "Failed "},
		"stopped for it before": {limited(5, never), ended(3*time.Second, "c1=exited:0", "c2=exited:143"), "", "Failed DeadlineExceeded"},
		"stopped, ending well":  {limited(5, never), ended(3*time.Second, "c1=exited:0", "c2=exited:0"), "", "Failed DeadlineExceeded"},
		"already succeeded":     {limited(5), observed("c1=exited:0", "c2=exited:0"), v1.PodSucceeded, "Succeeded "},
	} {
		old := v1.PodStatus{Phase: tc.old, StartTime: &metav1.Time{Time: began}}
		s := Generate(Input{Pod: testPod(tc.pod), Observed: tc.seen, Old: old, Now: now})
		if got := string(s.Phase) + " " + s.Reason; got != tc.want {
			t.Errorf("%s: %q, want %q", name, got, tc.want)
		}
	}
	s := Generate(Input{Pod: testPod(limited(5)), Old: v1.PodStatus{Phase: v1.PodFailed, Reason: DeadlineExceeded, Message: DeadlineExceededMessage}, Terminal: true, Now: now})
	if s.Reason != DeadlineExceeded || s.Message != DeadlineExceededMessage {
		t.Errorf("later status has reason %q, message %q", s.Reason, s.Message)
	}
}

func TestStartTime(t *testing.T) {
	at := func(second int) *metav1.Time { return &metav1.Time{Time: time.Unix(int64(second), 0).UTC()} }
	record := func(text string) *actual.PodStatus {
		return &actual.PodStatus{Sandboxes: []*cri.PodSandboxStatus{{Annotations: map[string]string{pods.AnnotationStartTime: text}}}}
	}
	for name, tc := range map[string]struct {
		old, api *metav1.Time
		seen     *actual.PodStatus
		want     time.Time
	}{
		"known":                 {at(1), at(2), record("1970-01-01T00:00:03Z"), time.Unix(1, 0)},
		"known to the API":      {nil, at(2), record("1970-01-01T00:00:03Z"), time.Unix(2, 0)},
		"on record":             {nil, nil, record("1970-01-01T00:00:03Z"), time.Unix(3, 0)},
		"on record, unreadable": {nil, nil, record("soon"), now.Truncate(time.Second)},
		"first seen":            {nil, nil, nil, now.Truncate(time.Second)},
	} {
		pod := testPod(nil)
		pod.Status.StartTime = tc.api
		s := Generate(Input{Pod: pod, Observed: tc.seen, Old: v1.PodStatus{StartTime: tc.old}, Now: now})
		if !s.StartTime.Time.Equal(tc.want) {
			t.Errorf("%s: %v, want %v", name, s.StartTime, tc.want)
		}
	}
	// What is recorded is what is read back.
	pod := testPod(func(p *v1.Pod) { p.Status.StartTime = ptr.To(metav1.NewTime(now.Truncate(time.Second))) })
	config, err := criconfig.Sandbox(pod, 0, criconfig.NodeConfig{})
	if err != nil {
		t.Fatal(err)
	}
	pod.Status.StartTime = nil
	seen := &actual.PodStatus{Sandboxes: []*cri.PodSandboxStatus{{Annotations: config.Annotations}}}
	if s := Generate(Input{Pod: pod, Observed: seen, Now: now.Add(time.Hour)}); !s.StartTime.Time.Equal(now.Truncate(time.Second)) {
		t.Errorf("read back %v", s.StartTime)
	}
}
