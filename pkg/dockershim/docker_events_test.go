package dockershim

import (
	"reflect"
	"testing"

	"github.com/docker/docker/api/types/events"
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
