package streaming

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/cri-streaming/pkg/streaming/portforward"
	"k8s.io/klog/v2"
	"k8s.io/streaming/pkg/httpstream/wsstream"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/recovery"
)

// The most connections that are forwarded at a time, to one sandbox and to all. Each takes a
// file descriptor of the agent, and two while it is dialled.
const (
	maxForwardsTo = 1024
	maxForwards   = 4096
)

// forwards counts the connections that are being forwarded.
type forwards struct {
	mu  sync.Mutex
	all int
	to  map[string]int // by sandbox
}

// begin counts one more connection until end is called. It fails when there are too many.
func (f *forwards) begin(sandboxID string) (end func(), err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.to[sandboxID] >= maxForwardsTo || f.all >= maxForwards {
		return nil, fmt.Errorf("too many connections are forwarded: %d to sandbox %s, %d to all", f.to[sandboxID], sandboxID, f.all)
	}
	if f.to == nil {
		f.to = map[string]int{}
	}
	f.all++
	f.to[sandboxID]++
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.all--
		if f.to[sandboxID]--; f.to[sandboxID] == 0 {
			delete(f.to, sandboxID)
		}
	}, nil
}

func (s *Server) servePortForward(w http.ResponseWriter, r *http.Request) {
	req, ok := requested[*cri.PortForwardRequest](s, w, r)
	if !ok {
		return
	}
	klog.V(4).InfoS("PortForward", "podSandboxID", req.PodSandboxId)
	opts, err := portforward.BuildV4Options(req.Port) // for WebSocket, where the ports are fixed
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	serve := func(w http.ResponseWriter, r *http.Request) {
		portforward.ServePortForward(w, r, forwarder{s, r.Context()}, req.PodSandboxId, "", opts,
			s.cfg.IdleTimeout, s.cfg.CreationTimeout, portforward.SupportedProtocols)
	}
	if wsstream.IsWebSocketRequestWithTunnelingProtocol(r) {
		throughTunnel(w, r, serve)
		return
	}
	serve(w, r)
}

// forwarder is one client's connection, over which many connections can be forwarded. ctx
// ends with it; k8s.io/cri-streaming does not pass one.
type forwarder struct {
	server *Server
	ctx    context.Context
}

// PortForward connects stream to a port of the sandbox until both sides have ended,
// either breaks, or the client is gone.
func (f forwarder) PortForward(_ context.Context, sandboxID, _ string, port int32, stream io.ReadWriteCloser) error {
	// The library calls this from a goroutine of its own.
	return recovery.Call(func() error { return f.forward(sandboxID, port, stream) })
}

func (f forwarder) forward(sandboxID string, port int32, stream io.ReadWriteCloser) error {
	end, err := f.server.forwards.begin(sandboxID)
	if err != nil {
		return fmt.Errorf("forward port %d: %w", port, err)
	}
	defer end()
	conn, err := f.server.dialSandbox(f.ctx, sandboxID, port)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(f.ctx, func() { conn.Close() })()
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		err := recovery.Call(func() error {
			_, err := io.Copy(conn, stream)
			return err
		})
		if err != nil {
			conn.Close()
			return
		}
		_ = conn.CloseWrite() // the pod may still answer
	}()
	if _, err := io.Copy(stream, conn); err != nil && f.ctx.Err() == nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("forward port %d: %w", port, err)
	}
	stream.Close() // this direction only: the client may still send
	select {
	case <-sent:
	case <-f.ctx.Done():
	}
	return nil
}

