package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/api/types/network"
	"golang.org/x/sys/unix"

	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/pause"
	"github.com/mini-kubelet/mini-kubelet/test/controlplane"
	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

// inMachine is set in the environment of a test that runs in mounts of its own.
const inMachine = "MINI_KUBELET_OWN_MOUNTS"

// TestSuitesLeaveTheMachineAsItWas does what our suites and targets do to a machine, on one
// that is full of somebody else's: certificates of a control plane, pods of a kubelet, a CNI
// network, logs, containers and images. All of it must be there afterwards, untouched,
// and nothing besides.
//
// The machine is this one with mounts of its own: /etc is a copy that is written to, the
// other places are empty at first, and a private daemon stands for the machine's Docker.
func TestSuitesLeaveTheMachineAsItWas(t *testing.T) {
	harness.NeedDockerd(t)
	if os.Getenv(inMachine) == "" {
		_ = harness.Dir(t, "m") // this run looks at the machine before the inner one does
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^"+t.Name()+"$", "-test.v")
		cmd.Env = append(os.Environ(), inMachine+"=1")
		cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
		out, err := cmd.CombinedOutput()
		switch {
		case err == nil && bytes.Contains(out, []byte("--- SKIP: "+t.Name())):
			t.Skipf("on a machine of its own:\n%s", out)
		case err != nil || !bytes.Contains(out, []byte("--- PASS: "+t.Name())):
			t.Fatalf("on a machine of its own: %v\n%s", err, out)
		}
		return
	}
	m := newMachine(t)

	m.does("TestKubeadmJoin where it must be skipped", func() {
		out, err := m.command(os.Args[0], "-test.run", "^TestKubeadmJoin$", "-test.v").CombinedOutput()
		if err != nil || !bytes.Contains(out, []byte("SKIP")) || !bytes.Contains(out, []byte("this machine is or was a node")) {
			t.Errorf("%v\n%s", err, out)
		}
	})
	m.does("reset where no agent ever ran", func() {
		if out, err := m.agent("reset", "--yes").CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	})
	m.does("the agent with everything where it is by default, killed, again, and reset", func() {
		m.runAgent(syscall.SIGKILL)
		m.runAgent(syscall.SIGTERM)
		if out, err := m.agent("reset", "--yes").CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	})
	m.does("a test with an agent of its own, which the machine's CNI network is not for", func() {
		t.Run("agent", func(t *testing.T) {
			a := harness.StartAgent(t, harness.AgentConfig{Docker: m.private})
			a.Write("p.yaml", harness.Pod("p", ""))
			a.WaitRunning("p")
		})
	})
	m.does("the demo image", func() {
		ref := m.docker.Own(t, "mini-kubelet.local/demo")
		cmd := m.command("go", "run", "./cmd/demo-image", "-name", ref)
		cmd.Dir, cmd.Env = harness.Root(), append(cmd.Env, "HOME="+os.Getenv("HOME"))
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		if _, err := m.docker.Client.ImageRemove(t.Context(), ref, image.RemoveOptions{}); err != nil {
			t.Error(err)
		}
	})
	if _, err := controlplane.Binaries(); err != nil && os.Getenv("MINI_KUBELET_E2E") == "" {
		t.Logf("without a control plane: %v", err)
		return
	}
	ctl := filepath.Join(t.TempDir(), "clusterctl")
	if out, err := exec.Command("go", "build", "-o", ctl, "../clusterctl").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	binary, err := harness.Binary()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(harness.Dir(t, "m"), "cluster")
	clusterctl := func(dir, command string) *exec.Cmd {
		return m.command(ctl, "-dir", dir, "-port", "16443", "-agent", binary, command)
	}
	m.does("a cluster in a directory of somebody else's", func() {
		for _, command := range []string{"up", "down"} {
			out, err := clusterctl("/etc/kubernetes", command).CombinedOutput()
			if (err == nil) == (command == "up") {
				t.Errorf("%s: %v\n%s", command, err, out)
			}
		}
	})
	m.does("make cluster-up, join, cluster-down", func() {
		for _, command := range []string{"up", "join", "down"} {
			out, err := clusterctl(dir, command).CombinedOutput()
			if (err == nil) == (command == "join") {
				t.Errorf("%s: %v\n%s", command, err, out)
			}
			if command == "join" && !bytes.Contains(out, []byte("this machine is or was a node")) {
				t.Errorf("join says: %s", out)
			}
		}
	})
	m.free()
	// The places are its own, and the ports this machine's: somebody's kubelet has them.
	if err := (controlplane.Machine{}).Occupied(); err != nil {
		t.Skipf("all but TestKubeadmJoin killed half-way was done: %v", err)
	}
	m.does("TestKubeadmJoin killed half-way, and again", func() {
		killed := m.command(os.Args[0], "-test.run", "^TestKubeadmJoin$", "-test.v")
		var said bytes.Buffer
		killed.Stdout, killed.Stderr = &said, &said
		if err := killed.Start(); err != nil {
			t.Fatal(err)
		}
		harness.Eventually(t, "the agent has its certificate", harness.Patience, func() error {
			_, err := os.Stat("/etc/kubernetes/kubelet.conf")
			return err
		}, func() string {
			_ = killed.Process.Kill()
			_ = killed.Wait()
			return said.String()
		})
		_ = killed.Process.Kill()
		_ = killed.Wait()
		if out, err := m.command(os.Args[0], "-test.run", "^TestKubeadmJoin$", "-test.v").CombinedOutput(); err != nil || bytes.Contains(out, []byte("SKIP")) {
			t.Errorf("%v\n%s", err, out)
		}
	})
}

