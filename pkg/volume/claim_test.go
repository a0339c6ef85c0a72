package volume

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"github.com/mini-kubelet/mini-kubelet/test/damage"
)

// claimsFake is an API server with claims and persistent volumes.
type claimsFake struct {
	claims  map[string]*v1.PersistentVolumeClaim
	volumes map[string]*v1.PersistentVolume
	asked   int
}

func (c *claimsFake) Claim(_ context.Context, namespace, name string) (*v1.PersistentVolumeClaim, error) {
	c.asked++
	if o := c.claims[namespace+"/"+name]; o != nil {
		return o, nil
	}
	return nil, apierrors.NewNotFound(schema.GroupResource{Resource: "persistentvolumeclaims"}, name)
}

func (c *claimsFake) Volume(_ context.Context, name string) (*v1.PersistentVolume, error) {
	if o := c.volumes[name]; o != nil {
		return o, nil
	}
	return nil, apierrors.NewNotFound(schema.GroupResource{Resource: "persistentvolumes"}, name)
}

func (c *claimsFake) Secret(_ context.Context, namespace, name string) (*v1.Secret, error) {
	return &v1.Secret{Data: map[string][]byte{"node.session.auth.username": []byte(namespace), "node.session.auth.password": []byte(name)}}, nil
}

// boundClaim is an API server with the claim "data" bound to a volume of that source.
func boundClaim(source v1.PersistentVolumeSource) *claimsFake {
	claim := &v1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Name: "data", Namespace: "ns", UID: "claim"}}
	claim.Spec.VolumeName, claim.Status.Phase = "pv", v1.ClaimBound
	pv := &v1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "pv"}}
	pv.Spec.PersistentVolumeSource, pv.Spec.ClaimRef = source, &v1.ObjectReference{UID: "claim"}
	return &claimsFake{
		claims:  map[string]*v1.PersistentVolumeClaim{"ns/data": claim},
		volumes: map[string]*v1.PersistentVolume{"pv": pv},
	}
}

// podOfClaim is a pod that has the claim "data" as its volume "v".
func podOfClaim(readOnly bool) *v1.Pod {
	pod := testPod(v1.Volume{Name: "v", VolumeSource: v1.VolumeSource{PersistentVolumeClaim: &v1.PersistentVolumeClaimVolumeSource{ClaimName: "data", ReadOnly: readOnly}}})
	pod.Spec.Containers = []v1.Container{{VolumeMounts: []v1.VolumeMount{{Name: "v", MountPath: "/v"}}}}
	return pod
}

func localVolume(path string) v1.PersistentVolumeSource {
	return v1.PersistentVolumeSource{Local: &v1.LocalVolumeSource{Path: path}}
}

