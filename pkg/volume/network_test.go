package volume

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
	mount "k8s.io/mount-utils"
	"k8s.io/utils/ptr"
)

func nfsPod(s v1.NFSVolumeSource) *v1.Pod {
	return testPod(v1.Volume{Name: "v", VolumeSource: v1.VolumeSource{NFS: &s}})
}

func found(program string) (string, error) { return "/sbin/" + program, nil }

func TestNFSIsMountedByTheHost(t *testing.T) {
	for name, tt := range map[string]struct {
		source v1.NFSVolumeSource
		from   string
		ro     bool
	}{
		"a name":     {v1.NFSVolumeSource{Server: "files.example", Path: "/exports"}, "files.example:/exports", false},
		"read-only":  {v1.NFSVolumeSource{Server: "192.0.2.1", Path: "/e", ReadOnly: true}, "192.0.2.1:/e", true},
		"an IPv6 ip": {v1.NFSVolumeSource{Server: "2001:db8::1", Path: "/e"}, "[2001:db8::1]:/e", false},
	} {
		t.Run(name, func(t *testing.T) {
			m, fake := newManager(t, Config{}), mount.NewFakeMounter(nil)
			m.mounter, m.lookPath = func() mount.Interface { return fake }, found
			pod := nfsPod(tt.source)
			setUp(t, m, pod)
			p, err := m.Path(pod, "v")
			if err != nil || p.ReadOnly != tt.ro || p.Relabel {
				t.Errorf("path %+v, error %v", p, err)
			}
			if len(fake.MountPoints) != 1 {
				t.Fatalf("mounts %v", fake.MountPoints)
			}
			if got := fake.MountPoints[0]; got.Device != tt.from || got.Path != p.Host || got.Type != "nfs" || slices.Contains(got.Opts, "ro") != tt.ro {
				t.Errorf("mounted %+v", got)
			}
		})
	}
}

func TestAMountOptionOfTheVolumeReachesTheHelper(t *testing.T) {
	c := boundClaim(v1.PersistentVolumeSource{NFS: &v1.NFSVolumeSource{Server: "s", Path: "/e"}})
	c.volumes["pv"].Spec.MountOptions = []string{"nfsvers=4.2"}
	m, fake := newManager(t, Config{Claims: c}), mount.NewFakeMounter(nil)
	m.mounter, m.lookPath = func() mount.Interface { return fake }, found
	setUp(t, m, podOfClaim(true))
	if got := fake.MountPoints; len(got) != 1 || !slices.Equal(got[0].Opts, []string{"nfsvers=4.2", "ro"}) {
		t.Errorf("mounted %+v", got)
	}
}

func TestAMissingProgramIsNamed(t *testing.T) {
	m := newManager(t, Config{})
	m.lookPath = func(string) (string, error) { return "", exec.ErrNotFound }
	for _, tt := range []struct {
		source v1.VolumeSource
		want   string
	}{
		{v1.VolumeSource{NFS: &v1.NFSVolumeSource{Server: "s", Path: "/e"}}, "volumes of type nfs need mount.nfs, which this host does not have"},
		{v1.VolumeSource{ISCSI: &v1.ISCSIVolumeSource{TargetPortal: "p", IQN: "iqn.2026-01.example:d"}}, "volumes of type iscsi need iscsiadm, which this host does not have"},
	} {
		err := m.SetUp(t.Context(), testPod(v1.Volume{Name: "v", VolumeSource: tt.source}))
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("error %v, want %s", err, tt.want)
		}
	}
}

func TestNamesFromASpecLeadNowhereElse(t *testing.T) {
	m := newManager(t, Config{})
	m.lookPath, m.disks = found, t.TempDir()
	m.mounter = func() mount.Interface { return mount.NewFakeMounter(nil) }
	m.command = func(_ context.Context, name string, args ...string) (string, error) {
		t.Errorf("%s %q was run", name, args)
		return "", errors.New("it must not")
	}
	iscsi := func(change func(*v1.ISCSIVolumeSource)) v1.VolumeSource {
		s := &v1.ISCSIVolumeSource{TargetPortal: "192.0.2.1", IQN: "iqn.2026-01.example:d", ISCSIInterface: "default"}
		change(s)
		return v1.VolumeSource{ISCSI: s}
	}
	for name, source := range map[string]v1.VolumeSource{
		"an option for a server":   {NFS: &v1.NFSVolumeSource{Server: "-T/tmp/fstab", Path: "/e"}},
		"a portal with a path":     iscsi(func(s *v1.ISCSIVolumeSource) { s.TargetPortal = "../../../tmp/x" }),
		"another one with a path":  iscsi(func(s *v1.ISCSIVolumeSource) { s.Portals = []string{"192.0.2.2", "../../../tmp/x"} }),
		"a target with a path":     iscsi(func(s *v1.ISCSIVolumeSource) { s.IQN = "iqn.2026-01.example:../../d" }),
		"an interface with a path": iscsi(func(s *v1.ISCSIVolumeSource) { s.ISCSIInterface = "../x" }),
	} {
		if err := m.SetUp(t.Context(), testPod(v1.Volume{Name: "v", VolumeSource: source})); err == nil {
			t.Errorf("%s is mounted", name)
		}
	}
	if err := m.mountDisk("/dev/null", filepath.Join(t.TempDir(), "d"), "/../../tmp/x", false, nil); err == nil {
		t.Error("a file system with a path is made")
	}
}