// machine is one that is full of somebody else's things.
type machine struct {
	t       *testing.T
	private *harness.Dockerd // what stands for the machine's Docker, as a test's own
	docker  *harness.Dockerd // the same, as the machine's
	cgroup  string
	runs    int
}

// places are where we or Kubernetes write to a machine.
var places = []string{"/etc", "/opt", "/var/lib", "/var/log", "/run", "/usr/libexec/kubernetes"}

func newMachine(t *testing.T) *machine {
	top := t.TempDir()
	mount(t, "tmpfs", top, "tmpfs", "")
	t.Cleanup(func() { _ = unix.Unmount(top, unix.MNT_DETACH) })
	for _, dir := range []string{"upper", "work"} {
		if err := os.Mkdir(filepath.Join(top, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	mount(t, "overlay", "/etc", "overlay", "lowerdir=/etc,upperdir="+top+"/upper,workdir="+top+"/work")
	for _, dir := range []string{"/opt", "/var/lib", "/var/log", "/run"} {
		mount(t, "tmpfs", dir, "tmpfs", "mode=755")
	}
	const pod = "/var/log/pods/kube-system_etcd-cp_b32d2bf4-51ff-4ae3-9d07-5b9c0b9f5f0e"
	for path, text := range map[string]string{
		"/etc/kubernetes/pki/ca.crt":                                            "their CA",
		"/etc/kubernetes/pki/ca.key":                                            "its key",
		"/etc/kubernetes/pki/etcd/ca.crt":                                       "etcd's",
		"/etc/kubernetes/admin.conf":                                            "apiVersion: v1",
		"/etc/cni/net.d/10-theirs.conflist":                                     `{"cniVersion":"1.0.0","name":"theirs","plugins":[{"type":"theirs"}]}`,
		"/opt/cni/bin/theirs":                                                   "#!/bin/sh\nexit 1\n",
		"/var/lib/cni/networks/theirs/10.1.1.2":                                 "an address",
		"/var/lib/cni/cache/results/theirs-x-eth0":                              "{}",
		"/var/lib/etcd/member/wal/0.wal":                                        "data",
		"/var/lib/kubelet/pki/kubelet.crt":                                      "their certificate",
		"/var/lib/kubelet/cpu_manager_state":                                    `{"policyName":"none","defaultCpuSet":"","checksum":1353318690}`,
		"/var/lib/kubelet/image_manager/pulled/theirs":                          "{}",
		"/var/lib/kubelet/device-plugins/checkpoint":                            "{}",
		"/var/lib/kubelet/plugins/kubernetes.io/csi/d/h/vol_data.json":          "{}",
		"/var/lib/kubelet/pods/0b32/volumes/kubernetes.io~empty-dir/v/precious": "data",
		"/var/lib/kubelet/pods/0b32/etc-hosts":                                  "127.0.0.1 localhost",
		"/var/lib/dockershim/notes.txt":                                         "by hand",
		"/var/lib/dockershim/logs/my-own.log":                                   "a log",
		"/var/lib/dockershim/logs/dir/file":                                     "a file",
		"/var/lib/dockershim/sandbox/.keep":                                     "",
		"/var/lib/dockershim/network/settings.json":                             "{}",
		"/var/lib/dockershim/images/photos/root/one.jpg":                        "a picture",
		pod + "/etcd/0.log":                                                     "a line",
	} {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	for _, err := range []error{
		os.Mkdir("/etc/kubernetes/manifests", 0o700), os.Mkdir("/var/log/containers", 0o755),
		os.Symlink(pod+"/etcd/0.log", "/var/log/containers/etcd-cp_kube-system_etcd-0.log"),
		os.Symlink("/var/lib/docker/gone.log", "/var/log/containers/dangling.log"),
		os.Symlink("notes.txt", "/var/lib/dockershim/logs/"+strings.Repeat("e", 64)),
		unix.Mkfifo("/var/lib/dockershim/logs/"+strings.Repeat("f", 64), 0o600),
		os.Chown("/etc/kubernetes/admin.conf", 1234, 1234),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	m := &machine{t: t, private: harness.StartDockerd(t, harness.DockerdConfig{}), cgroup: harness.CgroupRoot(t)}
	t.Setenv("DOCKER_HOST", m.private.Endpoint)
	m.docker = harness.MachineDocker(t)
	m.fillDocker()
	return m
}

func mount(t *testing.T, source, target, kind, options string) {
	t.Helper()
	if err := unix.Mount(source, target, kind, 0, options); err != nil {
		t.Skipf("needs mounts of its own, and cannot mount %s at %s: %v", kind, target, err)
	}
}

// fillDocker makes somebody else's images and containers, such as a stock kubelet's.
func (m *machine) fillDocker() {
	m.t.Helper()
	ctx := m.t.Context()
	for _, ref := range []string{harness.Busybox, "mini-kubelet.local/demo:v1", "theirs:1"} {
		m.docker.LoadBusybox(m.t, ref)
	}
	if _, err := pause.Ensure(ctx, m.docker.Client); err != nil { // as another agent's
		m.t.Fatal(err)
	}
	for name, run := range map[string]bool{"k8s_POD_etcd-cp_kube-system_b32d_0": true, "k8s_etcd_etcd-cp_kube-system_b32d_0": false, "db": false} {
		made, err := m.docker.Client.ContainerCreate(ctx, &container.Config{
			Image: "theirs:1", Cmd: []string{"sleep", "1000"},
			Labels: map[string]string{"io.kubernetes.docker.type": "podsandbox", "io.kubernetes.pod.uid": "b32d", "io.kubernetes.pod.name": "etcd-cp", "io.kubernetes.pod.namespace": "kube-system"},
		}, nil, nil, nil, name)
		if err == nil && run {
			err = m.docker.Client.ContainerStart(ctx, made.ID, container.StartOptions{})
		}
		if err != nil {
			m.t.Fatal(err)
		}
	}
}

// free takes what a node has from the places where kubeadm looks for it.
func (m *machine) free() {
	m.t.Helper()
	for _, dir := range []string{"/etc/kubernetes", "/var/lib/kubelet", "/var/lib/dockershim"} {
		if err := os.Rename(dir, dir+".theirs"); err != nil {
			m.t.Fatal(err)
		}
	}
}

// does compares the machine before and after.
func (m *machine) does(what string, do func()) {
	m.t.Helper()
	before := m.inventory()
	do()
	after := m.inventory()
	// Docker and its containerd tidy up behind what has ended.
	for end := time.Now().Add(harness.Patience); !maps.Equal(before, after) && time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		after = m.inventory()
	}
	for _, key := range slices.Sorted(maps.Keys(before)) {
		if now, ok := after[key]; !ok {
			m.t.Errorf("%s: %s is gone", what, key)
		} else if now != before[key] {
			m.t.Errorf("%s: %s was %s, is %s", what, key, before[key], now)
		}
		delete(after, key)
	}
	for _, key := range slices.Sorted(maps.Keys(after)) {
		m.t.Errorf("%s: %s is new", what, key)
	}
}

// inventory lists everything in the places and in Docker, with what can be said about it.
func (m *machine) inventory() map[string]string {
	m.t.Helper()
	all := map[string]string{}
	for _, place := range places {
		err := filepath.WalkDir(place, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				if os.IsNotExist(err) {
					return nil
				}
				return err
			}
			text, err := describe(path)
			if os.IsNotExist(err) {
				return nil // meanwhile
			}
			all[path] = text
			return err
		})
		if err != nil {
			m.t.Fatal(err)
		}
	}
	ctx := context.Background()
	containers, err := m.docker.Client.ContainerList(ctx, container.ListOptions{All: true})
	if err != nil {
		m.t.Fatal(err)
	}
	for _, c := range containers {
		all["container "+c.ID] = fmt.Sprint(c.Names, c.State, c.Image, c.Labels)
	}
	images, err := m.docker.Client.ImageList(ctx, image.ListOptions{All: true})
	if err != nil {
		m.t.Fatal(err)
	}
	for _, i := range images {
		slices.Sort(i.RepoTags)
		all["image "+i.ID] = fmt.Sprint(i.RepoTags)
	}
	networks, err := m.docker.Client.NetworkList(ctx, network.ListOptions{})
	if err != nil {
		m.t.Fatal(err)
	}
	for _, n := range networks {
		all["network "+n.ID] = n.Name
	}
	return all
}

// describe returns what a change of a file would change, except for the times.
func describe(path string) (string, error) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return "", err
	}
	text := fmt.Sprintf("mode %o of %d:%d", st.Mode, st.Uid, st.Gid)
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		content, err := os.ReadFile(path)
		return fmt.Sprintf("%s, %d bytes, %.6x", text, st.Size, sha256.Sum256(content)), err
	case unix.S_IFLNK:
		target, err := os.Readlink(path)
		return text + " to " + target, err
	}
	return text, nil
}

