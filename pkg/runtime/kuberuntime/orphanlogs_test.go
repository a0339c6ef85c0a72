package kuberuntime

import (
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

func TestOrphanLogs(t *testing.T) {
	root := t.TempDir()
	for _, name := range []string{"ns_gone_1/c", "ns_wanted_2/c", "ns_others_3/c", "ns_back_4/c", "notes", "ns_none_", "ns_un_der_score/c"} {
		if err := os.MkdirAll(filepath.Join(root, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	elsewhere := filepath.Join(t.TempDir(), "kept")
	if err := os.WriteFile(elsewhere, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"ns_gone_1/c/0.log", "ns_gone_1/c/0.log.20261130-000000.gz", "ns_link_5"} {
		if err := os.Symlink(filepath.Dir(elsewhere), filepath.Join(root, name)); err != nil {
			t.Fatal(err)
		}
	}
	asked := map[types.UID]int{}
	gone := func(uid types.UID) bool {
		asked[uid]++
		return uid != "2" && (uid != "4" || asked[uid] == 1) // 4 comes back just then
	}
	o := NewOrphanLogs(root, func(uid types.UID) bool { return uid != "3" })
	unlock, _ := o.busy.TryLock("der_score") // it is being set up
	if err := o.Orphans(t.Context(), gone); err != nil {
		t.Fatal(err)
	}
	unlock()
	entries, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	var left []string
	for _, e := range entries {
		left = append(left, e.Name())
	}
	if want := []string{"notes", "ns_back_4", "ns_none_", "ns_others_3", "ns_un_der_score", "ns_wanted_2"}; !slices.Equal(left, want) {
		t.Errorf("left are %v, want %v", left, want)
	}
	if _, err := os.Stat(elsewhere); err != nil {
		t.Error(err)
	}
	if err := o.SetUp(t.Context(), &v1.Pod{ObjectMeta: metav1.ObjectMeta{UID: "der_score"}}); err != nil {
		t.Error(err)
	}
	if err := NewOrphanLogs(filepath.Join(root, "none"), nil).Orphans(t.Context(), nil); err != nil {
		t.Errorf("without the directory: %v", err)
	}
}

// The pod's mark goes in the same round in which its logs could not be removed.
func TestLogsThatCouldNotBeRemovedAreRemovedLater(t *testing.T) {
	root := t.TempDir()
	inside := filepath.Join(root, "ns_gone_1", "mounted")
	if err := os.MkdirAll(inside, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", inside, "tmpfs", 0, ""); err != nil {
		t.Skipf("this environment cannot mount: %v", err)
	}
	unmount := sync.OnceFunc(func() { _ = unix.Unmount(inside, unix.MNT_DETACH) })
	t.Cleanup(unmount)
	owned := true
	o := NewOrphanLogs(root, func(types.UID) bool { return owned })
	gone := func(types.UID) bool { return true }
	if err := o.Orphans(t.Context(), gone); err == nil {
		t.Fatal("removed through a mount")
	}
	owned = false
	unmount()
	if err := o.Orphans(t.Context(), gone); err != nil {
		t.Fatal(err)
	}
	if entries, err := os.ReadDir(root); err != nil || len(entries) > 0 {
		t.Errorf("left: %v, %v", entries, err)
	}
}
