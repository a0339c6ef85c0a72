package source

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
)

const node = "Node-1"

// manifest is a small valid manifest of a pod.
func manifest(name string, lines ...string) string {
	text := "apiVersion: v1\nkind: Pod\nmetadata:\n  name: " + name + "\nspec:\n  containers:\n  - name: c\n    image: busybox:1\n"
	for _, l := range lines {
		text += l + "\n"
	}
	return text
}

// fileRun is a FileSource that runs on a directory of its own.
type fileRun struct {
	t    *testing.T
	dir  string
	src  *FileSource
	out  chan Snapshot
	stop context.CancelFunc

	mu       sync.Mutex
	reported []Problem
}

func startFile(t *testing.T, path string, more ...func(*FileConfig)) *fileRun {
	t.Helper()
	r := &fileRun{t: t, dir: path, out: make(chan Snapshot)}
	cfg := FileConfig{Path: path, NodeName: node, Period: time.Hour, Report: func(p Problem) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.reported = append(r.reported, p)
	}}
	for _, f := range more {
		f(&cfg)
	}
	src, err := NewFile(cfg)
	if err != nil {
		t.Fatal(err)
	}
	r.src = src
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- src.Run(ctx, r.out) }()
	var once sync.Once
	r.stop = func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	}
	t.Cleanup(r.stop)
	return r
}

func (r *fileRun) write(name, text string) {
	r.t.Helper()
	if err := os.WriteFile(filepath.Join(r.dir, name), []byte(text), 0o644); err != nil {
		r.t.Fatal(err)
	}
}

// wait reads snapshots until one has just the pods of these names, without the
// node's.
func (r *fileRun) wait(names ...string) Snapshot {
	r.t.Helper()
	deadline := time.After(2 * time.Minute)
	var last []string
	for {
		select {
		case s := <-r.out:
			last = podNames(s.Pods)
			if equalNames(last, names) {
				return s
			}
		case <-deadline:
			r.t.Fatalf("no snapshot of the pods %q came; the last had %q; problems: %v", names, last, r.src.Problems())
		}
	}
}

func podNames(pods []*v1.Pod) []string {
	var names []string
	for _, p := range pods {
		names = append(names, p.Name)
	}
	return names
}

func equalNames(got, want []string) bool {
	if len(got) != len(want) {
		return false
	}
	for i := range want {
		if got[i] != want[i]+"-node-1" {
			return false
		}
	}
	return true
}

func TestDirectoryIsFollowed(t *testing.T) {
	r := startFile(t, t.TempDir())
	r.wait()
	r.write("b.yaml", manifest("b"))
	r.wait("b")
	r.write("a.yaml", manifest("a"))
	r.wait("a", "b")
	if err := os.Remove(filepath.Join(r.dir, "b.yaml")); err != nil {
		t.Fatal(err)
	}
	r.wait("a")
}

func TestAFileThatAppearsDuringTheFirstLookIsSeen(t *testing.T) {
	// The moment cannot be chosen, only tried for: while the other files are read.
	for i := range 20 {
		dir := t.TempDir()
		var names []string
		for j := range 20 {
			name := fmt.Sprintf("p%02d", j)
			names = append(names, name)
			if err := os.WriteFile(filepath.Join(dir, name+".yaml"), []byte(manifest(name)), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		r := startFile(t, dir)
		time.Sleep(time.Duration(i) * 150 * time.Microsecond)
		r.write("z.yaml", manifest("z"))
		r.wait(append(names, "z")...)
		r.stop()
	}
}
