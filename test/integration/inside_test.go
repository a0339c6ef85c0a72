package integration

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/mini-kubelet/mini-kubelet/pkg/journal"
	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

// inside runs a command that goes by the agent's socket. Its root directory is given after the
// subcommand.
func inside(ctx context.Context, t *testing.T, a *harness.Agent, args ...string) *exec.Cmd {
	t.Helper()
	binary, err := harness.Binary()
	if err != nil {
		t.Fatal(err)
	}
	args = append([]string{args[0], "--root-dir", filepath.Join(a.Dir, "root")}, args[1:]...)
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Dir = a.Dir
	return cmd
}

// result is what a command has done.
type result struct {
	out, err string
	code     int
}

// look runs a command to its end.
func look(t *testing.T, a *harness.Agent, stdin string, args ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), harness.Patience)
	defer cancel()
	cmd := inside(ctx, t, a, args...)
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &errs
	err := cmd.Run()
	var exited *exec.ExitError
	if err != nil && !errors.As(err, &exited) {
		t.Fatalf("mini-kubelet %s: %v", strings.Join(args, " "), err)
	}
	return result{out.String(), errs.String(), cmd.ProcessState.ExitCode()}
}

func TestLookingIntoPods(t *testing.T) {
	a := start(t)
	a.Write("web.yaml", harness.Pod("web", "echo out; echo err >&2; trap 'exit 0' TERM; while :; do sleep 3600 & wait $!; done", func(p *v1.Pod) {
		p.Spec.Containers[0].Ports = []v1.ContainerPort{{Name: "served", ContainerPort: 8080}}
		p.Spec.Containers = append(p.Spec.Containers,
			harness.Container("files", "head -c 10485760 /dev/urandom >/tmp/big; httpd -f -p 8080 -h /tmp"),
			harness.Container("echo", "cat"))
		p.Spec.Containers[1].ReadinessProbe = &v1.Probe{ // the file is whole by then
			ProbeHandler: v1.ProbeHandler{TCPSocket: &v1.TCPSocketAction{Port: intstr.FromInt32(8080)}}, PeriodSeconds: 1, TimeoutSeconds: 60,
		}
		p.Spec.Containers[2].Stdin = true
	}))
	a.Write("again.yaml", harness.Pod("again", "echo attempt; exec sleep 1000"))
	web := a.WaitRunning("web")
	a.WaitRunning("again")

	t.Run("logs", func(t *testing.T) {
		var r result
		harness.Eventually(t, "the container has spoken", harness.Patience, func() error {
			if r = look(t, a, "", "logs", "web"); strings.Count(r.out, "\n") < 2 {
				return fmt.Errorf("%+v", r)
			}
			return nil
		}, a.Explain)
		if r.code != 0 || !strings.Contains(r.out, "out\n") || !strings.Contains(r.out, "err\n") || !strings.Contains(r.err, `Defaulted container "c" out of: c, files, echo`) {
			t.Errorf("%+v", r)
		}
		if r := look(t, a, "", "logs", web.Name, "-c", "c", "--tail", "1", "--timestamps"); r.code != 0 || r.err != "" || !regexp.MustCompile(`^\d{4}-\S+Z (out|err)\n$`).MatchString(r.out) {
			t.Errorf("%+v", r)
		}
		if r := look(t, a, "", "logs", "web", "--all-containers", "--prefix", "-n", "default"); r.code != 0 || !strings.Contains(r.out, "[pod/"+web.Name+"/c] out\n") {
			t.Errorf("%+v", r)
		}
		if r := look(t, a, "", "logs", "web", "c", "-p"); r.code != 1 || !strings.Contains(r.err, "previous terminated container") {
			t.Errorf("%+v", r)
		}
	})
	t.Run("what is wrong is said plainly", func(t *testing.T) {
		for _, tt := range []struct {
			args []string
			want string
		}{
			{[]string{"logs", "wbe"}, "near it: default/" + web.Name},
			{[]string{"logs", "web", "-n", "shop"}, `no pod "web" in namespace "shop"`},
			{[]string{"logs", "web", "-c", "nginx"}, "it has c, files, echo"},
			{[]string{"exec", "web", "sh"}, "after -- the command"},
			{[]string{"exec", "web", "--", "/nothing"}, "/nothing"},
			{[]string{"port-forward", "web", "8080:https"}, `has no port "https"`},
		} {
			// What Docker says of a command that it cannot run is on standard output.
			if r := look(t, a, "", tt.args...); r.code == 0 || !strings.Contains(r.err+r.out, tt.want) {
				t.Errorf("%v: %+v, want %q", tt.args, r, tt.want)
			}
		}
		elsewhere := filepath.Join(t.TempDir(), "none")
		if _, stderr, err := a.Run("logs", "web", "--root-dir", elsewhere); err == nil || !strings.Contains(stderr, elsewhere) || !strings.Contains(stderr, "no agent answers") {
			t.Errorf("%v, %q", err, stderr)
		}
	})
	t.Run("exec", func(t *testing.T) {
		if r := look(t, a, "", "exec", "web", "-c", "c", "--", "sh", "-c", "echo to out; echo to err >&2; exit 42"); r.code != 42 ||
			r.out != "to out\n" || r.err != "to err\ncommand terminated with exit code 42\n" {
			t.Errorf("%+v", r)
		}
		all := strings.Repeat("0123456789abcdef\x00\xff\x1b[2J", 10000)
		if r := look(t, a, all, "exec", "-i", "web", "-c", "c", "--", "cat"); r.code != 0 || r.out != all {
			t.Errorf("%d bytes came back of %d: %d %s", len(r.out), len(all), r.code, r.err)
		}
	})
	t.Run("attach", func(t *testing.T) { attachAndTalk(t, a) })
	t.Run("a terminal", func(t *testing.T) { execOnATerminal(t, a) })
	t.Run("a log is followed over a restart", func(t *testing.T) { followRestart(t, a) })
	t.Run("port-forward", func(t *testing.T) { forwardAFile(t, a) })
	t.Run("all of it is in the journal, and nothing that flowed through it", func(t *testing.T) {
		raw, all := record(t, a)
		for _, stream := range []string{
			"docker POST /exec/{id}/start <- cri Exec <- timer request exec",
			"docker POST /containers/{id}/attach <- cri Attach <- timer request attach",
			"docker port-forward {id} <- cri PortForward <- timer request port-forward",
		} {
			i := slices.IndexFunc(all, func(e journal.Shown) bool { return chain(all, e.Seq) == stream })
			if i < 0 || all[i].UID != string(web.UID) || all[i].TookNS <= 0 {
				t.Errorf("not found, or not the pod's: %s", stream)
			}
		}
		for _, flowed := range []string{"to out", "0123456789abcdef\\u0000", "exit 42"} {
			if strings.Contains(raw, flowed) {
				t.Errorf("%q is in the journal", flowed)
			}
		}
	})
	t.Run("top", func(t *testing.T) {
		harness.Eventually(t, "top shows figures", harness.Patience, func() error {
			r := look(t, a, "", "top")
			for _, want := range []string{
				`NAME +CPU\(cores\) +CPU\(%\) +MEMORY\(bytes\) +MEMORY\(%\)\n` + a.Node + ` +\d+m +\d+% +\d+Mi +\d+%\n`,
				`NAMESPACE +NAME +CPU\(cores\) +MEMORY\(bytes\)\n(.*\n)*default +` + web.Name + ` +\d+m +\d+Mi\n`,
			} {
				if r.code != 0 || !regexp.MustCompile(want).MatchString(r.out) {
					return fmt.Errorf("%d %s%s, want %s", r.code, r.out, r.err, want)
				}
			}
			return nil
		}, a.Explain)
		harness.Eventually(t, "top shows figures of each container", harness.Patience, func() error {
			r := look(t, a, "", "top", "pod", "web", "--containers", "--no-headers")
			if r.code != 0 || strings.Count(r.out, "\n") != 3 || !regexp.MustCompile(`default +`+web.Name+` +files +\d+m +\d+Mi\n`).MatchString(r.out) {
				return fmt.Errorf("%+v", r)
			}
			return nil
		}, a.Explain)
	})
	t.Run("events", func(t *testing.T) {
		r := look(t, a, "", "events", "web")
		if r.code != 0 || !regexp.MustCompile(`LAST SEEN +TYPE +REASON +OBJECT +MESSAGE\n(.*\n)*default +\S+.* Normal +Started +Pod/`+web.Name+` +`).MatchString(r.out) || strings.Contains(r.out, "Pod/again") {
			t.Errorf("%+v", r)
		}
	})
	t.Run("fifty at once", func(t *testing.T) {
		var wg sync.WaitGroup
		for i := range 50 {
			wg.Go(func() {
				want := fmt.Sprintf("mine is %d\n", i)
				if r := look(t, a, want, "exec", "-i", "web", "-c", "c", "-q", "--", "sh", "-c", fmt.Sprintf("cat; exit %d", i)); r.code != i || r.out != want {
					t.Errorf("%d: %+v", i, r)
				}
			})
		}
		wg.Wait()
	})
}

