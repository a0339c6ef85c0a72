package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	csipb "github.com/container-storage-interface/spec/lib/go/csi"
	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"
	storage "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/mini-kubelet/mini-kubelet/test/csidriver"
	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

// claim makes a persistent volume and a claim of the same name that is for it.
func claim(t *testing.T, n *harness.Node, ns, name string, source v1.PersistentVolumeSource, change ...func(*v1.PersistentVolume)) {
	t.Helper()
	claimOf(t, n, ns, name, "", source, change...)
}

// claimOf makes them of a storage class.
func claimOf(t *testing.T, n *harness.Node, ns, name, class string, source v1.PersistentVolumeSource, change ...func(*v1.PersistentVolume)) {
	t.Helper()
	size := v1.ResourceList{v1.ResourceStorage: quantity("1Gi")}
	modes := []v1.PersistentVolumeAccessMode{v1.ReadWriteMany}
	pv := &v1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: ns + "-" + name}}
	pv.Spec = v1.PersistentVolumeSpec{
		Capacity: size, AccessModes: modes, StorageClassName: class, PersistentVolumeSource: source, PersistentVolumeReclaimPolicy: v1.PersistentVolumeReclaimRetain,
		ClaimRef: &v1.ObjectReference{Namespace: ns, Name: name},
		NodeAffinity: &v1.VolumeNodeAffinity{Required: &v1.NodeSelector{NodeSelectorTerms: []v1.NodeSelectorTerm{{MatchExpressions: []v1.NodeSelectorRequirement{
			{Key: v1.LabelHostname, Operator: v1.NodeSelectorOpIn, Values: []string{strings.ToLower(n.Node())}},
		}}}}},
	}
	for _, c := range change {
		c(pv)
	}
	api := n.Cluster.Client.CoreV1()
	if _, err := api.PersistentVolumes().Create(t.Context(), pv, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = api.PersistentVolumes().Delete(context.Background(), pv.Name, metav1.DeleteOptions{})
	})
	c := &v1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Name: name}}
	c.Spec = v1.PersistentVolumeClaimSpec{VolumeMode: pv.Spec.VolumeMode, AccessModes: modes, VolumeName: pv.Name, StorageClassName: &class, Resources: v1.VolumeResourceRequirements{Requests: size}}
	if _, err := api.PersistentVolumeClaims(ns).Create(t.Context(), c, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

// volume mounts a volume at /<name>.
func volume(name string, source v1.VolumeSource) func(*v1.Pod) {
	return func(p *v1.Pod) {
		p.Spec.Volumes = append(p.Spec.Volumes, v1.Volume{Name: name, VolumeSource: source})
		c := &p.Spec.Containers[0]
		c.VolumeMounts = append(c.VolumeMounts, v1.VolumeMount{Name: name, MountPath: "/" + name})
	}
}

func claimed(name string) func(*v1.Pod) {
	return volume(name, v1.VolumeSource{PersistentVolumeClaim: &v1.PersistentVolumeClaimVolumeSource{ClaimName: name}})
}

// has waits until the file has what a pod writes to it once it runs.
func has(t *testing.T, file, want string) {
	t.Helper()
	harness.Eventually(t, file+" is written", harness.Patience, func() error {
		b, err := os.ReadFile(file)
		if err == nil && string(b) != want {
			err = fmt.Errorf("it has %q, want %q", b, want)
		}
		return err
	})
}

// said waits for an event about an object, given as kind/name.
func said(t *testing.T, n *harness.Node, ns, object, reason, text string) {
	t.Helper()
	harness.Eventually(t, "the event "+reason+" of "+object, harness.Patience, func() error {
		out := n.MustKubectl(ns, "get", "events", "-o", `jsonpath={range .items[*]}{.involvedObject.kind}/{.involvedObject.name} {.reason} {.message}{"\n"}{end}`)
		if !slices.ContainsFunc(strings.Split(out, "\n"), func(l string) bool {
			return strings.HasPrefix(l, object+" "+reason+" ") && strings.Contains(l, text)
		}) {
			return errors.New(out)
		}
		return nil
	}, n.Explain)
}

func TestStorageOfTheNodeThroughClaims(t *testing.T) {
	n, ns := join(t)
	hostDir, localDir := t.TempDir(), t.TempDir()
	n.Create(ns, harness.Pod("p", "echo written >/local/f; sleep 1000", quick, claimed("host"), claimed("local"), func(p *v1.Pod) {
		p.Spec.SecurityContext = &v1.PodSecurityContext{FSGroup: ptr.To(int64(4321))}
	}))
	// Until the claims are there the pod waits, and says for what.
	said(t, n, ns, "Pod/p", "FailedMount", `persistentvolumeclaims "host" not found`)
	claim(t, n, ns, "host", v1.PersistentVolumeSource{HostPath: &v1.HostPathVolumeSource{Path: hostDir}}, func(pv *v1.PersistentVolume) {
		pv.Annotations = map[string]string{"pv.beta.kubernetes.io/gid": "5678"}
	})
	claim(t, n, ns, "local", v1.PersistentVolumeSource{Local: &v1.LocalVolumeSource{Path: localDir}})
	n.AwaitReady(ns, "p")
	if out := n.MustKubectl(ns, "exec", "p", "--", "sh", "-c", "echo x >/host/f; stat -c %g /local; stat -c %g /host"); !strings.HasPrefix(out, "4321\n") || strings.HasSuffix(out, "4321\n") {
		t.Errorf("groups of the volumes: %q, want fsGroup for the first only", out)
	}
	if out := strings.Fields(n.MustKubectl(ns, "exec", "p", "--", "id", "-G")); !slices.Contains(out, "4321") || !slices.Contains(out, "5678") {
		t.Errorf("the pod's processes are in the groups %q, want those of fsGroup and of the first volume", out)
	}
	has(t, filepath.Join(hostDir, "f"), "x\n")
	has(t, filepath.Join(localDir, "f"), "written\n")
	n.Create(ns, harness.Pod("second", "sleep 1000", quick, claimed("local"), func(p *v1.Pod) {
		p.Spec.SecurityContext = &v1.PodSecurityContext{FSGroup: ptr.To(int64(4322))}
	}))
	n.AwaitReady(ns, "second")
	said(t, n, ns, "Pod/second", "AlreadyMountedVolume", "The requested fsGroup is 4322, but the volume "+ns+"-local has GID 4321")
	blockDevice(t, n, ns)
	n.MustKubectl(ns, "delete", "pod", "p")
	n.AwaitGone(ns, "p")
	if b, err := os.ReadFile(filepath.Join(localDir, "f")); string(b) != "written\n" {
		t.Errorf("the volume lost its content: %v", err)
	}
}

// blockDevice has a pod wait for a volume that is no device yet, and get it.
func blockDevice(t *testing.T, n *harness.Node, ns string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "device")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	claim(t, n, ns, "device", v1.PersistentVolumeSource{Local: &v1.LocalVolumeSource{Path: path}}, func(pv *v1.PersistentVolume) {
		pv.Spec.VolumeMode = ptr.To(v1.PersistentVolumeBlock)
	})
	n.Create(ns, harness.Pod("block", "test -b /dev/mine && sleep 1000", quick, func(p *v1.Pod) {
		p.Spec.Volumes = []v1.Volume{{Name: "d", VolumeSource: v1.VolumeSource{PersistentVolumeClaim: &v1.PersistentVolumeClaimVolumeSource{ClaimName: "device"}}}}
		p.Spec.Containers[0].VolumeDevices = []v1.VolumeDevice{{Name: "d", DevicePath: "/dev/mine"}}
	}))
	said(t, n, ns, "Pod/block", "FailedMapVolume", fmt.Sprintf("MapVolume.MapPodDevice failed for volume %q", ns+"-device"))
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mknod(path, unix.S_IFBLK|0o600, int(unix.Mkdev(7, 250))); err != nil { // nobody opens it
		t.Logf("no device can be made here: %v", err)
		return
	}
	n.AwaitReady(ns, "block")
	said(t, n, ns, "Pod/block", "SuccessfulMountVolume", fmt.Sprintf("MapVolume.MapPodDevice succeeded for volume %q", ns+"-device"))
}