func TestClaimsThatCannotBeUsed(t *testing.T) {
	dir := t.TempDir()
	for name, tt := range map[string]struct {
		change func(*claimsFake, *v1.Pod)
		want   string
	}{
		"missing":                {func(c *claimsFake, _ *v1.Pod) { clear(c.claims) }, `error processing PVC ns/data: persistentvolumeclaims "data" not found`},
		"not bound":              {func(c *claimsFake, _ *v1.Pod) { c.claims["ns/data"].Status.Phase = v1.ClaimPending }, "error processing PVC ns/data: PVC is not bound"},
		"bound to nothing":       {func(c *claimsFake, _ *v1.Pod) { c.claims["ns/data"].Spec.VolumeName = "" }, "PVC has empty pvc.Spec.VolumeName"},
		"being deleted":          {func(c *claimsFake, _ *v1.Pod) { c.claims["ns/data"].DeletionTimestamp = &metav1.Time{} }, "error processing PVC ns/data: PVC is being deleted"},
		"volume missing":         {func(c *claimsFake, _ *v1.Pod) { clear(c.volumes) }, `error processing PVC ns/data: persistentvolumes "pv" not found`},
		"volume not bound":       {func(c *claimsFake, _ *v1.Pod) { c.volumes["pv"].Spec.ClaimRef = nil }, "found PV object pv but it has a nil pv.Spec.ClaimRef indicating it is not yet bound to the claim"},
		"volume bound elsewhere": {func(c *claimsFake, _ *v1.Pod) { c.volumes["pv"].Spec.ClaimRef.UID = "x" }, "pv.Spec.ClaimRef.UID x does not point to claim.UID claim"},
		"block as file system":   {func(c *claimsFake, _ *v1.Pod) { c.volumes["pv"].Spec.VolumeMode = ptr.To(v1.PersistentVolumeBlock) }, "volume v has volumeMode Block, but is specified in volumeMounts"},
		"file system as block": {func(_ *claimsFake, p *v1.Pod) {
			p.Spec.Containers = []v1.Container{{VolumeDevices: []v1.VolumeDevice{{Name: "v"}}}}
		}, "volume v has volumeMode Filesystem, but is specified in volumeDevices"},
		"another node": {func(c *claimsFake, _ *v1.Pod) {
			c.volumes["pv"].Spec.NodeAffinity = &v1.VolumeNodeAffinity{Required: &v1.NodeSelector{NodeSelectorTerms: []v1.NodeSelectorTerm{{MatchExpressions: []v1.NodeSelectorRequirement{{Key: "zone", Operator: v1.NodeSelectorOpIn, Values: []string{"b"}}}}}}}
		}, "MountVolume.NodeAffinity check failed: no matching NodeSelectorTerms"},
		"not the pod's": {func(c *claimsFake, p *v1.Pod) {
			c.claims["ns/p-v"] = c.claims["ns/data"]
			p.Spec.Volumes[0].VolumeSource = v1.VolumeSource{Ephemeral: &v1.EphemeralVolumeSource{}}
		}, "was not created for pod ns/p (pod is not owner)"},
		"options of none": {func(c *claimsFake, _ *v1.Pod) {
			c.volumes["pv"].Spec.PersistentVolumeSource = v1.PersistentVolumeSource{HostPath: &v1.HostPathVolumeSource{Path: dir}}
			c.volumes["pv"].Spec.MountOptions = []string{"ro"}
		}, "MountVolume.MountOptionSupport check failed: mount options are not supported for this volume type"},
		"unknown type": {func(c *claimsFake, _ *v1.Pod) {
			c.volumes["pv"].Spec.PersistentVolumeSource = v1.PersistentVolumeSource{Glusterfs: &v1.GlusterfsPersistentVolumeSource{}}
		}, "persistent volumes of type Glusterfs are not supported by this node"},
	} {
		t.Run(name, func(t *testing.T) {
			c, pod := boundClaim(localVolume(dir)), podOfClaim(false)
			tt.change(c, pod)
			m := newManager(t, Config{Claims: c, NodeLabels: func() map[string]string { return map[string]string{"zone": "a"} }})
			err := m.SetUp(t.Context(), pod)
			if err == nil || !strings.HasPrefix(err.Error(), `MountVolume.SetUp failed for volume "v" : `) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %s", err, tt.want)
			}
		})
	}
	t.Run("no claims", func(t *testing.T) {
		err := newManager(t, Config{}).SetUp(t.Context(), podOfClaim(false))
		if err == nil || !strings.Contains(err.Error(), "this node has no source of PersistentVolumeClaims") {
			t.Errorf("error %v", err)
		}
	})
}

func TestAProtectedClaimThatIsBeingDeletedIsUsed(t *testing.T) {
	c := &v1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{DeletionTimestamp: &metav1.Time{}, Finalizers: []string{protection}}}
	c.Spec.VolumeName, c.Status.Phase = "pv", v1.ClaimBound
	if err := checkClaim(c); err != nil {
		t.Error(err)
	}
}

