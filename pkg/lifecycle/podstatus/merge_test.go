package podstatus

import (
	"reflect"
	"slices"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
)

var noon = metav1.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

func later(d time.Duration) metav1.Time { return metav1.Time{Time: noon.Add(d)} }

func cond(t v1.PodConditionType, s v1.ConditionStatus, at metav1.Time) v1.PodCondition {
	return v1.PodCondition{Type: t, Status: s, LastTransitionTime: at}
}

func runningStatus(name string) v1.ContainerStatus {
	return v1.ContainerStatus{Name: name, State: v1.ContainerState{Running: &v1.ContainerStateRunning{}}}
}

func endedStatus(name string, code int32) v1.ContainerStatus {
	return v1.ContainerStatus{Name: name, State: v1.ContainerState{Terminated: &v1.ContainerStateTerminated{ExitCode: code}}}
}

func mergePod(policy v1.RestartPolicy) *v1.Pod {
	return &v1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "default", UID: "1"},
		Spec:       v1.PodSpec{RestartPolicy: policy, Containers: []v1.Container{{Name: "c"}}},
	}
}

func TestMerge(t *testing.T) {
	evicted := v1.PodCondition{Type: v1.DisruptionTarget, Status: v1.ConditionTrue, Reason: v1.PodReasonTerminationByKubelet}
	drained := v1.PodCondition{Type: v1.DisruptionTarget, Status: v1.ConditionTrue, Reason: "EvictionByEvictionAPI"}
	takenBack := v1.PodCondition{Type: v1.DisruptionTarget, Status: v1.ConditionFalse}
	tests := []struct {
		name      string
		policy    v1.RestartPolicy
		api, node v1.PodStatus
		want      v1.PodStatus
	}{
		{
			name: "the node's fields are taken",
			api:  v1.PodStatus{Phase: v1.PodPending, Message: "old"},
			node: v1.PodStatus{Phase: v1.PodRunning, PodIP: "10.0.0.1"},
			want: v1.PodStatus{Phase: v1.PodRunning, PodIP: "10.0.0.1"},
		},
		{
			name: "fields of others stay",
			api:  v1.PodStatus{QOSClass: v1.PodQOSBurstable, NominatedNodeName: "n2", ResourceClaimStatuses: []v1.PodResourceClaimStatus{{Name: "gpu"}}},
			node: v1.PodStatus{QOSClass: v1.PodQOSBestEffort, Phase: v1.PodRunning},
			want: v1.PodStatus{QOSClass: v1.PodQOSBurstable, NominatedNodeName: "n2", ResourceClaimStatuses: []v1.PodResourceClaimStatus{{Name: "gpu"}}, Phase: v1.PodRunning},
		},
		{
			name: "conditions of others stay, as they have them now",
			api:  v1.PodStatus{Conditions: []v1.PodCondition{cond("example.com/gate", v1.ConditionTrue, noon)}},
			node: v1.PodStatus{Conditions: []v1.PodCondition{cond(v1.PodReady, v1.ConditionTrue, noon), cond("example.com/gate", v1.ConditionFalse, noon), cond("example.com/gone", v1.ConditionTrue, noon)}},
			want: v1.PodStatus{Conditions: []v1.PodCondition{cond(v1.PodReady, v1.ConditionTrue, noon), cond("example.com/gate", v1.ConditionTrue, noon)}},
		},
		{
			name: "the time of a transition that is known already stays",
			api:  v1.PodStatus{Conditions: []v1.PodCondition{cond(v1.PodReady, v1.ConditionTrue, noon), cond(v1.PodInitialized, v1.ConditionFalse, noon)}},
			node: v1.PodStatus{Conditions: []v1.PodCondition{cond(v1.PodReady, v1.ConditionTrue, later(time.Hour)), cond(v1.PodInitialized, v1.ConditionTrue, later(time.Hour))}},
			want: v1.PodStatus{Conditions: []v1.PodCondition{cond(v1.PodReady, v1.ConditionTrue, noon), cond(v1.PodInitialized, v1.ConditionTrue, later(time.Hour))}},
		},
		{
			name: "a disruption that others have taken back is not set again",
			api:  v1.PodStatus{Conditions: []v1.PodCondition{takenBack}},
			node: v1.PodStatus{Conditions: []v1.PodCondition{drained}},
			want: v1.PodStatus{Conditions: []v1.PodCondition{takenBack}},
		},
		{
			name: "a disruption by the node itself is written",
			api:  v1.PodStatus{Conditions: []v1.PodCondition{takenBack}},
			node: v1.PodStatus{Conditions: []v1.PodCondition{evicted}},
			want: v1.PodStatus{Conditions: []v1.PodCondition{evicted}},
		},
		{
			name: "a pod that has failed stays so",
			api:  v1.PodStatus{Phase: v1.PodFailed},
			node: v1.PodStatus{Phase: v1.PodRunning, ContainerStatuses: []v1.ContainerStatus{runningStatus("c")}},
			want: v1.PodStatus{Phase: v1.PodFailed, ContainerStatuses: []v1.ContainerStatus{runningStatus("c")}},
		},
		{
			name: "the first start time stays",
			api:  v1.PodStatus{StartTime: &noon},
			node: v1.PodStatus{StartTime: &metav1.Time{Time: noon.Add(time.Hour)}},
			want: v1.PodStatus{StartTime: &noon},
		},
		{
			name: "the end of a container that may not run again stays", policy: v1.RestartPolicyNever,
			api:  v1.PodStatus{ContainerStatuses: []v1.ContainerStatus{endedStatus("c", 3)}},
			node: v1.PodStatus{ContainerStatuses: []v1.ContainerStatus{runningStatus("c")}},
			want: v1.PodStatus{ContainerStatuses: []v1.ContainerStatus{endedStatus("c", 3)}},
		},
		{
			name: "a container that is restarted runs", policy: v1.RestartPolicyAlways,
			api:  v1.PodStatus{ContainerStatuses: []v1.ContainerStatus{endedStatus("c", 3)}},
			node: v1.PodStatus{ContainerStatuses: []v1.ContainerStatus{runningStatus("c")}},
			want: v1.PodStatus{ContainerStatuses: []v1.ContainerStatus{runningStatus("c")}},
		},
		{
			name: "a pod is not over while a container runs",
			api:  v1.PodStatus{Phase: v1.PodRunning},
			node: v1.PodStatus{Phase: v1.PodFailed, Reason: "Evicted", Message: "low on memory", ContainerStatuses: []v1.ContainerStatus{runningStatus("c")}},
			want: v1.PodStatus{Phase: v1.PodRunning, ContainerStatuses: []v1.ContainerStatus{runningStatus("c")}},
		},
		{
			name: "nor while an init container runs, of a pod without a phase",
			node: v1.PodStatus{Phase: v1.PodFailed, InitContainerStatuses: []v1.ContainerStatus{runningStatus("i")}},
			want: v1.PodStatus{Phase: v1.PodPending, InitContainerStatuses: []v1.ContainerStatus{runningStatus("i")}},
		},
		{
			name: "it is over when the last has ended",
			api:  v1.PodStatus{Phase: v1.PodRunning},
			node: v1.PodStatus{Phase: v1.PodFailed, Reason: "Evicted", ContainerStatuses: []v1.ContainerStatus{endedStatus("c", 137)}},
			want: v1.PodStatus{Phase: v1.PodFailed, Reason: "Evicted", ContainerStatuses: []v1.ContainerStatus{endedStatus("c", 137)}},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			policy := tt.policy
			if policy == "" {
				policy = v1.RestartPolicyAlways
			}
			api, node := *tt.api.DeepCopy(), *tt.node.DeepCopy()
			got := Merge(mergePod(policy), api, node)
			if !equality.Semantic.DeepEqual(got, tt.want) {
				t.Errorf("Merge() =\n%+v\nwant\n%+v", got, tt.want)
			}
			if !equality.Semantic.DeepEqual(api, tt.api) || !equality.Semantic.DeepEqual(node, tt.node) {
				t.Error("Merge modified what it was given")
			}
			if again := Merge(mergePod(policy), got, tt.node); !equality.Semantic.DeepEqual(again, got) {
				t.Errorf("a second Merge changes it again:\n%+v\nafter\n%+v", again, got)
			}
		})
	}
}

