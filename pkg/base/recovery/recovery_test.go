package recovery

import (
	"errors"
	"testing"
)

func TestAPanicIsAnError(t *testing.T) {
	none := []int{}
	if err := Call(func() error { none[len(none)] = 1; return nil }); err == nil {
		t.Error("a panic of the runtime's is no error")
	}
	if err := Call(func() error { panic("text") }); err == nil || err.Error() != "panic: text" {
		t.Errorf("got %v", err)
	}
	want := errors.New("want")
	if err := Call(func() error { return want }); err != want {
		t.Errorf("got %v", err)
	}
	if err := Call(func() error { return nil }); err != nil {
		t.Errorf("got %v", err)
	}
}
