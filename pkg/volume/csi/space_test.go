package csi

import (
	"errors"
	"testing"

	"github.com/mini-kubelet/mini-kubelet/test/csidriver"
)

func TestADriverTellsWhatItsVolumesOccupy(t *testing.T) {
	h := start(t, csidriver.Config{Stats: true}, object(nil))
	v := h.persistent("1", "vol-1")
	if _, err := h.Space(t.Context(), v); !errors.Is(err, ErrNotMeasured) {
		t.Errorf("a volume that is not set up: %v", err)
	}
	h.setUp(v)
	s, err := h.Space(t.Context(), v)
	if err != nil || *s.Capacity != 1000 || *s.Available != 600 || *s.Used != 400 || *s.Inodes != 100 || *s.InodesFree != 99 || *s.InodesUsed != 1 {
		t.Errorf("%+v, %v", s, err)
	}
	h.tearDown(v)
}

func TestADriverThatCannotTellWhatItsVolumesOccupy(t *testing.T) {
	h := start(t, csidriver.Config{}, object(nil))
	v := h.persistent("1", "vol-1")
	h.setUp(v)
	if _, err := h.Space(t.Context(), v); !errors.Is(err, ErrNotMeasured) {
		t.Errorf("%v", err)
	}
	h.tearDown(v)
}