func TestStorageOfCSIDrivers(t *testing.T) {
	n, ns := join(t)
	api := n.Cluster.Client.StorageV1()
	object := &storage.CSIDriver{ObjectMeta: metav1.ObjectMeta{Name: n.Node() + ".csi.example"}}
	object.Spec.PodInfoOnMount = ptr.To(true)
	object.Spec.VolumeLifecycleModes = []storage.VolumeLifecycleMode{storage.VolumeLifecyclePersistent, storage.VolumeLifecycleEphemeral}
	if _, err := api.CSIDrivers().Create(t.Context(), object, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = api.CSIDrivers().Delete(context.Background(), object.Name, metav1.DeleteOptions{}) })
	d, err := csidriver.Start(csidriver.Config{
		Name: object.Name, Root: filepath.Join(n.Dir, "root"), Data: filepath.Join(n.Dir, "csi"), Topology: map[string]string{"csi.example/rack": "r1"},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Stop)
	harness.Eventually(t, "the driver is in the CSINode", harness.Patience, func() error {
		o, err := api.CSINodes().Get(t.Context(), n.Node(), metav1.GetOptions{})
		if err != nil || len(o.Spec.Drivers) != 1 {
			return fmt.Errorf("%v, %v", o, err)
		}
		return nil
	}, n.Explain)
	harness.Eventually(t, "the node has the driver's topology", harness.Patience, func() error {
		if out := n.MustKubectl(ns, "get", "node", n.Node(), "-L", "csi.example/rack"); !strings.Contains(out, "r1") {
			return errors.New(out)
		}
		return nil
	}, n.Explain)

	claim(t, n, ns, "disk", v1.PersistentVolumeSource{CSI: &v1.CSIPersistentVolumeSource{Driver: object.Name, VolumeHandle: "vol-1"}})
	n.Create(ns, harness.Pod("p", "echo kept >/disk/f; sleep 1000", quick, claimed("disk"), volume("own", v1.VolumeSource{CSI: &v1.CSIVolumeSource{Driver: object.Name}})))
	// The controller attaches once the volume is in use; its driver's part is played here.
	harness.Eventually(t, "the volume is attached", harness.Patience, func() error {
		list, err := api.VolumeAttachments().List(t.Context(), metav1.ListOptions{})
		if err != nil {
			return err
		}
		i := slices.IndexFunc(list.Items, func(a storage.VolumeAttachment) bool { return a.Spec.NodeName == n.Node() })
		if i < 0 {
			return errors.New("no VolumeAttachment")
		}
		list.Items[i].Status.Attached = true
		_, err = api.VolumeAttachments().UpdateStatus(t.Context(), &list.Items[i], metav1.UpdateOptions{})
		return err
	}, n.Explain)
	n.AwaitReady(ns, "p")
	inUse := func() []v1.UniqueVolumeName {
		o, err := n.Cluster.Client.CoreV1().Nodes().Get(t.Context(), n.Node(), metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return o.Status.VolumesInUse
	}
	if got := inUse(); !slices.Equal(got, []v1.UniqueVolumeName{v1.UniqueVolumeName("kubernetes.io/csi/" + object.Name + "^vol-1")}) {
		t.Errorf("volumes in use %q", got)
	}
	has(t, filepath.Join(d.Volume("vol-1"), "f"), "kept\n")
	if r := d.Published(); !slices.ContainsFunc(r, func(r *csipb.NodePublishVolumeRequest) bool {
		return r.VolumeContext["csi.storage.k8s.io/pod.name"] == "p"
	}) {
		t.Errorf("the driver was not told of the pod: %v", r)
	}

	// A new agent tears down what the one before has set up.
	n.Kill()
	n.Start()
	n.MustKubectl(ns, "delete", "pod", "p")
	n.AwaitGone(ns, "p")
	harness.Eventually(t, "the volume is unstaged", harness.Patience, func() error {
		if calls := d.Calls(); !slices.Contains(calls, "NodeUnstageVolume") {
			return fmt.Errorf("calls %q", calls)
		}
		if got := inUse(); len(got) > 0 {
			return fmt.Errorf("in use %q", got)
		}
		return nil
	}, n.Explain)
	if b, err := os.ReadFile(filepath.Join(d.Volume("vol-1"), "f")); string(b) != "kept\n" {
		t.Errorf("the volume lost its content: %v", err)
	}
}
