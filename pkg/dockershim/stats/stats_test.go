package stats

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// files writes a directory of small files.
func files(t *testing.T, all map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range all {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestRates(t *testing.T) {
	var r Rates
	at := time.Unix(1000, 0)
	step := func(cpu uint64, after time.Duration, want uint64, known bool) {
		t.Helper()
		at = at.Add(after)
		if got, ok := r.Of("c", cpu, at); got != want || ok != known {
			t.Errorf("rate %d, %v; want %d, %v", got, ok, want, known)
		}
	}
	step(0, 0, 0, false)
	step(5e8, time.Second, 5e8, true)
	step(9e8, 10*time.Millisecond, 5e8, true) // too soon to say anything new
	step(1e9, 2*time.Second, 248756218, true)
	step(5, time.Second, 0, false) // it began anew
	r.Forget("c")
	step(0, time.Second, 0, false)
}

func TestLayersAreMeasuredInTheBackground(t *testing.T) {
	dir := files(t, map[string]string{"a": strings.Repeat("x", 10000), "b": "y"})
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		l := NewLayers()
		go func() { _ = l.Run(ctx) }()
		look := func(what string, inodes uint64) {
			t.Helper()
			d, ok := l.Of("c", dir)
			if ok != (inodes > 0) || d.Inodes != inodes {
				t.Errorf("%s: %+v, %v; want %d inodes", what, d, ok, inodes)
			}
			synctest.Wait()
		}
		look("before it was measured", 0)
		look("measured", 3)
		if err := os.WriteFile(filepath.Join(dir, "c"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		look("so soon after it", 3)
		look("so soon after it, still", 3)
		time.Sleep(6 * time.Second)
		look("old", 3)
		look("measured again", 4)
		l.Forget("c")
		look("forgotten", 0)
		cancel()
	})
}

// A layer that takes its two minutes and fails must not be measured all the time.
func TestALayerThatCannotBeMeasuredRestsAsWell(t *testing.T) {
	dir := t.TempDir()
	late := filepath.Join(dir, "late")
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		l := NewLayers()
		go func() { _ = l.Run(ctx) }()
		look := func(what string, want bool) {
			t.Helper()
			if d, ok := l.Of("late", late); ok != want {
				t.Errorf("%s: %+v, %v", what, d, ok)
			}
			synctest.Wait()
		}
		look("at first", false)
		if err := os.Mkdir(late, 0o755); err != nil {
			t.Fatal(err)
		}
		look("failed", false)
		time.Sleep(5 * time.Second)
		look("so soon after it", false)
		if d, ok := l.Of("other", dir); ok {
			t.Errorf("the other: %+v", d)
		}
		synctest.Wait()
		if d, ok := l.Of("other", dir); !ok || d.Inodes != 2 {
			t.Errorf("the other, measured: %+v, %v", d, ok)
		}
		time.Sleep(5 * time.Second)
		look("old", false)
		look("tried again", true)
	})
}
