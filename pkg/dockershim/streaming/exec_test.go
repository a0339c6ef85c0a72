package streaming

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"k8s.io/client-go/tools/remotecommand"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
	utilexec "k8s.io/utils/exec"

	"github.com/mini-kubelet/mini-kubelet/test/testrun"
)

// stream runs one session and returns what it gave.
func stream(t testing.TB, visit func(string) (remotecommand.Executor, error), u string, opts remotecommand.StreamOptions) (stdout, stderr string, err error) {
	t.Helper()
	e, err := visit(u)
	if err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	if opts.Stdout == nil {
		opts.Stdout = &out
	}
	if !opts.Tty && opts.Stderr == nil {
		opts.Stderr = &errs
	}
	ctx, cancel := context.WithTimeout(context.Background(), testrun.Patience)
	defer cancel()
	err = e.StreamWithContext(ctx, opts)
	return out.String(), errs.String(), err
}

func exitCode(err error) int {
	var exit utilexec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitStatus()
	}
	if err != nil {
		return -1
	}
	return 0
}

func TestExecOutputAndExitCode(t *testing.T) {
	c := dockerClient(t)
	s := startServer(t, c)
	id := startContainer(t, c, forever)
	leavesNothing(t)
	eachTransport(t, func(t *testing.T, visit func(string) (remotecommand.Executor, error)) {
		u := execURL(t, s, &cri.ExecRequest{ContainerId: id, Cmd: []string{"sh", "-c", "echo out; echo err >&2; exit 42"}, Stdout: true, Stderr: true})
		out, errs, err := stream(t, visit, u, remotecommand.StreamOptions{})
		if out != "out\n" || errs != "err\n" || exitCode(err) != 42 {
			t.Errorf("got %q, %q, %v", out, errs, err)
		}
		u = execURL(t, s, &cri.ExecRequest{ContainerId: id, Cmd: []string{"true"}, Stdout: true, Stderr: true})
		if _, _, err := stream(t, visit, u, remotecommand.StreamOptions{}); err != nil {
			t.Errorf("exit code 0: %v", err)
		}
		u = execURL(t, s, &cri.ExecRequest{ContainerId: id, Cmd: []string{"nonsense"}, Stdout: true, Stderr: true})
		if out, errs, err := stream(t, visit, u, remotecommand.StreamOptions{}); !strings.Contains(out+errs, "executable file not found") || (exitCode(err) != 126 && exitCode(err) != 127) {
			t.Errorf("unknown command: %q, %q, %v", out, errs, err)
		}
	})
}

// The command sees the end of stdin and can still answer.
func TestExecStdinHalfClose(t *testing.T) {
	c := dockerClient(t)
	s := startServer(t, c)
	id := startContainer(t, c, forever)
	leavesNothing(t)
	input := strings.Repeat("0123456789abcdef", 1<<16) // 1 MiB
	eachTransport(t, func(t *testing.T, visit func(string) (remotecommand.Executor, error)) {
		if strings.HasSuffix(t.Name(), "v4") {
			return // WebSocket protocols before v5 cannot half-close
		}
		u := execURL(t, s, &cri.ExecRequest{ContainerId: id, Cmd: []string{"sh", "-c", "cat; echo end; exit 3"}, Stdin: true, Stdout: true, Stderr: true})
		out, _, err := stream(t, visit, u, remotecommand.StreamOptions{Stdin: strings.NewReader(input)})
		if out != input+"end\n" || exitCode(err) != 3 {
			t.Errorf("got %d bytes ending in %q, %v", len(out), out[max(0, len(out)-20):], err)
		}
	})
}

