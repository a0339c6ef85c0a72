package harness

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/docker/docker/client"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/netdump"
)

// DockerdConfig is what a private Docker daemon is started with.
type DockerdConfig struct {
	LiveRestore bool // containers outlive the daemon
	// DataSize is that of a file system of its own, in memory, for the data root, in bytes; 0: it
	// is on that of the run directory.
	DataSize int64
}

// Dockerd is a private Docker daemon: own data root, exec root, socket, bridge and
// containerd namespace, no iptables, no change of kernel settings. It shares and
// touches nothing of the machine's own daemon. Its methods must not be called
// concurrently with Kill, Stop and Start.
type Dockerd struct {
	Endpoint string // unix:///...
	Client   *client.Client

	machine bool // it is the machine's own

	dir    string
	name   string
	args   []string
	cmd    *exec.Cmd
	exited chan struct{}
}

// NeedDockerd skips the test, with the reason, if no private daemon can run here.
func NeedDockerd(t T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skipf("needs root: a private Docker daemon makes mounts, namespaces and cgroups")
	}
	if _, err := exec.LookPath("dockerd"); err != nil {
		t.Skipf("needs the program dockerd to run a private Docker daemon: %v", err)
	}
}

// StartDockerd starts a private daemon that is stopped, with all its containers,
// when the test ends.
func StartDockerd(t T, cfg DockerdConfig) *Dockerd {
	t.Helper()
	NeedDockerd(t)
	d, err := startDockerd(cfg)
	if err != nil {
		t.Fatalf("%v", err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Errorf("stop the private Docker daemon: %v", err)
		}
	})
	return d
}

var shared = sync.OnceValues(func() (*Dockerd, error) { return startDockerd(DockerdConfig{}) })

// Docker is the private daemon that all tests of this process share. It runs until
// Main ends it; tests that kill their daemon start one of their own.
func Docker(t T) *Dockerd {
	t.Helper()
	NeedDockerd(t)
	d, err := shared()
	if err != nil {
		t.Fatalf("%v", err)
	}
	return d
}

func startDockerd(cfg DockerdConfig) (*Dockerd, error) {
	dir, name, err := newDir("d")
	if err != nil {
		return nil, err
	}
	bridge := "mkt" + name
	if err := addBridge(dir, bridge); err != nil {
		return nil, err
	}
	// An empty configuration file: the machine's own must not be read.
	if err := os.WriteFile(filepath.Join(dir, "daemon.json"), []byte("{}"), 0o644); err != nil {
		return nil, err
	}
	d := &Dockerd{dir: dir, name: name, Endpoint: "unix://" + filepath.Join(dir, "sock")}
	d.args = []string{
		"--config-file", filepath.Join(dir, "daemon.json"),
		"--data-root", filepath.Join(dir, "data"),
		"--exec-root", filepath.Join(dir, "exec"),
		"--pidfile", filepath.Join(dir, "pid"),
		"--host", d.Endpoint,
		"--bridge", bridge, "--iptables=false", "--ip-masq=false", "--ip-forward=false",
		"--containerd-namespace", "mkt-" + name, "--containerd-plugins-namespace", "mkt-" + name + "-plugins",
	}
	if help, err := exec.Command("dockerd", "--help").Output(); err == nil && strings.Contains(string(help), "--cdi-spec-dir") {
		d.args = append(d.args, "--cdi-spec-dir", d.CDISpecDir())
	}
	if cfg.DataSize > 0 {
		if err := mountMemory(d.DataRoot(), cfg.DataSize); err != nil {
			return nil, err
		}
	}
	if cfg.LiveRestore {
		d.args = append(d.args, "--live-restore")
	}
	if d.Client, err = client.NewClientWithOpts(client.WithHost(d.Endpoint), client.WithAPIVersionNegotiation()); err != nil {
		return nil, err
	}
	return d, d.Start()
}

// CDISpecDir is where the daemon, or the dockershim for it, looks for CDI files. It does not exist unless a test makes it.
func (d *Dockerd) CDISpecDir() string { return filepath.Join(d.dir, "cdi") }

// DataRoot is where the daemon keeps images and containers.
func (d *Dockerd) DataRoot() string { return filepath.Join(d.dir, "data") }

// Usage is how full the file system of the data root is, in percent, as the kubelet counts.
func (d *Dockerd) Usage(t T) int {
	t.Helper()
	var fs unix.Statfs_t
	if err := unix.Statfs(d.DataRoot(), &fs); err != nil {
		t.Fatalf("%v", err)
	}
	return 100 - int(fs.Bavail*100/fs.Blocks)
}

// Fill writes a file to the data root until its file system is that full. It is for a daemon with a
// DataSize.
func (d *Dockerd) Fill(t T, percent int) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(d.DataRoot(), "filler"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatalf("%v", err)
	}
	defer f.Close()
	for d.Usage(t) < percent {
		if _, err := f.Write(make([]byte, 256<<10)); err != nil {
			t.Fatalf("fill the data root: %v", err)
		}
	}
}

// mountMemory mounts a new file system of that size, which Reap unmounts.
func mountMemory(at string, size int64) error {
	if err := os.Mkdir(at, 0o710); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", at, "tmpfs", 0, fmt.Sprintf("size=%d,mode=710", size)); err != nil {
		return fmt.Errorf("mount a tmpfs at %s: %w", at, err)
	}
	return nil
}

