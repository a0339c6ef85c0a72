package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	v1 "k8s.io/api/core/v1"
	storage "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/mini-kubelet/mini-kubelet/test/csidriver"
	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

// enlarge plays the external resizer: it has enlarged the claim's volume, and the rest is the
// node's.
func enlarge(t *testing.T, n *harness.Node, ns, name, size string) {
	t.Helper()
	api := n.Cluster.Client.CoreV1()
	list := v1.ResourceList{v1.ResourceStorage: quantity(size)}
	harness.Eventually(t, "the claim is bound and asks for "+size, harness.Patience, func() error {
		c, err := api.PersistentVolumeClaims(ns).Get(t.Context(), name, metav1.GetOptions{})
		if err != nil || c.Status.Phase != v1.ClaimBound {
			return fmt.Errorf("%v, %v", c.Status, err)
		}
		c.Spec.Resources.Requests = list
		if c, err = api.PersistentVolumeClaims(ns).Update(t.Context(), c, metav1.UpdateOptions{}); err != nil {
			return err
		}
		pv, err := api.PersistentVolumes().Get(t.Context(), c.Spec.VolumeName, metav1.GetOptions{})
		if err != nil {
			return err
		}
		pv.Spec.Capacity = list
		if _, err := api.PersistentVolumes().Update(t.Context(), pv, metav1.UpdateOptions{}); err != nil {
			return err
		}
		c.Status.AllocatedResources = list
		c.Status.AllocatedResourceStatuses = map[v1.ResourceName]v1.ClaimResourceStatus{v1.ResourceStorage: v1.PersistentVolumeClaimNodeResizePending}
		c.Status.Conditions = []v1.PersistentVolumeClaimCondition{{Type: v1.PersistentVolumeClaimFileSystemResizePending, Status: v1.ConditionTrue, LastTransitionTime: metav1.Now()}}
		_, err = api.PersistentVolumeClaims(ns).UpdateStatus(t.Context(), c, metav1.UpdateOptions{})
		return err
	}, n.Explain)
}