func TestWithForeign(t *testing.T) {
	own := v1.PodStatus{Phase: v1.PodRunning, Conditions: []v1.PodCondition{
		cond(v1.PodReady, v1.ConditionTrue, noon), cond("gate", v1.ConditionFalse, noon), cond("gone", v1.ConditionTrue, noon),
		{Type: v1.DisruptionTarget, Status: v1.ConditionTrue, Reason: "DeletionByTaintManager"},
	}}
	api := v1.PodStatus{Phase: v1.PodPending, Conditions: []v1.PodCondition{
		cond(v1.PodReady, v1.ConditionFalse, noon), cond("gate", v1.ConditionTrue, noon), {Type: v1.DisruptionTarget, Status: v1.ConditionFalse},
	}}
	got := WithForeign(mergePod(v1.RestartPolicyAlways), own, api)
	want := []v1.PodCondition{
		cond(v1.PodReady, v1.ConditionTrue, noon), cond("gate", v1.ConditionTrue, noon), {Type: v1.DisruptionTarget, Status: v1.ConditionFalse},
	}
	if !slices.Equal(got.Conditions, want) || got.Phase != v1.PodRunning {
		t.Errorf("WithForeign() = %s, %+v, want Running, %+v", got.Phase, got.Conditions, want)
	}
}

