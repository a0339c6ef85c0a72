package streaming

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/client"
	"github.com/moby/spdystream"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/transport/spdy"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/streaming/pkg/httpstream"

	"github.com/mini-kubelet/mini-kubelet/test/testrun"
)

// dialers are the ways in which clients come to forward ports.
var dialers = map[string]func(u *url.URL) (httpstream.Dialer, error){
	"SPDY": func(u *url.URL) (httpstream.Dialer, error) {
		transport, upgrader, err := spdy.RoundTripperFor(&rest.Config{Host: u.Host})
		if err != nil {
			return nil, err
		}
		return spdy.NewDialerForStreaming(upgrader, &http.Client{Transport: transport}, "POST", u), nil
	},
	"WebSocket": func(u *url.URL) (httpstream.Dialer, error) {
		return portforward.NewSPDYOverWebsocketDialerForStreaming(u, &rest.Config{Host: u.Host})
	},
}

// forwardTo forwards a local port to the sandbox's port until the test ends.
func forwardTo(t testing.TB, s *Server, dialer, sandboxID string, port int) (addr string) {
	t.Helper()
	r, err := s.PortForward(context.Background(), &cri.PortForwardRequest{PodSandboxId: sandboxID, Port: []int32{int32(port)}})
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(r.Url)
	if err != nil || u.Scheme != "http" {
		t.Fatalf("URL %q: %v", r.Url, err)
	}
	dial, err := dialers[dialer](u)
	if err != nil {
		t.Fatal(err)
	}
	stop, ready := make(chan struct{}), make(chan struct{})
	f, err := portforward.NewForStreaming(dial, []string{fmt.Sprintf("0:%d", port)}, stop, ready, io.Discard, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- f.ForwardPorts() }()
	t.Cleanup(func() {
		close(stop)
		<-ended
	})
	select {
	case <-ready:
	case err := <-ended:
		t.Fatal(err)
	}
	ports, err := f.GetPorts()
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("127.0.0.1:%d", ports[0].Local)
}

// exchange sends data, closes that direction and returns all that comes back.
func exchange(addr string, data []byte) ([]byte, error) {
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	defer nc.Close()
	if err := nc.SetDeadline(time.Now().Add(testrun.Patience)); err != nil {
		return nil, err
	}
	sent := make(chan error, 1)
	go func() {
		_, err := nc.Write(data)
		if err == nil {
			err = nc.(*net.TCPConn).CloseWrite()
		}
		sent <- err
	}()
	got, err := io.ReadAll(nc)
	if err != nil {
		return got, err
	}
	return got, <-sent
}

// networkOf opens the container's network namespace until the test ends.
func networkOf(t testing.TB, c *client.Client, id string) *os.File {
	t.Helper()
	info, err := c.ContainerInspect(context.Background(), id)
	if err != nil {
		t.Fatal(err)
	}
	netns, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", info.State.Pid))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { netns.Close() })
	return netns
}

// listenIn listens inside the container's network namespace and hands connections over.
func listenIn(t testing.TB, c *client.Client, id, addr string, serve func(*net.TCPConn)) (port int) {
	t.Helper()
	netns := networkOf(t, c, id)
	var l net.Listener
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		err := unix.Setns(int(netns.Fd()), unix.CLONE_NEWNET)
		if err == nil {
			l, err = net.Listen("tcp", addr)
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer nc.Close()
				serve(nc.(*net.TCPConn))
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		serving.Wait()
	})
	return l.Addr().(*net.TCPAddr).Port
}

// echo answers only when the client has half-closed, with what it got.
func echo(nc *net.TCPConn) {
	if data, err := io.ReadAll(nc); err == nil {
		_, _ = nc.Write(append([]byte("got "), data...))
	}
}

func TestPortForward(t *testing.T) {
	c := dockerClient(t)
	s := startServer(t, c)
	id := startContainer(t, c, forever, func(_ *container.Config, h *container.HostConfig) {
		h.Sysctls = map[string]string{"net.ipv6.conf.all.disable_ipv6": "0", "net.ipv6.conf.lo.disable_ipv6": "0"}
	})
	for dialer := range dialers {
		for name, address := range map[string]string{"IPv4": "127.0.0.1:0", "IPv6": "[::1]:0"} {
			t.Run(dialer+" "+name, func(t *testing.T) {
				port := listenIn(t, c, id, address, echo)
				leavesNothing(t)
				addr := forwardTo(t, s, dialer, id, port)
				got, err := exchange(addr, []byte("hello"))
				if err != nil || string(got) != "got hello" {
					t.Errorf("got %q, %v", got, err)
				}
			})
		}
	}
}

