package logs

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mini-kubelet/mini-kubelet/test/testrun"
)

// dockerLog writes a json-file log as dockerd does: a record a write, renaming when
// the size has been reached.
type dockerLog struct {
	path     string
	maxSize  int64
	maxFiles int
	f        *os.File
	size     int64
	n        int
}

func newDockerLog(t testing.TB, maxSize int64, maxFiles int) *dockerLog {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "containers", "c1")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	d := &dockerLog{path: filepath.Join(dir, "c1-json.log"), maxSize: maxSize, maxFiles: maxFiles}
	d.open(t)
	t.Cleanup(func() { d.f.Close() })
	return d
}

func (d *dockerLog) open(t testing.TB) {
	t.Helper()
	f, err := os.OpenFile(d.path, os.O_WRONLY|os.O_TRUNC|os.O_CREATE, 0o640)
	if err != nil {
		t.Fatal(err)
	}
	d.f, d.size = f, 0
}

// line writes the next numbered line and returns its text.
func (d *dockerLog) line(t testing.TB, padding int) string {
	t.Helper()
	d.n++
	text := fmt.Sprintf("line %d %s", d.n, strings.Repeat("x", padding))
	d.record(t, text+"\n", time.Now())
	return text
}

func (d *dockerLog) record(t testing.TB, text string, at time.Time) {
	t.Helper()
	b, err := json.Marshal(map[string]any{"log": text, "stream": "stdout", "time": at.UTC()})
	if err != nil {
		t.Fatal(err)
	}
	d.raw(t, append(b, '\n'))
}

func (d *dockerLog) raw(t testing.TB, b []byte) {
	t.Helper()
	if d.size >= d.maxSize {
		d.f.Close()
		for i := d.maxFiles - 1; i > 1; i-- {
			if err := os.Rename(fmt.Sprintf("%s.%d", d.path, i-1), fmt.Sprintf("%s.%d", d.path, i)); err != nil && !os.IsNotExist(err) {
				t.Fatal(err)
			}
		}
		if err := os.Rename(d.path, d.path+".1"); err != nil {
			t.Fatal(err)
		}
		d.open(t)
	}
	n, err := d.f.Write(b)
	if err != nil {
		t.Fatal(err)
	}
	d.size += int64(n)
}

// startManager runs a Manager until the test ends or stop is called.
func startManager(t testing.TB, cfg Config) (m *Manager, stop func()) {
	t.Helper()
	m, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- m.Run(ctx) }()
	var done bool
	stop = func() {
		if done {
			return
		}
		done = true
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	}
	t.Cleanup(stop)
	return m, stop
}

// texts returns the texts of the lines in all files of a CRI log, oldest first, pieces
// of long lines joined.
func texts(t testing.TB, criPath string) []string {
	t.Helper()
	files, err := filepath.Glob(criPath + ".*")
	if err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(files, func(a, b string) int { // names end in a growing number
		if len(a) != len(b) {
			return len(a) - len(b)
		}
		return strings.Compare(a, b)
	})
	var all []string
	var text []byte
	for _, file := range append(files, criPath) {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for line := range bytes.Lines(b) {
			if line[len(line)-1] != '\n' {
				break // it is being written
			}
			fields := bytes.SplitN(line, []byte(" "), 4)
			if len(fields) != 4 {
				t.Fatalf("%s: malformed line %q", file, line)
			}
			text = append(text, bytes.TrimSuffix(fields[3], []byte("\n"))...)
			if string(fields[2]) == "F" {
				all = append(all, string(text))
				text = nil
			}
		}
	}
	if text != nil {
		all = append(all, string(text)+"[unterminated]")
	}
	return all
}

// sameLines compares without printing megabytes.
func sameLines(t testing.TB, got, want []string) {
	t.Helper()
	for i := range min(len(got), len(want)) {
		if got[i] != want[i] {
			t.Fatalf("line %d of %d is %.80q, want %.80q", i, len(want), got[i], want[i])
		}
	}
	if len(got) != len(want) {
		t.Fatalf("%d lines, want %d", len(got), len(want))
	}
}

func finish(t testing.TB, m *Manager, id string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), testrun.Patience)
	defer cancel()
	if err := m.Finish(ctx, id); err != nil {
		t.Fatal(err)
	}
}

func follow(t testing.TB, m *Manager, d *dockerLog, criPath string) {
	t.Helper()
	if err := m.Follow(context.Background(), "c1", d.path, criPath); err != nil {
		t.Fatal(err)
	}
}