func TestALocalVolumeIsMountedForThePodAndOutlivesIt(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	mkdir(t, filepath.Join(dir, "sub"))
	write(t, filepath.Join(dir, "sub", "kept"), "x")
	c := boundClaim(localVolume(dir))
	c.claims["ns/p-v"] = c.claims["ns/data"]
	c.claims["ns/p-v"].OwnerReferences = []metav1.OwnerReference{{UID: "uid-1", Controller: ptr.To(true)}}
	m := newManager(t, Config{Claims: c})
	pod := podOfClaim(false)
	pod.Spec.Volumes[0].VolumeSource = v1.VolumeSource{Ephemeral: &v1.EphemeralVolumeSource{}}
	pod.Spec.SecurityContext = &v1.PodSecurityContext{FSGroup: ptr.To(int64(4321))}
	if _, err := m.Path(pod, "v"); err == nil {
		t.Error("a volume has a path before it is set up")
	}
	setUp(t, m, pod)
	setUp(t, m, pod)
	if c.asked != 1 {
		t.Errorf("the claim was asked for %d times", c.asked)
	}
	p, err := m.Path(pod, "v")
	if err != nil || p.ReadOnly || !p.Relabel || !strings.HasSuffix(p.Host, "/pods/uid-1/volumes/kubernetes.io~local-volume/pv") {
		t.Errorf("path %+v, error %v", p, err)
	}
	if mounted, _ := isMounted(p.Host); !mounted {
		t.Error("nothing is mounted")
	}
	fi, err := os.Stat(filepath.Join(p.Host, "sub", "kept"))
	if err != nil {
		t.Fatal(err)
	}
	if st := fi.Sys().(*syscall.Stat_t); st.Gid != 4321 || fi.Mode().Perm()&0o660 != 0o660 {
		t.Errorf("mode %v of group %d, want that of fsGroup", fi.Mode(), st.Gid)
	}
	if err := m.TearDown(t.Context(), pod.UID); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(p.Host); !os.IsNotExist(err) {
		t.Errorf("the pod's directory is left: %v", err)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "sub", "kept")); string(b) != "x" {
		t.Errorf("the volume lost its content: %v", err)
	}
}

func TestASharedLocalVolumeKeepsTheGroupThatItHas(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	c := boundClaim(localVolume(dir))
	var told []string
	m := newManager(t, Config{Claims: c, Warn: func(pod *v1.Pod, reason, message string) {
		told = append(told, string(pod.UID)+" "+reason+": "+message)
	}})
	with := func(uid types.UID, group int64) *v1.Pod {
		pod := podOfClaim(false)
		pod.UID, pod.Spec.SecurityContext = uid, &v1.PodSecurityContext{FSGroup: &group}
		setUp(t, m, pod)
		setUp(t, m, pod)
		return pod
	}
	first := with("uid-1", 4321)
	with("uid-2", 4321)
	if len(told) != 0 {
		t.Errorf("pods of one group: told %q", told)
	}
	with("uid-3", 4322)
	if want := []string{"uid-3 AlreadyMountedVolume: The requested fsGroup is 4322, but the volume pv has GID 4321. The volume may not be shareable."}; !slices.Equal(told, want) {
		t.Errorf("told %q, want %q", told, want)
	}
	fi, err := os.Stat(dir)
	if err != nil || fi.Sys().(*syscall.Stat_t).Gid != 4321 {
		t.Errorf("the group of a volume that another pod has was changed: %v", err)
	}
	for _, uid := range []types.UID{first.UID, "uid-2", "uid-3"} {
		if err := m.TearDown(t.Context(), uid); err != nil {
			t.Fatal(err)
		}
	}
	with("uid-4", 4322)
	if fi, err = os.Stat(dir); err != nil || fi.Sys().(*syscall.Stat_t).Gid != 4322 || len(told) != 1 {
		t.Errorf("alone again: group %v, told %q, %v", fi, told, err)
	}
	if err := m.TearDown(t.Context(), "uid-4"); err != nil {
		t.Fatal(err)
	}
}

