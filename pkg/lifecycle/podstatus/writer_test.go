package podstatus

import (
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mini-kubelet/mini-kubelet/test/testapi"
	"github.com/mini-kubelet/mini-kubelet/test/testrun"
)

// scribe is a Writer with an API server and what the watch has shown of it.
type scribe struct {
	*Writer
	api      *testapi.Server
	statuses *Manager

	mu   sync.Mutex
	seen map[types.UID]*v1.Pod // by the UID of the node's pod
}

// write runs a Writer until the test ends, which fails if a goroutine is left.
func write(t *testing.T, api *testapi.Server) *scribe {
	s := &scribe{api: api, statuses: newManager(t), seen: map[types.UID]*v1.Pod{}}
	w, err := NewWriter(WriterConfig{Client: api.Client(t), Statuses: s.statuses, Object: func(pod *v1.Pod) (*v1.Pod, bool) {
		s.mu.Lock()
		defer s.mu.Unlock()
		p, ok := s.seen[pod.UID]
		return p, ok
	}})
	if err != nil {
		t.Fatal(err)
	}
	s.Writer = w
	testrun.Start(t, w.Run)
	return s
}

// see is the watch: the pod with that UID is now this object.
func (s *scribe) see(uid types.UID, o *v1.Pod) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen[uid] = o
}

// add makes a pod that the watch has shown.
func (s *scribe) add(uid, name string) *v1.Pod {
	p := s.api.Put(&v1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default", UID: types.UID(uid)},
		Spec:       v1.PodSpec{RestartPolicy: v1.RestartPolicyAlways, Containers: []v1.Container{{Name: "c"}}},
		Status:     v1.PodStatus{Phase: v1.PodPending},
	}).(*v1.Pod)
	s.see(p.UID, p)
	return p
}

func (s *scribe) patches(name string) []testapi.Request {
	return s.api.Requests(http.MethodPatch, "/pods/"+name+"/status")
}

func status(phase v1.PodPhase, ip string) v1.PodStatus { return v1.PodStatus{Phase: phase, PodIP: ip} }

func TestOnlyWhatChangedIsPatched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := write(t, testapi.New())
		pod := s.add("1", "web")
		s.statuses.Set(pod, status(v1.PodRunning, ""))
		synctest.Wait()
		if got := s.patches("web"); len(got) != 1 || got[0].Body != `{"metadata":{"uid":"1"},"status":{"phase":"Running"}}` {
			t.Fatalf("patches = %v, want one of the phase", got)
		}
		s.statuses.Set(pod, status(v1.PodRunning, "10.0.0.1"))
		synctest.Wait()
		if got := s.patches("web"); len(got) != 2 || got[1].Body != `{"metadata":{"uid":"1"},"status":{"podIP":"10.0.0.1"}}` {
			t.Fatalf("patches = %v, want a second of the address, though the watch has not shown the first yet", got)
		}
		s.see("1", s.api.Pod("default", "web"))
		s.Check("1")
		s.statuses.Set(pod, status(v1.PodRunning, "10.0.0.1"))
		synctest.Wait()
		if got := s.patches("web"); len(got) != 2 {
			t.Errorf("%d patches, want none where nothing differs", len(got)-2)
		}
	})
}

func TestStatusThatSomebodyOverwroteIsWrittenAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := write(t, testapi.New())
		pod := s.add("1", "web")
		s.statuses.Set(pod, status(v1.PodRunning, "10.0.0.1"))
		synctest.Wait()
		wrong := s.api.Pod("default", "web")
		wrong.Status.PodIP = "192.0.2.9"
		wrong.Status.Conditions = []v1.PodCondition{{Type: "example.com/gate", Status: v1.ConditionTrue}}
		s.see("1", s.api.Put(wrong).(*v1.Pod))
		s.Check("1")
		synctest.Wait()
		now := s.api.Pod("default", "web").Status
		if now.PodIP != "10.0.0.1" {
			t.Errorf("address = %s, want the node's", now.PodIP)
		}
		if len(now.Conditions) != 1 || now.Conditions[0].Type != "example.com/gate" {
			t.Errorf("conditions = %v, want the foreign one kept", now.Conditions)
		}
	})
}