// attachAndTalk writes to a container that sends back what it reads.
func attachAndTalk(t *testing.T, a *harness.Agent) {
	cmd := inside(t.Context(), t, a, "attach", "-i", "web", "-c", "echo")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Wait() }()
	defer func() { _ = cmd.Process.Signal(syscall.SIGTERM) }()
	if _, err := io.WriteString(in, "is anybody there\n"); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "is anybody there\n" {
		t.Errorf("%q, %v", line, err)
	}
}

// openTerminal returns both ends of a pseudo terminal.
func openTerminal(t *testing.T) (ours, theirs *os.File) {
	t.Helper()
	ours, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("needs a pseudo terminal: %v", err)
	}
	t.Cleanup(func() { ours.Close() })
	fd := int(ours.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	theirs, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { theirs.Close() })
	return ours, theirs
}

// said collects what a terminal shows.
type said struct {
	mu   sync.Mutex
	text strings.Builder
}

func (s *said) read(from io.Reader) {
	buf := make([]byte, 4096)
	for {
		n, err := from.Read(buf)
		s.mu.Lock()
		s.text.Write(buf[:n])
		s.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func (s *said) has(want string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !strings.Contains(s.text.String(), want) {
		return fmt.Errorf("no %q in %q", want, s.text.String())
	}
	return nil
}

// execOnATerminal runs a shell on a terminal that changes its size, and ends it once by itself and
// once by a signal.
func execOnATerminal(t *testing.T, a *harness.Agent) {
	for _, signal := range []bool{false, true} {
		ours, theirs := openTerminal(t)
		before, err := term.GetState(int(theirs.Fd()))
		if err != nil {
			t.Fatal(err)
		}
		resize := func(rows, columns uint16) {
			t.Helper()
			if err := unix.IoctlSetWinsize(int(ours.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: columns}); err != nil {
				t.Fatal(err)
			}
		}
		resize(33, 111)
		cmd := inside(t.Context(), t, a, "exec", "-it", "web", "-c", "c", "--", "sh")
		cmd.Stdin, cmd.Stdout, cmd.Stderr = theirs, theirs, theirs
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		var shown said
		go shown.read(ours)
		says := func(input, want string) {
			t.Helper()
			harness.Eventually(t, "the shell says "+want, harness.Patience, func() error {
				if err := shown.has(want); err == nil {
					return nil
				}
				if _, err := io.WriteString(ours, input); err != nil { // again: the new size may come after it
					return err
				}
				return shown.has(want)
			}, a.Explain)
		}
		says("stty size\n", "33 111\r\n")
		resize(44, 122)
		says("stty size\n", "44 122\r\n")
		want := 7
		if signal {
			want = 130
			_ = cmd.Process.Signal(syscall.SIGTERM)
		} else if _, err := io.WriteString(ours, "exit 7\n"); err != nil {
			t.Fatal(err)
		}
		if _ = cmd.Wait(); cmd.ProcessState.ExitCode() != want {
			t.Errorf("exit code %d, want %d", cmd.ProcessState.ExitCode(), want)
		}
		after, err := term.GetState(int(theirs.Fd()))
		if err != nil || *after != *before {
			t.Errorf("the terminal is not as before: %+v, %+v, %v", before, after, err)
		}
	}
}

// followRestart follows a log while the container ends and is started again.
func followRestart(t *testing.T, a *harness.Agent) {
	cmd := inside(t.Context(), t, a, "logs", "-f", "again")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Wait() }()
	defer func() { _ = cmd.Process.Signal(syscall.SIGTERM) }()
	lines := bufio.NewReader(out)
	for attempt := range 2 {
		if line, err := lines.ReadString('\n'); err != nil || line != "attempt\n" {
			t.Fatalf("attempt %d: %q, %v", attempt, line, err)
		}
		if attempt == 0 {
			kill(t, a, "again")
		}
	}
}

// forwardAFile loads 10 MB through a forwarded port, by the name of the pod's port.
func forwardAFile(t *testing.T, a *harness.Agent) {
	sum := look(t, a, "", "exec", "web", "-c", "files", "--", "sha256sum", "/tmp/big")
	if sum.code != 0 {
		t.Fatalf("%+v", sum)
	}
	cmd := inside(t.Context(), t, a, "port-forward", "web", ":served")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Wait() }()
	defer func() { _ = cmd.Process.Signal(syscall.SIGTERM) }()
	line, err := bufio.NewReader(out).ReadString('\n')
	found := regexp.MustCompile(`^Forwarding from (127\.0\.0\.1:\d+) -> 8080\n$`).FindStringSubmatch(line)
	if err != nil || found == nil {
		t.Fatalf("%q, %v", line, err)
	}
	conn, err := net.Dial("tcp", found[1])
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(harness.Patience))
	fmt.Fprintf(conn, "GET /big HTTP/1.0\r\n\r\n")
	all, err := io.ReadAll(conn)
	_, body, ok := bytes.Cut(all, []byte("\r\n\r\n"))
	if got := fmt.Sprintf("%x", sha256.Sum256(body)); err != nil || !ok || !strings.HasPrefix(sum.out, got) {
		t.Errorf("%d bytes with the sum %s, want %s (%v)", len(body), got, sum.out, err)
	}
}

