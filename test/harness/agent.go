package harness

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/client"
	"github.com/prometheus/procfs"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/mini-kubelet/mini-kubelet/pkg/server"
	"github.com/mini-kubelet/mini-kubelet/pkg/server/why"
)

// AgentConfig is what an agent is started with. Zero values get defaults that no
// other agent uses.
type AgentConfig struct {
	Docker   *Dockerd       // nil: the shared private daemon
	Endpoint string         // of Docker, for the agent, e.g. a Proxy's; empty: the daemon's own
	Config   map[string]any // fields of KubeletConfiguration on top of the harness's own
	Args     []string       // more flags
	Env      []string       // more environment, "name=value"
}

// Agent is one mini-kubelet with directories, socket, ports and a node name of its
// own. It can be stopped, killed and started again with the same state. The methods
// that start and end the process must not be called concurrently.
type Agent struct {
	Node      string
	Dir       string // everything that belongs to this agent is below it
	Manifests string // the static pod path
	Docker    *Dockerd

	t       T
	cfg     AgentConfig
	healthz string // host:port
	pods    string // host:port of the read-only server
	cmd     *exec.Cmd
	exited  chan struct{}
	exitErr error
	http    http.Client

	checked   sync.Mutex
	checkedTo uint64 // the version of the journal up to which CheckJournal has looked for secrets

	launched, answered bool // whether it was ever started, and has told its decisions
	decisions          int  // how many it has left
}

// NewAgent prepares an agent without starting it. When the test ends, the agent is
// killed and everything that it made is removed.
func NewAgent(t T, cfg AgentConfig) *Agent {
	t.Helper()
	if cfg.Docker == nil {
		cfg.Docker = Docker(t)
	}
	if cfg.Endpoint == "" {
		cfg.Endpoint = cfg.Docker.Endpoint
	}
	dir, name, err := newDir("a")
	if err != nil {
		t.Fatalf("%v", err)
	}
	a := &Agent{t: t, cfg: cfg, Docker: cfg.Docker, Dir: dir, Node: "n" + name, Manifests: filepath.Join(dir, "manifests"),
		healthz: FreePort(t), pods: FreePort(t)}
	a.http.Timeout = Patience
	if err := os.Mkdir(a.Manifests, 0o755); err != nil {
		t.Fatalf("%v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, cgroupFile), []byte(a.CgroupRoot()+"\n"), 0o644); err != nil {
		t.Fatalf("%v", err)
	}
	if !cfg.Docker.machine {
		cfg.Docker.LoadBusybox(t, Busybox)
	}
	t.Cleanup(func() {
		a.checkAll()
		a.Kill()
		if a.launched {
			bundles.add(a.decisions, a.answered)
		}
		if t.Failed() {
			t.Logf("%s", a.Explain())
		}
		a.removeContainers()
		if err := Reap(a.Dir); err != nil {
			t.Errorf("take away what agent %s left: %v", a.Node, err)
		}
	})
	return a
}

// StartAgent prepares and starts an agent.
func StartAgent(t T, cfg AgentConfig) *Agent {
	t.Helper()
	a := NewAgent(t, cfg)
	a.Start()
	return a
}

// Flags are the command line flags that isolate this agent from others.
func (a *Agent) Flags() []string {
	return append([]string{
		"--config", filepath.Join(a.Dir, "kubelet.yaml"),
		"--root-dir", filepath.Join(a.Dir, "root"),
		"--hostname-override", a.Node,
		"--docker-endpoint", a.cfg.Endpoint,
		"--dockershim-root-directory", filepath.Join(a.Dir, "shim"),
		"--dockershim-socket", "unix://" + a.CRISocket(),
		// Tests that want another network say so; the machine's is not used.
		"--network-plugin", "docker",
		// The machine's kernel is not the tests' to change.
		"--kernel-settings", "leave",
		"--cni-conf-dir", filepath.Join(a.Dir, "cni"),
		"--cni-cache-dir", filepath.Join(a.Dir, "cni-cache"),
		"--cdi-spec-dir", filepath.Join(a.Dir, "cdi"),
		"--v", "4",
	}, a.cfg.Args...)
}

// CRISocket is the path of the socket where this agent serves CRI.
func (a *Agent) CRISocket() string { return filepath.Join(a.Dir, "cri.sock") }

// CgroupRoot is the cgroup below which this agent's pods have theirs.
func (a *Agent) CgroupRoot() string { return "/" + a.Node }

// writeConfig writes the agent's KubeletConfiguration.
func (a *Agent) writeConfig() error {
	host, healthz, _ := net.SplitHostPort(a.healthz)
	_, pods, _ := net.SplitHostPort(a.pods)
	cfg := map[string]any{
		"apiVersion":         "kubelet.config.k8s.io/v1beta1",
		"kind":               "KubeletConfiguration",
		"staticPodPath":      a.Manifests,
		"healthzBindAddress": host,
		"healthzPort":        json.Number(healthz),
		"readOnlyPort":       json.Number(pods),
		"podLogsDir":         filepath.Join(a.Dir, "logs"),
		"cgroupRoot":         a.CgroupRoot(),
		// Agents share a daemon, whose images are there for tests to come, and the machine's disk
		// may be full.
		"imageGCHighThresholdPercent": 100,
		// The machine is not the tests' to change.
		"makeIPTablesUtilChains": false,
	}
	maps.Copy(cfg, a.cfg.Config)
	b, err := yaml.Marshal(cfg)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(a.Dir, "kubelet.yaml"), b, 0o644)
}