func TestPortForwardManyConnectionsWithData(t *testing.T) {
	c := dockerClient(t)
	s := startServer(t, c)
	id := startContainer(t, c, forever)
	port := listenIn(t, c, id, "127.0.0.1:0", echo)
	data := make([]byte, 1<<20)
	rand.Read(data)
	want := sha256.Sum256(append([]byte("got "), data...))
	for dialer := range dialers {
		t.Run(dialer, func(t *testing.T) {
			leavesNothing(t)
			addr := forwardTo(t, s, dialer, id, port)
			var wg sync.WaitGroup
			for range 30 {
				wg.Go(func() {
					got, err := exchange(addr, data)
					if err != nil || sha256.Sum256(got) != want {
						t.Errorf("%d bytes, %v", len(got), err)
					}
				})
			}
			wg.Wait()
		})
	}
}

// The pod may end its direction first and still be sent data.
func TestPortForwardWhenThePodHalfCloses(t *testing.T) {
	c := dockerClient(t)
	s := startServer(t, c)
	id := startContainer(t, c, forever)
	received := make(chan string, 1)
	port := listenIn(t, c, id, "127.0.0.1:0", func(nc *net.TCPConn) {
		fmt.Fprint(nc, "bye")
		nc.CloseWrite()
		b, _ := io.ReadAll(nc)
		received <- string(b)
	})
	leavesNothing(t)
	client, server := net.Pipe()
	ended := make(chan error, 1)
	half := &halfClosed{Conn: server, closed: make(chan struct{})}
	go func() {
		ended <- forwarder{s, context.Background(), id}.PortForward(context.Background(), "", "", int32(port), half)
	}()
	b := make([]byte, 3)
	if _, err := io.ReadFull(client, b); err != nil || string(b) != "bye" {
		t.Fatalf("got %q, %v", b, err)
	}
	<-half.closed
	if _, err := client.Write([]byte("more")); err != nil {
		t.Fatal(err)
	}
	client.Close()
	if got := <-received; got != "more" {
		t.Errorf("pod got %q", got)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// halfClosed is a stream whose Close ends one direction only, like SPDY's.
type halfClosed struct {
	net.Conn
	closed chan struct{}
}

func (h *halfClosed) Close() error {
	close(h.closed)
	return nil
}

func TestPortForwardToHostNetwork(t *testing.T) {
	c := dockerClient(t)
	s := startServer(t, c)
	id := startContainer(t, c, forever, func(_ *container.Config, h *container.HostConfig) { h.NetworkMode = "host" })
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			fmt.Fprint(nc, "from the host")
			nc.Close()
		}
	}()
	leavesNothing(t)
	addr := forwardTo(t, s, "SPDY", id, l.Addr().(*net.TCPAddr).Port)
	if got, err := exchange(addr, nil); err != nil || string(got) != "from the host" {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestPortForwardToAClosedPort(t *testing.T) {
	c := dockerClient(t)
	s := startServer(t, c)
	id := startContainer(t, c, forever)
	leavesNothing(t)
	stream := &memoryStream{}
	err := forwarder{s, context.Background(), id}.PortForward(context.Background(), "", "", 81, stream)
	if err == nil || !strings.Contains(err.Error(), "127.0.0.1:81: connect: connection refused") || !strings.Contains(err.Error(), "[::1]:81") {
		t.Errorf("got %v", err)
	}
	addr := forwardTo(t, s, "SPDY", id, 81)
	if got, err := exchange(addr, nil); err == nil && len(got) > 0 {
		t.Errorf("got %q", got)
	}
	// The threads that were in the sandbox's namespace are back in the host's.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			nc, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				t.Error(err)
				return
			}
			nc.Close()
		})
	}
	wg.Wait()
}

// Connections whose client is gone end, though the server in the pod says nothing and
// does not mind.
func TestPortForwardWhenTheClientVanishes(t *testing.T) {
	c := dockerClient(t)
	s := startServer(t, c)
	id := startContainer(t, c, forever)
	for dialer := range dialers {
		t.Run(dialer, func(t *testing.T) {
			var opened, hungUp atomic.Int32
			port := listenIn(t, c, id, "127.0.0.1:0", func(nc *net.TCPConn) {
				opened.Add(1)
				_, _ = io.Copy(io.Discard, nc) // until the client has half-closed
				for {
					if _, err := nc.Write([]byte("x")); err != nil {
						hungUp.Add(1)
						return
					}
					time.Sleep(20 * time.Millisecond)
				}
			})
			leavesNothing(t)
			t.Run("client", func(t *testing.T) {
				addr := forwardTo(t, s, dialer, id, port)
				for range 5 {
					nc, err := net.Dial("tcp", addr)
					if err != nil {
						t.Fatal(err)
					}
					defer nc.Close()
				}
				testrun.Eventually(t, "connected", func() bool { return opened.Load() == 5 })
			})
			testrun.Eventually(t, "the pod's connections are closed", func() bool { return hungUp.Load() == 5 })
		})
	}
}

