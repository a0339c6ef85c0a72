package checkpoint

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/durable"
)

var abc = strings.Repeat("abcd", 16)

func newStore(t *testing.T) (*Store, string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "sandbox")
	s, err := New(dir)
	if err != nil {
		t.Fatal(err)
	}
	return s, dir
}

func wantList(t *testing.T, s *Store, want ...string) {
	t.Helper()
	if ids, err := s.List(); err != nil || !slices.Equal(ids, want) {
		t.Errorf("List() = %v, %v; want %v", ids, err, want)
	}
}

func TestWhatIsWrittenIsListedUntilItIsRemoved(t *testing.T) {
	s, dir := newStore(t)
	if err := s.Write(abc); err != nil {
		t.Fatal(err)
	}
	again, err := New(dir) // as after a restart
	if err != nil {
		t.Fatal(err)
	}
	wantList(t, again, abc)
	if info, err := os.Stat(filepath.Join(dir, abc)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("file is %v, %v; want mode 0600", info, err)
	}
	for range 2 {
		if err := again.Remove(abc); err != nil {
			t.Fatal(err)
		}
	}
	wantList(t, again)
}

// An older agent has written what the sandbox was made with.
func TestContentIsOfNoConsequence(t *testing.T) {
	s, dir := newStore(t)
	if err := os.WriteFile(filepath.Join(dir, abc), []byte("\x00\xff["), 0o600); err != nil {
		t.Fatal(err)
	}
	wantList(t, s, abc)
}

func TestADirectoryInPlaceOfACheckpointIsMovedAside(t *testing.T) {
	s, dir := newStore(t)
	if err := os.MkdirAll(filepath.Join(dir, abc, "full"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := s.Remove(abc); err != nil {
		t.Fatal(err)
	}
	if len(durable.Aside(filepath.Join(dir, abc))) != 1 {
		t.Error("it is gone")
	}
}

func TestIdsCannotLeaveTheDirectory(t *testing.T) {
	s, dir := newStore(t)
	outside := filepath.Join(filepath.Dir(dir), "outside")
	if err := os.WriteFile(outside, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"../outside", "", ".", "..", "a/b", "a\x00b"} {
		if err := s.Write(id); err == nil {
			t.Errorf("Write(%q) succeeded", id)
		}
		_ = s.Remove(id)
	}
	if text, err := os.ReadFile(outside); err != nil || string(text) != "x" {
		t.Errorf("file outside is %q, %v", text, err)
	}
}

func TestNewRemovesWhatACrashLeft(t *testing.T) {
	_, dir := newStore(t)
	left := filepath.Join(dir, abc+".new")
	if err := os.WriteFile(left, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	theirs := filepath.Join(dir, "notes.new")
	if err := os.WriteFile(theirs, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := New(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(left); !os.IsNotExist(err) {
		t.Errorf("still there: %v", err)
	}
	if _, err := os.Stat(theirs); err != nil {
		t.Errorf("somebody else's file: %v", err)
	}
}

func TestAFileInPlaceOfTheDirectoryIsMovedAside(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "sandbox")
	if err := os.WriteFile(dir, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := New(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Write(abc); err != nil {
		t.Fatal(err)
	}
	wantList(t, s, abc)
	if len(durable.Aside(dir)) != 1 {
		t.Error("the file is gone")
	}
}
