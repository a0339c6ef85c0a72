package recent

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/journal"
)

var born = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func entry(second int, message string) journal.Entry {
	return journal.Entry{
		Time: born.Add(time.Duration(second) * time.Second), Type: v1.EventTypeWarning, Reason: "BackOff", Message: message, Container: "c",
		Pod: &v1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "shop", UID: "u", ResourceVersion: fmt.Sprint(second)},
			Spec:       v1.PodSpec{Containers: []v1.Container{{Name: "c"}}},
		},
	}
}

func messages(events []v1.Event) string {
	var all []string
	for _, e := range events {
		all = append(all, fmt.Sprintf("%s x%d", e.Message, e.Count))
	}
	return strings.Join(all, ", ")
}

func TestEqualEventsRaiseACountAndAreTheNewest(t *testing.T) {
	s := New(Config{Node: "n1", Now: func() time.Time { return born }})
	s.Record(entry(0, "a"))
	s.Record(entry(1, "b"))
	s.Record(entry(2, "a"))
	s.Node(v1.EventTypeNormal, "Starting", "c")
	events, version := s.Since(0)
	if got := messages(events); got != "b x1, a x2, c x1" || version != 4 {
		t.Fatalf("%s, version %d", got, version)
	}
	a := events[1]
	if !a.FirstTimestamp.Time.Equal(born) || !a.LastTimestamp.Time.Equal(born.Add(2*time.Second)) || a.Namespace != "shop" ||
		a.InvolvedObject.Kind != "Pod" || a.InvolvedObject.FieldPath != "spec.containers{c}" || a.Source.Host != "n1" || a.Name == events[0].Name {
		t.Errorf("%+v", a)
	}
	if node := events[2]; node.InvolvedObject.Kind != "Node" || node.InvolvedObject.Name != "n1" || node.Namespace != "default" {
		t.Errorf("%+v", node)
	}
	for i := range 2 {
		changed := metav1.ObjectMeta{Name: "data", Namespace: "shop", ResourceVersion: fmt.Sprint(i)}
		s.Claim(&v1.PersistentVolumeClaim{ObjectMeta: changed}, v1.EventTypeNormal, "FileSystemResizeSuccessful", "d")
		changed.Namespace = ""
		s.Volume(&v1.PersistentVolume{ObjectMeta: changed}, v1.EventTypeWarning, "FailedMountOnFilesystemMismatch", "e")
	}
	storage, _ := s.Since(4)
	if got := messages(storage); got != "d x2, e x2" || storage[0].InvolvedObject.Kind != "PersistentVolumeClaim" || storage[0].Namespace != "shop" ||
		storage[1].InvolvedObject.Kind != "PersistentVolume" || storage[1].Namespace != "default" {
		t.Errorf("%s: %+v", got, storage)
	}
	if newer, _ := s.Since(2); messages(newer) != "a x2, c x1, d x2, e x2" {
		t.Errorf("since version 2: %s", messages(newer))
	}
}

func TestTheOldestGo(t *testing.T) {
	s := New(Config{MaxEvents: 3})
	for i := range 5 {
		s.Record(entry(i, fmt.Sprint(i)))
	}
	if events, _ := s.Since(0); messages(events) != "2 x1, 3 x1, 4 x1" {
		t.Errorf("by number: %s", messages(events))
	}
	s = New(Config{MaxBytes: 3000})
	for i := range 5 {
		s.Record(entry(i, fmt.Sprint(i)+strings.Repeat("x", 1000)))
	}
	if events, _ := s.Since(0); len(events) != 2 || events[1].Message[0] != '4' {
		t.Errorf("by size: %s", messages(events))
	}
	for range 3 {
		s.forget(s.order.Front())
		if s.order.Len() == 0 {
			break
		}
	}
	if s.bytes != 0 || len(s.byKey) != 0 {
		t.Errorf("%d bytes and %d keys of nothing", s.bytes, len(s.byKey))
	}
}

func TestWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Config{})
		s.Record(entry(0, "a"))
		if err := s.Wait(t.Context(), 0); err != nil {
			t.Error(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 2)
		for range 2 {
			go func() { done <- s.Wait(ctx, 1) }()
		}
		synctest.Wait()
		select {
		case err := <-done:
			t.Fatalf("it did not wait: %v", err)
		default:
		}
		s.Record(entry(0, "a")) // the same once more is news
		for range 2 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		go func() { done <- s.Wait(ctx, 2) }()
		synctest.Wait()
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}