func TestTheEndOfAPodIsReadAtTheAPIServer(t *testing.T) {
	static := mergePod(v1.RestartPolicyAlways)
	static.Annotations = map[string]string{pods.AnnotationConfigSource: pods.SourceFile}
	runs := v1.PodStatus{Phase: v1.PodRunning, ContainerStatuses: []v1.ContainerStatus{runningStatus("c")}}
	failed := v1.PodStatus{Phase: v1.PodFailed, Reason: "Stuck", Message: "somebody says so"}
	for name, tt := range map[string]struct {
		pod      *v1.Pod
		own, api v1.PodStatus
		known    v1.PodStatus // phase, reason and message that the node then goes by
		written  v1.PodPhase
		reason   string
	}{
		"somebody has ended it":                {mergePod(v1.RestartPolicyAlways), runs, failed, failed, v1.PodFailed, "Stuck"},
		"its own end counts":                   {mergePod(v1.RestartPolicyAlways), v1.PodStatus{Phase: v1.PodSucceeded}, failed, v1.PodStatus{Phase: v1.PodSucceeded}, v1.PodFailed, "Stuck"},
		"a mirror pod is an image":             {static, runs, failed, v1.PodStatus{Phase: v1.PodRunning}, v1.PodRunning, ""},
		"of a static pod that has failed, too": {static, v1.PodStatus{Phase: v1.PodFailed, Reason: "Own"}, failed, v1.PodStatus{Phase: v1.PodFailed, Reason: "Own"}, v1.PodFailed, "Own"},
	} {
		got := WithForeign(tt.pod, tt.own, tt.api)
		if got.Phase != tt.known.Phase || got.Reason != tt.known.Reason || got.Message != tt.known.Message {
			t.Errorf("%s: the node goes by %s %q %q, want %s %q", name, got.Phase, got.Reason, got.Message, tt.known.Phase, tt.known.Reason)
		}
		if got := Merge(tt.pod, tt.api, tt.own); got.Phase != tt.written || got.Reason != tt.reason {
			t.Errorf("%s: %s %q is written, want %s %q", name, got.Phase, got.Reason, tt.written, tt.reason)
		}
	}
}

