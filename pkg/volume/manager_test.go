package volume

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

func newManager(t *testing.T, c Config) *Manager {
	t.Helper()
	if c.Root == "" {
		c.Root = t.TempDir()
	}
	m, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := Reset(context.Background(), c.Root); err != nil {
			t.Errorf("clean up: %v", err)
		}
	})
	return m
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("mounting needs root")
	}
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
		t.Skipf("this environment cannot mount: %v", err)
	}
	if err := unix.Unmount(dir, 0); err != nil {
		t.Fatal(err)
	}
}

func testPod(volumes ...v1.Volume) *v1.Pod {
	return &v1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "ns", UID: "uid-1"},
		Spec:       v1.PodSpec{Volumes: volumes},
	}
}

func emptyDirVolume(name string, source v1.EmptyDirVolumeSource) v1.Volume {
	return v1.Volume{Name: name, VolumeSource: v1.VolumeSource{EmptyDir: &source}}
}

func setUp(t *testing.T, m *Manager, pod *v1.Pod) {
	t.Helper()
	if err := m.SetUp(t.Context(), pod); err != nil {
		t.Fatalf("SetUp: %v", err)
	}
}

func pathOf(t *testing.T, m *Manager, pod *v1.Pod, name string) string {
	t.Helper()
	p, err := m.Path(pod, name)
	if err != nil {
		t.Fatal(err)
	}
	return p.Host
}

func TestEmptyDirKeepsItsDataOverSetUpAndLosesItAtTearDown(t *testing.T) {
	m := newManager(t, Config{})
	pod := testPod(emptyDirVolume("data", v1.EmptyDirVolumeSource{}))
	setUp(t, m, pod)
	dir := pathOf(t, m, pod, "data")
	if want := filepath.Join(m.layout.root, "pods/uid-1/volumes/kubernetes.io~empty-dir/data"); dir != want {
		t.Errorf("path = %s, want %s", dir, want)
	}
	if fi, err := os.Stat(dir); err != nil || fi.Mode().Perm() != 0o777 {
		t.Fatalf("mode = %v, %v; want 0777 whatever the umask", fi, err)
	}
	write(t, filepath.Join(dir, "file"), "kept")
	if err := os.Chmod(dir, 0o700); err != nil { // as a container may
		t.Fatal(err)
	}

	again := newManager(t, Config{Root: m.layout.root}) // as after a restart of the agent
	setUp(t, again, pod)
	if got := read(t, filepath.Join(dir, "file")); got != "kept" {
		t.Errorf("file = %q after the second SetUp, want it kept", got)
	}
	if fi, _ := os.Stat(dir); fi.Mode().Perm() != 0o700 {
		t.Errorf("mode = %v after the second SetUp, want the container's 0700 kept", fi.Mode())
	}
	for range 2 {
		if err := again.TearDown(t.Context(), pod.UID); err != nil {
			t.Fatalf("TearDown: %v", err)
		}
	}
	if _, err := os.Lstat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is still there after TearDown", dir)
	}
}

func TestPodDirectoriesAreClosedToOthers(t *testing.T) {
	m := newManager(t, Config{})
	pod := testPod(emptyDirVolume("data", v1.EmptyDirVolumeSource{}))
	setUp(t, m, pod)
	dir := filepath.Join(m.layout.pods(), "uid-1")
	for _, d := range []string{m.layout.pods(), dir, dir + "/volumes", dir + "/volumes/kubernetes.io~empty-dir"} {
		fi, err := os.Stat(d)
		if err != nil || fi.Mode().Perm()&0o027 != 0 {
			t.Errorf("%s: mode %v, %v; want at most 0750", d, fi.Mode(), err)
		}
	}
}

func TestEmptyDirBelongsToFsGroup(t *testing.T) {
	needRoot(t)
	m := newManager(t, Config{})
	pod := testPod(emptyDirVolume("disk", v1.EmptyDirVolumeSource{}),
		emptyDirVolume("mem", v1.EmptyDirVolumeSource{Medium: v1.StorageMediumMemory}))
	gid := int64(4321)
	pod.Spec.SecurityContext = &v1.PodSecurityContext{FSGroup: &gid}
	setUp(t, m, pod)
	for name, mode := range map[string]uint32{"disk": 0o2777, "mem": 0o3777} { // a tmpfs is sticky, and so is what is made in it
		made, err := m.SubPath(t.Context(), pod, "c-"+name, 0, name, "made")
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range []string{pathOf(t, m, pod, name), made} {
			var st unix.Stat_t
			if err := unix.Stat(path, &st); err != nil {
				t.Fatal(err)
			}
			if st.Gid != 4321 || st.Mode&0o7777 != mode {
				t.Errorf("%s: gid %d mode %o, want 4321 and %o", path, st.Gid, st.Mode&0o7777, mode)
			}
		}
	}
}

