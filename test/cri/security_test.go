package cri

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
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
