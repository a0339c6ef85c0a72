package logs

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func benchRecords(textLen int) (records []byte, lines int) {
	var b bytes.Buffer
	text := strings.Repeat("the quick brown fox ", textLen/20+1)[:textLen]
	for b.Len() < 4<<20 {
		fmt.Fprintf(&b, `{"log":"%s\n","stream":"stdout","time":"2026-11-21T03:30:03.%09dZ"}`+"\n", text, lines)
		lines++
	}
	return b.Bytes(), lines
}

// BenchmarkConvert is the conversion alone; MB/s of what the container wrote.
func BenchmarkConvert(b *testing.B) {
	for _, n := range []int{20, 100, 1000} {
		b.Run(fmt.Sprintf("line=%d", n), func(b *testing.B) {
			records, lines := benchRecords(n)
			var f follower
			out := f.convert(nil, records)
			b.SetBytes(int64(lines * (n + 1)))
			b.ReportAllocs()
			for b.Loop() {
				out = f.convert(out[:0], records)
			}
		})
	}
}

// BenchmarkCopy copies a log of 4 MiB of records from file to file.
func BenchmarkCopy(b *testing.B) {
	for _, n := range []int{20, 100, 1000} {
		b.Run(fmt.Sprintf("line=%d", n), func(b *testing.B) {
			records, lines := benchRecords(n)
			dir := b.TempDir()
			docker := filepath.Join(dir, "docker.log")
			if err := os.WriteFile(docker, records, 0o600); err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(lines * (n + 1)))
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				f := &follower{id: "c", dockerPath: docker, criPath: filepath.Join(dir, fmt.Sprint(i)), statePath: filepath.Join(dir, "state"), fresh: true}
				for more := true; more; {
					var err error
					if more, err = f.pump(); err != nil {
						b.Fatal(err)
					}
				}
				if err := os.Remove(f.criPath); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkDockerLogs is a container that logs as fast as it can, and how much longer
// it takes until its CRI log is complete than until it has exited.
func BenchmarkDockerLogs(b *testing.B) {
	c := dockerClient(b)
	m, _ := startManager(b, Config{StateDir: b.TempDir()})
	dir := b.TempDir()
	const lines = 100_000
	var lag time.Duration
	b.SetBytes(lines * 101)
	for i := 0; b.Loop(); i++ {
		id, path := startContainer(b, c, false, fmt.Sprintf("busybox yes %s | busybox head -n %d", strings.Repeat("x", 100), lines))
		if err := m.Follow(b.Context(), id, path, filepath.Join(dir, fmt.Sprint(i))); err != nil {
			b.Fatal(err)
		}
		waitExit(b, c, id)
		exit := time.Now()
		finish(b, m, id)
		lag += time.Since(exit)
		m.Forget(id)
	}
	b.ReportMetric(float64(lag.Milliseconds())/float64(b.N), "ms-lag/op")
}
