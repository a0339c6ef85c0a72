package dockershim

import (
	"reflect"
	"testing"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func TestMissedEventsLeadFromWhatWasSeenToWhatIsListed(t *testing.T) {
	const create, start, die, destroy = events.ActionCreate, events.ActionStart, events.ActionDie, events.ActionDestroy
	for name, tc := range map[string]struct {
		seen   []events.Action // the last of which counts; none: never heard of
		listed state           // stateUnknown: not listed
		want   []events.Action
	}{
		"nothing happened, created": {[]events.Action{create}, stateCreated, nil},
		"nothing happened, running": {[]events.Action{create, start}, stateRunning, nil},
		"nothing happened, exited":  {[]events.Action{create, start, die}, stateExited, nil},
		"started":                   {[]events.Action{create}, stateRunning, []events.Action{start}},
		"started and died":          {[]events.Action{create}, stateExited, []events.Action{start, die}},
		"died":                      {[]events.Action{start}, stateExited, []events.Action{die}},
		"died and started again":    {[]events.Action{die}, stateRunning, []events.Action{start}},
		"new, created":              {nil, stateCreated, []events.Action{create}},
		"new, running":              {nil, stateRunning, []events.Action{create, start}},
		"new, exited":               {nil, stateExited, []events.Action{create, start, die}},
		"removed while it ran":      {[]events.Action{start}, stateUnknown, []events.Action{die, destroy}},
		"removed after its end":     {[]events.Action{die}, stateUnknown, []events.Action{destroy}},
		"removed before its start":  {[]events.Action{create}, stateUnknown, []events.Action{destroy}},
	} {
		t.Run(name, func(t *testing.T) {
			seen := map[string]happening{}
			for _, a := range tc.seen {
				note(seen, happening{id: "c", sandboxID: "s", action: a})
			}
			var items []item
			if tc.listed != stateUnknown {
				items = []item{{id: "c", sandboxID: "s", state: tc.listed}}
			}
			var got []events.Action
			for _, h := range missed(seen, items, 1) {
				if h.id != "c" || h.sandboxID != "s" || h.at != 1 {
					t.Errorf("event %+v", h)
				}
				got = append(got, h.action)
				note(seen, h)
			}
			if !reflect.DeepEqual(got, tc.want) {
				t.Errorf("events %v, want %v", got, tc.want)
			}
			if again := missed(seen, items, 2); len(again) > 0 {
				t.Errorf("told again: %v", again)
			}
		})
	}
}

func TestSlowSubscribersAreCutOffAndOthersAreNot(t *testing.T) {
	var s subscribers
	slow, fast := s.add(), s.add()
	for range subscriberBuffer + 1 {
		s.tell(happening{})
		<-fast
	}
	n := 0
	for range slow {
		n++
	}
	if n != subscriberBuffer {
		t.Errorf("the slow one got %d events before it was cut off, want %d", n, subscriberBuffer)
	}
	s.tell(happening{id: "last"})
	if h := <-fast; h.id != "last" {
		t.Errorf("got %+v", h)
	}
	s.remove(slow)
	s.remove(fast)
	s.remove(fast)
}

func TestNameConflicts(t *testing.T) {
	for name, tc := range map[string]struct {
		exists bool
		by     held
		want   conflict
	}{
		"gone meanwhile":       {false, held{}, tryAgain},
		"somebody else's":      {true, held{state: stateCreated}, sidestep},
		"leftover":             {true, held{ours: true, state: stateCreated}, replace},
		"runs":                 {true, held{ours: true, state: stateRunning}, refuse},
		"has run":              {true, held{ours: true, state: stateExited}, sidestep},
		"somebody else's runs": {true, held{state: stateRunning}, sidestep},
	} {
		if got := decideConflict(tc.exists, tc.by); got != tc.want {
			t.Errorf("%s: %v, want %v", name, got, tc.want)
		}
	}
}

func TestContainerStates(t *testing.T) {
	const at, end = "2026-01-02T03:04:05.000000006Z", "2026-01-02T03:05:05Z"
	const never = "0001-01-01T00:00:00Z"
	for name, tc := range map[string]struct {
		docker container.State
		want   *cri.ContainerStatus
	}{
		"created":   {container.State{StartedAt: never, FinishedAt: never}, &cri.ContainerStatus{State: cri.ContainerState_CONTAINER_CREATED}},
		"running":   {container.State{Running: true, StartedAt: at, FinishedAt: never}, &cri.ContainerStatus{State: cri.ContainerState_CONTAINER_RUNNING, StartedAt: 1767323045000000006}},
		"completed": {container.State{StartedAt: at, FinishedAt: end}, &cri.ContainerStatus{State: cri.ContainerState_CONTAINER_EXITED, StartedAt: 1767323045000000006, FinishedAt: 1767323105000000000, Reason: "Completed"}},
		"failed":    {container.State{StartedAt: at, FinishedAt: end, ExitCode: 3}, &cri.ContainerStatus{State: cri.ContainerState_CONTAINER_EXITED, StartedAt: 1767323045000000006, FinishedAt: 1767323105000000000, Reason: "Error", ExitCode: 3}},
		"oom":       {container.State{StartedAt: at, FinishedAt: end, ExitCode: 137, OOMKilled: true}, &cri.ContainerStatus{State: cri.ContainerState_CONTAINER_EXITED, StartedAt: 1767323045000000006, FinishedAt: 1767323105000000000, Reason: "OOMKilled", ExitCode: 137}},
		"could not start": {container.State{StartedAt: never, FinishedAt: never, ExitCode: 127, Error: "no such file"},
			&cri.ContainerStatus{State: cri.ContainerState_CONTAINER_EXITED, StartedAt: 7, FinishedAt: 7, Reason: "ContainerCannotRun", ExitCode: 128, Message: "no such file"}},
	} {
		t.Run(name, func(t *testing.T) {
			got := &cri.ContainerStatus{CreatedAt: 7}
			setState(got, &tc.docker)
			if got.State != tc.want.State || got.StartedAt != tc.want.StartedAt || got.FinishedAt != tc.want.FinishedAt ||
				got.ExitCode != tc.want.ExitCode || got.Reason != tc.want.Reason || got.Message != tc.want.Message {
				t.Errorf("got %v, want %v", got, tc.want)
			}
		})
	}
}

func TestOverlayCorrectsALaggingList(t *testing.T) {
	v := newView(nil, "/state")
	items := []item{{id: "a", state: stateRunning}, {id: "b", state: stateRunning}, {id: "f", state: stateCreated}}
	v.happened("a", events.ActionDie)
	v.startFailed("f")
	got := v.overlay(items)
	if got[0].state != stateExited || got[1].state != stateRunning || got[2].state != stateExited {
		t.Errorf("overlaid %v", got)
	}
	if items[0].state != stateRunning {
		t.Error("the shared list was changed")
	}
	v.happened("a", events.ActionStart)
	if got := v.overlay(items); got[0].state != stateRunning {
		t.Errorf("started again, and still %v", got[0].state)
	}
}
