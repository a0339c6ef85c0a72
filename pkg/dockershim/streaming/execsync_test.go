package streaming

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/client"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/crimeta"
	"github.com/mini-kubelet/mini-kubelet/test/testrun"
)

// patience is the timeout of a command that is to end in time on a busy machine, too.
const patience = int64(testrun.Patience / time.Second)

func TestExecSync(t *testing.T) {
	c := dockerClient(t)
	s := startServer(t, c)
	id := startContainer(t, c, forever)
	leavesNothing(t)
	tests := map[string]struct {
		cmd            []string
		stdout, stderr string
		code           int32
	}{
		"output and code 0":       {cmd: []string{"sh", "-c", "echo out; echo err >&2"}, stdout: "out\n", stderr: "err\n"},
		"exit code":               {cmd: []string{"sh", "-c", "exit 42"}, code: 42},
		"own exit code 127":       {cmd: []string{"sh", "-c", "echo mine; exit 127"}, code: 127, stdout: "mine\n"},
		"killed by a signal":      {cmd: []string{"sh", "-c", "kill -9 $$"}, code: 137},
		"command does not exist":  {cmd: []string{"nonsense"}, code: 127, stderr: "executable file not found"},
		"path does not exist":     {cmd: []string{"/no/such"}, code: 127, stderr: "no such file"},
		"command not executable":  {cmd: []string{"/bin/not-executable"}, code: 126, stderr: "permission denied"},
		"arguments stay separate": {cmd: []string{"echo", "a b", "$c"}, stdout: "a b $c\n"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			r, err := s.ExecSync(context.Background(), &cri.ExecSyncRequest{ContainerId: id, Cmd: tc.cmd, Timeout: patience})
			if err != nil {
				t.Fatal(err)
			}
			if r.ExitCode != tc.code || string(r.Stdout) != tc.stdout || (string(r.Stderr) != tc.stderr && (tc.stderr == "" || !strings.Contains(string(r.Stderr), tc.stderr))) {
				t.Errorf("got %d, %q, %q", r.ExitCode, r.Stdout, r.Stderr)
			}
		})
	}
}

func TestExecSyncBadRequests(t *testing.T) {
	c := dockerClient(t)
	s := startServer(t, c)
	leavesNothing(t)
	stopped := startContainer(t, c, "true")
	testrun.Eventually(t, "container has ended", func() bool {
		info, err := c.ContainerInspect(context.Background(), stopped)
		return err == nil && !info.State.Running
	})
	tests := map[string]struct {
		req  *cri.ExecSyncRequest
		code codes.Code
	}{
		"no container":      {&cri.ExecSyncRequest{Cmd: []string{"true"}}, codes.InvalidArgument},
		"no command":        {&cri.ExecSyncRequest{ContainerId: stopped}, codes.InvalidArgument},
		"negative timeout":  {&cri.ExecSyncRequest{ContainerId: stopped, Cmd: []string{"true"}, Timeout: -1}, codes.InvalidArgument},
		"unknown container": {&cri.ExecSyncRequest{ContainerId: "no-such-container", Cmd: []string{"true"}}, codes.NotFound},
		"stopped container": {&cri.ExecSyncRequest{ContainerId: stopped, Cmd: []string{"true"}}, codes.FailedPrecondition},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			if r, err := s.ExecSync(context.Background(), tc.req); status.Code(err) != tc.code {
				t.Errorf("got %v, %v, want %v", r, err, tc.code)
			}
		})
	}
}

func TestExecSyncTimeoutKillsTheWholeTree(t *testing.T) {
	c := dockerClient(t)
	s := startServer(t, c)
	id := startContainer(t, c, "sleep 424201; "+forever)
	leavesNothing(t)
	// A child, a grandchild in a session of its own, and one that ignores SIGTERM.
	script := `sleep 424242 & setsid sh -c 'sleep 424242; true' & trap '' TERM; while true; do sleep 424242; done`
	_, err := s.ExecSync(context.Background(), &cri.ExecSyncRequest{ContainerId: id, Cmd: []string{"sh", "-c", script}, Timeout: 1})
	if status.Code(err) != codes.DeadlineExceeded {
		t.Fatalf("got %v", err)
	}
	testrun.Eventually(t, "all of it is dead", func() bool { return processesWith(t, "424242") == 0 })
	if n := processesWith(t, "424201"); n == 0 {
		t.Error("the container's own process was killed")
	}
}