func TestMemoryEmptyDirIsATmpfsOfThatSizeMountedOnce(t *testing.T) {
	needRoot(t)
	m := newManager(t, Config{Allocatable: func() v1.ResourceList {
		return v1.ResourceList{v1.ResourceMemory: resource.MustParse("1Gi")}
	}})
	limit := resource.MustParse("4Mi")
	pod := testPod(emptyDirVolume("mem", v1.EmptyDirVolumeSource{Medium: v1.StorageMediumMemory, SizeLimit: &limit}))
	setUp(t, m, pod)
	dir := pathOf(t, m, pod, "mem")
	write(t, filepath.Join(dir, "f"), "x")
	setUp(t, m, pod)
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		t.Fatal(err)
	}
	if fs.Type != unix.TMPFS_MAGIC || int64(fs.Blocks)*fs.Bsize != 4<<20 {
		t.Errorf("filesystem type %#x with %d bytes, want a tmpfs of 4 MiB", fs.Type, int64(fs.Blocks)*fs.Bsize)
	}
	if points, _ := mountsBelow(dir); len(points) != 1 {
		t.Errorf("mounts = %v, want one", points)
	}
	if read(t, filepath.Join(dir, "f")) != "x" {
		t.Error("the second SetUp hid the data")
	}
	if err := m.TearDown(t.Context(), pod.UID); err != nil {
		t.Fatal(err)
	}
	if points, _ := mountsBelow(m.layout.pods()); len(points) != 0 {
		t.Errorf("mounts left after TearDown: %v", points)
	}
}

func TestMemorySizeIsTheLeastBound(t *testing.T) {
	q := func(s string) *resource.Quantity { q := resource.MustParse(s); return &q }
	limited := func(s string) v1.Container {
		return v1.Container{Resources: v1.ResourceRequirements{Limits: v1.ResourceList{v1.ResourceMemory: *q(s)}}}
	}
	for name, tt := range map[string]struct {
		alloc, limit *resource.Quantity
		containers   []v1.Container
		want         int64
	}{
		"nothing known leaves it to the kernel":             {containers: []v1.Container{{}}, want: 0},
		"node's allocatable":                                {alloc: q("1Gi"), containers: []v1.Container{{}}, want: 1 << 30},
		"sizeLimit below allocatable":                       {alloc: q("1Gi"), limit: q("1Mi"), containers: []v1.Container{{}}, want: 1 << 20},
		"sizeLimit above allocatable":                       {alloc: q("1Mi"), limit: q("1Gi"), containers: []v1.Container{{}}, want: 1 << 20},
		"sum of the containers' limits":                     {alloc: q("1Gi"), containers: []v1.Container{limited("1Mi"), limited("2Mi")}, want: 3 << 20},
		"one unlimited container makes the pod unlimited":   {alloc: q("1Gi"), containers: []v1.Container{limited("1Mi"), {}}, want: 1 << 30},
		"sizeLimit below the containers' limits":            {alloc: q("1Gi"), limit: q("1Mi"), containers: []v1.Container{limited("2Mi")}, want: 1 << 20},
		"sizeLimit without anything else known of the node": {limit: q("1Mi"), containers: []v1.Container{{}}, want: 1 << 20},
	} {
		t.Run(name, func(t *testing.T) {
			pod := testPod()
			pod.Spec.Containers = tt.containers
			e := &emptyDir{pod: pod, source: &v1.EmptyDirVolumeSource{SizeLimit: tt.limit}, allocatable: func() v1.ResourceList {
				if tt.alloc == nil {
					return nil
				}
				return v1.ResourceList{v1.ResourceMemory: *tt.alloc}
			}}
			if got := e.memorySize(); got != tt.want {
				t.Errorf("memorySize = %d, want %d", got, tt.want)
			}
		})
	}
}

