package dockershim

import "testing"

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