func TestExecSyncEndsWithItsCaller(t *testing.T) {
	c := dockerClient(t)
	s := startServer(t, c)
	id := startContainer(t, c, forever)
	t.Cleanup(func() { // when no goroutine is left that may have started one late
		if n := processesWith(t, "434343"); n != 0 {
			t.Errorf("%d processes run", n)
		}
	})
	leavesNothing(t)
	for _, after := range []time.Duration{0, time.Millisecond, 20 * time.Millisecond, 300 * time.Millisecond} {
		ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
		time.AfterFunc(after, cancel)
		_, err := s.ExecSync(ctx, &cri.ExecSyncRequest{ContainerId: id, Cmd: []string{"sleep", "434343"}})
		if status.Code(err) != codes.Canceled {
			t.Errorf("cancelled after %v: %v", after, err)
		}
	}
	testrun.Eventually(t, "all are dead", func() bool { return processesWith(t, "434343") == 0 })
}

// A background child that holds stdout open neither delays the answer nor is it killed.
func TestExecSyncWithBackgroundChild(t *testing.T) {
	c := dockerClient(t)
	s := startServer(t, c)
	leavesNothing(t)
	// Docker itself ends the output after 2 s. A busy machine may take as long for other
	// reasons, but not each time longer than for a command without a child.
	const tries = 5
	for try := 1; ; try++ {
		id := startContainer(t, c, forever) // where Docker is not busy with the child of the try before
		timed := func(script string) (*cri.ExecSyncResponse, time.Duration) {
			start := time.Now()
			r, err := s.ExecSync(context.Background(), &cri.ExecSyncRequest{ContainerId: id, Cmd: []string{"sh", "-c", script}, Timeout: patience})
			if err != nil {
				t.Fatal(err)
			}
			return r, time.Since(start)
		}
		_, plain := timed("echo ok; exit 3")
		r, took := timed("echo ok; sleep 454545 & exit 3")
		if string(r.Stdout) != "ok\n" || r.ExitCode != 3 {
			t.Errorf("got %d, %q", r.ExitCode, r.Stdout)
		}
		if n := processesWith(t, "454545"); n != try {
			t.Errorf("%d children of %d commands", n, try)
		}
		t.Logf("it took %v, without a child %v", took, plain)
		if took < plain+1500*time.Millisecond {
			return
		}
		if try == tries {
			t.Fatalf("%d times it was not faster than Docker, at last it took %v, without a child %v", tries, took, plain)
		}
	}
}

func TestExecSyncOutputIsBounded(t *testing.T) {
	c := dockerClient(t)
	s := startServer(t, c)
	id := startContainer(t, c, forever)
	leavesNothing(t)
	r, err := s.ExecSync(context.Background(), &cri.ExecSyncRequest{ContainerId: id, Cmd: []string{"sh", "-c", "dd if=/dev/zero bs=1M count=20 2>/dev/null; echo end >&2; exit 7"}})
	if err != nil {
		t.Fatal(err)
	}
	if n := len(r.Stdout) + len(r.Stderr); n != maxOutput || r.ExitCode != 7 {
		t.Errorf("%d bytes, want %d, exit code %d", n, maxOutput, r.ExitCode)
	}
	if size := proto.Size(r); size > 16<<20 {
		t.Errorf("message of %d bytes is too large for a CRI client", size)
	}
}

