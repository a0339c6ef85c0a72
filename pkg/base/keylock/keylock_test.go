package keylock

import (
	"context"
	"errors"
	"testing"
)

func TestANameIsHeldByOneAndOthersAreFree(t *testing.T) {
	var l Locks
	unlock, err := l.Lock(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := l.TryLock("a"); ok {
		t.Error("a held name was given again")
	}
	if free, ok := l.TryLock("b"); !ok {
		t.Error("another name was not free")
	} else {
		free()
	}
	gone, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("enough"))
	if _, err := l.Lock(gone, "a"); err == nil || err.Error() != "a is busy: enough" {
		t.Errorf("error %v", err)
	}
	next := make(chan error)
	go func() {
		unlock, err := l.Lock(t.Context(), "a")
		if err == nil {
			unlock()
		}
		next <- err
	}()
	unlock()
	if err := <-next; err != nil {
		t.Error(err)
	}
}
