package cgroupstats

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

func TestReadFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	for _, size := range []int{0, 1, 511, 512, 513, 2048, 100_000, maxFile, maxFile + 1} {
		want := bytes.Repeat([]byte("0123456789\n"), size/11+1)[:size]
		if err := os.WriteFile(path, want, 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := readFile(path)
		if want = want[:min(size, maxFile)]; err != nil || !bytes.Equal(got, want) {
			t.Errorf("a file of %d bytes: read %d, %v", size, len(got), err)
		}
	}
	if _, err := readFile(path + "-not"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	if _, err := readFile(filepath.Dir(path)); err == nil {
		t.Error("a directory was read")
	}
}
