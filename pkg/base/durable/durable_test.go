package durable

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mini-kubelet/mini-kubelet/test/safefiletest"
)

func TestWriteReplacesAsAWhole(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "file")
	for _, text := range []string{"first, and longer", "second"} {
		if err := Write(path, []byte(text)); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != text {
			t.Errorf("read %q, %v", got, err)
		}
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if err := os.WriteFile(path+".new", []byte("of a writer that died"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Write(path, []byte("third")); err != nil {
		t.Errorf("over what a writer that died has left: %v", err)
	}
	if entries, err := os.ReadDir(filepath.Dir(path)); err != nil || len(entries) != 1 {
		t.Errorf("left %v, %v", entries, err)
	}
}

func TestWriteThatFailsChangesNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), strings.Repeat("x", 253)) // no room for the name of what is written first
	if err := os.WriteFile(path, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Write(path, []byte("new")); err == nil {
		t.Error("no error")
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != "old" {
		t.Errorf("read %q, %v", got, err)
	}
}

func TestNothingElseIsTakenForOurFile(t *testing.T) {
	place := func(t *testing.T) string {
		path := filepath.Join(t.TempDir(), "file")
		if err := Write(path, []byte("ours")); err != nil {
			t.Fatal(err)
		}
		return path
	}
	safefiletest.Each(t, place, func(t *testing.T, what, path string) {
		if text, err := Read(path); err == nil && what != safefiletest.HardLink {
			t.Errorf("read %.50q", text)
		}
		if err := Write(path, []byte("ours")); (err == nil) != (what != safefiletest.Directory) {
			t.Errorf("write: %v", err)
		}
		if text, err := Read(path); what != safefiletest.Directory && (err != nil || string(text) != "ours") {
			t.Errorf("read %.50q, %v", text, err)
		}
	})
	t.Run("for the new file", func(t *testing.T) {
		beside := func(t *testing.T) string {
			path := place(t) + ".new"
			if err := os.WriteFile(path, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			return path
		}
		safefiletest.Each(t, beside, func(t *testing.T, what, path string) {
			if err := Write(path[:len(path)-len(".new")], []byte("ours")); err != nil {
				t.Errorf("write: %v", err)
			}
		})
	})
}
