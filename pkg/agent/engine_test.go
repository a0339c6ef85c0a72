package agent

import (
	"errors"
	"testing"
)

func TestOnlyAnAnswerIsRemembered(t *testing.T) {
	asked := 0
	f := onceAnswered(func() (string, string, error) {
		if asked++; asked < 3 {
			return "", "", errors.New("not yet")
		}
		return "/images", "/layers", nil
	})
	for i := range 5 {
		images, layers, ok := f()
		if known := i >= 2; ok != known || (images == "/images") != known || (layers == "/layers") != known {
			t.Errorf("call %d: %q, %q, %v", i, images, layers, ok)
		}
	}
	if asked != 3 {
		t.Errorf("asked %d times, want until there is an answer", asked)
	}
}
