package csi

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	v1 "k8s.io/api/core/v1"
	storage "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
	"github.com/mini-kubelet/mini-kubelet/test/csidriver"
)

// most is how many volumes the node takes, by its CSINode.
func (h *house) most() int32 {
	o, err := h.client.StorageV1().CSINodes().Get(h.t.Context(), "n1", metav1.GetOptions{})
	if err != nil || len(o.Spec.Drivers) != 1 || o.Spec.Drivers[0].Allocatable == nil {
		return 0
	}
	return *o.Spec.Drivers[0].Allocatable.Count
}

func TestTheLimitOfADriverIsKeptCurrent(t *testing.T) {
	h := start(t, csidriver.Config{MaxVolumes: 7}, object(nil))
	set := func(seconds *int64) {
		if _, err := h.client.StorageV1().CSIDrivers().Update(t.Context(), object(func(s *storage.CSIDriverSpec) {
			s.NodeAllocatableUpdatePeriodSeconds = seconds
		}), metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	h.driver.SetMaxVolumes(3)
	set(ptr.To(int64(1)))
	h.until("the CSINode says the new limit", func() bool { return h.most() == 3 })
	h.driver.SetMaxVolumes(5)
	h.until("it does so again", func() bool { return h.most() == 5 })
	set(nil)
	h.until("the driver does not want it any more", func() bool { p, _ := h.limits.of(driverName); return p == 0 })
	set(ptr.To(int64(1)))
	h.until("it wants it again", func() bool { p, _ := h.limits.of(driverName); return p == time.Second })
	if err := h.client.StorageV1().CSIDrivers().Delete(t.Context(), driverName, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	h.until("the object is gone", func() bool { p, _ := h.limits.of(driverName); return p == 0 })
}

func TestAFullNodeTurnsAPodAway(t *testing.T) {
	attaching := func(seconds *int64) func(*storage.CSIDriverSpec) {
		return func(s *storage.CSIDriverSpec) { s.AttachRequired, s.NodeAllocatableUpdatePeriodSeconds = nil, seconds }
	}
	full := &storage.VolumeAttachment{ObjectMeta: metav1.ObjectMeta{Name: attachmentName("1", driverName, "n1")}}
	full.Status.AttachError = &storage.VolumeError{Message: "no slot is left", ErrorCode: ptr.To(int32(codes.ResourceExhausted))}

	h := start(t, csidriver.Config{MaxVolumes: 7}, object(attaching(ptr.To(int64(3600)))), full)
	h.driver.SetMaxVolumes(3)
	h.patience = time.Millisecond
	err := h.SetUp(t.Context(), h.persistent("a", "1"))
	var r *pods.Rejection
	if !errors.As(err, &r) || r.Reason != "VolumeAttachmentLimitExceeded" || !strings.HasSuffix(r.Message, ": no slot is left") {
		t.Errorf("error %v", err)
	}
	if got := h.most(); got != 3 {
		t.Errorf("the CSINode still says %d", got)
	}

	// There is room after all.
	h.patience = time.Hour
	done := make(chan error)
	go func() { done <- h.SetUp(t.Context(), h.persistent("a", "1")) }()
	room := full.DeepCopy()
	room.Status = storage.VolumeAttachmentStatus{Attached: true}
	if _, err := h.client.StorageV1().VolumeAttachments().Update(t.Context(), room, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if !slices.Contains(h.driver.Calls(), publishCall) {
		t.Errorf("calls %q", h.driver.Calls())
	}

	// A driver that does not ask for it: the pod waits, as before.
	h = start(t, csidriver.Config{}, object(attaching(nil)), full)
	if err := h.SetUp(t.Context(), h.persistent("a", "1")); err == nil || errors.As(err, &r) || err.Error() != "no slot is left" {
		t.Errorf("error %v", err)
	}
}

func TestTheCSINodeIsThereBeforeAnyDriver(t *testing.T) {
	h := start(t, csidriver.Config{}, object(nil))
	h.driver.Stop()
	h.until("the driver is withdrawn", func() bool { _, err := h.Manager.driver(driverName); return err != nil })
	objects := h.client.StorageV1().CSINodes()
	if err := objects.Delete(t.Context(), "n1", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	h.restart()
	is := func() bool {
		o, err := objects.Get(t.Context(), "n1", metav1.GetOptions{})
		return err == nil && o.Annotations[v1.MigratedPluginsAnnotationKey] == migratedPlugins && len(o.Spec.Drivers) == 0
	}
	h.until("it is made", is)
	o, err := objects.Get(t.Context(), "n1", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	o.Annotations = nil // as an earlier agent left it
	if _, err := objects.Update(t.Context(), o, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	h.restart()
	h.until("it is brought up to date", is)
}
