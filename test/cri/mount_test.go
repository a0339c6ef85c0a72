package cri

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

// tryMount starts a container with a mount, in a sandbox of its own, and returns the
// runtime's answer.
func (r *runtime) tryMount(m *cri.Mount) error {
	r.t.Helper()
	config := r.sandboxConfig()
	id := r.sandbox(config)
	resp, err := r.CreateContainer(r.t.Context(), &cri.CreateContainerRequest{PodSandboxId: id, SandboxConfig: config,
		Config: containerConfig("c", forever, func(c *cri.ContainerConfig) { c.LogPath, c.Mounts = "", []*cri.Mount{m} })})
	if err != nil {
		return err
	}
	_, err = r.StartContainer(r.t.Context(), &cri.StartContainerRequest{ContainerId: resp.ContainerId})
	return err
}

var mountCases = []testCase{
	{name: "mounts: read-write, read-only, through a link", run: func(t *testing.T, r *runtime) {
		dir := t.TempDir()
		if err := os.Mkdir(filepath.Join(dir, "real"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "real", "file"), []byte("hello"), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink("real", filepath.Join(dir, "link")); err != nil {
			t.Fatal(err)
		}
		got := r.output("cat /link/file; echo; touch /link/new && echo written; touch /ro/new2 2>/dev/null || echo refused", func(c *cri.ContainerConfig) {
			c.Mounts = []*cri.Mount{
				{HostPath: filepath.Join(dir, "link"), ContainerPath: "/link"},
				{HostPath: filepath.Join(dir, "real"), ContainerPath: "/ro", Readonly: true},
			}
		})
		if got != "hello\nwritten\nrefused" {
			t.Errorf("said %q", got)
		}
		if _, err := os.Stat(filepath.Join(dir, "real", "new")); err != nil {
			t.Error(err)
		}
	}},
	{name: "a host path that does not exist is made, as a directory", run: func(t *testing.T, r *runtime) {
		// Contrary to cri-api, but a stock kubelet sends it for a hostPath without a type.
		dir := t.TempDir()
		if err := errors.Join(os.Mkdir(filepath.Join(dir, "real"), 0o755), os.Symlink("real", filepath.Join(dir, "run"))); err != nil {
			t.Fatal(err)
		}
		r.pod("echo written > /x/file; "+forever, func(c *cri.ContainerConfig) {
			c.Mounts = []*cri.Mount{
				{HostPath: filepath.Join(dir, "opt/cni/bin"), ContainerPath: "/x"},
				{HostPath: filepath.Join(dir, "run/calico") + "/", ContainerPath: "/y", Readonly: true},
			}
		})
		for _, made := range []string{"opt", "opt/cni", "opt/cni/bin", "real/calico"} {
			if fi, err := os.Lstat(filepath.Join(dir, made)); err != nil || fi.Mode() != os.ModeDir|0o755 {
				t.Errorf("%s: %v, %v; want a directory of mode 0755", made, fi, err)
			}
		}
		harness.Eventually(t, "the container's file", harness.Patience, func() error {
			text, err := os.ReadFile(filepath.Join(dir, "opt/cni/bin/file"))
			if err == nil && string(text) != "written\n" {
				err = fmt.Errorf("it has %q", text)
			}
			return err
		})
	}},
	{name: "a host path that cannot be made is refused", run: func(t *testing.T, r *runtime) {
		dir := t.TempDir()
		if err := errors.Join(os.Symlink("nowhere", filepath.Join(dir, "link")), os.WriteFile(filepath.Join(dir, "file"), nil, 0o644)); err != nil {
			t.Fatal(err)
		}
		for path, why := range map[string]string{"link": "is a link that leads nowhere", "link/x": "is a link that leads nowhere", "file/x": "not a directory"} {
			err := r.tryMount(&cri.Mount{HostPath: filepath.Join(dir, path), ContainerPath: "/x"})
			if err == nil || r.isDockershim() && !strings.Contains(err.Error(), why) {
				t.Errorf("%s: error %v, want %q", path, err, why)
			}
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) != 2 {
			t.Errorf("the directory has %v, %v; want what it had", left, err)
		}
	}},
	{name: "what is to be relabelled is the client's own, and never made", only: "dockershim", why: "containerd makes it", run: func(t *testing.T, r *runtime) {
		gone := filepath.Join(t.TempDir(), "gone")
		wantCode(t, "create", r.tryMount(&cri.Mount{HostPath: gone, ContainerPath: "/etc/hosts", SelinuxRelabel: true}), codes.InvalidArgument)
		if _, err := os.Lstat(gone); !os.IsNotExist(err) {
			t.Errorf("the host path was made: %v", err)
		}
	}},
	{name: "the runtime's own root and what it lies in are mounted as others are", run: func(t *testing.T, r *runtime) {
		root := r.Dir
		if r.isDockershim() {
			info, err := r.Docker.Client.Info(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			root = info.DockerRootDir
		}
		p := r.pod(forever, func(c *cri.ContainerConfig) {
			for path, host := range map[string]string{"/own": root, "/above": filepath.Dir(root), "/all": "/"} {
				c.Mounts = append(c.Mounts, &cri.Mount{HostPath: host, ContainerPath: path, Readonly: true})
			}
		})
		name := filepath.Base(root)
		if got := r.mustExec(p.ctr, "sh", "-c", "test -d /above/"+name+" && test -d /all"+root+" && ls /own | wc -l"); got == "" || got == "0" {
			t.Errorf("the container sees %q", got)
		}
		// If asked for by name, what the host mounts later appears, provided that the host
		// shares it.
		mountinfo, err := os.ReadFile("/proc/self/mountinfo")
		if err != nil {
			t.Fatal(err)
		}
		shared := regexp.MustCompile(`(?m)^\S+ \S+ \S+ / / .*(shared|master):`).Match(mountinfo)
		err = r.tryMount(&cri.Mount{HostPath: "/", ContainerPath: "/x", Readonly: true, Propagation: cri.MountPropagation_PROPAGATION_HOST_TO_CONTAINER})
		if shared != (err == nil) {
			t.Errorf("HostToContainer of a root that is shared: %v, %v", shared, err)
		}
	}},
	{name: "propagation of a mount that is not shared is refused, with what mends it", run: func(t *testing.T, r *runtime) {
		dir := t.TempDir()
		if err := errors.Join(unix.Mount("tmpfs", dir, "tmpfs", 0, ""), unix.Mount("", dir, "", unix.MS_PRIVATE, "")); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
		for _, propagation := range []cri.MountPropagation{cri.MountPropagation_PROPAGATION_HOST_TO_CONTAINER, cri.MountPropagation_PROPAGATION_BIDIRECTIONAL} {
			err := r.tryMount(&cri.Mount{HostPath: dir, ContainerPath: "/x", Propagation: propagation})
			if err == nil || !strings.Contains(err.Error(), "is mounted on") || r.isDockershim() && !strings.Contains(err.Error(), "mount --make-rshared") {
				t.Errorf("%v: %v", propagation, err)
			}
		}
	}},
	{name: "propagation", run: func(t *testing.T, r *runtime) {
		// Only what is on a shared mount can be shared.
		dir := t.TempDir()
		if err := errors.Join(unix.Mount(dir, dir, "", unix.MS_BIND, ""), unix.Mount("", dir, "", unix.MS_SHARED, "")); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
		if err := os.Mkdir(filepath.Join(dir, "later"), 0o755); err != nil {
			t.Fatal(err)
		}
		p := r.pod(forever, func(c *cri.ContainerConfig) {
			c.Mounts = []*cri.Mount{
				{HostPath: dir, ContainerPath: "/slave", Propagation: cri.MountPropagation_PROPAGATION_HOST_TO_CONTAINER},
				{HostPath: dir, ContainerPath: "/shared", Propagation: cri.MountPropagation_PROPAGATION_BIDIRECTIONAL},
				{HostPath: dir, ContainerPath: "/private"},
			}
		})
		later := filepath.Join(dir, "later")
		if err := unix.Mount("tmpfs", later, "tmpfs", 0, ""); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = unix.Unmount(later, unix.MNT_DETACH) })
		for where, want := range map[string]string{"/slave/later": "1", "/shared/later": "1", "/private/later": "0"} {
			if got := r.mustExec(p.ctr, "sh", "-c", "grep -c ' "+where+" ' /proc/self/mountinfo; true"); got != want {
				t.Errorf("mounts at %s: %s, want %s", where, got, want)
			}
		}
	}},
	{name: "mounts stand in the status", run: func(t *testing.T, r *runtime) {
		dir := t.TempDir()
		p := r.pod(forever, func(c *cri.ContainerConfig) {
			c.Mounts = []*cri.Mount{{HostPath: dir, ContainerPath: "/x", Readonly: true}}
		})
		for _, m := range r.status(p.ctr).Mounts {
			if m.ContainerPath == "/x" && m.HostPath == dir && m.Readonly && m.Propagation == cri.MountPropagation_PROPAGATION_PRIVATE {
				return
			}
		}
		t.Errorf("mounts %v", r.status(p.ctr).Mounts)
	}},
	{name: "a device", run: func(t *testing.T, r *runtime) {
		got := r.output("head -c 1 /dev/mine | wc -c", func(c *cri.ContainerConfig) {
			c.Devices = []*cri.Device{{HostPath: "/dev/zero", ContainerPath: "/dev/mine", Permissions: "rw"}}
		})
		if strings.TrimSpace(got) != "1" {
			t.Errorf("said %q", got)
		}
	}},
	{name: "image volumes", only: "dockershim", why: "containerd 1.6 does not have them", run: func(t *testing.T, r *runtime) {
		own := &runtime{harness.StartShim(t, r.Docker), t}
		spec := &cri.ImageSpec{Image: harness.Busybox}
		p := own.pod(forever, func(c *cri.ContainerConfig) {
			c.Mounts = []*cri.Mount{{ContainerPath: "/img", Image: spec, Readonly: true}, {ContainerPath: "/sub", Image: spec, ImageSubPath: "etc"}}
		})
		got := own.mustExec(p.ctr, "sh", "-c", "test -f /img/bin/busybox && echo there; touch /img/x 2>/dev/null || echo read-only; /img/bin/busybox true 2>/dev/null || echo noexec; grep -c root /sub/passwd")
		if got != "there\nread-only\nnoexec\n1" {
			t.Errorf("said %q", got)
		}
		told := 0
		for _, m := range own.status(p.ctr).Mounts {
			if m.Image.GetImageRef() != "" && m.Readonly && (m.ContainerPath == "/img" || m.ContainerPath == "/sub" && m.ImageSubPath == "etc") {
				told++
			}
		}
		if told != 2 {
			t.Errorf("mounts in the status: %v", own.status(p.ctr).Mounts)
		}
		for sub, want := range map[string]codes.Code{"../etc": codes.InvalidArgument, "no/such": codes.InvalidArgument} {
			_, err := own.CreateContainer(t.Context(), &cri.CreateContainerRequest{PodSandboxId: p.id, SandboxConfig: p.sandbox,
				Config: containerConfig("x", forever, func(c *cri.ContainerConfig) {
					c.Mounts = []*cri.Mount{{ContainerPath: "/x", Image: spec, ImageSubPath: sub}}
				})})
			wantCode(t, "sub-path "+sub, err, want)
		}
		_, err := own.CreateContainer(t.Context(), &cri.CreateContainerRequest{PodSandboxId: p.id, SandboxConfig: p.sandbox,
			Config: containerConfig("x", forever, func(c *cri.ContainerConfig) {
				c.Mounts = []*cri.Mount{{ContainerPath: "/x", Image: &cri.ImageSpec{Image: "test.local/none:1"}}}
			})})
		wantCode(t, "image that is not there", err, codes.NotFound)
		own.Restart(t) // what is mounted stays
		if got := own.mustExec(p.ctr, "ls", "/sub"); got != "passwd" {
			t.Errorf("after a restart /sub has %q", got)
		}
		if _, err := own.RemovePodSandbox(t.Context(), &cri.RemovePodSandboxRequest{PodSandboxId: p.id}); err != nil {
			t.Fatal(err)
		}
		if left, err := os.ReadDir(filepath.Join(own.Shim.StateDir, "images")); err != nil || len(left) > 0 {
			t.Errorf("still mounted: %v, %v", left, err)
		}
	}},
}
