package apievents

import (
	"errors"
	"maps"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mini-kubelet/mini-kubelet/pkg/journal"
	"github.com/mini-kubelet/mini-kubelet/test/testapi"
	"github.com/mini-kubelet/mini-kubelet/test/testrun"
)

func testPod(annotations map[string]string) *v1.Pod {
	return &v1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "shop", UID: "u1", ResourceVersion: "7", Annotations: annotations},
		Spec: v1.PodSpec{
			Containers: []v1.Container{{Name: "main"}}, InitContainers: []v1.Container{{Name: "init"}},
			EphemeralContainers: []v1.EphemeralContainer{{EphemeralContainerCommon: v1.EphemeralContainerCommon{Name: "debug"}}},
		},
	}
}

func entry(container, reason, message string) journal.Entry {
	return journal.Entry{Pod: testPod(nil), Container: container, Type: v1.EventTypeWarning, Reason: reason, Message: message}
}

func noUID() types.UID { return "" }

func TestEventsOfTheNodeHaveItsUIDOnceItIsKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api, uid := testapi.New(), types.UID("")
		s := NewSink(api.Client(t), "n1", func() types.UID { return uid })
		defer testrun.Start(t, s.Run)()
		s.Node(v1.EventTypeNormal, "Starting", "Starting kubelet.")
		time.Sleep(time.Second) // an event's name is made of its time
		uid = "u-1"
		s.Node(v1.EventTypeNormal, "NodeReady", "Node n1 status is now: NodeReady")
		synctest.Wait()
		got := map[string]types.UID{}
		for _, e := range api.Events() {
			got[e.Reason] = e.InvolvedObject.UID
		}
		if want := map[string]types.UID{"Starting": "n1", "NodeReady": "u-1"}; !maps.Equal(got, want) {
			t.Errorf("UIDs %v, want %v", got, want)
		}
	})
}

func TestEventsReachTheAPIServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := testapi.New()
		s := NewSink(api.Client(t), "n1", noUID)
		s.Node(v1.EventTypeNormal, "Starting", "Starting kubelet.") // before anything runs
		defer testrun.Start(t, s.Run)()
		s.Record(entry("main", "BackOff", "Back-off restarting"))
		synctest.Wait()
		time.Sleep(time.Second)
		s.Record(entry("main", "BackOff", "Back-off restarting"))
		synctest.Wait()
		events := api.Events()
		if len(events) != 2 {
			t.Fatalf("%d events, want one of the pod and one of the node: %v", len(events), events)
		}
		for _, e := range events {
			if e.Source.Component != "kubelet" || e.Source.Host != "n1" {
				t.Errorf("source = %+v", e.Source)
			}
			switch e.InvolvedObject.Kind {
			case "Node":
				if e.Namespace != "default" || e.InvolvedObject.Name != "n1" || e.InvolvedObject.UID != "n1" || e.Reason != "Starting" {
					t.Errorf("the node's event = %+v", e)
				}
			case "Pod":
				if e.Namespace != "shop" || e.Count != 2 || e.InvolvedObject.FieldPath != "spec.containers{main}" || e.Type != v1.EventTypeWarning {
					t.Errorf("the pod's event = %+v", e)
				}
			}
		}
		if n := len(api.Requests(http.MethodPatch, "/events/")); n != 1 {
			t.Errorf("%d patches, want one of the count", n)
		}
	})
}

func TestAnAPIServerThatHangsHoldsUpNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := testapi.New()
		release := make(chan struct{})
		api.Before = func(*http.Request) *metav1.Status {
			<-release
			return nil
		}
		s := NewSink(api.Client(t), "n1", noUID)
		stop := testrun.Start(t, s.Run)
		begun := time.Now()
		for range 5000 {
			s.Record(entry("", "FailedMount", "x"))
		}
		if took := time.Since(begun); took != 0 {
			t.Errorf("recording took %v", took)
		}
		close(release)
		synctest.Wait()
		stop()
		s.Record(entry("", "Killing", "after the end"))
		synctest.Wait()
		for _, e := range api.Events() {
			if strings.Contains(e.Message, "after the end") {
				t.Error("what was recorded after the end was written")
			}
		}
	})
}

func TestRunEndsWhileEventsAreTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := testapi.New()
		api.Before = func(*http.Request) *metav1.Status {
			return testapi.Failure(http.StatusInternalServerError, errors.ErrUnsupported.Error())
		}
		s := NewSink(api.Client(t), "n1", noUID)
		stop := testrun.Start(t, s.Run)
		s.Record(entry("", "FailedMount", "x"))
		synctest.Wait()
		begun := time.Now()
		stop()
		synctest.Wait()
		if took := time.Since(begun); took != 0 {
			t.Errorf("the end took %v", took)
		}
	})
}
