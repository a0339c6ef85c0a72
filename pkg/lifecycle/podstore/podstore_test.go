package podstore

import (
	"testing"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
)

func pod(uid, name string, annotations map[string]string) *v1.Pod {
	return &v1.Pod{ObjectMeta: metav1.ObjectMeta{UID: types.UID(uid), Name: name, Namespace: "default", Annotations: annotations}}
}

func TestReplacedPodKeepsItsNameWithTheNewerOne(t *testing.T) {
	s := New()
	old, next := pod("1", "web", nil), pod("2", "web", nil)
	s.Set(old)
	s.Set(next)
	s.Remove(old)
	if got, ok := s.ByName("default", "web"); !ok || got != next {
		t.Errorf("ByName after the old pod went = %v, %v; want the new pod", got, ok)
	}
	if _, ok := s.Get("1"); ok {
		t.Error("the removed pod is still found by its UID")
	}
}

func TestMirrorPodIsNotAPod(t *testing.T) {
	s := New()
	static := pod("1", "web", map[string]string{pods.AnnotationConfigSource: pods.SourceFile})
	mirror := pod("2", "web", map[string]string{pods.AnnotationConfigMirror: "hash"})
	s.Set(static)
	s.Set(mirror)
	if got := s.Pods(); len(got) != 1 || got[0] != static {
		t.Errorf("Pods() = %v, want the static pod only", got)
	}
	if got, ok := s.Mirror(static); !ok || got != mirror {
		t.Errorf("Mirror() = %v, %v; want the mirror pod", got, ok)
	}
	s.Remove(mirror)
	if _, ok := s.Mirror(static); ok {
		t.Error("a removed mirror pod is still found")
	}
	if _, ok := s.Get("1"); !ok {
		t.Error("removing the mirror pod removed the static pod")
	}
}

func TestItIsKnownWhenEverySourceHasSpoken(t *testing.T) {
	s := New()
	select {
	case <-s.Completed():
		t.Error("nobody has spoken yet")
	default:
	}
	if s.Complete() || !s.MayBeWanted("1") {
		t.Error("a silent source wants nothing")
	}
	s.SetComplete()
	s.SetComplete() // as after each change
	<-s.Completed()
	if !s.Complete() || s.MayBeWanted("1") {
		t.Error("all have spoken, and a pod that nobody named may be wanted")
	}
}

func TestRemoveOfUnknownPodIsHarmless(t *testing.T) {
	s := New()
	s.Set(pod("1", "web", nil))
	s.Remove(pod("2", "web", nil))
	if len(s.Pods()) != 1 {
		t.Error("removing a pod that is not there removed another of its name")
	}
}

func TestPodIsFoundByNameAfterALaterOneOfThatNameWent(t *testing.T) {
	s := New()
	static := pod("1", "web", map[string]string{pods.AnnotationConfigSource: pods.SourceFile})
	other := pod("2", "web", map[string]string{pods.AnnotationConfigSource: pods.SourceAPI})
	s.Set(static)
	s.Set(other)
	s.Remove(other)
	if got, ok := s.ByName("default", "web"); !ok || got != static {
		t.Errorf("ByName = %v, %v; want the static pod that is still there", got, ok)
	}
}

func TestMirrorsAreFoundByName(t *testing.T) {
	s := New()
	mark := map[string]string{pods.AnnotationConfigMirror: "hash"}
	b, a := pod("2", "b", mark), pod("1", "a", mark)
	s.Set(b)
	s.Set(a)
	if got := s.Pods(); len(got) != 0 {
		t.Errorf("Pods() = %v: mirror pods are none of their own", got)
	}
	if got, ok := s.MirrorByName("default", "b"); !ok || got != b {
		t.Errorf("MirrorByName(b) = %v, %v", got, ok)
	}
	next := pod("3", "b", mark)
	s.Set(next)
	s.Remove(b)
	if got, ok := s.Mirror(pod("static", "b", nil)); !ok || got != next {
		t.Errorf("after the old mirror pod went = %v, %v; want the new one", got, ok)
	}
}
