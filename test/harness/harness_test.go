package harness

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/client"
	"github.com/vishvananda/netlink"
)

func TestMain(m *testing.M) {
	if os.Getenv("HARNESS_TEST_CHILD") != "" {
		childRun()
	}
	os.Exit(Main(m.Run))
}

// childRun is a test run that will be killed: it starts a daemon and a container,
// says where, and waits for its end.
func childRun() {
	d, err := startDockerd(DockerdConfig{})
	if err == nil {
		err = d.loadBusybox(context.Background(), Busybox)
	}
	if err == nil {
		var made container.CreateResponse
		made, err = d.Client.ContainerCreate(context.Background(), &container.Config{Image: Busybox, Cmd: []string{"sleep", "1000"}}, nil, nil, nil, "")
		if err == nil {
			err = d.Client.ContainerStart(context.Background(), made.ID, container.StartOptions{})
		}
		fmt.Println(filepath.Dir(d.dir), made.ID)
	}
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	select {}
}

func TestWhatAKilledRunLeftIsTakenAway(t *testing.T) {
	NeedDockerd(t)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "HARNESS_TEST_CHILD=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	dir, id, ok := strings.Cut(strings.TrimSpace(line), " ")
	if err != nil || !ok || dir == "error" {
		t.Fatalf("the other run said %q (%v)", line, err)
	}
	// Somebody reads the run's log, and keeps things of his own beside and in it.
	reader := exec.Command("tail", "-f", filepath.Join(dir, "lock"))
	if err := reader.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = reader.Process.Kill(); _ = reader.Wait() }()
	elsewhere := t.TempDir()
	notes, err := os.MkdirTemp(base, "notes-")
	if err != nil {
		t.Fatal(err)
	}
	// A name as runs have, of which a test that was killed leaves no other the like.
	theirs := []string{notes, filepath.Join(base, fmt.Sprintf("%06x", os.Getpid()&0xffffff)), filepath.Join(elsewhere, "data")}
	for _, err := range []error{
		os.WriteFile(theirs[2], nil, 0o644), os.Symlink(elsewhere, theirs[1]),
		os.WriteFile(filepath.Join(theirs[0], "bridge"), []byte("lo\n"), 0o644),
		// What is noted there is believed only as far as it is a name of this run.
		os.WriteFile(filepath.Join(dir, "bridge"), []byte("docker0\n"), 0o644),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	defer os.Remove(theirs[1])
	defer os.RemoveAll(theirs[0])
	_, hadBridge := netlink.LinkByName("docker0")
	if err := reapDeadRuns(); err != nil {
		t.Fatal(err)
	}
	if left := processesOf(dir, []string{id}); len(left) == 0 {
		t.Fatal("a living run was taken away")
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if left := processesOf(dir, []string{id}); len(left) < 3 { // dockerd, a shim, the container
		t.Errorf("the killed run left %v, too little to test with", left)
	}
	if err := reapDeadRuns(); err != nil {
		t.Fatal(err)
	}
	if left := processesOf(dir, []string{id}); len(left) > 0 {
		t.Errorf("processes %v are left", left)
	}
	if mounts, err := MountsBelow(dir); err != nil || len(mounts) > 0 {
		t.Errorf("mounts %v are left (%v)", mounts, err)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("directory %s is left", dir)
	}
	for _, path := range theirs {
		if _, err := os.Lstat(path); err != nil {
			t.Errorf("what is somebody else's is gone: %v", err)
		}
	}
	if _, err := os.Lstat(filepath.Join(elsewhere, "lock")); err == nil {
		t.Error("it has written where a link leads")
	}
	if _, err := netlink.LinkByName("docker0"); hadBridge == nil && err != nil {
		t.Errorf("the machine's bridge is gone: %v", err)
	}
	if left := naming(t, dir); len(left) != 1 || left[0] != reader.Process.Pid {
		t.Errorf("processes that name the directory: %v; want only %d, which reads the log", left, reader.Process.Pid)
	}
}

// naming are the processes whose command line names a path below dir, whoever's they are.
func naming(t *testing.T, dir string) (pids []int) {
	t.Helper()
	lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range lines {
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if text, _ := os.ReadFile(path); err == nil && strings.Contains(string(text), dir+"/") {
			pids = append(pids, pid)
		}
	}
	return pids
}

func proxied(t *testing.T, d *Dockerd) (*Proxy, *client.Client) {
	t.Helper()
	p := StartProxy(t, d)
	c, err := client.NewClientWithOpts(client.WithHost(p.Endpoint), client.WithAPIVersionNegotiation())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return p, c
}

func start(t *testing.T, c *client.Client, cmd ...string) string {
	t.Helper()
	made, err := c.ContainerCreate(t.Context(), &container.Config{Image: Busybox, Cmd: cmd}, nil, nil, nil, "")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.ContainerStart(t.Context(), made.ID, container.StartOptions{}); err != nil {
		t.Fatal(err)
	}
	return made.ID
}

func TestProxyForwardsStreamsAndHijackedConnections(t *testing.T) {
	d := Docker(t)
	d.LoadBusybox(t, Busybox)
	_, c := proxied(t, d)
	id := start(t, c, "sleep", "100")
	ex, err := c.ContainerExecCreate(t.Context(), id, container.ExecOptions{Cmd: []string{"cat"}, AttachStdin: true, AttachStdout: true, Tty: true})
	if err != nil {
		t.Fatal(err)
	}
	h, err := c.ContainerExecAttach(t.Context(), ex.ID, container.ExecAttachOptions{Tty: true})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	if _, err := io.WriteString(h.Conn, "hello\n"); err != nil {
		t.Fatal(err)
	}
	if line, err := h.Reader.ReadString('\n'); err != nil || strings.TrimSpace(line) != "hello" {
		t.Errorf("exec through the proxy answered %q, %v", line, err)
	}
}

func TestProxyFaults(t *testing.T) {
	d := Docker(t)
	d.LoadBusybox(t, Busybox)
	p, c := proxied(t, d)

	t.Run("failed call carries Docker's error", func(t *testing.T) {
		remove := p.On(Path("GET", "/images/json"), Fail(http.StatusInternalServerError, "boom"))
		defer remove()
		if _, err := c.ImageList(t.Context(), image.ListOptions{}); err == nil || !strings.Contains(err.Error(), "boom") {
			t.Errorf("error %v, want boom", err)
		}
	})
	t.Run("call cut after Docker did it is done and not answered", func(t *testing.T) {
		var told atomic.Bool
		remove := p.On(Path("POST", "/containers/create"), CutAfter(func() { told.Store(true) }))
		defer remove()
		_, err := c.ContainerCreate(t.Context(), &container.Config{Image: Busybox}, nil, nil, nil, "cut-after")
		if err == nil || !told.Load() {
			t.Errorf("error %v, told %v: want an error and to be told", err, told.Load())
		}
		if _, err := d.Client.ContainerInspect(t.Context(), "cut-after"); err != nil {
			t.Errorf("Docker did not create it: %v", err)
		}
	})
	t.Run("call cut before never reaches Docker", func(t *testing.T) {
		remove := p.On(Path("POST", "/containers/create"), CutBefore(func() {}))
		defer remove()
		if _, err := c.ContainerCreate(t.Context(), &container.Config{Image: Busybox}, nil, nil, nil, "cut-before"); err == nil {
			t.Error("no error")
		}
		if _, err := d.Client.ContainerInspect(t.Context(), "cut-before"); !cerrdefs.IsNotFound(err) {
			t.Errorf("Docker has it: %v", err)
		}
	})
	t.Run("hanging call ends on release", func(t *testing.T) {
		release := make(chan struct{})
		remove := p.On(Path("GET", "/images/json"), Hang(release))
		defer remove()
		done := make(chan error, 1)
		go func() {
			_, err := c.ImageList(t.Context(), image.ListOptions{})
			done <- err
		}()
		select {
		case <-done:
			t.Fatal("the call did not hang")
		case <-time.After(100 * time.Millisecond):
		}
		close(release)
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Run("cut event stream ends with an error", func(t *testing.T) {
		_, errs := c.Events(t.Context(), events.ListOptions{})
		Eventually(t, "the stream is open", Patience, func() error {
			if n := p.CutEvents(); n == 0 {
				return io.ErrNoProgress
			}
			return nil
		})
		select {
		case err := <-errs:
			if err == nil {
				t.Error("the stream ended without an error")
			}
		case <-time.After(Patience):
			t.Error("the stream did not end")
		}
	})
}

func TestClosingADaemonLeavesNothing(t *testing.T) {
	NeedDockerd(t)
	d, err := startDockerd(DockerdConfig{LiveRestore: true})
	if err != nil {
		t.Fatal(err)
	}
	d.LoadBusybox(t, Busybox)
	id := start(t, d.Client, "sleep", "100")
	info, err := d.Client.ContainerInspect(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if left := processesOf(d.dir, []string{id}); len(left) > 0 {
		t.Errorf("processes %v are left", left)
	}
	if mounts, err := MountsBelow(d.dir); err != nil || len(mounts) > 0 {
		t.Errorf("mounts %v are left (%v)", mounts, err)
	}
	if _, err := os.Stat(d.dir); !os.IsNotExist(err) {
		t.Errorf("directory %s is left", d.dir)
	}
	if cmdline, _ := os.ReadFile("/proc/" + strconv.Itoa(info.State.Pid) + "/cmdline"); len(cmdline) > 0 {
		t.Errorf("the container's process %d is left", info.State.Pid)
	}
	if d.veths() != -1 {
		t.Error("the bridge is left")
	}
}

func TestContainersOutliveAKilledDaemonWithLiveRestore(t *testing.T) {
	d := StartDockerd(t, DockerdConfig{LiveRestore: true})
	d.LoadBusybox(t, Busybox)
	id := start(t, d.Client, "sleep", "100")
	before, err := d.Client.ContainerInspect(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	d.Kill()
	if err := d.Start(); err != nil {
		t.Fatal(err)
	}
	after, err := d.Client.ContainerInspect(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if !after.State.Running || after.State.Pid != before.State.Pid {
		t.Errorf("running=%v pid=%d, want pid %d running on", after.State.Running, after.State.Pid, before.State.Pid)
	}
}

func TestRegistryServesWhatWasPushed(t *testing.T) {
	d := Docker(t)
	r := StartRegistry(t)
	ref := r.Push(t, "x/busybox", "1")
	out, err := d.Client.ImagePull(t.Context(), ref, image.PullOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	text, err := io.ReadAll(out)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Client.ImageInspect(t.Context(), ref); err != nil {
		t.Errorf("not there after the pull: %v\n%s", err, text)
	}
	if r.Pulls() == 0 {
		t.Error("the registry counted no pull")
	}
}
