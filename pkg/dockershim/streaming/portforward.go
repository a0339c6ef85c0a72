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
	"strconv"
	"time"

	"golang.org/x/sys/unix"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/cri-streaming/pkg/streaming/portforward"
	"k8s.io/klog/v2"
	"k8s.io/streaming/pkg/httpstream/wsstream"

	"github.com/mini-kubelet/mini-kubelet/pkg/recovery"
)

const dialTimeout = 10 * time.Second

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

// forwarder is one client's connection, over which many can be forwarded. ctx ends with
// it; k8s.io/cri-streaming passes none.
type forwarder struct {
	server *Server
	ctx    context.Context
}

// PortForward connects stream to a port of the sandbox until both sides have ended,
// either breaks, or the client is gone.
func (f forwarder) PortForward(_ context.Context, sandboxID, _ string, port int32, stream io.ReadWriteCloser) error {
	// The library calls from a goroutine of its own.
	return recovery.Call(func() error { return f.forward(sandboxID, port, stream) })
}

func (f forwarder) forward(sandboxID string, port int32, stream io.ReadWriteCloser) error {
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

// dialSandbox connects to a port on the loopback of the sandbox, which is the host's
// with host network; by IPv4, else IPv6.
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
		err = inContainer(info.State.Pid, info.ID) // the pid was not reused
	}
	if err != nil {
		return nil, fmt.Errorf("open network namespace of sandbox %s: %w", sandboxID, err)
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	return dialIn(ctx, netns, port)
}

// dialIn makes a connection to the loopback of a network namespace. A socket stays in
// the namespace in which it was made, so that only making it is done there, on a thread
// of its own.
func dialIn(ctx context.Context, netns *os.File, port int32) (conn *net.TCPConn, err error) {
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
		conn, err = dialLoopback(ctx, port)
		if unix.Setns(int(home.Fd()), unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread()
		} // else the thread is of no use any more and ends with this goroutine
	}()
	<-done
	return conn, err
}

func dialLoopback(ctx context.Context, port int32) (*net.TCPConn, error) {
	var err error
	for _, host := range []string{"127.0.0.1", "::1"} {
		// A single literal address is dialled by this goroutine, hence on this thread.
		nc, dialErr := (&net.Dialer{}).DialContext(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(int(port))))
		switch {
		case dialErr == nil:
			return nc.(*net.TCPConn), nil
		case err == nil:
			err = dialErr
		default:
			err = fmt.Errorf("%w, and %w", err, dialErr)
		}
	}
	return nil, err
}
