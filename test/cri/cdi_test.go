package cri

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// writeCDI writes a CDI file for kind test.example/kind, and takes it away again.
func (r *runtime) writeCDI(kind, text string) {
	r.t.Helper()
	if err := os.MkdirAll(r.CDIDir, 0o755); err != nil {
		r.t.Fatal(err)
	}
	path := filepath.Join(r.CDIDir, kind+".yaml")
	// Whole or not at all: other cases' containers are made meanwhile.
	if err := os.WriteFile(path+".new", []byte("cdiVersion: 0.6.0\nkind: test.example/"+kind+"\n"+text), 0o644); err != nil {
		r.t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = os.Remove(path) })
}

// needsCDI skips the test if the runtime knows nothing of CDI.
func (r *runtime) needsCDI() {
	r.t.Helper()
	v, err := r.Version(r.t.Context(), &cri.VersionRequest{})
	if err != nil {
		r.t.Fatal(err)
	}
	if !r.isDockershim() && strings.HasPrefix(v.RuntimeVersion, "1.6.") {
		r.t.Skipf("containerd %s knows no CDI: it came with 1.7", v.RuntimeVersion)
	}
}

// engineGivesCDI reports whether Docker gives CDI devices itself, and the dockershim need not.
func (r *runtime) engineGivesCDI() bool {
	r.t.Helper()
	if !r.isDockershim() {
		return true
	}
	info, err := r.Docker.Client.Info(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	return len(info.CDISpecDirs) > 0
}

var cdiCases = []testCase{
	{name: "cdi: device node, environment and mount of a device, by field and by annotation", run: func(t *testing.T, r *runtime) {
		r.needsCDI()
		// Runtimes allow /dev/null and its like to every container: opening those would prove nothing.
		const device = "/dev/loop-control"
		if _, err := os.Stat(device); err != nil {
			t.Skipf("needs a device that no container may open by default: %v", err)
		}
		lib := filepath.Join(r.Dir, "cdilib")
		if err := os.MkdirAll(lib, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(lib, "version"), []byte("of the host"), 0o644); err != nil {
			t.Fatal(err)
		}
		r.writeCDI("whole", fmt.Sprintf(`containerEdits: {env: [EACH=yes]}
devices:
- name: zero
  containerEdits:
    env: [WHICH=zero]
    deviceNodes: [{path: /dev/accelerator, hostPath: %[2]s, permissions: r}]
    mounts: [{hostPath: %[1]s, containerPath: /opt/lib, options: [rbind, ro]}]
- {name: second, containerEdits: {mounts: [{hostPath: %[1]s, containerPath: /opt/second, options: [rbind]}]}}
- {name: other, containerEdits: {env: [OTHER=given], deviceNodes: [{path: /dev/other, hostPath: %[2]s}]}}
`, lib, device))
		got := r.output(`echo "$EACH $WHICH ${OTHER-none}"; cat /opt/lib/version; echo
			touch /opt/lib/mine 2>/dev/null || echo read-only
			(: < /dev/accelerator) && echo "opened"
			(: > /dev/accelerator) 2>/dev/null || echo "not writable"
			touch /opt/second/mine && echo "second written"
			ls /dev/other 2>/dev/null || echo "no other"`,
			func(c *cri.ContainerConfig) {
				c.CDIDevices = []*cri.CDIDevice{{Name: "test.example/whole=zero"}}
				c.Annotations = map[string]string{"cdi.k8s.io/test": "test.example/whole=second"}
			})
		want := "yes zero none\nof the host\nread-only\nopened\nnot writable\nsecond written\nno other"
		if got != want {
			t.Errorf("the container saw\n%s\nwant\n%s", got, want)
		}
	}},
	{name: "cdi: an unknown device and a wrong name are errors that say so", run: func(t *testing.T, r *runtime) {
		r.needsCDI()
		sandbox := r.sandboxConfig()
		id := r.sandbox(sandbox)
		try := func(device string) error {
			config := containerConfig("c", forever, func(c *cri.ContainerConfig) { c.CDIDevices = []*cri.CDIDevice{{Name: device}} })
			made, err := r.CreateContainer(t.Context(), &cri.CreateContainerRequest{PodSandboxId: id, Config: config, SandboxConfig: sandbox})
			if err == nil { // Docker itself looks when it starts the container
				_, err = r.StartContainer(t.Context(), &cri.StartContainerRequest{ContainerId: made.ContainerId})
			}
			return err
		}
		if err := try("test.example/nowhere=0"); err == nil || !strings.Contains(err.Error(), "unresolvable CDI devices test.example/nowhere=0") {
			t.Errorf("an unknown device: %v", err)
		} else if !r.engineGivesCDI() {
			wantCode(t, "an unknown device", err, codes.NotFound)
		}
		if err := try("gpu0"); err == nil || !strings.Contains(err.Error(), "gpu0") {
			t.Errorf("an unqualified name: %v", err)
		} else if r.isDockershim() {
			wantCode(t, "an unqualified name", err, codes.InvalidArgument)
		}
	}},
	{name: "cdi: a device that needs a hook is given by Docker or refused", only: "dockershim", why: "containerd runs hooks", run: func(t *testing.T, r *runtime) {
		if r.engineGivesCDI() {
			t.Skip("this Docker runs hooks of CDI devices itself")
		}
		r.writeCDI("hooked", `devices: [{name: a, containerEdits: {env: [A=1], hooks: [{hookName: createContainer, path: /bin/true}]}}]`)
		sandbox := r.sandboxConfig()
		id := r.sandbox(sandbox)
		config := containerConfig("c", forever, func(c *cri.ContainerConfig) { c.CDIDevices = []*cri.CDIDevice{{Name: "test.example/hooked=a"}} })
		_, err := r.CreateContainer(t.Context(), &cri.CreateContainerRequest{PodSandboxId: id, Config: config, SandboxConfig: sandbox})
		wantCode(t, "a hook", err, codes.FailedPrecondition)
		if err != nil && !strings.Contains(err.Error(), "CDI device test.example/hooked=a: needs the hook createContainer (/bin/true)") {
			t.Errorf("the refusal does not name device and hook: %v", err)
		}
		if list, err := r.ListContainers(t.Context(), &cri.ListContainersRequest{Filter: &cri.ContainerFilter{PodSandboxId: id}}); err != nil || len(list.Containers) > 0 {
			t.Errorf("a refused container is there: %v, %v", list, err)
		}
	}},
}