func TestPortForwardBadRequests(t *testing.T) {
	c := dockerClient(t)
	s := startServer(t, c)
	id := startContainer(t, c, forever)
	tests := map[string]struct {
		req  *cri.PortForwardRequest
		code codes.Code
	}{
		"no sandbox":       {&cri.PortForwardRequest{}, codes.InvalidArgument},
		"port 0":           {&cri.PortForwardRequest{PodSandboxId: id, Port: []int32{0}}, codes.InvalidArgument},
		"port too large":   {&cri.PortForwardRequest{PodSandboxId: id, Port: []int32{80, 65536}}, codes.InvalidArgument},
		"unknown sandbox":  {&cri.PortForwardRequest{PodSandboxId: "no-such-sandbox"}, codes.NotFound},
		"no port is given": {&cri.PortForwardRequest{PodSandboxId: id}, codes.OK},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			if r, err := s.PortForward(context.Background(), tc.req); status.Code(err) != tc.code {
				t.Errorf("got %v, %v, want %v", r, err, tc.code)
			}
		})
	}
}

type memoryStream struct{ bytes.Buffer }

func (*memoryStream) Close() error { return nil }

// A server in the pod that accepts nothing costs no thread for each connection to it.
func TestPortForwardToAServerThatDoesNotAccept(t *testing.T) {
	c := dockerClient(t)
	s := startServer(t, c)
	id := startContainer(t, c, forever)
	leavesNothing(t)
	port := deafIn(t, c, id)
	s.cfg.DialTimeout = time.Hour
	threads := func() int {
		entries, err := os.ReadDir("/proc/self/task")
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	before := threads()
	t.Run("client", func(t *testing.T) {
		addr := forwardTo(t, s, "SPDY", id, port)
		const many = 100
		for range many {
			nc, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { nc.Close() })
		}
		testrun.Eventually(t, "all are being connected", func() bool { return forwarding(s) == many })
		if n := threads() - before; n > many/2 {
			t.Errorf("%d threads more", n)
		}
	})
	testrun.Eventually(t, "all are given up", func() bool { return forwarding(s) == 0 })
}

func TestPortForwardsAreBounded(t *testing.T) {
	var f forwards
	begin := func(sandbox string, n int) (ends []func()) {
		t.Helper()
		for i := range n {
			end, err := f.begin(sandbox)
			if err != nil {
				t.Fatalf("number %d to %s: %v", i+1, sandbox, err)
			}
			ends = append(ends, end)
		}
		return ends
	}
	refused := func(sandbox string) {
		t.Helper()
		if _, err := f.begin(sandbox); err == nil || !strings.Contains(err.Error(), "too many connections are forwarded") {
			t.Errorf("one more to %s: %v", sandbox, err)
		}
	}
	ends := begin("s0", maxForwardsTo)
	refused("s0")
	for i := range maxForwards/maxForwardsTo - 1 {
		ends = append(ends, begin(fmt.Sprint("s", i+1), maxForwardsTo)...)
	}
	refused("other")
	ends[0]()
	ends = append(ends[1:], begin("other", 1)...)
	for _, end := range ends {
		end()
	}
	if f.all != 0 || len(f.to) != 0 {
		t.Errorf("%d, of sandboxes %v, still count", f.all, f.to)
	}
	err := forwarder{&Server{forwards: forwards{all: maxForwards}}, t.Context(), "s"}.PortForward(t.Context(), "", "", 80, nil)
	if err == nil || !strings.Contains(err.Error(), "forward port 80: too many") {
		t.Errorf("a refused connection: %v", err)
	}
}