func TestHugePagesEmptyDirMountsThePageSizeThePodHasResourcesOf(t *testing.T) {
	needRoot(t)
	if _, err := os.Stat("/sys/kernel/mm/hugepages/hugepages-2048kB"); err != nil {
		t.Skip("this kernel has no 2 MiB pages")
	}
	for _, medium := range []v1.StorageMedium{v1.StorageMediumHugePages, "HugePages-2Mi"} {
		t.Run(string(medium), func(t *testing.T) {
			m := newManager(t, Config{})
			pod := testPod(emptyDirVolume("huge", v1.EmptyDirVolumeSource{Medium: medium}))
			pod.Spec.Containers = []v1.Container{{Resources: v1.ResourceRequirements{Requests: v1.ResourceList{"hugepages-2Mi": resource.MustParse("2Mi")}}}}
			setUp(t, m, pod)
			var fs unix.Statfs_t
			if err := unix.Statfs(pathOf(t, m, pod, "huge"), &fs); err != nil {
				t.Fatal(err)
			}
			if fs.Type != unix.HUGETLBFS_MAGIC || fs.Bsize != 2<<20 {
				t.Errorf("filesystem type %#x with pages of %d, want hugetlbfs with 2 MiB", fs.Type, fs.Bsize)
			}
		})
	}
}

func TestHugePagesNeedRequestsOfTheirSize(t *testing.T) {
	const big, small = "hugepages-1Gi", "hugepages-2Mi"
	for name, tt := range map[string]struct {
		medium   v1.StorageMedium
		requests []v1.ResourceName
		want     int64
		err      string
	}{
		"the only size":    {v1.StorageMediumHugePages, []v1.ResourceName{small}, 2 << 20, ""},
		"one of two sizes": {"HugePages-1Gi", []v1.ResourceName{small, big}, 1 << 30, ""},
		"none":             {v1.StorageMediumHugePages, nil, 0, "medium HugePages: hugePages storage requested, but there is no resource request for huge pages"},
		"another size":     {"HugePages-1Gi", []v1.ResourceName{small}, 0, "medium HugePages-1Gi: hugePages storage requested, but there is no resource request for huge pages"},
		"several sizes":    {v1.StorageMediumHugePages, []v1.ResourceName{small, big}, 0, "medium: HugePages can't be used if container requests multiple huge page sizes"},
	} {
		t.Run(name, func(t *testing.T) {
			pod, requests := testPod(), v1.ResourceList{}
			for _, r := range tt.requests {
				requests[r] = resource.MustParse("1Gi")
			}
			pod.Spec.Containers = []v1.Container{{Resources: v1.ResourceRequirements{Requests: requests}}}
			got, err := (&emptyDir{pod: pod, source: &v1.EmptyDirVolumeSource{Medium: tt.medium}}).pageSize()
			if got != tt.want || (err == nil) != (tt.err == "") || err != nil && err.Error() != tt.err {
				t.Errorf("%d, %v; want %d, %s", got, err, tt.want, tt.err)
			}
		})
	}
}

func TestSetUpNamesEachVolumeThatFailsAndSetsUpTheOthers(t *testing.T) {
	m := newManager(t, Config{})
	pod := testPod(
		v1.Volume{Name: "gone", VolumeSource: v1.VolumeSource{Glusterfs: &v1.GlusterfsVolumeSource{}}},
		v1.Volume{Name: "claim", VolumeSource: v1.VolumeSource{PersistentVolumeClaim: &v1.PersistentVolumeClaimVolumeSource{}}},
		emptyDirVolume("data", v1.EmptyDirVolumeSource{}),
	)
	err := m.SetUp(t.Context(), pod)
	if err == nil {
		t.Fatal("unsupported volumes were accepted")
	}
	for _, want := range []string{
		`MountVolume.SetUp failed for volume "gone" : volumes of type Glusterfs are not supported by this node`,
		`MountVolume.SetUp failed for volume "claim" : this node has no source of PersistentVolumeClaims`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error %q lacks %q", err, want)
		}
	}
	if _, err := os.Stat(pathOf(t, m, pod, "data")); err != nil {
		t.Errorf("the volume beside the refused ones: %v", err)
	}
}

