package csi

import (
	"context"
	"errors"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mini-kubelet/mini-kubelet/test/csidriver"
)

func TestADriverGrowsWhatAPodHas(t *testing.T) {
	h := start(t, csidriver.Config{Expand: true}, object(nil),
		&v1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "s"}, Data: map[string][]byte{"k": []byte("v")}})
	v := h.persistent("a", "1")
	v.PV.Spec.CSI.NodeExpandSecretRef = &v1.SecretReference{Namespace: "ns", Name: "s"}
	v.PV.Spec.CSI.FSType, v.PV.Spec.MountOptions = "ext4", []string{"noatime"}
	if err := h.Expand(t.Context(), v, 7); !errors.Is(err, ErrNotPublished) {
		t.Errorf("before the pod has it: %v", err)
	}
	h.setUp(v)
	for range 2 {
		if err := h.Expand(t.Context(), v, 7); err != nil {
			t.Fatal(err)
		}
	}
	r := h.driver.Expanded()
	if len(r) != 2 {
		t.Fatalf("requests %v", r)
	}
	_, staging := h.stagedDir(v.data("n1"), false)
	m := r[0].VolumeCapability.GetMount()
	if r[0].VolumeId != "1" || r[0].VolumePath != h.Target(v) || r[0].StagingTargetPath != staging || r[0].CapacityRange.RequiredBytes != 7 ||
		r[0].Secrets["k"] != "v" || m.GetFsType() != "ext4" || m.GetMountFlags()[0] != "noatime" {
		t.Errorf("request %v", r[0])
	}
	v.PV.Spec.CSI.NodeExpandSecretRef.Name = "missing"
	if err := h.Expand(t.Context(), v, 7); !errors.Is(err, ErrUnfinished) || !strings.HasPrefix(err.Error(), "expander.NodeExpand failed to get NodeExpandSecretRef ns/missing: ") {
		t.Errorf("error %v", err)
	}
	h.driver.Stop()
	h.until("the driver is withdrawn", func() bool { _, err := h.Manager.driver(driverName); return err != nil })
	if err := h.Expand(t.Context(), v, 7); !errors.Is(err, ErrUnfinished) {
		t.Errorf("without the driver: %v", err)
	}
}

func TestADriverThatDoesNotGrowVolumes(t *testing.T) {
	h := start(t, csidriver.Config{}, object(nil))
	v := h.persistent("a", "1")
	h.setUp(v)
	err := h.Expand(t.Context(), v, 7)
	if !errors.Is(err, ErrExpandUnsupported) || err.Error() != "NodeExpand is not supported by the CSI driver test.csi.example" || len(h.driver.Expanded()) > 0 {
		t.Errorf("error %v", err)
	}
}

func TestWhatFailuresToGrowMean(t *testing.T) {
	var answer error
	h := start(t, csidriver.Config{Expand: true, Before: func(_ context.Context, call string) error {
		if call == "NodeExpandVolume" {
			return answer
		}
		return nil
	}}, object(nil))
	v := h.persistent("a", "1")
	h.setUp(v)
	kinds := []error{ErrExpandUnsupported, ErrInUse, ErrInfeasible, ErrUnfinished, ErrNotPublished}
	for code, want := range map[codes.Code]error{
		codes.FailedPrecondition: ErrInUse, codes.InvalidArgument: ErrInfeasible, codes.OutOfRange: ErrInfeasible, codes.NotFound: ErrInfeasible,
		codes.DeadlineExceeded: ErrUnfinished, codes.Unavailable: ErrUnfinished, codes.Aborted: ErrUnfinished, codes.Internal: nil,
	} {
		answer = status.Error(code, "the disk is on fire")
		err := h.Expand(t.Context(), v, 7)
		if err == nil || !strings.HasPrefix(err.Error(), "Expander.NodeExpand failed to expand the volume : rpc error: code = "+code.String()) {
			t.Errorf("%v: error %v", code, err)
		}
		for _, kind := range kinds {
			if errors.Is(err, kind) != (kind == want) {
				t.Errorf("%v is %q: %v", code, kind, !(kind == want))
			}
		}
	}
}
