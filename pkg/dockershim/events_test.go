package dockershim

import (
	"testing"

	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/docker"
)

func TestSlowSubscribersAreCutOffAndOthersAreNot(t *testing.T) {
	var s subscribers
	slow, fast := s.add(), s.add()
	for range subscriberBuffer + 1 {
		s.tell(docker.Event{})
		<-fast
	}
	n := 0
	for range slow {
		n++
	}
	if n != subscriberBuffer {
		t.Errorf("the slow one got %d events before it was cut off, want %d", n, subscriberBuffer)
	}
	s.tell(docker.Event{ID: "last"})
	if h := <-fast; h.ID != "last" {
		t.Errorf("got %+v", h)
	}
	s.remove(slow)
	s.remove(fast)
	s.remove(fast)
}
