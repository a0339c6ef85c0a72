package worker

import (
	"encoding/json"
	"errors"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"github.com/mini-kubelet/mini-kubelet/pkg/pods/actual"
)

func testPod(uid, name string) *v1.Pod {
	return &v1.Pod{ObjectMeta: metav1.ObjectMeta{UID: types.UID(uid), Name: name, Namespace: "default"}}
}

func deleted(pod *v1.Pod, grace int64) *v1.Pod {
	pod = pod.DeepCopy()
	pod.DeletionTimestamp = &metav1.Time{Time: time.Unix(1, 0)}
	pod.DeletionGracePeriodSeconds = &grace
	return pod
}

func TestMerge(t *testing.T) {
	pod := testPod("1", "web")
	changed := pod.DeepCopy()
	changed.Labels = map[string]string{"a": "b"}
	goneAgain := deleted(pod, 5)
	type want struct {
		phase     Phase
		interrupt bool
		dirty     bool
		removed   bool
		grace     *int64
		pod       *v1.Pod
		again     *v1.Pod
	}
	tests := []struct {
		name  string
		state state
		u     Update
		want  want
	}{
		{"a new pod is synced", state{phase: Syncing}, Update{Kind: Create, Pod: pod},
			want{phase: Syncing, dirty: true, pod: pod}},
		{"a change replaces the pod without interrupting", state{phase: Syncing, pod: pod}, Update{Kind: Change, Pod: changed},
			want{phase: Syncing, dirty: true, pod: changed}},
		{"a kill interrupts the sync under way", state{phase: Syncing, pod: pod}, Update{Kind: Kill, Pod: pod, Removed: true},
			want{phase: Terminating, interrupt: true, dirty: true, removed: true, pod: pod}},
		{"a deletion timestamp is a kill with its grace period", state{phase: Syncing, pod: pod}, Update{Kind: Change, Pod: deleted(pod, 7)},
			want{phase: Terminating, interrupt: true, dirty: true, grace: ptr.To[int64](7), pod: deleted(pod, 7)}},
		{"a shorter grace interrupts the termination", state{phase: Terminating, pod: pod, grace: ptr.To[int64](30)}, Update{Kind: Kill, Pod: pod, Grace: ptr.To[int64](5)},
			want{phase: Terminating, interrupt: true, dirty: true, grace: ptr.To[int64](5), pod: pod}},
		{"a first grace interrupts a termination by the pod's own", state{phase: Terminating, pod: pod}, Update{Kind: Kill, Pod: pod, Grace: ptr.To[int64](5)},
			want{phase: Terminating, interrupt: true, dirty: true, grace: ptr.To[int64](5), pod: pod}},
		{"a longer grace is not taken", state{phase: Terminating, pod: pod, grace: ptr.To[int64](5)}, Update{Kind: Kill, Pod: pod, Grace: ptr.To[int64](30)},
			want{phase: Terminating, dirty: true, grace: ptr.To[int64](5), pod: pod}},
		{"a kill without grace does not lengthen one", state{phase: Terminating, pod: pod, grace: ptr.To[int64](5)}, Update{Kind: Kill, Pod: pod, Removed: true},
			want{phase: Terminating, dirty: true, removed: true, grace: ptr.To[int64](5), pod: pod}},
		{"a pod killed while it waits for its name terminates", state{phase: Waiting, pod: pod}, Update{Kind: Kill, Pod: pod, Removed: true},
			want{phase: Terminating, interrupt: true, dirty: true, removed: true, pod: pod}},
		{"a pod wanted again on its way out comes later", state{phase: Terminating, pod: pod, removed: true}, Update{Kind: Create, Pod: changed},
			want{phase: Terminating, removed: true, pod: pod, again: changed}},
		{"one that changes meanwhile comes as it is then", state{phase: Terminating, pod: pod, removed: true, wantedAgain: pod}, Update{Kind: Change, Pod: changed},
			want{phase: Terminating, removed: true, pod: pod, again: changed}},
		{"one that was not admitted does not come because it changes", state{phase: Terminating, pod: pod, removed: true}, Update{Kind: Change, Pod: changed},
			want{phase: Terminating, removed: true, pod: pod}},
		{"one that is deleted meanwhile comes as one that is", state{phase: Terminating, pod: pod, removed: true, wantedAgain: pod}, Update{Kind: Kill, Pod: goneAgain},
			want{phase: Terminating, dirty: true, removed: true, pod: pod, again: goneAgain}},
		{"a pod wanted again and removed again does not come", state{phase: Terminating, pod: pod, removed: true, wantedAgain: changed}, Update{Kind: Kill, Pod: changed, Removed: true},
			want{phase: Terminating, dirty: true, removed: true, pod: pod}},
		{"a sync of a pod that has come to rest does nothing", state{phase: Terminated, pod: pod, settled: true}, Update{Kind: Sync, Pod: pod},
			want{phase: Terminated, pod: pod}},
		{"removal of a pod at rest takes its traces away", state{phase: Terminated, pod: pod, settled: true}, Update{Kind: Kill, Pod: pod, Removed: true},
			want{phase: Terminated, dirty: true, removed: true, pod: pod}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := tt.state
			interrupt := s.merge(tt.u)
			if interrupt != tt.want.interrupt || s.phase != tt.want.phase || s.dirty != tt.want.dirty || s.removed != tt.want.removed {
				t.Errorf("interrupt, phase, dirty, removed = %v, %v, %v, %v; want %v, %v, %v, %v",
					interrupt, s.phase, s.dirty, s.removed, tt.want.interrupt, tt.want.phase, tt.want.dirty, tt.want.removed)
			}
			if !ptr.Equal(s.grace, tt.want.grace) {
				t.Errorf("grace = %v, want %v", ptr.Deref(s.grace, -1), ptr.Deref(tt.want.grace, -1))
			}
			if s.wantedAgain != tt.want.again {
				t.Errorf("again = %v, want %v", s.wantedAgain, tt.want.again)
			}
			if (s.pod.DeletionTimestamp == nil) != (tt.want.pod.DeletionTimestamp == nil) || len(s.pod.Labels) != len(tt.want.pod.Labels) {
				t.Errorf("pod = %v, want %v", s.pod, tt.want.pod)
			}
		})
	}
}

