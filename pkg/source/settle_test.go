package source

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A file whose size is not that of its content, as in /proc: it is read, told of, not looked at again
// before something happens, and a change of it is seen at the next look.
func TestAFileThatDoesNotKnowItsSizeIsRead(t *testing.T) {
	dir := t.TempDir()
	const comm = "/proc/self/comm"
	before, err := os.ReadFile(comm)
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { _ = os.WriteFile(comm, before, 0) })
	name := func(text string) {
		if err := os.WriteFile(comm, []byte(text), 0); err != nil {
			t.Skip(err)
		}
	}
	link := filepath.Join(dir, "m.yaml")
	if err := os.Symlink("/proc/self/comm", link); err != nil {
		t.Fatal(err)
	}
	var r reading
	now := time.Now()
	next := func(want string) {
		t.Helper()
		data, err := r.next(link, now)
		if err != nil || strings.TrimSpace(string(data)) != want || r.retry != 0 {
			t.Fatalf("%q, %v, again after %v; want %q", data, err, r.retry, want)
		}
	}
	name("kind: a")
	next("kind: a")
	next("")
	name("kind: b")
	next("kind: b")
	next("")
}

func TestALinkIntoProcIsAProblemThatIsTold(t *testing.T) {
	r := startFile(t, t.TempDir())
	r.wait()
	if err := os.Symlink("/proc/version", filepath.Join(r.dir, "version.yaml")); err != nil {
		t.Fatal(err)
	}
	r.write("well.yaml", podManifest("well"))
	r.wait("well")
	p := r.src.Problems()
	if len(p) != 1 || !strings.Contains(p[0].Error(), "version.yaml: document 1 (line 1): ") {
		t.Errorf("problems %v", p)
	}
}

func TestAnEndlessFileIsTooLarge(t *testing.T) {
	file := filepath.Join(t.TempDir(), "m.yaml")
	if err := os.WriteFile(file, make([]byte, maxManifest+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := readSettled(file, time.Hour); err == nil || err.Error() != errTooLarge.Error() {
		t.Errorf("read: %v", err)
	}
}