// TestEachFieldOfAStatusIsTheNodesOrKept holds Merge to a decision about every field, also about those
// that a new release of the API adds: what others write there must survive our patches.
func TestEachFieldOfAStatusIsTheNodesOrKept(t *testing.T) {
	own := []string{
		"ObservedGeneration", "Phase", "Conditions", "Message", "Reason", "HostIP", "HostIPs", "PodIP", "PodIPs", "StartTime",
		"InitContainerStatuses", "ContainerStatuses", "EphemeralContainerStatuses", "AllocatedResources", "Resources",
	}
	var api v1.PodStatus
	fill := reflect.ValueOf(&api).Elem()
	for i := range fill.NumField() {
		switch f := fill.Field(i); f.Kind() {
		case reflect.String:
			f.SetString("theirs")
		case reflect.Int64:
			f.SetInt(7)
		case reflect.Slice:
			f.Set(reflect.MakeSlice(f.Type(), 1, 1))
		case reflect.Pointer:
			f.Set(reflect.New(f.Type().Elem()))
		case reflect.Map:
			f.Set(reflect.MakeMap(f.Type()))
		default:
			t.Fatalf("a field of kind %s", f.Kind())
		}
	}
	merged := reflect.ValueOf(Merge(mergePod(v1.RestartPolicyAlways), api, v1.PodStatus{}))
	for i := range fill.NumField() {
		name := fill.Type().Field(i).Name
		if slices.Contains(own, name) {
			continue
		}
		if !equality.Semantic.DeepEqual(merged.Field(i).Interface(), fill.Field(i).Interface()) {
			t.Errorf("%s is %v after the node has written its status, others had set %v", name, merged.Field(i), fill.Field(i))
		}
	}
}

func TestOnlyItsOwnWordEndsAStaticPodAtTheStart(t *testing.T) {
	running := []v1.ContainerStatus{{Name: "c", State: v1.ContainerState{Running: &v1.ContainerStateRunning{}}}}
	ended := []v1.ContainerStatus{{Name: "c", State: v1.ContainerState{Terminated: &v1.ContainerStateTerminated{}}}}
	for name, tt := range map[string]struct {
		api  v1.PodStatus
		want v1.PodPhase
	}{
		"somebody else's end":    {v1.PodStatus{Phase: v1.PodFailed, Reason: "x", ContainerStatuses: running}, ""},
		"a sidecar runs":         {v1.PodStatus{Phase: v1.PodSucceeded, InitContainerStatuses: running, ContainerStatuses: ended}, ""},
		"its own end":            {v1.PodStatus{Phase: v1.PodSucceeded, ContainerStatuses: ended}, v1.PodSucceeded},
		"turned away":            {v1.PodStatus{Phase: v1.PodFailed, Reason: "NodePorts"}, ""},
		"waits for its back-off": {v1.PodStatus{Phase: v1.PodFailed, ContainerStatuses: []v1.ContainerStatus{{Name: "c", State: v1.ContainerState{Waiting: &v1.ContainerStateWaiting{}}}}}, ""},
		"it runs":                {v1.PodStatus{Phase: v1.PodRunning, ContainerStatuses: running}, v1.PodRunning},
	} {
		if got := OfMirror(mergePod(v1.RestartPolicyAlways), tt.api); got.Phase != tt.want || got.Phase == "" && got.Reason != "" {
			t.Errorf("%s: %s %q, want %s", name, got.Phase, got.Reason, tt.want)
		}
	}
}

func TestAStaticPodThatTheNodeHasEndedStartsAgain(t *testing.T) {
	status := v1.PodStatus{Phase: v1.PodFailed, ContainerStatuses: []v1.ContainerStatus{{Name: "c", State: v1.ContainerState{Terminated: &v1.ContainerStateTerminated{}}}}}
	status.Reason = "Terminated"
	Disrupt(&status, mergePod(v1.RestartPolicyAlways), "shutdown", time.Now())
	for policy, want := range map[v1.RestartPolicy]v1.PodPhase{v1.RestartPolicyAlways: "", v1.RestartPolicyOnFailure: "", v1.RestartPolicyNever: v1.PodFailed} {
		got := OfMirror(mergePod(policy), status)
		if got.Phase != want || (len(got.Conditions) == 0) != (want == "") {
			t.Errorf("%s: %s with conditions %v, want %q", policy, got.Phase, got.Conditions, want)
		}
	}
	if len(status.Conditions) != 1 {
		t.Error("the status was changed")
	}
}
