package checkpoint

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// abc is the ID of a sandbox.
var abc = strings.Repeat("abcd", 16)

var example = Sandbox{
	Name: "web-n1", Namespace: "default", UID: "42", Attempt: 3, HostNetwork: false,
	Ports: []Port{{Protocol: "tcp", ContainerPort: 80, HostPort: 8080, HostIP: "127.0.0.1"}},
}

func newStore(t *testing.T) (*Store, string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "sandbox")
	s, err := New(dir)
	if err != nil {
		t.Fatal(err)
	}
	return s, dir
}

func TestWhatIsWrittenIsRead(t *testing.T) {
	s, dir := newStore(t)
	if err := s.Write(abc, example); err != nil {
		t.Fatal(err)
	}
	again, err := New(dir) // as after a restart
	if err != nil {
		t.Fatal(err)
	}
	got, ok := again.Read(abc)
	if !ok {
		t.Fatal("not found")
	}
	got.Version, got.Checksum = "", 0
	if !reflect.DeepEqual(got, example) {
		t.Errorf("read %+v, want %+v", got, example)
	}
	if info, err := os.Stat(filepath.Join(dir, abc)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("file is %v, %v; want mode 0600", info, err)
	}
}

func TestDamagedFilesCountAsAbsentAndAreMovedAside(t *testing.T) {
	for name, damage := range map[string]func([]byte) []byte{
		"empty":           func([]byte) []byte { return nil },
		"torn":            func(b []byte) []byte { return b[:len(b)/2] },
		"changed":         func(b []byte) []byte { return bytes.Replace(b, []byte("8080"), []byte("8081"), 1) },
		"another version": func(b []byte) []byte { return bytes.Replace(b, []byte(`"v1"`), []byte(`"v9"`), 1) },
		"garbage":         func([]byte) []byte { return []byte("\x00\xff[") },
	} {
		t.Run(name, func(t *testing.T) {
			s, dir := newStore(t)
			if err := s.Write(abc, example); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(dir, abc)
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, damage(text), 0o600); err != nil {
				t.Fatal(err)
			}
			if sb, ok := s.Read(abc); ok {
				t.Fatalf("read %+v", sb)
			}
			if _, err := os.Stat(path + corrupt); err != nil {
				t.Errorf("not moved aside: %v", err)
			}
			if ids, err := s.List(); err != nil || !slices.Equal(ids, []string{abc}) {
				t.Errorf("List() = %v, %v; its network must still be found", ids, err)
			}
			if err := s.Remove(abc); err != nil {
				t.Fatal(err)
			}
			if ids, _ := s.List(); len(ids) != 0 {
				t.Errorf("after Remove: %v", ids)
			}
		})
	}
}

func TestRemoveIsRepeatable(t *testing.T) {
	s, _ := newStore(t)
	for range 2 {
		if err := s.Remove(abc); err != nil {
			t.Fatal(err)
		}
	}
}

func TestIdsCannotLeaveTheDirectory(t *testing.T) {
	s, dir := newStore(t)
	outside := filepath.Join(filepath.Dir(dir), "outside")
	if err := os.WriteFile(outside, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"../outside", "", ".", "..", "a/b", "a\x00b"} {
		if err := s.Write(id, example); err == nil {
			t.Errorf("Write(%q) succeeded", id)
		}
		_ = s.Remove(id)
		if _, ok := s.Read(id); ok {
			t.Errorf("Read(%q) succeeded", id)
		}
	}
	if text, err := os.ReadFile(outside); err != nil || string(text) != "x" {
		t.Errorf("file outside is %q, %v", text, err)
	}
}

func TestNewRemovesWhatACrashLeft(t *testing.T) {
	_, dir := newStore(t)
	left := filepath.Join(dir, abc+".new")
	if err := os.WriteFile(left, []byte("{"), 0o600); err != nil {
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