// The output may end long before the command, and input before a terminal's output.
func TestExecWaitsForTheCommand(t *testing.T) {
	c := dockerClient(t)
	s := startServer(t, c)
	id := startContainer(t, c, forever)
	leavesNothing(t)
	silent := []string{"sh", "-c", "exec >&- 2>&-; sleep 0.5; exit 4"}
	r, err := s.ExecSync(context.Background(), &cri.ExecSyncRequest{ContainerId: id, Cmd: silent, Timeout: patience})
	if err != nil || r.ExitCode != 4 {
		t.Errorf("ExecSync: %v, %v", r, err)
	}
	eachTransport(t, func(t *testing.T, visit func(string) (remotecommand.Executor, error)) {
		u := execURL(t, s, &cri.ExecRequest{ContainerId: id, Cmd: silent, Stdout: true, Stderr: true})
		if _, _, err := stream(t, visit, u, remotecommand.StreamOptions{}); exitCode(err) != 4 {
			t.Errorf("without output: %v", err)
		}
		u = execURL(t, s, &cri.ExecRequest{ContainerId: id, Cmd: []string{"sh", "-c", "read x; sleep 0.3; echo got $x; exit 5"}, Stdin: true, Stdout: true, Tty: true})
		out, _, err := stream(t, visit, u, remotecommand.StreamOptions{Stdin: strings.NewReader("typed\n"), Tty: true})
		if exitCode(err) != 5 || !strings.HasSuffix(out, "got typed\r\n") {
			t.Errorf("terminal without more input: %q, %v", out, err)
		}
	})
}

// A command may end before its input does.
func TestExecThatLeavesStdinUnread(t *testing.T) {
	c := dockerClient(t)
	s := startServer(t, c)
	id := startContainer(t, c, forever)
	leavesNothing(t)
	eachTransport(t, func(t *testing.T, visit func(string) (remotecommand.Executor, error)) {
		r, w := io.Pipe()
		defer w.Close() // never written to while the command runs
		u := execURL(t, s, &cri.ExecRequest{ContainerId: id, Cmd: []string{"echo", "done"}, Stdin: true, Stdout: true, Stderr: true})
		out, _, err := stream(t, visit, u, remotecommand.StreamOptions{Stdin: r})
		if out != "done\n" || err != nil {
			t.Errorf("got %q, %v", out, err)
		}
	})
}

type sizes chan remotecommand.TerminalSize

func (s sizes) Next() *remotecommand.TerminalSize {
	size, ok := <-s
	if !ok {
		return nil
	}
	return &size
}

func TestExecTTYWithResize(t *testing.T) {
	c := dockerClient(t)
	s := startServer(t, c)
	id := startContainer(t, c, forever)
	leavesNothing(t)
	eachTransport(t, func(t *testing.T, visit func(string) (remotecommand.Executor, error)) {
		size := make(sizes, 1)
		size <- remotecommand.TerminalSize{Width: 101, Height: 37}
		defer close(size)
		r, w := io.Pipe()
		defer w.Close()
		// The second size is sent when the first has arrived, then ctrl-P, which Docker
		// would swallow as the beginning of its detach sequence, and ctrl-D.
		seen := &watcher{}
		seen.on("37 101", func() { size <- remotecommand.TerminalSize{Width: 120, Height: 40} })
		seen.on("40 120", func() { go w.Write([]byte("x\x10\n")) })
		seen.on("x^P", func() { go w.Write([]byte("\x04")) })
		script := `until stty size | grep -q "37 101"; do true; done; stty size; until stty size | grep -q "40 120"; do true; done; stty size; cat; exit 5`
		u := execURL(t, s, &cri.ExecRequest{ContainerId: id, Cmd: []string{"busybox", "sh", "-c", strings.ReplaceAll(script, "grep", "busybox grep")}, Stdin: true, Stdout: true, Tty: true})
		_, _, err := stream(t, visit, u, remotecommand.StreamOptions{Stdin: r, Stdout: seen, Tty: true, TerminalSizeQueue: size})
		if exitCode(err) != 5 || len(seen.left()) != 0 {
			t.Errorf("got %v, did not see %q in %q", err, seen.left(), seen.b.String())
		}
	})
}

// watcher calls back once when texts have been written to it, in order.
type watcher struct {
	mu    sync.Mutex
	b     bytes.Buffer
	texts []string
	calls []func()
}

func (w *watcher) on(text string, call func()) {
	w.texts, w.calls = append(w.texts, text), append(w.calls, call)
}

func (w *watcher) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.b.Write(p)
	for len(w.texts) > 0 && strings.Contains(w.b.String(), w.texts[0]) {
		w.calls[0]()
		w.texts, w.calls = w.texts[1:], w.calls[1:]
	}
	return len(p), nil
}

func (w *watcher) left() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.texts
}

