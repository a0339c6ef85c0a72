package harness

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// process is a program that a test runs, with a log in its directory.
type process struct {
	dir    string
	cmd    *exec.Cmd
	exited chan struct{}
}

// startProcess starts a program in a process group of its own, which Ctrl-C at the
// test does not reach.
func startProcess(dir, program string, args ...string) (*process, error) {
	log, err := os.OpenFile(filepath.Join(dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	p := &process{dir: dir, cmd: exec.Command(program, args...), exited: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.Dir, p.cmd.Env = dir, environ()
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", program, err)
	}
	go func() {
		_ = p.cmd.Wait()
		close(p.exited)
	}()
	return p, nil
}

// Program is a program of a test, such as a client of the agent.
type Program struct{ *process }

// StartProgram runs a program in a directory, which gets its log, until the test ends.
func StartProgram(t T, dir, program string, args ...string) *Program {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatalf("%v", err)
	}
	p, err := startProcess(dir, program, args...)
	if err != nil {
		t.Fatalf("%v", err)
	}
	t.Cleanup(func() { p.signal(syscall.SIGKILL) })
	return &Program{p}
}

// Log returns the last lines of what it has written.
func (p *Program) Log() string { return p.log(30) }

func (p *process) signal(s syscall.Signal) {
	_ = p.cmd.Process.Signal(s)
	<-p.exited
}

func (p *process) log(lines int) string { return tail(filepath.Join(p.dir, "log"), lines) }

// Runtime is a container runtime that serves CRI for a test.
type Runtime struct {
	cri.RuntimeServiceClient
	cri.ImageServiceClient
	Name     string // dockershim or containerd
	Endpoint string
	Dir      string   // for logs, volumes and other files of the test
	CDIDir   string   // where it looks for CDI files
	Docker   *Dockerd // nil: the containers do not run on Docker
	Shim     *Shim    // nil: it is not a dockershim

	bridge  string // of its CNI network
	process *process
	conn    *grpc.ClientConn
}

// connect waits until the runtime answers.
func (r *Runtime) connect() error {
	conn, err := grpc.NewClient(r.Endpoint, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithAuthority("localhost"),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(16<<20)))
	if err != nil {
		return err
	}
	r.conn = conn
	r.RuntimeServiceClient, r.ImageServiceClient = cri.NewRuntimeServiceClient(conn), cri.NewImageServiceClient(conn)
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	for {
		_, err := r.Status(ctx, &cri.StatusRequest{}, grpc.WaitForReady(true))
		if err == nil {
			return nil
		}
		select {
		case <-r.process.exited:
			return fmt.Errorf("%s exited at start; its log ends:\n%s", r.Name, r.process.log(20))
		case <-ctx.Done():
			return fmt.Errorf("%s does not answer: %w; its log ends:\n%s", r.Name, err, r.process.log(20))
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// Addresses lists the addresses that the host-local plug-in has given out of a CNI
// network.
func (r *Runtime) Addresses() ([]string, error) { return givenOut(r.Dir) }

// givenOut lists the addresses of the CNI network that writeCNI made in a directory.
func givenOut(dir string) ([]string, error) {
	files, err := filepath.Glob(filepath.Join(dir, "ipam", "*", "[0-9]*"))
	for i := range files {
		files[i] = filepath.Base(files[i])
	}
	return files, err
}

// PID of the runtime's process.
func (r *Runtime) PID() int { return r.process.cmd.Process.Pid }

// Log returns the last lines of the runtime's log.
func (r *Runtime) Log() string { return r.process.log(60) }

// Restart kills the runtime's process and starts it again; containers keep running.
func (r *Runtime) Restart(t T) {
	t.Helper()
	r.process.signal(syscall.SIGKILL)
	program, args := r.process.cmd.Path, r.process.cmd.Args[1:]
	p, err := startProcess(r.process.dir, program, args...)
	if err != nil {
		t.Fatalf("%v", err)
	}
	r.process = p
	_ = r.conn.Close()
	if err := r.connect(); err != nil {
		t.Fatalf("%v", err)
	}
}

// Shim says where a test's dockershim keeps its state.
type Shim struct{ StateDir string }

// StartShim runs `mini-kubelet dockershim` on a private Docker daemon until the
// test ends. extra are additional flags.
func StartShim(t T, docker *Dockerd, extra ...string) *Runtime {
	t.Helper()
	r := newShim(t, docker)
	r.runShim(t, extra...)
	return r
}

// StartShimCNI is StartShim with pods on a bridge that a CNI plug-in makes.
func StartShimCNI(t T, docker *Dockerd) *Runtime {
	t.Helper()
	r := newShim(t, docker)
	bin := CNIBinDir(t)
	if err := writeCNI(r.Dir, r.bridge); err != nil {
		t.Fatalf("%v", err)
	}
	r.runShim(t, "--network-plugin", "cni", "--cni-bin-dir", bin)
	return r
}

func newShim(t T, docker *Dockerd) *Runtime {
	t.Helper()
	dir, name, err := newDir("s")
	if err != nil {
		t.Fatalf("%v", err)
	}
	docker.LoadBusybox(t, Busybox)
	return &Runtime{Name: "dockershim", Endpoint: "unix://" + filepath.Join(dir, "cri.sock"), Dir: dir, CDIDir: docker.CDISpecDir(), Docker: docker,
		Shim: &Shim{filepath.Join(dir, "state")}, bridge: "mkt" + name}
}

func (r *Runtime) runShim(t T, extra ...string) {
	t.Helper()
	binary, err := Binary()
	if err != nil {
		t.Fatalf("%v", err)
	}
	args := []string{"dockershim", "--listen", r.Endpoint, "--docker-endpoint", r.Docker.Endpoint,
		"--dockershim-root-directory", r.Shim.StateDir, "--cni-conf-dir", filepath.Join(r.Dir, "cni"),
		"--cni-cache-dir", filepath.Join(r.Dir, "cni-cache"), "--cdi-spec-dir", r.CDIDir, "--v", "2", "--network-plugin", "docker"}
	r.run(t, binary, append(args, extra...)...)
}

// run starts the runtime, and stops it when the test ends.
func (r *Runtime) run(t T, program string, args ...string) {
	t.Helper()
	p, err := startProcess(r.Dir, program, args...)
	if err != nil {
		t.Fatalf("%v", err)
	}
	r.process = p
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("%s's log ends:\n%s", r.Name, r.Log())
		}
		r.process.signal(syscall.SIGTERM)
		if err := errors.Join(r.conn.Close(), Reap(r.Dir)); err != nil {
			t.Errorf("clean up after %s: %v", r.Name, err)
		}
	})
	if err := r.connect(); err != nil {
		t.Fatalf("%v", err)
	}
}