func TestAReadOnlyClaimIsMountedSo(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	m := newManager(t, Config{Claims: boundClaim(localVolume(dir))})
	pod := podOfClaim(true)
	setUp(t, m, pod)
	p, err := m.Path(pod, "v")
	if err != nil || !p.ReadOnly || p.Relabel {
		t.Errorf("path %+v, error %v", p, err)
	}
	if err := os.WriteFile(filepath.Join(p.Host, "f"), nil, 0o600); err == nil {
		t.Error("the mount can be written")
	}
}

func TestAHostPathVolumeIsThePathItself(t *testing.T) {
	dir := t.TempDir()
	m := newManager(t, Config{Claims: boundClaim(v1.PersistentVolumeSource{HostPath: &v1.HostPathVolumeSource{Path: dir}})})
	pod := podOfClaim(true)
	setUp(t, m, pod)
	if p, err := m.Path(pod, "v"); err != nil || p != (Path{Host: dir, ReadOnly: true}) {
		t.Errorf("path %+v, error %v", p, err)
	}
}

func TestAVolumeForOnePodIsNotGivenToAnother(t *testing.T) {
	c := boundClaim(v1.PersistentVolumeSource{HostPath: &v1.HostPathVolumeSource{Path: t.TempDir()}})
	c.volumes["pv"].Spec.AccessModes = []v1.PersistentVolumeAccessMode{v1.ReadWriteOncePod}
	root := t.TempDir()
	m := newManager(t, Config{Claims: c, Root: root})
	first, second := podOfClaim(false), podOfClaim(false)
	second.UID = "uid-2"
	setUp(t, m, first)
	m = newManager(t, Config{Claims: c, Root: root}) // the agent finds the first pod on its way out
	if err := m.SetUp(t.Context(), second); err == nil || !strings.Contains(err.Error(), "is already in use by another pod") {
		t.Errorf("error %v", err)
	}
	if err := m.TearDown(t.Context(), first.UID); err != nil {
		t.Fatal(err)
	}
	setUp(t, m, second)
}

func TestAPodKeepsItsVolumeWhateverBecomesOfTheClaim(t *testing.T) {
	dir, root := t.TempDir(), t.TempDir()
	c := boundClaim(v1.PersistentVolumeSource{HostPath: &v1.HostPathVolumeSource{Path: filepath.Join(dir, "missing"), Type: ptr.To(v1.HostPathDirectory)}})
	m := newManager(t, Config{Claims: c, Root: root})
	pod := podOfClaim(false)
	if err := m.SetUp(t.Context(), pod); err == nil {
		t.Fatal("a directory that is not there was set up")
	}
	c.volumes["pv"].Spec.HostPath.Path = dir // until the volume is set up the claim counts
	setUp(t, m, pod)
	clear(c.claims)
	setUp(t, m, pod)
	m = newManager(t, Config{Claims: c, Root: root}) // a new agent
	setUp(t, m, pod)
	if p, err := m.Path(pod, "v"); err != nil || p.Host != dir {
		t.Errorf("path %+v, error %v", p, err)
	}
	if err := m.TearDown(t.Context(), pod.UID); err != nil {
		t.Fatal(err)
	}
	if err := m.SetUp(t.Context(), pod); err == nil {
		t.Error("a pod that was torn down still has the volume of a claim that has gone")
	}
}

