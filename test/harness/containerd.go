package harness

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/imagetar"
	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/pause"
)

const containerdConfig = `version = 2
root = "%[1]s/root"
state = "%[1]s/state"
disabled_plugins = ["io.containerd.internal.v1.opt"]
[grpc]
  address = "%[1]s/sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = %[2]q
  # This host may lack CAP_SYS_RESOURCE.
  restrict_oom_score_adj = true
  enable_cdi = true # since 1.7
  cdi_spec_dirs = ["%[1]s/cdi"]
  netns_mounts_under_state_dir = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = %[3]q
    conf_dir = "%[1]s/cni"
    conf_template = "%[1]s/cni.template" # for tests that write one
`

const cniNetwork = `{
  "cniVersion": "0.4.0", "name": "%[1]s",
  "plugins": [{
    "type": "bridge", "bridge": "%[1]s", "isGateway": true,
    "ipam": {"type": "host-local", "dataDir": "%[2]s/ipam", "ranges": [[{"subnet": "%[3]s"}]], "routes": [{"dst": "0.0.0.0/0"}]}
  }]
}`

// CNIBinDir is the directory of the CNI plug-ins; without them the test is skipped.
func CNIBinDir(t T) string {
	t.Helper()
	for _, dir := range []string{"/opt/cni/bin", "/usr/lib/cni"} {
		if _, err := os.Stat(filepath.Join(dir, "bridge")); err == nil {
			return dir
		}
	}
	t.Skipf("needs the CNI plug-ins (Debian: containernetworking-plugins)")
	return ""
}

// StartContainerd runs a private containerd with its CRI plug-in until the test
// ends: own root, state, socket and bridge.
func StartContainerd(t T) *Runtime {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skipf("needs root to run containerd")
	}
	program, err := exec.LookPath("containerd")
	if err != nil {
		t.Skipf("needs the program containerd (Debian: containerd): %v", err)
	}
	bin := CNIBinDir(t)
	dir, name, err := newDir("c")
	if err != nil {
		t.Fatalf("%v", err)
	}
	if err := prepareContainerd(dir, "mkt"+name, bin); err != nil {
		t.Fatalf("%v", err)
	}
	r := &Runtime{Name: "containerd", Endpoint: "unix://" + filepath.Join(dir, "sock"), Dir: dir, CDIDir: filepath.Join(dir, "cdi")}
	r.run(t, program, "--config", filepath.Join(dir, "config.toml"))
	pauseImage, err := pause.Image(runtime.GOARCH)
	if err != nil {
		t.Fatalf("%v", err)
	}
	for _, img := range []imagetar.Image{pauseImage, BusyboxImage(t, Busybox)} {
		r.Load(t, img)
	}
	return r
}

func prepareContainerd(dir, bridge, bin string) error {
	config := fmt.Sprintf(containerdConfig, dir, pause.Ref, bin)
	if err := os.WriteFile(filepath.Join(dir, "config.toml"), []byte(config), 0o644); err != nil {
		return err
	}
	return writeCNI(dir, bridge)
}

// writeCNI makes a bridge and a CNI configuration for it, in dir/cni.
func writeCNI(dir, bridge string) error {
	if err := addBridge(dir, bridge); err != nil {
		return err
	}
	subnet, err := subnetOf(bridge)
	if err != nil {
		return err
	}
	if err := os.Mkdir(filepath.Join(dir, "cni"), 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "cni", "10.conflist"), fmt.Appendf(nil, cniNetwork, bridge, dir, subnet), 0o644)
}

// Load loads an image into containerd.
func (r *Runtime) Load(t T, img imagetar.Image) {
	t.Helper()
	var archive bytes.Buffer
	if _, err := imagetar.Write(&archive, img); err != nil {
		t.Fatalf("make image %v: %v", img.Refs, err)
	}
	cmd := exec.Command("ctr", "--address", filepath.Join(r.Dir, "sock"), "--namespace", "k8s.io", "images", "import", "-")
	cmd.Stdin = &archive
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("load image %v: %v\n%s", img.Refs, err, out)
	}
}

// BusyboxImage is the description of the test image for an archive.
func BusyboxImage(t T, refs ...string) imagetar.Image {
	t.Helper()
	var program imagetar.File
	err := fmt.Errorf("not found")
	for _, path := range busyboxPaths {
		if program, err = imagetar.HostFile("bin/busybox", 0o755, path); err == nil {
			break
		}
	}
	if err != nil {
		t.Skipf("needs a static busybox (Debian: busybox-static): %v", err)
	}
	files := []imagetar.File{program, imagetar.Dir("tmp", 0o777), imagetar.Bytes("etc/passwd", 0o644, []byte(passwd))}
	for _, a := range applets {
		files = append(files, imagetar.Symlink("bin/"+a, "busybox"))
	}
	return imagetar.Image{Refs: refs, Config: ocispec.ImageConfig{Cmd: []string{"/bin/sh"}, Env: []string{"PATH=/bin"}}, Files: files}
}