// loopDisk is a disk of 16 MiB without a file system.
func loopDisk(t *testing.T) string {
	t.Helper()
	needRoot(t)
	f := filepath.Join(t.TempDir(), "disk")
	write(t, f, "")
	if err := os.Truncate(f, 16<<20); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("losetup", "-f", "--show", f).CombinedOutput()
	if err != nil {
		t.Skipf("no loop devices here: %s", out)
	}
	disk := strings.TrimSpace(string(out))
	t.Cleanup(func() { _ = exec.Command("losetup", "-d", disk).Run() })
	if _, err := os.Stat(disk); err != nil {
		t.Skip(err)
	}
	return disk
}

func TestADiskOfAnISCSITargetIsSharedAndLoggedOutOfAtLast(t *testing.T) {
	disk := loopDisk(t)
	m := newManager(t, Config{})
	m.lookPath, m.disks = found, t.TempDir()
	const link = "ip-192.0.2.1:3260-iscsi-iqn.2026-01.example:d-lun-3"
	var calls []string
	m.command = func(_ context.Context, name string, args ...string) (string, error) {
		calls = append(calls, args[len(args)-1])
		switch args[len(args)-1] {
		case "--login":
			if err := os.Symlink(disk, filepath.Join(m.disks, link)); err != nil {
				t.Error(err)
			}
		case "--logout":
			if err := os.Remove(filepath.Join(m.disks, link)); err != nil {
				t.Error(err)
			}
		}
		return "", nil
	}
	source := v1.VolumeSource{ISCSI: &v1.ISCSIVolumeSource{TargetPortal: "192.0.2.1", IQN: "iqn.2026-01.example:d", Lun: 3, FSType: "ext4"}}
	a, b := testPod(v1.Volume{Name: "v", VolumeSource: source}), testPod(v1.Volume{Name: "v", VolumeSource: source})
	b.UID = "uid-2"
	setUp(t, m, a)
	write(t, filepath.Join(pathOf(t, m, a, "v"), "f"), "x")
	setUp(t, m, a)
	setUp(t, m, b)
	if got := read(t, filepath.Join(pathOf(t, m, b, "v"), "f")); got != "x" {
		t.Errorf("the other pod sees %q", got)
	}
	if err := m.TearDown(t.Context(), a.UID); err != nil {
		t.Fatal(err)
	}
	if slices.Contains(calls, "--logout") {
		t.Error("logged out while a pod has the disk")
	}
	// Also for a pod that no agent remembers.
	m.setLive(b.UID, false)
	if err := m.Orphans(t.Context(), all); err != nil {
		t.Fatal(err)
	}
	if want := []string{"new", "--discover", "--login", "manual", "--logout", "delete"}; !slices.Equal(calls, want) {
		t.Errorf("calls %q, want %q", calls, want)
	}
	if left, _ := filepath.Glob(filepath.Join(m.layout.plugin(iscsiPlugin), "iface-default", "*")); len(left) > 0 {
		t.Errorf("left %q", left)
	}
}

func TestALocalDiskIsMountedAndReleased(t *testing.T) {
	disk := loopDisk(t)
	c := boundClaim(localVolume(disk))
	m := newManager(t, Config{Claims: c})
	pod := podOfClaim(false)
	setUp(t, m, pod)
	write(t, filepath.Join(pathOf(t, m, pod, "v"), "f"), "x")
	if err := m.TearDown(t.Context(), pod.UID); err != nil {
		t.Fatal(err)
	}
	global := filepath.Join(m.layout.plugin(localPlugin), "mounts", "pv")
	if _, err := os.Stat(global); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the disk is still mounted: %v", err)
	}
	setUp(t, m, pod)
	if got := read(t, filepath.Join(pathOf(t, m, pod, "v"), "f")); got != "x" {
		t.Errorf("the disk has %q", got)
	}
	if err := m.TearDown(t.Context(), pod.UID); err != nil {
		t.Fatal(err)
	}
}

func TestAVolumeIsToldThatItsDiskHasAnotherFileSystem(t *testing.T) {
	disk := loopDisk(t)
	c := boundClaim(localVolume(disk))
	var told []string
	m := newManager(t, Config{Claims: c, VolumeEvent: func(pv *v1.PersistentVolume, kind, reason, message string) {
		told = append(told, pv.Name+" "+kind+" "+reason+": "+message)
	}})
	pod := podOfClaim(false)
	setUp(t, m, pod) // makes an ext4 of it
	if err := m.TearDown(t.Context(), pod.UID); err != nil {
		t.Fatal(err)
	}
	if len(told) != 0 {
		t.Errorf("told %q of a disk that suits", told)
	}
	c.volumes["pv"].Spec.Local.FSType = ptr.To("vfat")
	err := m.SetUp(t.Context(), pod)
	if err == nil || FailureReason(err) != "" {
		t.Fatalf("an ext4 as vfat: %v", err)
	}
	if len(told) != 1 || !strings.HasPrefix(told[0], `pv Warning FailedMountOnFilesystemMismatch: MountVolume failed for volume "pv" failed to mount the volume as "vfat"`) {
		t.Errorf("told %q after %v", told, err)
	}
}