// A damaged record of a pod's volume is moved aside: the claim says again what it is.
func TestADamagedRecordOfAVolumeStopsNoPod(t *testing.T) {
	dir := t.TempDir()
	c := boundClaim(v1.PersistentVolumeSource{HostPath: &v1.HostPathVolumeSource{Path: dir}})
	pod := podOfClaim(false)
	place := func(t *testing.T) string {
		root := t.TempDir()
		setUp(t, newManager(t, Config{Claims: c, Root: root}), pod)
		return filepath.Join(root, "pods", string(pod.UID), claimsDir, "v.json")
	}
	damage.Each(t, place, func(t *testing.T, file string) {
		root := filepath.Dir(filepath.Dir(filepath.Dir(filepath.Dir(file))))
		m := newManager(t, Config{Claims: c, Root: root})
		setUp(t, m, pod)
		if p, err := m.Path(pod, "v"); err != nil || p.Host != dir {
			t.Errorf("path %+v, error %v", p, err)
		}
		if held, err := Held(root); err != nil || len(held) != 1 || held[0].Name != "pv" {
			t.Errorf("on record again: %v, %v", held, err)
		}
	})
}

// A record that is there and cannot be read now is not taken for none: the pod would be given
// what its claim is bound to now, and others what it holds.
func TestARecordOfAVolumeThatCannotBeReadIsNotNone(t *testing.T) {
	needRoot(t)
	root := t.TempDir()
	c := boundClaim(v1.PersistentVolumeSource{HostPath: &v1.HostPathVolumeSource{Path: t.TempDir()}})
	pod := podOfClaim(false)
	setUp(t, newManager(t, Config{Claims: c, Root: root}), pod)
	m := newManager(t, Config{Claims: c, Root: root})
	clear(m.bindings) // as if it were read for the first time
	file := filepath.Join(root, "pods", string(pod.UID), claimsDir, "v.json")
	other := filepath.Join(t.TempDir(), "f")
	write(t, other, "{}")
	if err := unix.Mount(other, file, "", unix.MS_BIND, ""); err != nil {
		t.Skipf("this environment cannot mount: %v", err)
	}
	unmount := func() { _ = unix.Unmount(file, unix.MNT_DETACH) }
	t.Cleanup(unmount)
	asked := c.asked
	if err := m.SetUp(t.Context(), pod); err == nil || c.asked != asked {
		t.Errorf("error %v; the claim was asked for: %v", err, c.asked != asked)
	}
	if held, err := Held(root); err == nil {
		t.Errorf("held: %v", held)
	}
	// A new agent goes on, and gives no other pod what this one may have alone.
	c.volumes["pv"].Spec.AccessModes = []v1.PersistentVolumeAccessMode{v1.ReadWriteOncePod}
	m = newManager(t, Config{Claims: c, Root: root})
	second := podOfClaim(false)
	second.UID = "second"
	if err := m.SetUp(t.Context(), second); err == nil || !strings.Contains(err.Error(), "may be in use by another pod") {
		t.Errorf("a volume of one pod is given to another: %v", err)
	}
	unmount()
	if err := m.SetUp(t.Context(), second); err == nil || !strings.Contains(err.Error(), "is already in use by another pod") {
		t.Errorf("a volume of one pod is given to another: %v", err)
	}
	asked = c.asked
	setUp(t, m, pod)
	if c.asked != asked {
		t.Error("the pod has the volume by its claim, not by the record")
	}
	if err := m.TearDown(t.Context(), pod.UID); err != nil {
		t.Fatal(err)
	}
	setUp(t, m, second)
}

// Something else in the place of the records is mended when the pod is set up.
func TestADamagedDirectoryOfRecordsStopsNoPod(t *testing.T) {
	root := t.TempDir()
	c := boundClaim(v1.PersistentVolumeSource{HostPath: &v1.HostPathVolumeSource{Path: t.TempDir()}})
	pod := podOfClaim(false)
	dir := filepath.Join(root, "pods", string(pod.UID), claimsDir)
	if err := os.MkdirAll(filepath.Dir(dir), 0o750); err != nil {
		t.Fatal(err)
	}
	write(t, dir, "no directory")
	setUp(t, newManager(t, Config{Claims: c, Root: root}), pod)
	if held, err := Held(root); err != nil || len(held) != 1 {
		t.Errorf("on record: %v, %v", held, err)
	}
}
