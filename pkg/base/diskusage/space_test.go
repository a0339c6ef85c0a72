package diskusage

import (
	"testing"
)

func TestSpace(t *testing.T) {
	dir := t.TempDir()
	fill(t, dir+"/a/b", 1<<20)
	var f FileSystems
	whole, err := f.Whole(t.Context(), dir)
	if err != nil || *whole.Capacity == 0 || *whole.Used < 1<<20 || whole.At.IsZero() {
		t.Errorf("the file system: %+v, %v", whole, err)
	}
	s, err := f.Files(t.Context(), dir)
	if err != nil || *s.Capacity != *whole.Capacity || *s.Used < 1<<20 || *s.Used > 2<<20 || *s.InodesUsed != 3 {
		t.Errorf("the files: %+v, %v", s, err)
	}
	if _, err := f.Files(t.Context(), dir+"/none"); err == nil {
		t.Error("no error for what does not exist")
	}
}

func TestAFileSystemThatHangsIsAskedOnce(t *testing.T) {
	var f FileSystems
	f.hanging.Store("/nfs", true)
	if _, err := f.Whole(t.Context(), "/nfs"); err == nil {
		t.Error("no error")
	}
}

// Whoever has an answer may ask again at once.
func TestAFileSystemThatHasAnsweredIsAskedAgain(t *testing.T) {
	var f FileSystems
	for range 2000 {
		if _, err := f.Whole(t.Context(), "/"); err != nil {
			t.Fatal(err)
		}
	}
}
