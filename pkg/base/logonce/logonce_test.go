package logonce

import (
	"errors"
	"testing"
)

func TestEachErrorIsLoggedOnceUntilItChangesOrEnds(t *testing.T) {
	full, gone := errors.New("disk full"), errors.New("disk gone")
	var e Error
	for i, step := range []struct {
		err  error
		want bool
	}{{nil, false}, {full, true}, {full, false}, {errors.New("disk full"), false}, {gone, true}, {full, true}, {nil, false}, {full, true}} {
		if got := e.Note(step.err); got != step.want {
			t.Errorf("step %d: Note(%v) = %v, want %v", i, step.err, got, step.want)
		}
	}
}
