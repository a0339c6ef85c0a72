package docker

import (
	"reflect"
	"testing"

	"github.com/docker/docker/api/types/events"
)

func TestMissedEventsLeadFromWhatWasSeenToWhatIsListed(t *testing.T) {
	const create, start, die, destroy = events.ActionCreate, events.ActionStart, events.ActionDie, events.ActionDestroy
	for name, tc := range map[string]struct {
		seen   []events.Action // the last of which counts; none: never heard of
		listed State           // stateUnknown: not listed
		want   []events.Action
	}{
		"nothing happened, created": {[]events.Action{create}, StateCreated, nil},
		"nothing happened, running": {[]events.Action{create, start}, StateRunning, nil},
		"nothing happened, exited":  {[]events.Action{create, start, die}, StateExited, nil},
		"started":                   {[]events.Action{create}, StateRunning, []events.Action{start}},
		"started and died":          {[]events.Action{create}, StateExited, []events.Action{start, die}},
		"died":                      {[]events.Action{start}, StateExited, []events.Action{die}},
		"died and started again":    {[]events.Action{die}, StateRunning, []events.Action{start}},
		"new, created":              {nil, StateCreated, []events.Action{create}},
		"new, running":              {nil, StateRunning, []events.Action{create, start}},
		"new, exited":               {nil, StateExited, []events.Action{create, start, die}},
		"removed while it ran":      {[]events.Action{start}, StateUnknown, []events.Action{die, destroy}},
		"removed after its end":     {[]events.Action{die}, StateUnknown, []events.Action{destroy}},
		"removed before its start":  {[]events.Action{create}, StateUnknown, []events.Action{destroy}},
	} {
		t.Run(name, func(t *testing.T) {
			seen := map[string]Event{}
			for _, a := range tc.seen {
				note(seen, Event{ID: "c", SandboxID: "s", Action: a})
			}
			var items []Item
			if tc.listed != StateUnknown {
				items = []Item{{ID: "c", SandboxID: "s", State: tc.listed}}
			}
			var got []events.Action
			for _, e := range missed(seen, items, 1) {
				if e.ID != "c" || e.SandboxID != "s" || e.At != 1 {
					t.Errorf("event %+v", e)
				}
				got = append(got, e.Action)
				note(seen, e)
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
