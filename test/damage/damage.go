// Package damage damages files of the agent's state in every way that must not stop a
// node, for tests of those who read them.
package damage

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mini-kubelet/mini-kubelet/test/safefiletest"
)

// content is what can become of the text of a file.
var content = map[string]func(string) string{
	"empty":     func(string) string { return "" },
	"zeros":     func(s string) string { return strings.Repeat("\x00", len(s)) },
	"garbage":   func(string) string { return "\x7fELF, or so" },
	"truncated": func(s string) string { return s[:len(s)/2] },
	"null":      func(string) string { return "null" },
	"a list":    func(string) string { return "[1]" },
	"a text":    func(string) string { return `"text"` },
	"two files": func(s string) string { return s + s },
	"numbers for it": func(string) string {
		return `{"a":1,"containers":1,"pods":1,"entries":1,"volumeHandle":1,"metadata":1,"kind":1,"iqn":1}`
	},
}

// Each runs a subtest for each kind of damage, to a file of JSON: place returns the path
// of a file that is whole, and read is called once it is damaged. read must return, and the
// file must have been moved aside.
func Each(t *testing.T, place func(t *testing.T) (path string), read func(t *testing.T, path string)) {
	t.Helper()
	for name, of := range content {
		t.Run(name, func(t *testing.T) {
			path := place(t)
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(of(string(text))), 0o600); err != nil {
				t.Fatal(err)
			}
			safefiletest.Within(t, func() { read(t, path) })
			MovedAside(t, path)
		})
	}
	t.Run("a directory that is not empty", func(t *testing.T) {
		path := place(t)
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Join(path, "something"), 0o755); err != nil {
			t.Fatal(err)
		}
		safefiletest.Within(t, func() { read(t, path) })
		MovedAside(t, path)
	})
	t.Run("a socket", func(t *testing.T) {
		path := place(t)
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mknod(path, unix.S_IFSOCK|0o600, 0); err != nil {
			t.Fatal(err)
		}
		safefiletest.Within(t, func() { read(t, path) })
		MovedAside(t, path)
	})
	NoFile(t, place, read)
}

// NoFile is Each for files whose text can be anything: what stands in their places is none.
func NoFile(t *testing.T, place func(t *testing.T) (path string), read func(t *testing.T, path string)) {
	t.Helper()
	safefiletest.Each(t, place, func(t *testing.T, what, path string) {
		read(t, path)
		switch what {
		case safefiletest.Removed, safefiletest.HardLink: // no damage; a file like another
		default:
			MovedAside(t, path)
		}
	})
}

// MovedAside fails the test unless the file was moved aside, once.
func MovedAside(t *testing.T, path string) {
	t.Helper()
	if moved, err := filepath.Glob(path + ".damaged-*"); err != nil || len(moved) != 1 {
		entries, _ := os.ReadDir(filepath.Dir(path))
		t.Errorf("moved aside: %q, %v; beside it are %v", moved, err, fmt.Sprint(entries))
	}
}