func TestAfterAnOutageOnlyTheNewestIsWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := testapi.New()
		var mu sync.Mutex
		down := true
		api.Before = func(*http.Request) *metav1.Status {
			mu.Lock()
			defer mu.Unlock()
			if down {
				return testapi.Failure(http.StatusInternalServerError, "down")
			}
			return nil
		}
		s := write(t, api)
		pod := s.add("1", "web")
		for _, ip := range []string{"10.0.0.1", "10.0.0.2", "10.0.0.3"} {
			s.statuses.Set(pod, status(v1.PodRunning, ip))
			time.Sleep(time.Minute)
		}
		mu.Lock()
		down = false
		before := len(s.patches("web"))
		mu.Unlock()
		time.Sleep(retryMost * 3 / 2) // with the longest jitter
		synctest.Wait()
		after := s.patches("web")[before:]
		if len(after) != 1 || !strings.Contains(after[0].Body, "10.0.0.3") {
			t.Errorf("after the outage: %v, want one patch with the newest address", after)
		}
		if most := int(3*time.Minute/retryMost) + 16; before > most {
			t.Errorf("%d attempts in three minutes, want at most %d", before, most)
		}
		time.Sleep(time.Hour)
		if got := len(s.patches("web")) - before; got != 1 {
			t.Errorf("%d patches in the hour after, want no more than the one", got)
		}
	})
}

func TestOnePatchAtATimeForAPodAndOthersGoOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := testapi.New()
		var mu sync.Mutex
		var busy, most int
		release := make(chan struct{})
		api.Before = func(r *http.Request) *metav1.Status {
			if !strings.Contains(r.URL.Path, "/slow/") {
				return nil
			}
			mu.Lock()
			busy++
			most = max(most, busy)
			mu.Unlock()
			<-release
			mu.Lock()
			busy--
			mu.Unlock()
			return nil
		}
		s := write(t, api)
		slow, quick := s.add("1", "slow"), s.add("2", "quick")
		for _, ip := range []string{"10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"} {
			s.statuses.Set(slow, status(v1.PodRunning, ip))
			s.statuses.Set(quick, status(v1.PodRunning, ip))
			synctest.Wait()
		}
		if got := s.api.Pod("default", "quick").Status.PodIP; got != "10.0.0.4" {
			t.Errorf("the other pod's address = %q, want the newest", got)
		}
		close(release)
		synctest.Wait()
		if most != 1 {
			t.Errorf("%d patches of one pod at a time, want 1", most)
		}
		if got := s.patches("slow"); len(got) != 2 {
			t.Errorf("%d patches of the slow pod, want the first and the newest", len(got))
		}
		if got := s.api.Pod("default", "slow").Status.PodIP; got != "10.0.0.4" {
			t.Errorf("address = %q, want the newest", got)
		}
	})
}

func TestPodThatIsGoneIsLetGo(t *testing.T) {
	for name, replace := range map[string]bool{"nothing has its name": false, "another has its name": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := write(t, testapi.New())
				pod := s.add("1", "web")
				s.api.Drop(pod)
				if replace {
					s.api.Put(&v1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "default", UID: "2"}})
				}
				s.statuses.Set(pod, status(v1.PodRunning, "10.0.0.1"))
				time.Sleep(time.Hour)
				synctest.Wait()
				if got := len(s.patches("web")); got != 1 {
					t.Errorf("%d attempts, want one", got)
				}
				if o := s.api.Pod("default", "web"); o != nil && o.Status.PodIP != "" {
					t.Error("the status was written to another pod of that name")
				}
			})
		})
	}
}

func TestPatchThatConflictsIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := testapi.New()
		conflicts := 3
		api.Before = func(r *http.Request) *metav1.Status {
			if r.Method != http.MethodPatch || conflicts == 0 {
				return nil
			}
			conflicts--
			return testapi.Failure(http.StatusConflict, "the object has been modified; please apply your changes to the latest version and try again")
		}
		s := write(t, api)
		s.statuses.Set(s.add("1", "web"), status(v1.PodRunning, "10.0.0.1"))
		time.Sleep(time.Hour)
		synctest.Wait()
		if got := len(s.patches("web")); got != 4 || api.Pod("default", "web").Status.PodIP != "10.0.0.1" {
			t.Errorf("%d attempts, status %+v", got, api.Pod("default", "web").Status)
		}
	})
}

