package mirror

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mini-kubelet/mini-kubelet/pkg/lifecycle/podstore"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
	"github.com/mini-kubelet/mini-kubelet/test/testapi"
	"github.com/mini-kubelet/mini-kubelet/test/testrun"
)

var web = types.NamespacedName{Namespace: "default", Name: "web-n1"}

func pod(uid string, annotations map[string]string) *v1.Pod {
	return &v1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: web.Name, Namespace: web.Namespace, UID: types.UID(uid), Annotations: annotations, Labels: map[string]string{"app": "web"}},
		Spec:       v1.PodSpec{NodeName: "n1", Containers: []v1.Container{{Name: "c", Image: "i"}}},
	}
}

func static(hash string) *v1.Pod {
	return pod(hash, map[string]string{pods.AnnotationConfigSource: pods.SourceFile, pods.AnnotationConfigHash: hash, "example.com/a": "b"})
}

func mirrorOf(uid, hash string) *v1.Pod {
	return pod(uid, map[string]string{pods.AnnotationConfigMirror: hash, pods.AnnotationConfigHash: hash, pods.AnnotationConfigSource: pods.SourceAPI})
}

func TestDecide(t *testing.T) {
	now := metav1.Now()
	going := mirrorOf("m", "h1")
	going.DeletionTimestamp = &now
	ordinary := pod("p", map[string]string{pods.AnnotationConfigSource: pods.SourceAPI})
	tests := []struct {
		name        string
		pod, mirror *v1.Pod
		want        action
	}{
		{"neither", nil, nil, nothing},
		{"static pod without a mirror", static("h1"), nil, create},
		{"static pod with its mirror", static("h1"), mirrorOf("m", "h1"), nothing},
		{"mirror of what was there before", static("h2"), mirrorOf("m", "h1"), replace},
		{"mirror that somebody deletes", static("h1"), going, replace},
		{"mirror of nothing", nil, mirrorOf("m", "h1"), remove},
		{"mirror beside an ordinary pod", ordinary, mirrorOf("m", "h1"), remove},
		{"ordinary pod", ordinary, nil, nothing},
		{"static pod from a URL", pod("u", map[string]string{pods.AnnotationConfigSource: pods.SourceHTTP}), nil, create},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := decide(tt.pod, tt.mirror); got != tt.want {
				t.Errorf("decide() = %d, want %d", got, tt.want)
			}
		})
	}
}

func TestOf(t *testing.T) {
	p := static("h1")
	m := Of(p, &v1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1", UID: "node-uid"}})
	if len(m.OwnerReferences) != 1 {
		t.Fatalf("owners = %v, want the node", m.OwnerReferences)
	}
	o := m.OwnerReferences[0]
	if o.Kind != "Node" || o.APIVersion != "v1" || o.Name != "n1" || o.UID != "node-uid" || o.Controller == nil || !*o.Controller {
		t.Errorf("owner = %+v, want the node as its controller", o)
	}
	if m.UID != "" || m.ResourceVersion != "" {
		t.Errorf("UID %q, version %q: a mirror pod is an object of its own", m.UID, m.ResourceVersion)
	}
	if !Shows(m, p) || !pods.IsMirror(m) || m.Annotations["example.com/a"] != "b" || m.Labels["app"] != "web" {
		t.Errorf("annotations %v, labels %v: want the static pod's and the mark", m.Annotations, m.Labels)
	}
	if _, ok := p.Annotations[pods.AnnotationConfigMirror]; ok {
		t.Error("the static pod was modified")
	}
}

// glass is a Manager with an API server, the store, and a watch between them.
type glass struct {
	*Manager
	api    *testapi.Server
	store  *podstore.Store
	node   atomic.Pointer[v1.Node]
	ready  atomic.Bool
	failed atomic.Int32
}

func run(t *testing.T, api *testapi.Server) *glass {
	g := &glass{api: api, store: podstore.New()}
	g.ready.Store(true)
	g.node.Store(&v1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1", UID: "node-uid"}})
	m, err := New(Config{
		Client: api.Client(t), Pods: g.store, Node: g.node.Load, Ready: g.ready.Load,
		Failed: func(*v1.Pod, error) { g.failed.Add(1) },
	})
	if err != nil {
		t.Fatal(err)
	}
	g.Manager = m
	testrun.Start(t, m.Run)
	return g
}

// watch shows the store what the API server has, until nothing changes any more.
func (g *glass) watch() {
	for range 5 {
		synctest.Wait()
		now := g.api.Pod(web.Namespace, web.Name)
		seen, ok := g.store.MirrorByName(web.Namespace, web.Name)
		if ok && (now == nil || now.UID != seen.UID) {
			g.store.Remove(seen)
		}
		if now != nil {
			g.store.Set(now)
		}
		g.Check(web)
	}
	synctest.Wait()
}

func TestMirrorPodFollowsItsStaticPod(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := run(t, testapi.New())
		first, second := static("h1"), static("h2")
		g.store.Set(first)
		g.watch()
		m := g.api.Pod(web.Namespace, web.Name)
		if m == nil || !Shows(m, first) {
			t.Fatalf("mirror pod = %v, want one of the static pod", m)
		}
		g.store.Remove(first)
		g.store.Set(second)
		g.watch()
		n := g.api.Pod(web.Namespace, web.Name)
		if n == nil || !Shows(n, second) || n.UID == m.UID {
			t.Fatalf("after the manifest changed: mirror pod = %v, want a new one", n)
		}
		body := g.api.Requests(http.MethodDelete, web.Name)[0].Body
		if !strings.Contains(body, `"gracePeriodSeconds":0`) || !strings.Contains(body, string(m.UID)) {
			t.Errorf("deletion = %s, want grace 0 and the old one's UID", body)
		}
		g.store.Remove(second)
		g.watch()
		if o := g.api.Pod(web.Namespace, web.Name); o != nil {
			t.Errorf("after the manifest went the mirror pod is still there")
		}
		if n := g.failed.Load(); n != 0 {
			t.Errorf("%d failures were made known, of none", n)
		}
	})
}