// command returns a program that sees this machine's Docker as any of the user's
// programs does.
func (m *machine) command(name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(m.t.Context(), name, args...)
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, inMachine+"=") {
			cmd.Env = append(cmd.Env, e)
		}
	}
	return cmd
}

// agent is mini-kubelet with nothing of its own except what all machines share: cgroups and
// ports.
func (m *machine) agent(args ...string) *exec.Cmd {
	binary, err := harness.Binary()
	if err != nil {
		m.t.Fatal(err)
	}
	return m.command(binary, append(args, "--config", filepath.Join(harness.Root(), "config", "kubelet.yaml"), "--docker-endpoint", m.docker.Endpoint,
		"--network-plugin", "docker", "--cgroup-root", m.cgroup, "--healthz-port", "0", "--read-only-port", "0",
		"--image-gc-high-threshold", "100")...) // the machine's images are not the test's
}

// runAgent runs the agent until its pod runs, and ends it.
func (m *machine) runAgent(end syscall.Signal) {
	t := m.t
	t.Helper()
	m.runs++
	dir := t.TempDir()
	pod := harness.Pod(fmt.Sprintf("p%d", m.runs), "echo hello; sleep 1000", quick)
	pod.Spec.Containers[0].Image = "theirs:1"
	if err := os.WriteFile(filepath.Join(dir, "pod.yaml"), []byte(harness.Manifest(pod)), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := m.agent("--pod-manifest-path", dir)
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	harness.Eventually(t, "the pod runs", harness.Patience, func() error {
		running, err := m.docker.Client.ContainerList(t.Context(), container.ListOptions{})
		if err == nil && !slices.ContainsFunc(running, func(c container.Summary) bool {
			return strings.HasPrefix(c.Names[0], "/k8s_c_"+pod.Name)
		}) {
			err = fmt.Errorf("%d containers run", len(running))
		}
		return err
	}, func() string {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		return log.String()
	})
	_ = cmd.Process.Signal(end)
	if err := cmd.Wait(); err != nil && end == syscall.SIGTERM {
		t.Errorf("the agent: %v\n%s", err, log.String())
	}
}
