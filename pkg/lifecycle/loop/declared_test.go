package loop

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"

	"github.com/mini-kubelet/mini-kubelet/pkg/journal"
	"github.com/mini-kubelet/mini-kubelet/pkg/lifecycle/pleg"
	"github.com/mini-kubelet/mini-kubelet/pkg/lifecycle/podstore"
	"github.com/mini-kubelet/mini-kubelet/pkg/lifecycle/worker"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
	"github.com/mini-kubelet/mini-kubelet/pkg/source"
	"github.com/mini-kubelet/mini-kubelet/test/testrun"
)

// entries is a journal's sink.
type entries chan string

func (e entries) Record(entry journal.Entry) {
	e <- entry.Pod.Name + " " + entry.Reason + ": " + entry.Message
}

// withCPU returns a pod with resources of its own, which the node has not declared to change in place.
func withCPU(uid, name, cpu string) *v1.Pod {
	p := pod(uid, name)
	p.Spec.Resources = &v1.ResourceRequirements{Requests: v1.ResourceList{v1.ResourceCPU: resource.MustParse(cpu)}}
	return p
}

func TestAPodThatIsChangedToWhatTheNodeDoesNotDeclareIsToldAndGoesOn(t *testing.T) {
	const missing = "web FailedNodeDeclaredFeaturesCheck: Pod requires node features that are not available: InPlacePodLevelResourcesVerticalScaling"
	for release, want := range map[string][]string{"v1.37.2": {missing}, "": nil} {
		synctest.Test(t, func(t *testing.T) {
			told := make(entries, 10)
			b := &bench{known: map[types.UID]worker.Phase{}, changes: make(chan source.Change), store: podstore.New(), listed: make(chan struct{})}
			close(b.listed)
			l, err := New(Config{
				Sources: []string{pods.SourceAPI}, Changes: b.changes, Events: make(chan pleg.Event), Store: b.store, Workers: b, Runtime: b,
				Admission: b, Statuses: b, Clock: clock.RealClock{}, Release: release, Journal: journal.New(time.Now, told),
			})
			if err != nil {
				t.Fatal(err)
			}
			testrun.Start(t, l.Run)
			change := func(op source.Op, p *v1.Pod) {
				b.changes <- source.Change{Op: op, Source: pods.SourceAPI, Pods: []*v1.Pod{p}}
			}
			change(source.Add, withCPU("1", "web", "1"))
			change(source.Update, withCPU("1", "web", "2"))
			change(source.Update, withCPU("1", "web", "2")) // nothing of that has changed
			shorter := withCPU("2", "static", "1")
			shorter.Spec.InitContainers = []v1.Container{{Name: "first"}}
			change(source.Add, shorter)
			change(source.Update, withCPU("2", "static", "1"))
			synctest.Wait()
			close(told)
			var got []string
			for text := range told {
				got = append(got, text)
			}
			if !slices.Equal(got, want) {
				t.Errorf("release %q: events %q, want %q", release, got, want)
			}
			if calls, want := b.said(), []string{"create 1", "change 1", "change 1", "create 2", "change 2"}; !slices.Equal(calls, want) {
				t.Errorf("updates %v, want %v", calls, want)
			}
		})
	}
}
