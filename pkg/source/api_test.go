package source

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"

	"github.com/mini-kubelet/mini-kubelet/test/testapi"
	"github.com/mini-kubelet/mini-kubelet/test/testrun"
)

func apiPod(name, image string) *v1.Pod {
	return &v1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default"},
		Spec:       v1.PodSpec{NodeName: "n1", Containers: []v1.Container{{Name: "c", Image: image}}},
	}
}

// follow runs an APISource until the test ends; it fails if a goroutine is left.
func follow(t *testing.T, api *testapi.Server, ready <-chan struct{}) <-chan Snapshot {
	s, err := NewAPI(APIConfig{Client: api.Client(t), NodeName: "n1", Ready: ready})
	if err != nil {
		t.Fatal(err)
	}
	out := make(chan Snapshot)
	testrun.Start(t, func(ctx context.Context) error { return s.Run(ctx, out) })
	return out
}

// waiting returns the snapshot that waits to be received, as "name=image ..."; "-"
// for none.
func waiting(out <-chan Snapshot) string {
	synctest.Wait()
	select {
	case s := <-out:
		images := map[string]string{}
		for _, p := range s.Pods {
			images[p.Name] = p.Spec.Containers[0].Image
		}
		return s.Source + strings.TrimPrefix(fmt.Sprint(images), "map")
	default:
		return "-"
	}
}

func TestPodsOfTheAPIServerAreFollowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := testapi.New()
		out := follow(t, api, nil)
		steps := []struct {
			name string
			do   func()
			want string
		}{
			{"nothing there", func() {}, "api[]"},
			{"a pod", func() { api.Put(apiPod("web", "i:1")) }, "api[web:i:1]"},
			{"it changes", func() { api.Put(apiPod("web", "i:2")) }, "api[web:i:2]"},
			{"another", func() { api.Put(apiPod("db", "i:1")) }, "api[db:i:1 web:i:2]"},
			{"nothing happens", func() { time.Sleep(time.Minute) }, "-"},
			{"the first goes", func() { api.Drop(apiPod("web", "")) }, "api[db:i:1]"},
		}
		for _, s := range steps {
			s.do()
			if got := waiting(out); got != s.want {
				t.Errorf("%s: snapshot = %s, want %s", s.name, got, s.want)
			}
		}
		for _, r := range api.Requests(http.MethodGet, "/pods") {
			if !strings.Contains(r.Query, "fieldSelector=spec.nodeName%3Dn1") {
				t.Errorf("request %s?%s asks for pods of other nodes", r.Path, r.Query)
			}
		}
	})
}

func TestSnapshotsThatAreNotTakenAreMerged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := testapi.New(apiPod("web", "i:0"))
		out := follow(t, api, nil)
		synctest.Wait()
		for n := range 20 {
			api.Put(apiPod("web", fmt.Sprintf("i:%d", n+1)))
			synctest.Wait()
		}
		if got := waiting(out); got != "api[web:i:20]" {
			t.Errorf("first snapshot = %s, want the newest", got)
		}
		if got := waiting(out); got != "-" {
			t.Errorf("second snapshot = %s, want none", got)
		}
	})
}

func TestNothingIsAskedBeforeTheNodeIsKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := testapi.New(apiPod("web", "i:1"))
		ready := make(chan struct{})
		out := follow(t, api, ready)
		time.Sleep(time.Minute)
		if got := waiting(out); got != "-" || len(api.Requests(http.MethodGet, "/pods")) != 0 {
			t.Fatalf("snapshot = %s, want none", got)
		}
		close(ready)
		if got := waiting(out); got != "api[web:i:1]" {
			t.Errorf("snapshot = %s once the node is known", got)
		}
	})
}

func TestSourceThatNeverGetsReadyEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		follow(t, testapi.New(), make(chan struct{}))
		synctest.Wait()
	})
}

func TestPodsStayWhileTheAPIServerIsAway(t *testing.T) {
	// client-go's handler sleeps according to the time of its last error, which is
	// outside of the bubble: for decades.
	handlers := utilruntime.ErrorHandlers
	utilruntime.ErrorHandlers = nil
	defer func() { utilruntime.ErrorHandlers = handlers }()
	synctest.Test(t, func(t *testing.T) {
		api := testapi.New(apiPod("web", "i:1"), apiPod("db", "i:1"))
		var down atomic.Bool
		api.Before = func(*http.Request) *metav1.Status {
			if down.Load() {
				return testapi.Failure(http.StatusServiceUnavailable, "down")
			}
			return nil
		}
		out := follow(t, api, nil)
		if got := waiting(out); got != "api[db:i:1 web:i:1]" {
			t.Fatalf("snapshot = %s", got)
		}
		down.Store(true)
		api.CutWatches()
		time.Sleep(10 * time.Minute)
		if got := waiting(out); got != "-" {
			t.Fatalf("while it is away: snapshot = %s, want none", got)
		}
		api.Drop(apiPod("web", ""))
		api.Put(apiPod("db", "i:2"))
		down.Store(false)
		time.Sleep(2 * time.Minute)
		last := "-"
		for got := waiting(out); got != "-"; got = waiting(out) {
			last = got
		}
		if last != "api[db:i:2]" {
			t.Errorf("after it: snapshot = %s, want what has changed meanwhile", last)
		}
	})
}
