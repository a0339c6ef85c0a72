package volume

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	v1 "k8s.io/api/core/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/volume/csi"
)

// csiFake publishes a volume as a file in its directory.
type csiFake struct {
	fail error

	mu    sync.Mutex
	full  error           // of Expand
	hang  <-chan struct{} // of Expand
	calls []string
}

func (c *csiFake) setFull(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.full = err
}

func (c *csiFake) setHang(until <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hang = until
}

func (c *csiFake) note(call string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls = append(c.calls, call)
}

func (c *csiFake) SetUp(_ context.Context, v csi.Volume) error {
	c.note("set up " + v.Name)
	if err := os.MkdirAll(filepath.Join(v.Dir, "mount"), 0o755); err != nil {
		return err
	}
	return c.fail
}

func (c *csiFake) Target(v csi.Volume) string { return filepath.Join(v.Dir, "mount") }

func (c *csiFake) TearDown(_ context.Context, dir string) error {
	c.note("tear down " + filepath.Base(dir))
	return c.fail
}

func (c *csiFake) Expand(_ context.Context, v csi.Volume, bytes int64) error {
	c.note(fmt.Sprintf("expand %s to %d", v.Name, bytes))
	c.mu.Lock()
	full, hang := c.full, c.hang
	c.mu.Unlock()
	if hang != nil {
		<-hang
	}
	return full
}

func (c *csiFake) Known(driver string) bool { return driver == "d" }

func (c *csiFake) Clean(context.Context) error { c.note("clean"); return nil }

func TestDriversTakeTheirVolumesDownBeforeAPodsDirectoryGoes(t *testing.T) {
	readOnly := true
	drivers := &csiFake{}
	m := newManager(t, Config{CSI: drivers})
	pod := testPod(v1.Volume{Name: "v", VolumeSource: v1.VolumeSource{CSI: &v1.CSIVolumeSource{Driver: "d", ReadOnly: &readOnly}}})
	setUp(t, m, pod)
	p, err := m.Path(pod, "v")
	if err != nil || !p.ReadOnly || p.Relabel || !strings.HasSuffix(p.Host, "/uid-1/volumes/kubernetes.io~csi/v/mount") {
		t.Errorf("path %+v, error %v", p, err)
	}
	drivers.fail = errors.New("not now")
	if err := m.TearDown(t.Context(), pod.UID); err == nil {
		t.Error("a failure is not told")
	}
	if _, err := os.Stat(p.Host); err != nil {
		t.Errorf("the volume was removed all the same: %v", err)
	}
	// Housekeeping does the same, for a pod that a new agent does not know.
	m.setLive(pod.UID, false)
	if err := m.Orphans(t.Context(), all); err == nil {
		t.Error("a failure is not told")
	}
	drivers.fail = nil
	if err := m.Orphans(t.Context(), all); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(p.Host); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the volume is left: %v", err)
	}
	if want := []string{"set up v", "tear down v", "tear down v", "clean", "tear down v", "clean"}; !slices.Equal(drivers.calls, want) {
		t.Errorf("calls %q, want %q", drivers.calls, want)
	}
}

func TestAVolumeOfADriverNeedsAClusterAndKeepsWhatItHas(t *testing.T) {
	pod := testPod(v1.Volume{Name: "v", VolumeSource: v1.VolumeSource{CSI: &v1.CSIVolumeSource{Driver: "d"}}})
	if err := newManager(t, Config{}).SetUp(t.Context(), pod); err == nil || !strings.Contains(err.Error(), "it is standalone") {
		t.Errorf("error %v", err)
	}
	drivers, warned := &csiFake{fail: &csi.RepublishError{}}, ""
	m := newManager(t, Config{CSI: drivers, Warn: func(_ *v1.Pod, _, message string) { warned = message }})
	setUp(t, m, pod)
	if !strings.HasPrefix(warned, `MountVolume.SetUp failed for volume "v" : `) {
		t.Errorf("warned %q", warned)
	}
}
