package logrotate

import (
	"bytes"
	"fmt"
	"io"
	"testing"
	"time"
)

// BenchmarkIdleLook is one look at 500 logs that are not due.
func BenchmarkIdleLook(b *testing.B) {
	n := newNode(b, 500)
	n.look(b.Context())
	for b.Loop() {
		n.look(b.Context())
	}
}

// BenchmarkCompress compresses lines such as containers write.
func BenchmarkCompress(b *testing.B) {
	var log bytes.Buffer
	at := time.Date(2026, 11, 30, 0, 0, 0, 0, time.UTC)
	for i := 0; log.Len() < 16<<20; i++ {
		at = at.Add(time.Duration(i%977) * time.Microsecond)
		fmt.Fprintf(&log, "%s stdout F level=info msg=\"request served\" path=/api/v1/items/%d status=200 took=%dus\n", at.Format(time.RFC3339Nano), i%4099, i*7919%50021)
	}
	b.SetBytes(int64(log.Len()))
	var packed int64
	for b.Loop() {
		var out countingWriter
		if _, err := compress(b.Context(), &out, bytes.NewReader(log.Bytes())); err != nil {
			b.Fatal(err)
		}
		packed = int64(out)
	}
	b.ReportMetric(float64(log.Len())/float64(packed), "times")
}

type countingWriter int64

func (w *countingWriter) Write(b []byte) (int, error) {
	*w += countingWriter(len(b))
	return len(b), nil
}

var _ io.Writer = (*countingWriter)(nil)
