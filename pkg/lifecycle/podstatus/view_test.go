package podstatus

import (
	"fmt"
	"slices"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

type podList []*v1.Pod

func (l podList) Pods() []*v1.Pod    { return slices.Clone(l) }
func (l podList) Leaving() []*v1.Pod { return slices.Clone(l) }

func TestViewShowsPodsUntilTheyAreGone(t *testing.T) {
	pod := func(uid, name string, leaving bool) *v1.Pod {
		p := &v1.Pod{ObjectMeta: metav1.ObjectMeta{UID: types.UID(uid), Name: name, Namespace: "default"}}
		if leaving {
			p.DeletionTimestamp = &metav1.Time{Time: time.Now()}
		}
		return p
	}
	statuses := newManager(t)
	for _, uid := range []string{"1", "3", "4"} {
		statuses.Set(pod(uid, "p", false), v1.PodStatus{Phase: v1.PodRunning})
	}
	wanted := podList{pod("1", "a", false), pod("2", "b", false)}
	leaving := podList{pod("1", "a", true), pod("3", "b", true), pod("4", "aa", true), pod("5", "c", true)}
	var got []string
	for _, p := range NewView(wanted, leaving, statuses).Pods() {
		got = append(got, fmt.Sprintf("%s%s %s %v", p.Name, p.UID, p.Status.Phase, p.DeletionTimestamp != nil))
	}
	// Number 1 is wanted again, and of number 5 nothing is left but its worker.
	if want := []string{"a1 Running false", "aa4 Running true", "b2 Pending false", "b3 Running true"}; !slices.Equal(got, want) {
		t.Errorf("pods %q, want %q", got, want)
	}
}