func TestExecSyncMassParallel(t *testing.T) {
	c := dockerClient(t)
	s := startServer(t, c)
	id := startContainer(t, c, forever)
	leavesNothing(t)
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			r, err := s.ExecSync(context.Background(), &cri.ExecSyncRequest{ContainerId: id, Cmd: []string{"sh", "-c", fmt.Sprintf("echo %d; exit %d", i, i)}, Timeout: patience})
			if err != nil {
				t.Error(err)
			} else if string(r.Stdout) != fmt.Sprintln(i) || r.ExitCode != int32(i) {
				t.Errorf("command %d: %d, %q", i, r.ExitCode, r.Stdout)
			}
		})
	}
	wg.Wait()
}

// A client that needs little output says so, and the rest is not kept at all.
func TestExecSyncKeepsNoMoreThanTheClientWants(t *testing.T) {
	c := dockerClient(t)
	s := startServer(t, c)
	id := startContainer(t, c, forever)
	leavesNothing(t)
	const limit = 10 << 10
	sent, _ := metadata.FromOutgoingContext(crimeta.OutputLimit(t.Context(), limit))
	ctx := metadata.NewIncomingContext(t.Context(), sent)
	r, err := s.ExecSync(ctx, &cri.ExecSyncRequest{ContainerId: id, Cmd: []string{"sh", "-c", "head -c 1000000 /dev/zero; echo err >&2; exit 7"}})
	if err != nil {
		t.Fatal(err)
	}
	if n := len(r.Stdout) + len(r.Stderr); n != limit || r.ExitCode != 7 {
		t.Errorf("%d bytes, want %d, exit code %d", n, limit, r.ExitCode)
	}
}

// Commands with much output wait for each other; those with little do not.
func TestLargeOutputsAreFewAtATime(t *testing.T) {
	s := serveWithoutDocker(t)
	s.leaveWithin = testrun.Patience
	var large, most atomic.Int64
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			out := &output{left: maxOutput, small: smallOutput, more: func() (bool, error) { return s.leave(context.Background()) }}
			to := part{out, &out.stdout}
			chunk := make([]byte, 100<<10)
			for range 20 {
				before := out.large
				if n, err := to.Write(chunk); n != len(chunk) || err != nil {
					t.Error(n, err)
				}
				if out.large && !before {
					n := large.Add(1)
					for seen := most.Load(); n > seen && !most.CompareAndSwap(seen, n); seen = most.Load() {
					}
				}
				if !out.large && out.stdout.Len() > smallOutput {
					t.Errorf("%d bytes without leave", out.stdout.Len())
				}
			}
			if out.stdout.Len() != 20*len(chunk) {
				t.Errorf("%d bytes were kept", out.stdout.Len())
			}
			large.Add(-1)
			s.large.Release(1)
		})
	}
	all.Wait()
	if n := most.Load(); n < 1 || n > maxLarge {
		t.Errorf("%d at a time, want at most %d", n, maxLarge)
	}
	little := &output{left: 10, small: smallOutput, more: func() (bool, error) { t.Error("asks for leave"); return true, nil }}
	to := part{little, &little.stderr}
	for range 3 {
		if n, err := to.Write(make([]byte, smallOutput)); n != smallOutput || err != nil {
			t.Error(n, err)
		}
	}
	if little.stderr.Len() != 10 || little.seen.Load() != 3*smallOutput {
		t.Errorf("kept %d of %d", little.stderr.Len(), little.seen.Load())
	}
	refused := &output{left: maxOutput, more: func() (bool, error) { return false, context.DeadlineExceeded }}
	if _, err := (part{refused, &refused.stdout}).Write([]byte("x")); err == nil {
		t.Error("kept without leave")
	}
}