// Start starts the daemon, also after Stop or Kill, and returns when it answers.
func (d *Dockerd) Start() error {
	log, err := os.OpenFile(filepath.Join(d.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	d.cmd = exec.Command("dockerd", d.args...)
	d.cmd.Stdout, d.cmd.Stderr = log, log
	d.cmd.Env = environ()
	// A process group of its own: Ctrl-C at the test must not reach the daemon.
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := d.cmd.Start(); err != nil {
		return fmt.Errorf("start dockerd: %w", err)
	}
	d.exited = make(chan struct{})
	go func(cmd *exec.Cmd, exited chan struct{}) {
		_ = cmd.Wait()
		close(exited)
	}(d.cmd, d.exited)

	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	for {
		if _, err = d.Client.Ping(ctx); err == nil {
			return nil
		}
		select {
		case <-d.exited:
			return fmt.Errorf("dockerd exited at start; its log ends:\n%s", tail(filepath.Join(d.dir, "log"), 20))
		case <-ctx.Done():
			return fmt.Errorf("dockerd does not answer: %w; its log ends:\n%s", err, tail(filepath.Join(d.dir, "log"), 20))
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// Kill ends the daemon with SIGKILL. Its containerd goes with it; containers and
// their shims keep running.
func (d *Dockerd) Kill() { d.signal(syscall.SIGKILL) }

// Stop ends the daemon with SIGTERM, as `systemctl stop docker` does: without
// live-restore it stops all its containers first.
func (d *Dockerd) Stop() { d.signal(syscall.SIGTERM) }

func (d *Dockerd) signal(s syscall.Signal) {
	_ = d.cmd.Process.Signal(s)
	<-d.exited
	d.awaitContainerd()
}

// awaitContainerd waits until the containerd that goes with its daemon has ended,
// and removes its pid file: if init is slow to reap, the next daemon would take the
// zombie for a running containerd.
func (d *Dockerd) awaitContainerd() {
	file := filepath.Join(d.dir, "exec", "containerd", "containerd.pid")
	pid, err := os.ReadFile(file)
	if err != nil {
		return // it ended cleanly
	}
	for end := time.Now().Add(Patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		cmdline, _ := os.ReadFile(filepath.Join("/proc", strings.TrimSpace(string(pid)), "cmdline"))
		if len(cmdline) == 0 { // gone, or a zombie
			_ = os.Remove(file)
			return
		}
	}
}

// Close ends the daemon and removes everything that it made.
func (d *Dockerd) Close() error {
	if d == nil {
		return nil
	}
	d.Kill()
	// The helpers that it ran of itself, to unpack layers, do not die with it.
	_ = unix.Kill(-d.cmd.Process.Pid, unix.SIGKILL)
	return errors.Join(d.Client.Close(), Reap(d.dir))
}

// PID of the running daemon, 0 for the machine's own.
func (d *Dockerd) PID() int {
	if d.cmd == nil {
		return 0
	}
	return d.cmd.Process.Pid
}

// Log returns the last lines of the daemon's log.
func (d *Dockerd) Log(lines int) string { return tail(filepath.Join(d.dir, "log"), lines) }

// bridgeMu keeps two daemons from taking the same subnet.
var bridgeMu sync.Mutex

// addBridge makes a bridge for the daemon's containers, on a /24 that nothing else
// on the machine uses, and records its name for Reap.
func addBridge(dir, name string) error {
	bridgeMu.Lock()
	defer bridgeMu.Unlock()
	subnet, err := freeSubnet()
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "bridge"), []byte(name+"\n"), 0o644); err != nil {
		return err
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	br := &netlink.Bridge{LinkAttrs: attrs}
	if err := netlink.LinkAdd(br); err != nil {
		return fmt.Errorf("add bridge %s: %w", name, err)
	}
	addr := &netlink.Addr{IPNet: &net.IPNet{IP: subnet.Addr().Next().AsSlice(), Mask: net.CIDRMask(24, 32)}}
	if err := netlink.AddrAdd(br, addr); err != nil {
		return fmt.Errorf("give bridge %s the address %s: %w", name, addr, err)
	}
	return netlink.LinkSetUp(br)
}

// subnetOf is the subnet that addBridge gave a bridge.
func subnetOf(bridge string) (netip.Prefix, error) {
	link, err := netlink.LinkByName(bridge)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("find bridge %s: %w", bridge, err)
	}
	addrs, err := netdump.Whole(func() ([]netlink.Addr, error) { return netlink.AddrList(link, netlink.FAMILY_V4) })
	if err != nil || len(addrs) == 0 {
		return netip.Prefix{}, fmt.Errorf("bridge %s has no address: %w", bridge, err)
	}
	p, err := netip.ParsePrefix(addrs[0].IPNet.String())
	return p.Masked(), err
}

func freeSubnet() (netip.Prefix, error) {
	routes, err := netdump.Whole(func() ([]netlink.Route, error) { return netlink.RouteList(nil, netlink.FAMILY_V4) })
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("list routes: %w", err)
	}
candidates:
	for third := range 250 {
		p := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 213, byte(third), 0}), 24)
		for _, r := range routes {
			if r.Dst == nil || r.Dst.IP.IsUnspecified() {
				continue // the default route
			}
			if dst, err := netip.ParsePrefix(r.Dst.String()); err == nil && dst.Overlaps(p) {
				continue candidates
			}
		}
		return p, nil
	}
	return netip.Prefix{}, errors.New("no /24 of 10.213.0.0/16 is free on this machine")
}

// tail returns the last lines of a file.
func tail(path string, lines int) string {
	all := readLines(path)
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