func TestStorageThatGrows(t *testing.T) {
	n, ns := join(t)
	api := n.Cluster.Client.StorageV1()
	object := &storage.CSIDriver{ObjectMeta: metav1.ObjectMeta{Name: n.Node() + ".grow.example"}}
	object.Spec.AttachRequired = ptr.To(false)
	object.Spec.NodeAllocatableUpdatePeriodSeconds = ptr.To(int64(10)) // the least
	if _, err := api.CSIDrivers().Create(t.Context(), object, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = api.CSIDrivers().Delete(context.Background(), object.Name, metav1.DeleteOptions{}) })
	class := &storage.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: object.Name}, Provisioner: object.Name, AllowVolumeExpansion: ptr.To(true)}
	if _, err := api.StorageClasses().Create(t.Context(), class, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = api.StorageClasses().Delete(context.Background(), class.Name, metav1.DeleteOptions{}) })
	var fail, hang atomic.Bool
	hanging := make(chan struct{}, 1)
	d, err := csidriver.Start(csidriver.Config{
		Name: object.Name, Root: filepath.Join(n.Dir, "root"), Data: filepath.Join(n.Dir, "csi"), Expand: true, MaxVolumes: 7,
		Before: func(ctx context.Context, call string) error {
			if call == "NodeExpandVolume" && hang.Swap(false) {
				hanging <- struct{}{}
				<-ctx.Done()
				return ctx.Err()
			}
			if call == "NodeExpandVolume" && fail.Swap(false) {
				return status.Error(codes.Internal, "the disk is on fire")
			}
			return nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Stop)
	limit := func(want int32) {
		t.Helper()
		harness.Eventually(t, fmt.Sprintf("the node takes %d volumes", want), harness.Patience, func() error {
			o, err := api.CSINodes().Get(t.Context(), n.Node(), metav1.GetOptions{})
			if err != nil || len(o.Spec.Drivers) != 1 || o.Spec.Drivers[0].Allocatable == nil || *o.Spec.Drivers[0].Allocatable.Count != want {
				return fmt.Errorf("%v, %v", o, err)
			}
			return nil
		}, n.Explain)
	}
	limit(7)
	d.SetMaxVolumes(3) // looked at in the end
	is := func(size string) error {
		c, err := n.Cluster.Client.CoreV1().PersistentVolumeClaims(ns).Get(t.Context(), "disk", metav1.GetOptions{})
		if err != nil {
			return err
		}
		b, err := os.ReadFile(d.Volume("vol") + ".size")
		want := quantity(size)
		about := func(c v1.PersistentVolumeClaimCondition) bool { return strings.Contains(string(c.Type), "Resiz") } // others are not ours
		if has := c.Status.Capacity.Storage(); err != nil || string(b) != fmt.Sprint(want.Value()) || has.Cmp(want) != 0 ||
			len(c.Status.AllocatedResourceStatuses) > 0 || slices.ContainsFunc(c.Status.Conditions, about) {
			return fmt.Errorf("the driver has %s (%v), the claim %+v", b, err, c.Status)
		}
		return nil
	}

	claimOf(t, n, ns, "disk", class.Name, v1.PersistentVolumeSource{CSI: &v1.CSIPersistentVolumeSource{Driver: object.Name, VolumeHandle: "vol"}})
	enlarge(t, n, ns, "disk", "2Gi")
	n.Create(ns, harness.Pod("p", "sleep 1000", quick, claimed("disk")))
	before := n.AwaitReady(ns, "p")
	if err := is("2Gi"); err != nil { // the pod does not start before
		t.Error(err)
	}
	const done = `MountVolume.NodeExpandVolume succeeded for volume "`
	said(t, n, ns, "Pod/p", "FileSystemResizeSuccessful", done)
	said(t, n, ns, "PersistentVolumeClaim/disk", "FileSystemResizeSuccessful", done)
	if out, stderr, err := n.Run("events", "--root-dir", filepath.Join(n.Dir, "root")); err != nil || !regexp.MustCompile(`FileSystemResizeSuccessful +PersistentVolumeClaim/disk`).MatchString(out) {
		t.Errorf("the node's own events: %v, %s%s", err, out, stderr)
	}

	fail.Store(true)
	enlarge(t, n, ns, "disk", "3Gi")
	last := time.Time{}
	sync := func() { // of the pod, at which the claim may be looked at
		if time.Since(last) > time.Second {
			last = time.Now()
			n.MustKubectl(ns, "annotate", "pod", "p", "--overwrite", fmt.Sprintf("try=%d", last.Unix()))
		}
	}
	harness.Eventually(t, "the volume grows under the pod", harness.Patience, func() error {
		sync()
		return is("3Gi")
	}, n.Explain)
	said(t, n, ns, "Pod/p", "VolumeResizeFailed", "the disk is on fire")

	// An agent that dies while the driver is at it leaves this to the next.
	hang.Store(true)
	enlarge(t, n, ns, "disk", "4Gi")
	harness.Eventually(t, "the driver is asked", harness.Patience, func() error {
		sync()
		select {
		case <-hanging:
			return nil
		default:
			return errors.New("not yet")
		}
	}, n.Explain)
	n.Kill()
	n.Start()
	harness.Eventually(t, "the next agent has the volume grow", harness.Patience, func() error { return is("4Gi") }, n.Explain)
	after := n.AwaitReady(ns, "p")
	if a, b := before.Status.ContainerStatuses[0], after.Status.ContainerStatuses[0]; a.ContainerID != b.ContainerID {
		t.Errorf("the container was started anew: %v, %v", a, b)
	}
	limit(3)
}

// TestStorageOfTypesThatMoved has volumes of a type whose in-tree driver is gone: its CSI driver has
// them.
func TestStorageOfTypesThatMoved(t *testing.T) {
	n, ns := join(t)
	api := n.Cluster.Client.StorageV1()
	object := &storage.CSIDriver{ObjectMeta: metav1.ObjectMeta{Name: "ebs.csi.aws.com"}}
	object.Spec.AttachRequired = ptr.To(false)
	if _, err := api.CSIDrivers().Create(t.Context(), object, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = api.CSIDrivers().Delete(context.Background(), object.Name, metav1.DeleteOptions{}) })
	harness.Eventually(t, "the CSINode says that drivers have moved", harness.Patience, func() error {
		o, err := api.CSINodes().Get(t.Context(), n.Node(), metav1.GetOptions{})
		if err == nil && !strings.Contains(o.Annotations[v1.MigratedPluginsAnnotationKey], "kubernetes.io/aws-ebs") {
			err = fmt.Errorf("annotations %v", o.Annotations)
		}
		return err
	}, n.Explain)
	claim(t, n, ns, "disk", v1.PersistentVolumeSource{AWSElasticBlockStore: &v1.AWSElasticBlockStoreVolumeSource{VolumeID: "vol-claimed"}})
	n.Create(ns, harness.Pod("p", "echo x >/disk/f; echo y >/own/f; sleep 1000", quick, claimed("disk"),
		volume("own", v1.VolumeSource{AWSElasticBlockStore: &v1.AWSElasticBlockStoreVolumeSource{VolumeID: "vol-own"}})))
	harness.Eventually(t, "the pod waits for the driver, and says so", harness.Patience, func() error {
		if out := n.MustKubectl(ns, "get", "events"); !strings.Contains(out, "driver name ebs.csi.aws.com not found in the list of registered CSI drivers") {
			return errors.New(out)
		}
		return nil
	}, n.Explain)
	d, err := csidriver.Start(csidriver.Config{Name: object.Name, Root: filepath.Join(n.Dir, "root"), Data: filepath.Join(n.Dir, "csi")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Stop)
	n.AwaitReady(ns, "p")
	has(t, filepath.Join(d.Volume("vol-claimed"), "f"), "x\n")
	has(t, filepath.Join(d.Volume("vol-own"), "f"), "y\n")
	n.MustKubectl(ns, "delete", "pod", "p")
	n.AwaitGone(ns, "p")
}
