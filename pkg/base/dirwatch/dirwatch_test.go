package dirwatch

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/mini-kubelet/mini-kubelet/test/testrun"
)

func TestAChangeIsTold(t *testing.T) {
	w := New()
	defer w.Close()
	if w.Err() != nil {
		t.Skipf("no inotify instance is left: %v", w.Err())
	}
	dir := t.TempDir()
	if err := w.Add(dir); err != nil || !w.Has(dir) {
		t.Fatalf("Add: %v, Has: %v", err, w.Has(dir))
	}
	if err := os.WriteFile(filepath.Join(dir, "f"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if e := <-w.Events(); e.Name != filepath.Join(dir, "f") {
		t.Errorf("event %v", e)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	for w.Has(dir) {
		<-w.Events()
	}
}

func TestAWatchWithoutInotifyCanBeUsed(t *testing.T) {
	if !testrun.WithoutInotify(t) {
		return
	}
	w := New()
	if w.Err() == nil || w.Add("/") == nil || w.Has("/") || w.Events() != nil || w.Errors() != nil {
		t.Error("it watches")
	}
	w.Close()
}