func TestExecManyAtOnce(t *testing.T) {
	c := dockerClient(t)
	s := startServer(t, c)
	id := startContainer(t, c, forever)
	leavesNothing(t)
	var wg sync.WaitGroup
	for i := range 9 {
		for name, visit := range transports {
			wg.Go(func() {
				r, err := s.Exec(context.Background(), &cri.ExecRequest{ContainerId: id, Cmd: []string{"sh", "-c", fmt.Sprintf("seq 1 2000; exit %d", i)}, Stdout: true, Stderr: true})
				if err != nil {
					t.Error(err)
					return
				}
				e, err := visit(r.Url)
				if err != nil {
					t.Error(err)
					return
				}
				var out bytes.Buffer
				ctx, cancel := context.WithTimeout(context.Background(), testrun.Patience)
				defer cancel()
				err = e.StreamWithContext(ctx, remotecommand.StreamOptions{Stdout: &out, Stderr: io.Discard})
				if exitCode(err) != i || !strings.HasSuffix(out.String(), "\n2000\n") {
					t.Errorf("%s: %d bytes, %v", name, out.Len(), err)
				}
			})
		}
	}
	wg.Wait()
}

// A client that goes while its command says nothing leaves nothing behind, and a
// terminal's command is told.
func TestExecWhenTheClientVanishes(t *testing.T) {
	c := dockerClient(t)
	s := startServer(t, c)
	id := startContainer(t, c, forever)
	leavesNothing(t)
	eachTransport(t, func(t *testing.T, visit func(string) (remotecommand.Executor, error)) {
		for _, tty := range []bool{false, true} {
			mark := "464646"
			script := "echo ready; sleep " + mark
			if !tty {
				script = "echo ready; cat; touch /tmp/saw-eof"
			}
			u := execURL(t, s, &cri.ExecRequest{ContainerId: id, Cmd: []string{"sh", "-c", script}, Stdin: true, Stdout: true, Tty: tty})
			e, err := visit(u)
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(context.Background())
			ready := &watcher{}
			ready.on("ready", cancel)
			r, w := io.Pipe()
			if err := e.StreamWithContext(ctx, remotecommand.StreamOptions{Stdin: r, Stdout: ready, Tty: tty}); err == nil {
				t.Error("session ended by itself")
			}
			cancel()
			w.Close()
			if tty {
				testrun.Eventually(t, "terminal's command has ended", func() bool { return processesWith(t, mark) == 0 })
			} else {
				testrun.Eventually(t, "command has seen the end of stdin", func() bool {
					r, err := s.ExecSync(context.Background(), &cri.ExecSyncRequest{ContainerId: id, Cmd: []string{"rm", "/tmp/saw-eof"}})
					return err == nil && r.ExitCode == 0
				})
			}
		}
	})
}

// zeros is input without an end.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// A client goes whose input the command does not read.
func TestExecWhenTheClientVanishesBehindItsInput(t *testing.T) {
	c := dockerClient(t)
	s := startServer(t, c)
	id := startContainer(t, c, forever)
	eachTransport(t, func(t *testing.T, visit func(string) (remotecommand.Executor, error)) {
		leavesNothing(t)
		u := execURL(t, s, &cri.ExecRequest{ContainerId: id, Cmd: []string{"sleep", "474747"}, Stdin: true, Stdout: true})
		address, cut := relay(t, s.host)
		e, err := visit(strings.Replace(u, s.host, address, 1))
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() {
			ended <- e.StreamWithContext(context.Background(), remotecommand.StreamOptions{Stdin: zeros{}, Stdout: io.Discard})
		}()
		stopped := 0
		testrun.Eventually(t, "input has come to a stop", func() bool {
			if slices.ContainsFunc(goroutinesNow(), func(stack string) bool {
				return strings.Contains(stack, "streaming.sendInput") && strings.Contains(stack, "waitWrite")
			}) {
				stopped++
			} else {
				stopped = 0
			}
			return stopped == 20
		})
		if len(ended) > 0 {
			t.Errorf("the session ended by itself: %v", <-ended)
		}
		cut()
		soon(t, "the client ends", ended)
	})
}

// relay is between one client and a server, until it is cut off as by the end of its process.
func relay(t *testing.T, to string) (address string, cut func()) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	conns := make(chan *net.TCPConn, 2)
	go func() {
		near, err := l.Accept()
		if err != nil {
			return
		}
		far, err := net.Dial("tcp", to)
		if err != nil {
			near.Close()
			return
		}
		conns <- near.(*net.TCPConn)
		conns <- far.(*net.TCPConn)
		go func() { io.Copy(near, far); near.Close() }()
		io.Copy(far, near)
		far.Close()
	}()
	return l.Addr().String(), func() {
		for range 2 {
			c := <-conns
			c.SetLinger(0) // what was not read is not waited for
			c.Close()
		}
	}
}