// SetConfig changes a field of the configuration for the next start.
func (a *Agent) SetConfig(field string, value any) {
	a.cfg.Config = maps.Clone(a.cfg.Config)
	if a.cfg.Config == nil {
		a.cfg.Config = map[string]any{}
	}
	a.cfg.Config[field] = value
}

// Start starts the agent and returns when it answers on /healthz.
func (a *Agent) Start() {
	a.t.Helper()
	a.Launch()
	Eventually(a.t, "the agent answers on /healthz", Patience, func() error {
		select {
		case <-a.exited:
			a.t.Fatalf("the agent exited at start: %v\n%s", a.exitErr, a.Explain())
		default:
		}
		_, err := a.Get("/healthz")
		return err
	}, a.Explain)
}

// Launch starts the agent's process without waiting for anything.
func (a *Agent) Launch() {
	a.t.Helper()
	cmd, err := a.command()
	if err != nil {
		a.t.Fatalf("start the agent: %v", err)
	}
	log, err := os.OpenFile(a.LogPath(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		a.t.Fatalf("start the agent: %v", err)
	}
	defer log.Close()
	fmt.Fprintf(log, "---- start %s\n", time.Now().Format(time.RFC3339Nano))
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		a.t.Fatalf("start the agent: %v", err)
	}
	a.cmd, a.exited, a.launched = cmd, make(chan struct{}), true
	go func(exited chan struct{}) {
		a.exitErr = cmd.Wait()
		close(exited)
	}(a.exited)
}