func TestFailureReason(t *testing.T) {
	device, other := &MapError{"pv", errors.New("x")}, errors.New("y")
	for want, err := range map[string]error{
		"FailedMapVolume": errors.Join(device), "": errors.Join(device, other),
	} {
		if got := FailureReason(err); got != want {
			t.Errorf("%v: %q, want %q", err, got, want)
		}
	}
	if got := FailureReason(other); got != "" {
		t.Errorf("%v: %q", other, got)
	}
}

func TestABlockVolumeIsTheDisk(t *testing.T) {
	disk := loopDisk(t)
	c, block := boundClaim(localVolume(disk)), v1.PersistentVolumeBlock
	c.volumes["pv"].Spec.VolumeMode = &block
	var told []string
	m := newManager(t, Config{Claims: c, Normal: func(_ *v1.Pod, reason, message string) { told = append(told, reason+": "+message) }})
	pod := podOfClaim(false)
	pod.Spec.Containers = []v1.Container{{VolumeDevices: []v1.VolumeDevice{{Name: "v", DevicePath: "/dev/x"}}}}
	c.volumes["pv"].Spec.Local.Path = disk + "-which-is-not-there"
	err := m.SetUp(t.Context(), pod)
	if err == nil || FailureReason(err) != "FailedMapVolume" || !strings.HasPrefix(err.Error(), `MapVolume.MapPodDevice failed for volume "pv" : `) || len(told) != 0 {
		t.Errorf("without the disk: %v, told %q", err, told)
	}
	c.volumes["pv"].Spec.Local.Path = disk
	setUp(t, m, pod)
	setUp(t, m, pod)
	if want := []string{fmt.Sprintf("SuccessfulMountVolume: MapVolume.MapPodDevice succeeded for volume \"pv\" volumeMapPath %q", disk)}; !slices.Equal(told, want) {
		t.Errorf("told %q, want %q", told, want)
	}
	if p, err := m.Path(pod, "v"); err != nil || p != (Path{Host: disk, Block: true}) {
		t.Errorf("path %+v, error %v", p, err)
	}
}

func TestPasswordsOfATargetAreNotInErrors(t *testing.T) {
	i := &iscsi{
		m: &Manager{command: func(_ context.Context, _ string, args ...string) (string, error) {
			if slices.Contains(args, "pw") {
				return "no such record", errors.New("exit status 21")
			}
			return "", nil
		}},
		disk: newISCSIDisk("192.0.2.1:1", nil, "iqn", 0, ""), chapSession: true,
	}
	secret := &v1.Secret{Data: map[string][]byte{"node.session.auth.username": []byte("u"), "node.session.auth.password": []byte("pw")}}
	err := i.login(t.Context(), i.disk.Portals[0], secret)
	if err == nil || err.Error() != "iscsi: failed to attach disk: Error: no such record (exit status 21)" {
		t.Errorf("error %v", err)
	}
	if err := i.login(t.Context(), i.disk.Portals[0], nil); err == nil || !strings.Contains(err.Error(), "no secret is given") {
		t.Errorf("error %v", err)
	}
}

// A record that is damaged says nothing, but the disk that it was about may be a pod's.
func TestATargetIsNotLoggedOutOfWhileTheRecordOfItsOtherDiskIsDamaged(t *testing.T) {
	m := newManager(t, Config{})
	var calls []string
	m.command = func(_ context.Context, _ string, args ...string) (string, error) {
		calls = append(calls, args[len(args)-1])
		return "", nil
	}
	of := func(lun int32) (string, iscsiDisk) {
		d := iscsiDisk{Portals: []string{"192.0.2.1:3260"}, IQN: "iqn.2026-01.example:d", LUN: lun, Interface: "default"}
		return filepath.Join(m.layout.plugin(iscsiPlugin), "iface-default", d.name()), d
	}
	held, _ := of(0)
	gone, d := of(1)
	if err := os.MkdirAll(held, 0o750); err != nil {
		t.Fatal(err)
	}
	write(t, held+".json", "gar")
	for _, want := range []bool{false, true} {
		if err := writeRecord(gone, d); err != nil {
			t.Fatal(err)
		}
		if err := m.releaseDisks(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := slices.Contains(calls, "--logout"); got != want {
			t.Errorf("logged out %v, want %v: %v", got, want, calls)
		}
		if err := os.Remove(held); err != nil && want == false { // its pod has let go of it
			t.Fatal(err)
		}
	}
}