// A client that does not read holds up its own command only, and ends cleanly.
func TestExecWhenTheClientIsSlow(t *testing.T) {
	c := dockerClient(t)
	s := startServer(t, c)
	id := startContainer(t, c, forever)
	leavesNothing(t)
	eachTransport(t, func(t *testing.T, visit func(string) (remotecommand.Executor, error)) {
		u := execURL(t, s, &cri.ExecRequest{ContainerId: id, Cmd: []string{"yes"}, Stdout: true, Stderr: true})
		e, err := visit(u)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		r, w := io.Pipe() // takes what is read from it and no more
		ended := make(chan error, 1)
		go func() {
			ended <- e.StreamWithContext(ctx, remotecommand.StreamOptions{Stdout: w, Stderr: io.Discard})
		}()
		if _, err := io.ReadFull(r, make([]byte, 100_000)); err != nil {
			t.Fatal(err)
		}
		// Others are served meanwhile.
		if out, err := s.ExecSync(context.Background(), &cri.ExecSyncRequest{ContainerId: id, Cmd: []string{"echo", "hi"}}); err != nil || string(out.Stdout) != "hi\n" {
			t.Errorf("another command: %v, %v", out, err)
		}
		cancel()
		r.Close()
		if err := <-ended; err == nil {
			t.Error("session ended by itself")
		}
	})
	if _, err := s.ExecSync(context.Background(), &cri.ExecSyncRequest{ContainerId: id, Cmd: []string{"sh", "-c", "kill -9 $(busybox pidof yes)"}}); err != nil {
		t.Error(err)
	}
}

func TestExecBadRequests(t *testing.T) {
	c := dockerClient(t)
	s := startServer(t, c)
	stopped := startContainer(t, c, "true")
	testrun.Eventually(t, "container has ended", func() bool {
		info, err := c.ContainerInspect(context.Background(), stopped)
		return err == nil && !info.State.Running
	})
	cmd := []string{"true"}
	tests := map[string]struct {
		req  *cri.ExecRequest
		code codes.Code
	}{
		"no container":      {&cri.ExecRequest{Cmd: cmd, Stdout: true}, codes.InvalidArgument},
		"no command":        {&cri.ExecRequest{ContainerId: stopped, Stdout: true}, codes.InvalidArgument},
		"no stream":         {&cri.ExecRequest{ContainerId: stopped, Cmd: cmd}, codes.InvalidArgument},
		"tty and stderr":    {&cri.ExecRequest{ContainerId: stopped, Cmd: cmd, Stdout: true, Stderr: true, Tty: true}, codes.InvalidArgument},
		"unknown container": {&cri.ExecRequest{ContainerId: "no-such-container", Cmd: cmd, Stdout: true}, codes.NotFound},
		"stopped container": {&cri.ExecRequest{ContainerId: stopped, Cmd: cmd, Stdout: true}, codes.FailedPrecondition},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			if r, err := s.Exec(context.Background(), tc.req); status.Code(err) != tc.code {
				t.Errorf("got %v, %v, want %v", r, err, tc.code)
			}
			attach := &cri.AttachRequest{ContainerId: tc.req.ContainerId, Stdout: tc.req.Stdout, Stderr: tc.req.Stderr, Tty: tc.req.Tty}
			if name == "no command" {
				return
			}
			if r, err := s.Attach(context.Background(), attach); status.Code(err) != tc.code {
				t.Errorf("attach: got %v, %v, want %v", r, err, tc.code)
			}
		})
	}
}