// dialSandbox connects to a port on the loopback interface of the sandbox, which with host
// network is the host's. It tries IPv4, then IPv6.
func (s *Server) dialSandbox(ctx context.Context, sandboxID string, port int32) (*net.TCPConn, error) {
	info, err := s.docker.ContainerInspect(ctx, sandboxID)
	if err != nil {
		return nil, dockerError(err, "inspect sandbox %s", sandboxID)
	}
	if info.State == nil || !info.State.Running || info.State.Pid == 0 {
		return nil, notRunning("sandbox", sandboxID)
	}
	netns, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", info.State.Pid))
	if err == nil {
		defer netns.Close()
		err = InContainer(info.State.Pid, info.ID) // the pid was not reused
	}
	if err != nil {
		return nil, fmt.Errorf("open network namespace of sandbox %s: %w", sandboxID, err)
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.DialTimeout)
	defer cancel()
	return dialIn(ctx, netns, port)
}

// dialIn connects to a port on the loopback interface of a network namespace, by IPv4, else
// by IPv6.
func dialIn(ctx context.Context, netns *os.File, port int32) (*net.TCPConn, error) {
	conn, err := dialAddr(ctx, netns, unix.AF_INET, &unix.SockaddrInet4{Port: int(port), Addr: [4]byte{127, 0, 0, 1}})
	if err == nil || ctx.Err() != nil {
		return conn, err
	}
	conn, err6 := dialAddr(ctx, netns, unix.AF_INET6, &unix.SockaddrInet6{Port: int(port), Addr: [16]byte{15: 1}})
	if err6 != nil {
		return nil, fmt.Errorf("dial tcp 127.0.0.1:%d: %w, and dial tcp [::1]:%d: %w", port, err, port, err6)
	}
	return conn, nil
}

// dialAddr waits for the connection in Go's poller, without blocking a thread.
func dialAddr(ctx context.Context, netns *os.File, family int, to unix.Sockaddr) (*net.TCPConn, error) {
	socket, err := socketIn(netns, family)
	if err != nil {
		return nil, err
	}
	defer socket.Close()
	raw, err := socket.SyscallConn()
	if err != nil {
		return nil, err
	}
	var connErr error
	if err := raw.Control(func(fd uintptr) { connErr = unix.Connect(int(fd), to) }); err != nil {
		return nil, err
	}
	if connErr == unix.EINPROGRESS {
		connErr = connected(ctx, socket, raw)
	}
	if connErr != nil {
		return nil, os.NewSyscallError("connect", connErr)
	}
	conn, err := net.FileConn(socket) // of a duplicate
	if err != nil {
		return nil, err
	}
	return conn.(*net.TCPConn), nil
}

// connected waits until a connection is established, has failed, or ctx ends.
func connected(ctx context.Context, socket *os.File, raw syscall.RawConn) error {
	stop := context.AfterFunc(ctx, func() { _ = socket.SetWriteDeadline(time.Unix(1, 0)) })
	defer stop()
	var connErr error
	err := raw.Write(func(fd uintptr) bool {
		var peer unix.Sockaddr
		if code, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR); err != nil {
			connErr = err
		} else if code != 0 {
			connErr = syscall.Errno(code)
		} else if peer, err = unix.Getpeername(int(fd)); err != nil || peer == nil {
			return false // not yet
		}
		return true
	})
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil:
		return err
	}
	return connErr
}

// socketIn makes a TCP socket in a network namespace, to which the socket then belongs. A
// thread enters the namespace for that alone.
func socketIn(netns *os.File, family int) (socket *os.File, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		home, openErr := os.Open("/proc/thread-self/ns/net")
		if openErr != nil {
			runtime.UnlockOSThread()
			err = openErr
			return
		}
		defer home.Close()
		if setErr := unix.Setns(int(netns.Fd()), unix.CLONE_NEWNET); setErr != nil {
			runtime.UnlockOSThread()
			err = fmt.Errorf("enter network namespace: %w", setErr)
			return
		}
		fd, socketErr := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if unix.Setns(int(home.Fd()), unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread()
		} // else the thread is spoilt, and ends with this goroutine
		if socketErr != nil {
			err = os.NewSyscallError("socket", socketErr)
			return
		}
		socket = os.NewFile(uintptr(fd), "tcp")
	}()
	<-done
	return socket, err
}