// TestTheSocketAfterACrash kills the agent and starts it again, and looks who can use its socket.
func TestTheSocketAfterACrash(t *testing.T) {
	a := start(t)
	a.Write("web.yaml", harness.Pod("web", ""))
	a.WaitRunning("web")
	socket := filepath.Join(a.Dir, "root", "mini-kubelet", "api", "agent.sock")
	a.Kill()
	if _, err := os.Lstat(socket); err != nil {
		t.Errorf("a killed agent leaves its socket, and the test wants it: %v", err)
	}
	if r := look(t, a, "", "exec", "web", "--", "true"); r.code != 1 || !strings.Contains(r.err, "no agent answers at socket "+socket) {
		t.Errorf("%+v", r)
	}
	a.Start()
	a.WaitRunning("web")
	if r := look(t, a, "", "exec", "web", "--", "true"); r.code != 0 {
		t.Errorf("%+v", r)
	}
	for name, want := range map[string]os.FileMode{socket: 0o600, filepath.Dir(socket): 0o700} {
		if fi, err := os.Lstat(name); err != nil || fi.Mode().Perm() != want {
			t.Errorf("%s: %v, want %v", name, fi.Mode(), want)
		}
	}
	t.Run("not by others", func(t *testing.T) {
		dir, err := os.MkdirTemp("", "mini-kubelet-nobody-")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.RemoveAll(dir) })
		cmd := inside(t.Context(), t, a, "exec", "web", "--", "true")
		program, err := os.ReadFile(cmd.Path)
		if err == nil {
			err = errors.Join(os.WriteFile(filepath.Join(dir, "mini-kubelet"), program, 0o755), os.Chmod(dir, 0o755))
		}
		if err != nil {
			t.Fatal(err)
		}
		cmd.Path, cmd.Dir = filepath.Join(dir, "mini-kubelet"), dir
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		out, err := cmd.CombinedOutput()
		if err == nil || !strings.Contains(string(out), "no permission to open the agent's socket") {
			t.Errorf("%v: %s", err, out)
		}
	})
	for _, address := range a.Listening() {
		if strings.HasSuffix(address, ":10250") {
			t.Errorf("with the defaults it listens on %s", address)
		}
	}
	if !strings.Contains(a.Log(), "The kubelet API is not served on the network") {
		t.Error("it does not say that its port is not served")
	}
	a.Interrupt()
	if _, err := os.Lstat(socket); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("after an orderly end the socket is still there: %v", err)
	}
}