func TestMirrorPodThatSomebodyDeletedComesBack(t *testing.T) {
	for name, drop := range map[string]bool{"at once": true, "gracefully": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := run(t, testapi.New())
				g.store.Set(static("h1"))
				g.watch()
				m := g.api.Pod(web.Namespace, web.Name)
				if drop {
					g.api.Drop(m)
				} else if err := g.cfg.Client.CoreV1().Pods(web.Namespace).Delete(t.Context(), web.Name, metav1.DeleteOptions{}); err != nil {
					t.Fatal(err)
				}
				g.watch()
				if n := g.api.Pod(web.Namespace, web.Name); n == nil || n.UID == m.UID || n.DeletionTimestamp != nil {
					t.Errorf("mirror pod = %v, want a new one", n)
				}
			})
		})
	}
}

func TestOrphanedMirrorPodStaysUntilEverySourceHasSpoken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := run(t, testapi.New())
		g.ready.Store(false)
		g.api.Put(mirrorOf("m", "h1"))
		g.watch()
		time.Sleep(time.Hour)
		if g.api.Pod(web.Namespace, web.Name) == nil {
			t.Fatal("it was removed though its static pod may be yet to come")
		}
		g.ready.Store(true)
		time.Sleep(retryMost * 3 / 2) // with the longest jitter
		synctest.Wait()
		if g.api.Pod(web.Namespace, web.Name) != nil {
			t.Error("it is still there")
		}
	})
}

func TestMirrorPodWaitsForTheNodeAndForItsName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := run(t, testapi.New())
		g.node.Store(nil)
		g.store.Set(static("h1"))
		g.Check(web)
		time.Sleep(time.Minute)
		if got := g.api.Requests(http.MethodPost, "/pods"); len(got) != 0 {
			t.Fatalf("%d attempts without an owner to name", len(got))
		}
		other := g.api.Put(&v1.Pod{ObjectMeta: metav1.ObjectMeta{Name: web.Name, Namespace: web.Namespace, UID: "other"}}).(*v1.Pod)
		g.node.Store(&v1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1", UID: "node-uid"}})
		time.Sleep(time.Hour)
		if got := g.api.Pod(web.Namespace, web.Name); got.UID != "other" {
			t.Fatal("somebody's pod of that name was replaced")
		}
		if most, got := int(time.Hour/retryMost)+10, len(g.api.Requests(http.MethodPost, "/pods")); got > most {
			t.Errorf("%d attempts in an hour, want at most %d", got, most)
		}
		g.api.Drop(other)
		time.Sleep(retryMost * 3 / 2) // with the longest jitter
		synctest.Wait()
		if got := g.api.Pod(web.Namespace, web.Name); got == nil || !pods.IsMirror(got) {
			t.Errorf("pod = %v, want the mirror pod once the name is free", got)
		}
		if n := g.failed.Load(); n != 0 {
			t.Errorf("%d failures were made known, of none", n)
		}
	})
}

func TestFailureIsMadeKnownOnceAlsoAfterAWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := testapi.New()
		var down atomic.Bool
		down.Store(true)
		api.Before = func(*http.Request) *metav1.Status {
			if down.Load() {
				return testapi.Failure(http.StatusForbidden, "pod security")
			}
			return nil
		}
		g := run(t, api)
		node := g.node.Swap(nil)
		g.store.Set(static("h1"))
		g.Check(web)
		time.Sleep(time.Minute)
		g.node.Store(node)
		time.Sleep(time.Hour)
		if n := g.failed.Load(); n != 1 {
			t.Errorf("made known %d times, want once", n)
		}
		down.Store(false)
		time.Sleep(retryMost * 3 / 2) // with the longest jitter
		g.watch()
		g.store.Remove(static("h1"))
		down.Store(true)
		g.store.Set(static("h2"))
		g.Check(web)
		time.Sleep(time.Hour)
		if n := g.failed.Load(); n != 2 {
			t.Errorf("made known %d times, want a second time after it had gone well", n)
		}
	})
}

func TestMirrorPodThatIsGoneAlreadyIsNoFailure(t *testing.T) {
	for name, other := range map[string]bool{"gone": false, "another in its place": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := run(t, testapi.New())
				g.store.Set(mirrorOf("m", "h1")) // from a watch that lags behind
				if other {
					g.api.Put(mirrorOf("m2", "h1"))
				}
				g.Check(web)
				time.Sleep(time.Hour)
				if n := len(g.api.Requests(http.MethodDelete, web.Name)); n != 1 {
					t.Errorf("%d attempts, want one", n)
				}
				if other && g.api.Pod(web.Namespace, web.Name) == nil {
					t.Error("another mirror pod was removed in its place")
				}
			})
		})
	}
}
