package nodeobject

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	v1 "k8s.io/api/core/v1"

	"github.com/mini-kubelet/mini-kubelet/test/testapi"
)

func TestAVolumeIsMountedOnceItIsReportedInUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api, volumes := testapi.New(), NewInUse()
		volumes.Keep([]v1.UniqueVolumeName{"left"})
		h := live(t, api, func(c *Config) { c.InUse = volumes })
		synctest.Wait()
		began := time.Now()
		if err := volumes.Use(t.Context(), "kubernetes.io/csi/d^1"); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took >= 10*time.Second {
			t.Errorf("it took %v: the report was not made at once", took)
		}
		synctest.Wait()
		has := func() []v1.UniqueVolumeName { return h.Node().Status.VolumesInUse }
		if want := []v1.UniqueVolumeName{"kubernetes.io/csi/d^1", "left"}; !slices.Equal(has(), want) {
			t.Errorf("in use %q, want %q", has(), want)
		}
		volumes.Release("left")
		volumes.Release("kubernetes.io/csi/d^1")
		synctest.Wait()
		if len(has()) > 0 {
			t.Errorf("still in use: %q", has())
		}
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		if err := volumes.Use(gone, "x"); err == nil {
			t.Error("a volume that was not reported may be mounted")
		}
	})
}
