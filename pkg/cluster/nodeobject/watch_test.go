package nodeobject

import (
	"testing"
	"testing/synctest"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mini-kubelet/mini-kubelet/test/testapi"
)

func TestRefreshIsAheadOfTheWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := testapi.New()
		w := NewWatch(api.Client(t), "n1")
		if err := w.Refresh(t.Context()); err == nil || w.Node() != nil {
			t.Errorf("refreshed what is not there: %v", err)
		}
		first := api.Put(&v1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}).(*v1.Node)
		second := first.DeepCopy()
		second.Labels = map[string]string{"new": "label"}
		api.Put(second)
		if err := w.Refresh(t.Context()); err != nil || w.Node().Labels["new"] != "label" {
			t.Fatalf("%v, node %+v", err, w.Node())
		}
		w.see(first) // the watch is late
		if w.Node().Labels["new"] != "label" {
			t.Error("the watch took back what is newer")
		}
		time.Sleep(behind)
		w.see(first) // an API server that was restored from a backup
		if w.Node().Labels["new"] != "" {
			t.Error("the watch is not believed any more")
		}
		w.lose()
		w.answer(second) // the answer is late
		if w.Node() != nil {
			t.Error("a node that was deleted came back")
		}
		w.see(second) // the watch was wrong when it said that
		if w.Node() == nil {
			t.Error("a node that the watch tells of again is not seen")
		}
		w.lose()
		w.see(&v1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1", UID: "another"}})
		if w.Node() == nil {
			t.Error("a node that was made anew is not seen")
		}
	})
}

func TestPodCIDR(t *testing.T) {
	w := NewWatch(nil, "n1")
	changed := func() bool {
		select {
		case <-w.PodCIDRChanged():
			return true
		default:
			return false
		}
	}
	for i, step := range []struct {
		cidrs   []string
		want    string
		changed bool
	}{{nil, "", true}, {nil, "", false}, {[]string{"10.1.0.0/24"}, "10.1.0.0/24", true}, {[]string{"10.1.0.0/24"}, "10.1.0.0/24", false},
		{[]string{"10.1.0.0/24", "fd00::/64"}, "10.1.0.0/24,fd00::/64", true}} {
		w.see(&v1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}, Spec: v1.NodeSpec{PodCIDRs: step.cidrs}})
		if got, known := w.PodCIDR(); got != step.want || !known || changed() != step.changed {
			t.Errorf("step %d: %q, want %q, changed %v", i, got, step.want, step.changed)
		}
	}
	w.lose()
	if got, known := w.PodCIDR(); got != "" || known {
		t.Error("a node that was deleted has addresses for pods")
	}
}
