package dirwatch

import (
	"context"
	"os"
	"path/filepath"
	"testing"
)

func TestAFileThatGoesIsTold(t *testing.T) {
	if err := New().Err(); err != nil {
		t.Skipf("no inotify instance is left: %v", err)
	}
	for what, lose := range map[string]func(dir, file string) error{
		"it is removed":                func(_, file string) error { return os.Remove(file) },
		"its directory is removed":     func(dir, _ string) error { return os.RemoveAll(dir) },
		"its directory is moved away":  func(dir, _ string) error { return os.Rename(dir, dir+".old") },
		"another file has its name":    func(dir, file string) error { return os.Rename(filepath.Join(dir, "other"), file) },
		"it is moved to another place": func(dir, file string) error { return os.Rename(file, filepath.Join(dir, "old")) },
	} {
		t.Run(what, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "dir")
			file := filepath.Join(dir, "file")
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			for _, f := range []string{file, filepath.Join(dir, "other")} {
				if err := os.WriteFile(f, nil, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			is := stat(t, file)
			gone := make(chan bool, 1)
			go func() { gone <- Gone(t.Context(), file, is) }()
			if err := lose(dir, file); err != nil {
				t.Fatal(err)
			}
			if !<-gone {
				t.Error("it is not gone")
			}
		})
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if Gone(ctx, file, stat(t, file)) {
		t.Error("the end of ctx is taken for that of the file")
	}
}

func stat(t *testing.T, path string) os.FileInfo {
	t.Helper()
	is, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	return is
}
