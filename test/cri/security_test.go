package cri

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

func security(change func(*cri.LinuxContainerSecurityContext)) func(*cri.ContainerConfig) {
	return func(c *cri.ContainerConfig) { change(c.Linux.SecurityContext) }
}

// procField is a field of the shell's own /proc/self/status.
func procField(name string) string { return "grep '^" + name + ":' /proc/self/status | tr -d ' \\t'" }

var securityCases = []testCase{
	{name: "user and group", run: func(t *testing.T, r *runtime) {
		got := r.output("id -u; id -g", security(func(s *cri.LinuxContainerSecurityContext) {
			s.RunAsUser, s.RunAsGroup = &cri.Int64Value{Value: 1000}, &cri.Int64Value{Value: 2000}
		}))
		if got != "1000\n2000" {
			t.Errorf("ids %q", got)
		}
	}},
	{name: "user by name", run: func(t *testing.T, r *runtime) {
		if got := r.output("id -u", security(func(s *cri.LinuxContainerSecurityContext) { s.RunAsUsername = "nobody" })); got != "65534" {
			t.Errorf("id %q", got)
		}
	}},
	{name: "a group without a user is refused", run: func(t *testing.T, r *runtime) {
		config := r.sandboxConfig()
		id := r.sandbox(config)
		_, err := r.CreateContainer(t.Context(), &cri.CreateContainerRequest{PodSandboxId: id, SandboxConfig: config,
			Config: containerConfig("c", forever, security(func(s *cri.LinuxContainerSecurityContext) { s.RunAsGroup = &cri.Int64Value{Value: 1} }))})
		if err == nil {
			t.Error("no error")
		}
		if r.isDockershim() {
			wantCode(t, "create", err, codes.InvalidArgument)
		}
	}},
	{name: "supplemental groups", run: func(t *testing.T, r *runtime) {
		got := r.output("id -G", security(func(s *cri.LinuxContainerSecurityContext) {
			s.RunAsUser, s.SupplementalGroups = &cri.Int64Value{Value: 1000}, []int64{1234, 5678}
		}))
		if !strings.Contains(got, "1234") || !strings.Contains(got, "5678") {
			t.Errorf("groups %q", got)
		}
	}},
	{name: "capabilities are added and dropped", run: func(t *testing.T, r *runtime) {
		none := r.output(procField("CapEff"), security(func(s *cri.LinuxContainerSecurityContext) {
			s.Capabilities = &cri.Capability{DropCapabilities: []string{"ALL"}}
		}))
		if none != "CapEff:0000000000000000" {
			t.Errorf("all dropped, and %s", none)
		}
		one := r.output(procField("CapEff"), security(func(s *cri.LinuxContainerSecurityContext) {
			s.Capabilities = &cri.Capability{DropCapabilities: []string{"ALL"}, AddCapabilities: []string{"NET_ADMIN"}}
		}))
		if one != "CapEff:0000000000001000" {
			t.Errorf("NET_ADMIN added, and %s", one)
		}
	}},
	{name: "no new privileges", run: func(t *testing.T, r *runtime) {
		for want, set := range map[string]bool{"NoNewPrivs:1": true, "NoNewPrivs:0": false} {
			if got := r.output(procField("NoNewPrivs"), security(func(s *cri.LinuxContainerSecurityContext) { s.NoNewPrivs = set })); got != want {
				t.Errorf("%q, want %q", got, want)
			}
		}
	}},
	{name: "seccomp profiles", run: func(t *testing.T, r *runtime) {
		file := filepath.Join(r.Dir, "seccomp.json")
		profile := `{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]}`
		if err := os.WriteFile(file, []byte(profile), 0o644); err != nil {
			t.Fatal(err)
		}
		for name, tc := range map[string]struct {
			profile *cri.SecurityProfile
			script  string
			want    string
		}{
			"default":    {&cri.SecurityProfile{ProfileType: cri.SecurityProfile_RuntimeDefault}, procField("Seccomp"), "Seccomp:2"},
			"unconfined": {&cri.SecurityProfile{ProfileType: cri.SecurityProfile_Unconfined}, procField("Seccomp"), "Seccomp:0"},
			"own":        {&cri.SecurityProfile{ProfileType: cri.SecurityProfile_Localhost, LocalhostRef: file}, "mkdir /tmp/x 2>/dev/null || echo refused", "refused"},
		} {
			if got := r.output(tc.script, security(func(s *cri.LinuxContainerSecurityContext) { s.Seccomp = tc.profile })); got != tc.want {
				t.Errorf("%s: %q, want %q", name, got, tc.want)
			}
		}
	}},
	{name: "read-only root", run: func(t *testing.T, r *runtime) {
		if got := r.output("touch /x 2>/dev/null || echo refused", security(func(s *cri.LinuxContainerSecurityContext) { s.ReadonlyRootfs = true })); got != "refused" {
			t.Errorf("said %q", got)
		}
	}},
	{name: "masked and read-only paths", run: func(t *testing.T, r *runtime) {
		got := r.output("wc -c < /proc/timer_list; (echo 1 > /proc/sys/kernel/panic) 2>/dev/null || echo refused", security(func(s *cri.LinuxContainerSecurityContext) {
			s.MaskedPaths, s.ReadonlyPaths = []string{"/proc/timer_list"}, []string{"/proc/sys"}
		}))
		if got != "0\nrefused" {
			t.Errorf("said %q", got)
		}
	}},
	{name: "a privileged container runs, or is refused with the reason", run: func(t *testing.T, r *runtime) {
		config := r.sandboxConfig(func(c *cri.PodSandboxConfig) { c.Linux.SecurityContext.Privileged = true })
		if !r.isDockershim() {
			t.Skip("containerd 1.6 fails on a host without CAP_SYS_RESOURCE")
		}
		id := r.sandbox(config)
		resp, err := r.CreateContainer(t.Context(), &cri.CreateContainerRequest{PodSandboxId: id, SandboxConfig: config,
			Config: containerConfig("c", forever, security(func(s *cri.LinuxContainerSecurityContext) { s.Privileged = true }))})
		if err == nil {
			r.start(resp.ContainerId)
			return
		}
		wantCode(t, "create", err, codes.FailedPrecondition)
		if !strings.Contains(err.Error(), "capabilities") {
			t.Errorf("error %v", err)
		}
	}},
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
	{name: "a host path that does not exist is refused, not made", run: func(t *testing.T, r *runtime) {
		if !r.isDockershim() {
			t.Skip("containerd 1.6 makes it, against cri-api")
		}
		dir := filepath.Join(t.TempDir(), "none")
		config := r.sandboxConfig()
		id := r.sandbox(config)
		_, err := r.CreateContainer(t.Context(), &cri.CreateContainerRequest{PodSandboxId: id, SandboxConfig: config,
			Config: containerConfig("c", forever, func(c *cri.ContainerConfig) { c.Mounts = []*cri.Mount{{HostPath: dir, ContainerPath: "/x"}} })})
		wantCode(t, "create", err, codes.InvalidArgument)
		if _, err := os.Stat(dir); !os.IsNotExist(err) {
			t.Errorf("the host path was made: %v", err)
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
			if m.ContainerPath == "/x" && m.HostPath == dir && m.Readonly {
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