func TestNamesThatAreNoFileNamesTouchNothing(t *testing.T) {
	m := newManager(t, Config{})
	for _, uid := range []types.UID{"", ".", "..", "../other", "a/b"} {
		pod := testPod()
		pod.UID = uid
		if err := m.SetUp(t.Context(), pod); err == nil {
			t.Errorf("SetUp with UID %q succeeded", uid)
		}
		if err := m.TearDown(t.Context(), uid); err == nil {
			t.Errorf("TearDown of UID %q succeeded", uid)
		}
		if _, err := m.HostsFile(uid, nil); err == nil {
			t.Errorf("HostsFile with UID %q succeeded", uid)
		}
		if _, err := m.TerminationLog("uid-1", string(uid), 0); err == nil {
			t.Errorf("TerminationLog with container %q succeeded", uid)
		}
		if err := m.SetUp(t.Context(), testPod(emptyDirVolume(string(uid), v1.EmptyDirVolumeSource{}))); err == nil {
			t.Errorf("SetUp with volume %q succeeded", uid)
		}
	}
}

func TestAHangingVolumeHoldsUpNoOtherPodAndIsNamed(t *testing.T) {
	m := newManager(t, Config{Timeout: 50 * time.Millisecond})
	release := make(chan struct{})
	started := make(chan struct{})
	go m.serial.do(context.Background(), "stuck", func(w *work) error {
		w.at(`MountVolume.SetUp for volume "nfs"`)
		close(started)
		<-release
		return nil
	})
	<-started
	for range 3 { // each further try waits for the same goroutine
		pod := testPod()
		pod.UID = "stuck"
		err := m.SetUp(t.Context(), pod)
		if err == nil || !strings.Contains(err.Error(), `volume "nfs"`) || !strings.Contains(err.Error(), "timed out") {
			t.Fatalf("SetUp of the stuck pod = %v, want it to name what hangs", err)
		}
	}
	m.timeout = time.Minute
	setUp(t, m, testPod(emptyDirVolume("data", v1.EmptyDirVolumeSource{})))
	close(release)
	pod := testPod()
	pod.UID = "stuck"
	setUp(t, m, pod)
}

func TestHostsFileIsRewrittenInPlace(t *testing.T) {
	m := newManager(t, Config{})
	path, err := m.HostsFile("uid-1", []byte("one"))
	if err != nil {
		t.Fatal(err)
	}
	before := inode(t, path)
	if _, err := m.HostsFile("uid-1", []byte("two")); err != nil {
		t.Fatal(err)
	}
	if got := read(t, path); got != "two" {
		t.Errorf("content = %q, want the new one", got)
	}
	if inode(t, path) != before {
		t.Error("the file was replaced: running containers would keep the old one")
	}
	if fi, _ := os.Stat(path); fi.Mode().Perm() != 0o644 {
		t.Errorf("mode = %v, want 0644", fi.Mode())
	}
}

func TestTerminationLogIsEmptyAndWritableByAnyUser(t *testing.T) {
	m := newManager(t, Config{})
	first, err := m.TerminationLog("uid-1", "c", 0)
	if err != nil {
		t.Fatal(err)
	}
	write(t, first, "message")
	second, err := m.TerminationLog("uid-1", "c", 1)
	if err != nil {
		t.Fatal(err)
	}
	if first == second || read(t, first) != "message" || read(t, second) != "" {
		t.Error("attempts share a file")
	}
	again, err := m.TerminationLog("uid-1", "c", 0)
	if err != nil || again != first || read(t, first) != "" {
		t.Errorf("a repeated attempt has %q left in %s, %v", read(t, first), again, err)
	}
	if fi, _ := os.Stat(first); fi.Mode().Perm() != 0o666 {
		t.Errorf("mode = %v, want 0666", fi.Mode())
	}
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func inode(t *testing.T, path string) uint64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		t.Fatal(err)
	}
	return st.Ino
}

func TestAPanicIsAnErrorOfThatPodsVolumes(t *testing.T) {
	s := serial{running: map[types.UID]*work{}}
	for range 2 { // it can be tried again
		if err := s.do(t.Context(), "p", func(*work) error { panic("a defect") }); err == nil || err.Error() != "panic: a defect" {
			t.Errorf("got %v", err)
		}
	}
}
