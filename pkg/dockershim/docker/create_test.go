package docker

import "testing"

func TestNameConflicts(t *testing.T) {
	for name, tc := range map[string]struct {
		exists bool
		by     held
		want   conflict
	}{
		"gone meanwhile":       {false, held{}, tryAgain},
		"somebody else's":      {true, held{state: StateCreated}, sidestep},
		"leftover":             {true, held{ours: true, state: StateCreated}, replace},
		"runs":                 {true, held{ours: true, state: StateRunning}, refuse},
		"has run":              {true, held{ours: true, state: StateExited}, sidestep},
		"somebody else's runs": {true, held{state: StateRunning}, sidestep},
	} {
		if got := decideConflict(tc.exists, tc.by); got != tc.want {
			t.Errorf("%s: %v, want %v", name, got, tc.want)
		}
	}
}