func TestDecide(t *testing.T) {
	failed := errors.New("failed")
	tests := []struct {
		name    string
		phase   Phase
		o       outcome
		removed bool
		want    verdict
	}{
		{"a pod in order is looked at again in its time", Syncing, outcome{}, false, verdict{phase: Syncing, due: true}},
		{"a failed sync is tried again", Syncing, outcome{err: failed}, false, verdict{phase: Syncing, retry: true}},
		{"a pod whose containers are done terminates", Syncing, outcome{done: true}, false, verdict{phase: Terminating, now: true}},
		{"a pod whose predecessor still runs waits", Syncing, outcome{inTheWay: &actual.Pod{}}, false, verdict{phase: Waiting}},
		{"a failed kill is tried again", Terminating, outcome{err: failed}, true, verdict{phase: Terminating, retry: true}},
		{"a stopped pod gives its volumes back", Terminating, outcome{}, true, verdict{phase: Terminated, now: true}},
		{"a done pod that is still wanted stays readable", Terminated, outcome{}, false, verdict{phase: Terminated}},
		{"a stopped pod that nobody wants is removed", Terminated, outcome{}, true, verdict{phase: Removing, now: true}},
		{"volumes that are busy hold the pod", Terminated, outcome{err: failed}, true, verdict{phase: Terminated, retry: true}},
		{"a removed pod is gone", Removing, outcome{}, true, verdict{phase: Removing, gone: true}},
		{"a failed removal is tried again", Removing, outcome{err: failed}, true, verdict{phase: Removing, retry: true}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := decide(tt.phase, tt.o, tt.removed); got != tt.want {
				t.Errorf("decide() = %+v, want %+v", got, tt.want)
			}
			d := &decided{decideInput{tt.phase, tt.o.err != nil, tt.o.done, tt.o.inTheWay != nil, tt.removed}, tt.want}
			text, err := json.Marshal(d.Input(nil))
			if err != nil {
				t.Fatal(err)
			}
			if again, err := ReplayDecide(text); err != nil || again != d.Output() {
				t.Errorf("replayed it is %q, %v; want %q", again, err, d.Output())
			}
		})
	}
}