// forwardingTo is a client that may forward ports of a sandbox which nobody can look up.
func forwardingTo(t *testing.T, s *Server) (net.Conn, *spdystream.Connection) {
	t.Helper()
	token, err := s.tokens.put(asked{req: &cri.PortForwardRequest{PodSandboxId: "s"}}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return spdyTo(t, s.host, "/portforward/"+token, "portforward.k8s.io")
}

func halfOf(kind, id string) http.Header {
	return http.Header{"streamType": {kind}, "port": {"80"}, "requestID": {id}}
}

func forwarding(s *Server) int {
	s.forwards.mu.Lock()
	defer s.forwards.mu.Unlock()
	return s.forwards.all
}

func isOpen(t *testing.T, conn *spdystream.Connection) {
	t.Helper()
	select {
	case <-conn.CloseChan():
		t.Error("the client was hung up on")
	default:
	}
}

// openMany opens one stream after the other, with no regard to answers.
func openMany(t *testing.T, conn *spdystream.Connection, n int, header func(i int) http.Header) {
	for i := range n {
		_, _ = begin(t, conn, header(i)) // it may have been hung up on
	}
}

// Who asks for all at once is refused and hung up on amid it, and keeps no place.
func TestWhoOpensHalvesWithoutEndKeepsNoPlace(t *testing.T) {
	leavesNothing(t)
	s := serveWithoutDocker(t)
	s.cfg.CreationTimeout = time.Hour
	for range 3 {
		_, conn := forwardingTo(t, s)
		openMany(t, conn, maxForwardsTo+maxUnwanted+100, func(i int) http.Header { return halfOf("error", fmt.Sprint(i)) })
		soon(t, "it is hung up on", conn.CloseChan())
		testrun.Eventually(t, "none counts", func() bool { return forwarding(s) == 0 })
	}
}

func TestHalfAPairIsAForwardedConnection(t *testing.T) {
	leavesNothing(t)
	s := serveWithoutDocker(t)
	s.cfg.CreationTimeout = time.Hour
	_, first := forwardingTo(t, s)
	half, err := open(t, first, halfOf("error", "first"))
	if err != nil {
		t.Fatal(err)
	}
	openMany(t, first, maxForwardsTo-1, func(i int) http.Header { return halfOf("error", fmt.Sprint(i)) })
	testrun.Eventually(t, "they count", func() bool { return forwarding(s) == maxForwardsTo })
	_, second := forwardingTo(t, s)
	stream, err := open(t, second, halfOf("error", "too many"))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(stream); err != nil || !strings.Contains(string(got), "too many connections") {
		t.Errorf("one more: %q, %v", got, err)
	}
	isOpen(t, second)
	openMany(t, second, maxUnwanted, func(int) http.Header { return halfOf("data", "too many") })
	soon(t, "who goes on is hung up on", second.CloseChan())
	isOpen(t, first)
	if _, err = open(t, first, halfOf("data", "first")); err != nil { // this pair is forwarded
		t.Fatal(err)
	}
	if got, err := io.ReadAll(half); err != nil || !strings.Contains(string(got), "error forwarding port 80 to pod s") {
		t.Errorf("%q, %v", got, err)
	}
	testrun.Eventually(t, "it has ended", func() bool { return forwarding(s) == maxForwardsTo-1 })
}

func TestHalfAPairIsGivenUp(t *testing.T) {
	leavesNothing(t)
	s := serveWithoutDocker(t)
	s.cfg.CreationTimeout = 10 * time.Millisecond
	_, conn := forwardingTo(t, s)
	for i := range 2 * maxUnwanted {
		stream, err := open(t, conn, halfOf("error", fmt.Sprint(i)))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(stream); err != nil || !strings.Contains(string(got), "timed out") {
			t.Errorf("%q, %v", got, err)
		}
	}
	testrun.Eventually(t, "none counts", func() bool { return forwarding(s) == 0 })
	isOpen(t, conn) // slow as it is
}

func TestStreamsThatForwardNothingAreFew(t *testing.T) {
	leavesNothing(t)
	s := serveWithoutDocker(t)
	for name, header := range map[string]http.Header{
		"unknown kind": halfOf("", "1"),
		"no port":      {"streamType": {"error"}},
		"port 0":       {"streamType": {"error"}, "port": {"0"}},
		"second":       halfOf("error", "1"), // but for the first
		"long name":    halfOf("data", strings.Repeat("1", maxRequestID+1)),
	} {
		_, conn := forwardingTo(t, s)
		openMany(t, conn, maxUnwanted+2, func(int) http.Header { return header })
		soon(t, name+": the client is hung up on", conn.CloseChan())
		testrun.Eventually(t, "none counts", func() bool { return forwarding(s) == 0 })
	}
}

func TestAClientThatOpensStreamsAndGoesLeavesNothing(t *testing.T) {
	leavesNothing(t)
	s := serveWithoutDocker(t)
	for range 20 {
		c, conn := forwardingTo(t, s)
		openMany(t, conn, 60, func(i int) http.Header { return halfOf("error", fmt.Sprint(i)) })
		testrun.Eventually(t, "some are open", func() bool { return forwarding(s) > 0 })
		c.Close()
		testrun.Eventually(t, "none counts", func() bool { return forwarding(s) == 0 })
	}
}

// deafIn listens inside the container's network namespace with a backlog that is full.
func deafIn(t *testing.T, c *client.Client, id string) (port int) {
	t.Helper()
	netns := networkOf(t, c, id)
	l, err := socketIn(netns, unix.AF_INET)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	fd := int(l.Fd())
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}), unix.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	at, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	port = at.(*unix.SockaddrInet4).Port
	for {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		conn, err := dialAddr(ctx, netns, unix.AF_INET, at)
		cancel()
		if errors.Is(err, context.DeadlineExceeded) {
			return port
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
	}
}