func TestDeletedPodLeavesOnceFinishedAndWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := testapi.New()
		var mu sync.Mutex
		down := false
		api.Before = func(r *http.Request) *metav1.Status {
			mu.Lock()
			defer mu.Unlock()
			if down && r.Method == http.MethodPatch {
				return testapi.Failure(http.StatusInternalServerError, "down")
			}
			return nil
		}
		s := write(t, api)
		s.add("1", "web")
		if err := s.cfg.Client.CoreV1().Pods("default").Delete(t.Context(), "web", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		going := api.Pod("default", "web")
		s.see("1", going)
		deletes := func() int { return len(api.Requests(http.MethodDelete, "/pods/web")) - 1 }

		s.statuses.Set(going, v1.PodStatus{Phase: v1.PodFailed, ContainerStatuses: []v1.ContainerStatus{runningStatus("c")}})
		synctest.Wait()
		if p := api.Pod("default", "web"); p == nil || p.Status.Phase != v1.PodPending || deletes() != 0 {
			t.Fatalf("while a container runs: pod %v, %d removals; want the phase not final and no removal", p, deletes())
		}
		mu.Lock()
		down = true
		mu.Unlock()
		s.statuses.Set(going, v1.PodStatus{Phase: v1.PodFailed, ContainerStatuses: []v1.ContainerStatus{endedStatus("c", 137)}})
		s.statuses.Finish(going)
		synctest.Wait()
		if deletes() != 0 {
			t.Fatal("the pod was removed before its last status was written")
		}
		mu.Lock()
		down = false
		mu.Unlock()
		time.Sleep(retryMost * 3 / 2) // with the longest jitter
		synctest.Wait()
		if api.Pod("default", "web") != nil {
			t.Fatal("the pod is still there")
		}
		body := api.Requests(http.MethodDelete, "/pods/web")[1].Body
		if !strings.Contains(body, `"gracePeriodSeconds":0`) || !strings.Contains(body, `"uid":"1"`) {
			t.Errorf("removal = %s, want grace 0 and the UID", body)
		}
		if got := s.patches("web"); !strings.Contains(got[len(got)-1].Body, `"phase":"Failed"`) {
			t.Errorf("the last status = %s, want Failed", got[len(got)-1].Body)
		}
	})
}

// An admission webhook may answer a conflict as well, and then the pod is still there.
func TestRemovalThatConflictsIsTriedAgainWhileThePodIsThere(t *testing.T) {
	for _, another := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			api := testapi.New()
			conflicts := 2
			api.Before = func(r *http.Request) *metav1.Status {
				if r.Method != http.MethodDelete || conflicts == 0 {
					return nil
				}
				conflicts--
				return testapi.Failure(http.StatusConflict, "a webhook says no")
			}
			s := write(t, api)
			going := s.add("1", "web")
			now := metav1.Now()
			going.DeletionTimestamp = &now
			if another {
				api.Drop(going)
				api.Put(&v1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "default", UID: "2"}})
			}
			s.statuses.Set(going, v1.PodStatus{Phase: v1.PodPending})
			synctest.Wait() // each of both has the Writer look once
			s.statuses.Finish(going)
			time.Sleep(time.Hour)
			synctest.Wait()
			want := 3
			if another {
				want = 1
			}
			if got := len(api.Requests(http.MethodDelete, "/pods/web")); got != want {
				t.Errorf("another has its name: %v: %d attempts, want %d", another, got, want)
			}
			if there := api.Pod("default", "web") != nil; there != another {
				t.Errorf("another has its name: %v: a pod is there: %v", another, there)
			}
		})
	}
}

func TestFinishedPodThatNobodyDeletedStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := write(t, testapi.New())
		pod := s.add("1", "job")
		s.statuses.Set(pod, v1.PodStatus{Phase: v1.PodSucceeded})
		s.statuses.Finish(pod)
		time.Sleep(time.Hour)
		if s.api.Pod("default", "job") == nil {
			t.Fatal("a pod that has succeeded was removed though nobody deleted it")
		}
		now := metav1.Now()
		going := s.api.Pod("default", "job")
		going.DeletionTimestamp = &now
		going = s.api.Put(going).(*v1.Pod)
		s.see("1", going)
		s.statuses.Finish(going)
		synctest.Wait()
		if s.api.Pod("default", "job") != nil {
			t.Error("it stayed after it had been deleted")
		}
	})
}

func TestStatusOfAStaticPodGoesToItsMirror(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := write(t, testapi.New())
		static := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "web-n1", Namespace: "default", UID: "hash"}}
		s.statuses.Set(static, status(v1.PodRunning, "10.0.0.1"))
		time.Sleep(time.Hour)
		if got := s.patches("web-n1"); len(got) != 0 {
			t.Fatalf("without a mirror pod: %v, want no patch", got)
		}
		mirror := s.api.Put(&v1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "web-n1", Namespace: "default", UID: "m1"}}).(*v1.Pod)
		s.see("hash", mirror)
		s.Check("hash")
		synctest.Wait()
		if got := s.api.Pod("default", "web-n1").Status.PodIP; got != "10.0.0.1" {
			t.Errorf("the mirror's address = %q, want the static pod's", got)
		}
		// Its successor begins with nothing, whatever was written for the first.
		s.api.Drop(mirror)
		next := s.api.Put(&v1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "web-n1", Namespace: "default", UID: "m2"}}).(*v1.Pod)
		s.see("hash", next)
		s.Check("hash")
		synctest.Wait()
		if got := s.api.Pod("default", "web-n1").Status.PodIP; got != "10.0.0.1" {
			t.Errorf("the next mirror's address = %q, want the static pod's", got)
		}
		// A finished static pod's mirror is not the writer's to remove.
		now := metav1.Now()
		next = s.api.Pod("default", "web-n1")
		next.DeletionTimestamp = &now
		s.see("hash", s.api.Put(next).(*v1.Pod))
		s.statuses.Finish(static)
		synctest.Wait()
		if s.api.Pod("default", "web-n1") == nil {
			t.Error("the writer removed a mirror pod")
		}
	})
}

func TestWriterForgetsPodsThatAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := write(t, testapi.New())
		pod := s.add("1", "web")
		s.statuses.Set(pod, status(v1.PodRunning, "10.0.0.1"))
		synctest.Wait()
		s.statuses.Delete("1")
		synctest.Wait()
		s.Writer.mu.Lock()
		defer s.Writer.mu.Unlock()
		if len(s.written) != 0 {
			t.Errorf("what was written is still kept: %v", s.written)
		}
	})
}

func TestRunEndsWhileARequestHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := testapi.New()
		api.Before = func(r *http.Request) *metav1.Status {
			<-r.Context().Done()
			return nil
		}
		s := write(t, api)
		s.statuses.Set(s.add("1", "web"), status(v1.PodRunning, "10.0.0.1"))
		synctest.Wait() // the cleanup sees Run end
	})
}

func TestFinishOfAnUnknownPodAndUnchangedStatus(t *testing.T) {
	m := newManager(t)
	var told []types.UID
	m.subscribe(func(uid types.UID) { told = append(told, uid) })
	pod := mergePod(v1.RestartPolicyAlways)
	m.Finish(pod)
	if len(told) != 0 {
		t.Errorf("told of %v, of which nothing is known", told)
	}
	m.Set(pod, status(v1.PodRunning, ""))
	m.Set(pod, status(v1.PodRunning, ""))
	if len(told) != 1 {
		t.Errorf("told %d times of one change", len(told))
	}
	if m.Set(pod.DeepCopy(), status(v1.PodRunning, "")) || len(told) != 2 {
		t.Errorf("a new object of the same status: told %d times, want once more and no change", len(told))
	}
}
