package dockerid

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestOnlyFilesNamedAfterContainersAreRemoved(t *testing.T) {
	dir := t.TempDir()
	id := func(digit string) string { return strings.Repeat(digit, 64) }
	own := []string{id("a"), id("b") + ".tmp", id("c") + ".json", id("d") + ".json.new"}
	theirs := []string{"notes.txt", "abc", id("a") + "0", strings.Repeat("x", 64), ".hidden", "log.new"}
	for _, name := range append(own, theirs...) {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	directory, fifo, link := id("e"), id("f"), id("1")
	for _, err := range []error{
		os.Mkdir(filepath.Join(dir, directory), 0o700),
		unix.Mkfifo(filepath.Join(dir, fifo), 0o600),
		os.Symlink("notes.txt", filepath.Join(dir, link)),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := RemoveFiles(dir); err != nil {
		t.Fatal(err)
	}
	var left []string
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		left = append(left, e.Name())
	}
	want := append(theirs, directory, fifo, link)
	slices.Sort(want)
	if err != nil || !slices.Equal(left, want) {
		t.Errorf("left are %q, want %q (%v)", left, want, err)
	}
	if err := RemoveFiles(filepath.Join(dir, "missing")); err != nil {
		t.Error(err)
	}
}
