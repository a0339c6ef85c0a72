package streaming

import (
	"io"
	"strings"
	"testing"

	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
)

// endless is a terminal size that is begun and never ended.
type endless struct{ read int }

func (e *endless) Read(p []byte) (int, error) {
	n := 0
	if e.read == 0 {
		n = copy(p, `{"Width":1,"x":"`)
	}
	for ; n < len(p); n++ {
		p[n] = 'A'
	}
	e.read += n
	return n, nil
}

func TestATerminalSizeIsShort(t *testing.T) {
	read := func(from io.Reader) (widths []uint16) {
		sizes := make(chan remotecommand.TerminalSize)
		go readSizes(t.Context(), from, sizes)
		for s := range sizes {
			widths = append(widths, s.Width)
		}
		return widths
	}
	e := &endless{}
	if got := read(e); len(got) != 0 || e.read > maxSizeText {
		t.Errorf("sizes %v of %d bytes", got, e.read)
	}
	const many = 1000
	if got := read(strings.NewReader(strings.Repeat(`{"Width":80,"Height":24}`+"\n", many))); len(got) != many {
		t.Errorf("%d sizes, want %d", len(got), many)
	}
}
