package streaming

import (
	"bytes"
	"context"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"k8s.io/client-go/tools/remotecommand"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func attachURL(t testing.TB, s *Server, req *cri.AttachRequest) string {
	t.Helper()
	r, err := s.Attach(context.Background(), req)
	if err != nil {
		t.Fatal(err)
	}
	return r.Url
}

func openStdin(once bool) func(*container.Config, *container.HostConfig) {
	return func(c *container.Config, _ *container.HostConfig) { c.OpenStdin, c.StdinOnce = true, once }
}

func TestAttachStdinOnce(t *testing.T) {
	c := dockerClient(t)
	s := startServer(t, c)
	leavesNothing(t)
	eachTransport(t, func(t *testing.T, visit func(string) (remotecommand.Executor, error)) {
		if strings.HasSuffix(t.Name(), "v4") {
			return // WebSocket protocols before v5 cannot half-close
		}
		id := startContainer(t, c, "cat; echo end; echo err >&2", openStdin(true))
		u := attachURL(t, s, &cri.AttachRequest{ContainerId: id, Stdin: true, Stdout: true, Stderr: true})
		out, errs, err := stream(t, visit, u, remotecommand.StreamOptions{Stdin: strings.NewReader("typed\n")})
		if out != "typed\nend\n" || errs != "err\n" || err != nil {
			t.Errorf("got %q, %q, %v", out, errs, err)
		}
	})
}

// Without StdinOnce a container's stdin survives the client; a second one may come.
func TestAttachTwiceToTheSameStdin(t *testing.T) {
	c := dockerClient(t)
	s := startServer(t, c)
	leavesNothing(t)
	id := startContainer(t, c, "cat", openStdin(false))
	eachTransport(t, func(t *testing.T, visit func(string) (remotecommand.Executor, error)) {
		u := attachURL(t, s, &cri.AttachRequest{ContainerId: id, Stdin: true, Stdout: true, Stderr: true})
		e, err := visit(u)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		r, w := io.Pipe()
		defer w.Close()
		seen := &watcher{}
		seen.on("hello\n", cancel)
		go w.Write([]byte("hello\n"))
		if err := e.StreamWithContext(ctx, remotecommand.StreamOptions{Stdin: r, Stdout: seen, Stderr: io.Discard}); err == nil {
			t.Error("session ended by itself")
		}
		if len(seen.left()) != 0 {
			t.Errorf("got %q", seen.b.String())
		}
	})
	info, err := c.ContainerInspect(context.Background(), id)
	if err != nil || !info.State.Running {
		t.Errorf("container after its clients left: %v", err)
	}
}

func TestAttachWithoutStdinIgnoresInput(t *testing.T) {
	c := dockerClient(t)
	s := startServer(t, c)
	leavesNothing(t)
	eachTransport(t, func(t *testing.T, visit func(string) (remotecommand.Executor, error)) {
		id := startContainer(t, c, "until test -e /tmp/go; do echo ready; sleep 0.05; done; cat; echo end")
		u := attachURL(t, s, &cri.AttachRequest{ContainerId: id, Stdin: true, Stdout: true, Stderr: true})
		var wg sync.WaitGroup
		defer wg.Wait()
		seen := &watcher{}
		seen.on("ready\n", func() { // it is attached
			wg.Go(func() {
				if _, err := s.ExecSync(context.Background(), &cri.ExecSyncRequest{ContainerId: id, Cmd: []string{"touch", "/tmp/go"}}); err != nil {
					t.Error(err)
				}
			})
		})
		_, _, err := stream(t, visit, u, remotecommand.StreamOptions{Stdin: strings.NewReader("typed\n"), Stdout: seen})
		if out := strings.ReplaceAll(seen.b.String(), "ready\n", ""); out != "end\n" || err != nil {
			t.Errorf("got %q, %v", out, err)
		}
	})
}

func TestAttachTTYWithResize(t *testing.T) {
	c := dockerClient(t)
	s := startServer(t, c)
	leavesNothing(t)
	eachTransport(t, func(t *testing.T, visit func(string) (remotecommand.Executor, error)) {
		id := startContainer(t, c, `until stty size | busybox grep -q "33 99"; do true; done; stty size; head -n1; exit 3`,
			openStdin(false), func(c *container.Config, _ *container.HostConfig) { c.Tty = true })
		size := make(sizes, 1)
		size <- remotecommand.TerminalSize{Width: 99, Height: 33}
		defer close(size)
		r, w := io.Pipe()
		defer w.Close()
		seen := &watcher{}
		seen.on("33 99", func() { go w.Write([]byte("typed\n")) })
		seen.on("typed", func() {})
		u := attachURL(t, s, &cri.AttachRequest{ContainerId: id, Stdin: true, Stdout: true, Tty: true})
		_, _, err := stream(t, visit, u, remotecommand.StreamOptions{Stdin: r, Stdout: seen, Tty: true, TerminalSizeQueue: size})
		if err != nil || len(seen.left()) != 0 {
			t.Errorf("got %v, did not see %q in %q", err, seen.left(), seen.b.String())
		}
	})
}

func TestAttachWhenTheClientVanishes(t *testing.T) {
	c := dockerClient(t)
	s := startServer(t, c)
	id := startContainer(t, c, "echo; "+forever)
	leavesNothing(t)
	eachTransport(t, func(t *testing.T, visit func(string) (remotecommand.Executor, error)) {
		u := attachURL(t, s, &cri.AttachRequest{ContainerId: id, Stdout: true, Stderr: true})
		e, err := visit(u)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		defer cancel()
		if err := e.StreamWithContext(ctx, remotecommand.StreamOptions{Stdout: io.Discard, Stderr: io.Discard}); err == nil {
			t.Error("session ended by itself")
		}
	})
}

// A connection that takes nothing for too long is dropped: the container would wait.
func TestStalledConnectionIsDropped(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	all := &connections{Listener: l, sessions: map[*conn]struct{}{}}
	nc, err := all.Accept()
	if err != nil {
		t.Fatal(err)
	}
	ctx := all.context(context.Background(), nc)
	dropWhenStalled(ctx, 50*time.Millisecond)
	chunk := bytes.Repeat([]byte("x"), 1<<20)
	for {
		if _, err := nc.Write(chunk); err != nil {
			break
		}
	}
	select {
	case <-ctx.Done():
	case <-time.After(time.Minute):
		t.Error("session goes on after a stalled write")
	}
	if n := all.strangers.Len() + len(all.sessions); n != 0 {
		t.Errorf("%d connections left", n)
	}
}