// Who has leave may never end: the others get what needs none.
func TestNobodyWaitsForLeaveForEver(t *testing.T) {
	s := serveWithoutDocker(t)
	s.leaveWithin = time.Millisecond
	for range maxLarge {
		if given, err := s.leave(t.Context()); !given || err != nil {
			t.Fatal(given, err)
		}
	}
	asked := 0
	out := &output{left: maxOutput, small: 10, more: func() (bool, error) { asked++; return s.leave(t.Context()) }}
	for _, to := range []part{{out, &out.stdout}, {out, &out.stderr}, {out, &out.stdout}} {
		if n, err := to.Write(make([]byte, 7)); n != 7 || err != nil {
			t.Error(n, err)
		}
	}
	if out.stdout.Len() != 7 || out.stderr.Len() != 3 || out.large || asked != 1 || out.seen.Load() != 21 {
		t.Errorf("%d and %d bytes, large: %v, asked %d times", out.stdout.Len(), out.stderr.Len(), out.large, asked)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if given, err := s.leave(ended); given || err == nil {
		t.Error("leave for a command that has ended")
	}
}

// A command that has ended in time is not one that was killed, even if Docker never says how.
func TestAnEndThatDockerDoesNotTell(t *testing.T) {
	docker := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"ID":"x","Running":true}`)
	}))
	defer docker.Close()
	c, err := client.NewClientWithOpts(client.WithHost("tcp://" + docker.Listener.Addr().String()))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s := startServer(t, c)
	s.reportWithin = 50 * time.Millisecond
	run, cancel := context.WithDeadline(t.Context(), time.Now())
	defer cancel()
	e := &execution{server: s, id: "x", containerID: "c"}
	if _, err := e.outcome(t.Context(), run, &cri.ExecSyncRequest{ContainerId: "c", Timeout: 1}, true); status.Code(err) != codes.Unavailable {
		t.Errorf("outcome: %v", err)
	}
	if _, err := e.outcome(run, run, &cri.ExecSyncRequest{ContainerId: "c"}, true); status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("outcome when the caller has left: %v", err)
	}
}

// Docker takes up the connection of a command before it starts the command. One that it is slow to
// start, or does not start at all, has not ended well.
func TestACommandThatHasNotBegunIsNoSuccess(t *testing.T) {
	for name, startEnds := range map[string]bool{"slow": false, "never": true} {
		t.Run(name, func(t *testing.T) {
			over := make(chan struct{})
			var began atomic.Int64
			docker := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				switch {
				case strings.HasSuffix(r.URL.Path, "/exec"):
					began.Store(time.Now().UnixNano())
					w.WriteHeader(http.StatusCreated)
					_, _ = io.WriteString(w, `{"Id":"x"}`)
				case strings.HasSuffix(r.URL.Path, "/start"):
					_, _ = io.Copy(io.Discard, r.Body) // what is unread would reset the connection at its end
					conn, _, err := http.NewResponseController(w).Hijack()
					if err != nil {
						t.Error(err)
						return
					}
					defer conn.Close()
					_, _ = io.WriteString(conn, "HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.multiplexed-stream\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
					if !startEnds {
						<-over
					}
				case time.Since(time.Unix(0, began.Load())) > 1500*time.Millisecond: // there is nothing to kill
					w.WriteHeader(http.StatusNotFound)
				default:
					_, _ = io.WriteString(w, `{"ID":"x","Running":false,"ExitCode":null,"Pid":0}`)
				}
			}))
			defer docker.Close()
			defer close(over)
			c, err := client.NewClientWithOpts(client.WithHost("tcp://" + docker.Listener.Addr().String()))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			s := startServer(t, c)
			want, seconds := codes.DeadlineExceeded, int64(1)
			if startEnds {
				want, seconds = codes.Unavailable, patience // on a busy machine, the answer may take longer than 1 s
				if err := s.exec(t.Context(), "c", []string{"true"}, stdio{out: io.Discard}); status.Code(errors.Unwrap(err)) != want {
					t.Errorf("exec: %v", err)
				}
			}
			if r, err := s.ExecSync(t.Context(), &cri.ExecSyncRequest{ContainerId: "c", Cmd: []string{"true"}, Timeout: seconds}); status.Code(err) != want {
				t.Errorf("ExecSync: %v, %v", r, err)
			}
		})
	}
}

// Many at once with more than they can have: each is answered in full.
func TestExecSyncManyLargeOutputsAtOnce(t *testing.T) {
	c := dockerClient(t)
	s := startServer(t, c)
	s.leaveWithin = testrun.Patience
	id := startContainer(t, c, forever)
	leavesNothing(t)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			r, err := s.ExecSync(context.Background(), &cri.ExecSyncRequest{ContainerId: id, Cmd: []string{"head", "-c", "2000000", "/dev/zero"}, Timeout: patience})
			if err != nil || len(r.GetStdout()) != 2000000 {
				t.Errorf("%d bytes, %v", len(r.GetStdout()), err)
			}
		})
	}
	wg.Wait()
}

// Docker handles the ends of commands in one container one after the other, each for 2 s when a
// child holds the output. The verdict is the exit code all the same, however short the timeout.
func TestExecSyncVerdictsWaitForDockersQueue(t *testing.T) {
	c := dockerClient(t)
	s := startServer(t, c)
	s.reportWithin = testrun.Patience
	leavesNothing(t)
	// A busy machine may take longer than the timeout to start a command at all: then once more, with
	// more time, and with more commands, so that the queue is longer than that again.
	for timeout := int64(3); ; timeout *= 2 {
		id, mark := startContainer(t, c, forever), fmt.Sprint(464600+timeout)
		commands := int(timeout) + 1 // which take 2 s each
		var late atomic.Int64
		var wg sync.WaitGroup
		for i := range commands {
			wg.Go(func() {
				r, err := s.ExecSync(context.Background(), &cri.ExecSyncRequest{
					ContainerId: id, Cmd: []string{"sh", "-c", fmt.Sprintf("echo %d; sleep %s & exit %d", i, mark, i)}, Timeout: timeout,
				})
				switch {
				case status.Code(err) == codes.DeadlineExceeded && timeout < 24:
					late.Add(1)
				case err != nil || r.ExitCode != int32(i) || string(r.Stdout) != fmt.Sprintln(i):
					t.Errorf("command %d of %d: %v, %v", i, commands, r, err)
				}
			})
		}
		wg.Wait()
		if n := late.Load(); n > 0 {
			t.Logf("%d of %d commands were late after %d s", n, commands, timeout)
			continue
		}
		if n := processesWith(t, mark); n != commands {
			t.Errorf("%d children run, want %d", n, commands)
		}
		return
	}
}

func TestDrain(t *testing.T) {
	begin := time.Now()
	d := drain{seen: 5, until: begin.Add(time.Minute)}
	for _, tc := range []struct {
		seen int64
		at   time.Duration
		want bool
	}{{6, 0, false}, {7, time.Second, false}, {7, 2 * time.Second, true}, {8, 3 * time.Second, false}, {9, 61 * time.Second, true}} {
		if got := d.over(tc.seen, false, begin.Add(tc.at)); got != tc.want {
			t.Errorf("%d bytes after %v: %v", tc.seen, tc.at, got)
		}
	}
	// Nothing is over while the reader waits, nor as soon as it goes on.
	d = drain{seen: 5, until: begin}
	for _, tc := range []struct {
		seen    int64
		waiting bool
		at      time.Duration
		want    bool
	}{
		{5, true, time.Second, false}, {5, true, 9 * time.Second, false}, {5, false, 10 * time.Second, false},
		{6, false, 9*time.Second + drainMost, false}, {7, false, 9*time.Second + drainMost + 1, true},
	} {
		if got := d.over(tc.seen, tc.waiting, begin.Add(tc.at)); got != tc.want {
			t.Errorf("%d bytes after %v, waiting: %v: %v", tc.seen, tc.at, tc.waiting, got)
		}
	}
}

func TestBelonging(t *testing.T) {
	table := []process{
		{pid: 1, parent: 0, session: 1},
		{pid: 10, parent: 1, session: 10}, // container's own
		{pid: 11, parent: 10, session: 10},
		{pid: 20, parent: 9, session: 20}, // the command
		{pid: 21, parent: 20, session: 20},
		{pid: 22, parent: 10, session: 20}, // orphan of the command
		{pid: 23, parent: 21, session: 23}, // left the session
		{pid: 24, parent: 23, session: 24},
		{pid: 25, parent: 20, session: 20, zombie: true},
		{pid: 26, parent: 25, session: 26},
	}
	tests := map[string]struct {
		root int
		want []int
	}{
		"session, orphans and descendants": {20, []int{20, 21, 22, 23, 24, 26}},
		"only what is below":               {23, []int{23, 24}},
		"nothing":                          {99, nil},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			var got []int
			for _, p := range belonging(table, tc.root) {
				got = append(got, p.pid)
			}
			if fmt.Sprint(got) != fmt.Sprint(tc.want) {
				t.Errorf("got %v, want %v", got, tc.want)
			}
		})
	}
}

// A container chooses the shape of its process tree: a line of descent whose pids fall is
// the longest to follow. One pass for each generation would take minutes.
func TestBelongingFollowsALongLine(t *testing.T) {
	const most = 1 << 18
	table := make([]process, most)
	for i := range table {
		table[i] = process{pid: i + 1, parent: i + 2, session: i + 1}
	}
	if got := len(belonging(table, most)); got != most {
		t.Errorf("%d processes, want %d", got, most)
	}
}

func TestParseStat(t *testing.T) {
	p, err := parseStat(42, []byte("42 (a) b (c)) S 7 42 41 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 12345 1 2 3\n"))
	if want := (process{pid: 42, parent: 7, session: 41, started: 12345}); err != nil || p != want {
		t.Errorf("got %+v, %v, want %+v", p, err, want)
	}
	for _, bad := range []string{"", "42 (a", "42 (a) S 1 2", "42 (a) S x 42 41 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 12345"} {
		if p, err := parseStat(42, []byte(bad)); err == nil {
			t.Errorf("%q gives %+v", bad, p)
		}
	}
}

// A process that is not of the container is never signalled.
func TestSignalOnlyWithinTheContainer(t *testing.T) {
	c := dockerClient(t)
	one, two := startContainer(t, c, forever), startContainer(t, c, forever)
	info, err := c.ContainerInspect(context.Background(), one)
	if err != nil {
		t.Fatal(err)
	}
	p, err := readProcess(info.State.Pid)
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		p         process
		container string
	}{
		"another container": {p, two},
		"no container":      {p, ""},
		"reused pid":        {process{pid: p.pid, started: p.started + 1}, one},
	} {
		if f, err := openProcess(tc.p, tc.container); err == nil {
			f.Close()
			t.Errorf("%s: opened", name)
		}
	}
	f, err := openProcess(p, one)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
}

// BenchmarkExecSync is beside the bare API calls that do the same.
func BenchmarkExecSync(b *testing.B) {
	c := dockerClient(b)
	s := startServer(b, c)
	id := startContainer(b, c, forever)
	b.Run("shim", func(b *testing.B) {
		for b.Loop() {
			if _, err := s.ExecSync(b.Context(), &cri.ExecSyncRequest{ContainerId: id, Cmd: []string{"true"}, Timeout: 10}); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("docker", func(b *testing.B) {
		for b.Loop() {
			e, err := c.ContainerExecCreate(b.Context(), id, container.ExecOptions{Cmd: []string{"true"}, AttachStdout: true, AttachStderr: true})
			if err != nil {
				b.Fatal(err)
			}
			h, err := c.ContainerExecAttach(b.Context(), e.ID, container.ExecAttachOptions{})
			if err != nil {
				b.Fatal(err)
			}
			if err := copyOutput(h.Reader, false, nil, nil); err != nil {
				b.Fatal(err)
			}
			h.Close()
			if _, err := c.ContainerExecInspect(b.Context(), e.ID); err != nil {
				b.Fatal(err)
			}
		}
	})
}