func (a *Agent) command() (*exec.Cmd, error) {
	binary, err := Binary()
	if err != nil {
		return nil, err
	}
	if err := a.writeConfig(); err != nil {
		return nil, err
	}
	cmd := exec.Command(binary, a.Flags()...)
	cmd.Dir, cmd.Env = a.Dir, append(environ(), a.cfg.Env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return cmd, nil
}

// Run runs a subcommand of the binary and returns its output.
func (a *Agent) Run(args ...string) (stdout, stderr string, err error) {
	a.t.Helper()
	binary, err := Binary()
	if err != nil {
		a.t.Fatalf("%v", err)
	}
	ctx, cancel := context.WithTimeout(a.t.Context(), 2*Patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Dir, cmd.Env = a.Dir, append(environ(), a.cfg.Env...)
	var out, errOut strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err = cmd.Run()
	return out.String(), errOut.String(), err
}

// Kill ends the agent with SIGKILL and waits until it has ended. It does nothing if
// the agent is not running.
func (a *Agent) Kill() { a.signal(syscall.SIGKILL) }

// Interrupt ends the agent as Ctrl-C does, after a look at what it leaves.
func (a *Agent) Interrupt() {
	a.t.Helper()
	a.checkRunning()
	a.signal(syscall.SIGINT)
	if a.exitErr != nil {
		a.t.Errorf("the agent's exit after SIGINT: %v", a.exitErr)
	}
}

func (a *Agent) signal(s syscall.Signal) {
	if a.cmd == nil {
		return
	}
	_ = a.cmd.Process.Signal(s)
	select {
	case <-a.exited:
	case <-time.After(Patience):
		a.t.Errorf("the agent does not end after %v within %v\n%s", s, Patience, a.Explain())
		_ = a.cmd.Process.Kill()
		<-a.exited
	}
	a.cmd = nil
}

// WaitExit waits for the agent to end by itself and returns the result.
func (a *Agent) WaitExit() error {
	a.t.Helper()
	select {
	case <-a.exited:
	case <-time.After(Patience):
		a.t.Fatalf("the agent still runs after %v\n%s", Patience, a.Explain())
	}
	a.cmd = nil
	return a.exitErr
}

// PID of the running agent.
func (a *Agent) PID() int { return a.cmd.Process.Pid }

// Get fetches a path of the healthz server (/healthz) or of the read-only server
// (all others).
func (a *Agent) Get(path string) ([]byte, error) {
	host := a.pods
	if path == "/healthz" {
		host = a.healthz
	}
	resp, err := a.http.Get("http://" + host + path)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("GET %s: %s: %s", path, resp.Status, strings.TrimSpace(string(body)))
	}
	return body, err
}

// Why asks the agent at its socket why a pod does not run as wanted; an empty namespace or name is any.
func (a *Agent) Why(ctx context.Context, namespace, pod string) (why.Report, error) {
	var r why.Report
	body, err := a.local(ctx, server.WhyPath, url.Values{"namespace": {namespace}, "pod": {pod}})
	if err != nil {
		return r, err
	}
	return r, json.Unmarshal(body, &r)
}

// Listening returns host:port of all that the running agent listens on, its streaming server too.
func (a *Agent) Listening() []string {
	a.t.Helper()
	fs, err := procfs.NewDefaultFS()
	if err != nil {
		a.t.Fatalf("%v", err)
	}
	agent, err := fs.Proc(a.PID())
	if err != nil {
		a.t.Fatalf("%v", err)
	}
	open, err := agent.FileDescriptorTargets()
	if err != nil {
		a.t.Fatalf("%v", err)
	}
	four, err4 := netlink.SocketDiagTCP(unix.AF_INET)
	six, err6 := netlink.SocketDiagTCP(unix.AF_INET6)
	if err := errors.Join(err4, err6); err != nil {
		a.t.Fatalf("%v", err)
	}
	var all []string
	for _, s := range slices.Concat(four, six) {
		if s.State == netlink.TCP_LISTEN && slices.Contains(open, fmt.Sprintf("socket:[%d]", s.INode)) {
			all = append(all, net.JoinHostPort(s.ID.Source.String(), strconv.Itoa(int(s.ID.SourcePort))))
		}
	}
	return all
}

// Healthz is host:port of the healthz server.
func (a *Agent) Healthz() string { return a.healthz }

// ReadOnly is host:port of the read-only server.
func (a *Agent) ReadOnly() string { return a.pods }

// Pods fetches /pods.
func (a *Agent) Pods() (*v1.PodList, error) {
	body, err := a.Get("/pods")
	if err != nil {
		return nil, err
	}
	list := &v1.PodList{}
	if err := json.Unmarshal(body, list); err != nil {
		return nil, fmt.Errorf("read /pods: %w", err)
	}
	return list, nil
}

// Containers lists the Docker containers of this node's pods, sandboxes and dead
// ones included, newest first.
func (a *Agent) Containers() ([]container.Summary, error) {
	all, err := a.Docker.Client.ContainerList(context.Background(), container.ListOptions{All: true})
	if err != nil {
		return nil, err
	}
	var own []container.Summary
	for _, c := range all {
		if a.owns(c) {
			own = append(own, c)
		}
	}
	return own, nil
}

// owns reports whether a container belongs to this node, by the state directory of
// the dockershim that made it, or by the pod's name, which ends in the node's.
func (a *Agent) owns(c container.Summary) bool {
	if c.Labels[stateLabel] == filepath.Join(a.Dir, "shim") {
		return true
	}
	for _, n := range c.Names {
		if strings.HasPrefix(n, "/k8s_") && strings.Contains(n, "-"+a.Node+"_") {
			return true
		}
	}
	return false
}

// stateLabel is the label in which a dockershim's containers have its state
// directory.
const stateLabel = "io.mini-kubelet.state-dir"

func (a *Agent) removeContainers() {
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	own, err := a.Containers()
	if client.IsErrConnectionFailed(err) {
		return // the daemon is gone, and with it all that it had
	}
	for _, c := range own {
		rmErr := a.Docker.Client.ContainerRemove(ctx, c.ID, container.RemoveOptions{Force: true, RemoveVolumes: true})
		// A conflict: Docker is already removing it, as the killed agent had asked.
		if rmErr != nil && !cerrdefs.IsNotFound(rmErr) && !cerrdefs.IsConflict(rmErr) {
			err = errors.Join(err, rmErr)
		}
	}
	if err != nil {
		a.t.Errorf("remove the containers of agent %s: %v", a.Node, err)
	}
}

// LogPath is the agent's log file.
func (a *Agent) LogPath() string { return filepath.Join(a.Dir, "agent.log") }

// Log returns everything that the agent has logged, over all its starts.
func (a *Agent) Log() string {
	b, err := os.ReadFile(a.LogPath())
	if err != nil {
		return ""
	}
	return string(b)
}

// Explain returns what helps when a test fails: pods, containers, log.
func (a *Agent) Explain() string {
	var b strings.Builder
	fmt.Fprintf(&b, "agent %s:\n", a.Node)
	if list, err := a.Pods(); err != nil {
		fmt.Fprintf(&b, "  /pods: %v\n", err)
	} else {
		for _, p := range list.Items {
			fmt.Fprintf(&b, "  pod %s %s: %s\n", p.Name, p.UID, describeStatus(&p.Status))
		}
	}
	if own, err := a.Containers(); err != nil {
		fmt.Fprintf(&b, "  docker ps: %v\n", err)
	} else {
		for _, c := range own {
			fmt.Fprintf(&b, "  %s %s %s\n", c.ID[:12], strings.Join(c.Names, ","), c.Status)
		}
	}
	fmt.Fprintf(&b, "  log (%s) ends:\n%s\n", a.LogPath(), tail(a.LogPath(), 60))
	return b.String()
}

func describeStatus(s *v1.PodStatus) string {
	text := fmt.Sprintf("%s reason=%q message=%q IP=%s", s.Phase, s.Reason, s.Message, s.PodIP)
	for _, c := range append(s.InitContainerStatuses[:len(s.InitContainerStatuses):len(s.InitContainerStatuses)], s.ContainerStatuses...) {
		state, _ := json.Marshal(c.State)
		text += fmt.Sprintf("; %s restarts=%d ready=%v %s", c.Name, c.RestartCount, c.Ready, state)
	}
	return text
}

// Ports for agents are below those that the kernel gives to outgoing connections,
// which could take a port between being found free and being listened on.
const firstPort, portCount = 22000, 10000

// portsTaken counts the ports that this process has given out.
var portsTaken atomic.Int64

// FreePort returns a loopback address with a port that is free and that no other
// agent of this process has.
func FreePort(t T) string {
	t.Helper()
	for range portCount {
		// Test binaries that run at the same time start at different ports.
		n := firstPort + (int64(os.Getpid())*97+portsTaken.Add(1))%portCount
		address := net.JoinHostPort("127.0.0.1", strconv.FormatInt(n, 10))
		l, err := net.Listen("tcp", address)
		if err != nil {
			continue
		}
		l.Close()
		return address
	}
	t.Fatalf("no port from %d on is free", firstPort)
	return ""
}