func TestURLWorksOnceAndOnlyForItsMethod(t *testing.T) {
	c := dockerClient(t)
	s := startServer(t, c)
	id := startContainer(t, c, forever)
	u := execURL(t, s, &cri.ExecRequest{ContainerId: id, Cmd: []string{"echo", "x"}, Stdout: true, Stderr: true})
	if out, _, err := stream(t, transports["SPDY"], u, remotecommand.StreamOptions{}); out != "x\n" || err != nil {
		t.Fatalf("first visit: %q, %v", out, err)
	}
	if _, _, err := stream(t, transports["SPDY"], u, remotecommand.StreamOptions{}); err == nil {
		t.Error("second visit succeeded")
	}
	u = execURL(t, s, &cri.ExecRequest{ContainerId: id, Cmd: []string{"echo", "x"}, Stdout: true})
	for _, wrong := range []string{strings.Replace(u, "/exec/", "/attach/", 1), u[:len(u)-1], strings.Replace(u, "/exec/", "/", 1)} {
		r, err := http.Get(wrong)
		if err != nil {
			t.Fatal(err)
		}
		r.Body.Close()
		if r.StatusCode != http.StatusNotFound {
			t.Errorf("GET %s: %s", wrong, r.Status)
		}
	}
	http.DefaultClient.CloseIdleConnections()
}

func TestTokens(t *testing.T) {
	var tokens tokens
	now := time.Now()
	a, err := tokens.put(asked{req: "a"}, now)
	if err != nil {
		t.Fatal(err)
	}
	if got := tokens.take(a, now.Add(tokenLife)).req; got != "a" {
		t.Errorf("in time: %v", got)
	}
	if got := tokens.take(a, now).req; got != nil {
		t.Errorf("twice: %v", got)
	}
	b, _ := tokens.put(asked{req: "b"}, now)
	if got := tokens.take(b, now.Add(tokenLife+1)).req; got != nil {
		t.Errorf("too late: %v", got)
	}
	for range maxTokens {
		if _, err := tokens.put(asked{req: "c"}, now); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := tokens.put(asked{req: "d"}, now); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("too many: %v", err)
	}
	if _, err := tokens.put(asked{req: "d"}, now.Add(tokenLife+1)); err != nil || len(tokens.reqs) != 1 {
		t.Errorf("after the others expired: %v, %d kept", err, len(tokens.reqs))
	}
}

// When the server ends, so do sessions; and clients that open no streams are dropped.
func TestSessionsEndWithTheServerAndByTimeouts(t *testing.T) {
	c := dockerClient(t)
	id := startContainer(t, c, forever)
	leavesNothing(t)
	s, err := New(Config{Docker: c, CreationTimeout: 200 * time.Millisecond, IdleTimeout: 300 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	served := make(chan error, 1)
	go func() { served <- s.Run(ctx) }()

	// Upgrades to SPDY and creates no stream.
	u, err := url.Parse(execURL(t, s, &cri.ExecRequest{ContainerId: id, Cmd: []string{"cat"}, Stdin: true, Stdout: true}))
	if err != nil {
		t.Fatal(err)
	}
	nc, err := net.Dial("tcp", u.Host)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	fmt.Fprintf(nc, "POST %s HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: v4.channel.k8s.io\r\nContent-Length: 0\r\n\r\n", u.Path)
	if _, err := io.Copy(io.Discard, nc); err != nil {
		t.Errorf("client without streams: %v", err)
	}

	// Is idle for too long.
	eachTransport(t, func(t *testing.T, visit func(string) (remotecommand.Executor, error)) {
		u := execURL(t, s, &cri.ExecRequest{ContainerId: id, Cmd: []string{"cat"}, Stdin: true, Stdout: true, Stderr: true})
		r, w := io.Pipe()
		defer w.Close()
		_, _, err := stream(t, visit, u, remotecommand.StreamOptions{Stdin: r})
		// How it ends is not said: the library closes a WebSocket as in order when it is not
		// quick enough to write why.
		if errors.Is(err, context.DeadlineExceeded) {
			t.Error("idle session did not end by itself")
		}
	})

	s.cfg.IdleTimeout = time.Hour // no session is being created
	ended := make(chan error, 1)
	u2 := execURL(t, s, &cri.ExecRequest{ContainerId: id, Cmd: []string{"sh", "-c", "echo ready; cat"}, Stdin: true, Stdout: true, Stderr: true})
	e, err := transports["WebSocket v5"](u2)
	if err != nil {
		t.Fatal(err)
	}
	ready := &watcher{}
	ready.on("ready", cancel)
	r, w := io.Pipe()
	defer w.Close()
	go func() {
		ended <- e.StreamWithContext(context.Background(), remotecommand.StreamOptions{Stdin: r, Stdout: ready, Stderr: io.Discard})
	}()
	if err := <-ended; err == nil {
		t.Error("session outlived the server")
	}
	if err := <-served; err != nil {
		t.Errorf("Run: %v", err)
	}
}
