package streaming

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/cri-streaming/pkg/streaming/portforward"
	"k8s.io/klog/v2"
	"k8s.io/streaming/pkg/httpstream"
	"k8s.io/streaming/pkg/httpstream/wsstream"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/crimeta"
	"github.com/mini-kubelet/mini-kubelet/pkg/base/recovery"
	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/docker"
)

// The most connections that are forwarded at a time, to one sandbox and to all, including those
// that are half asked for. Each takes a file descriptor of the agent, and two while it is dialled.
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
	req, r, ok := requested[*cri.PortForwardRequest](s, w, r)
	if !ok {
		return
	}
	klog.V(4).InfoS("PortForward", "podSandboxID", req.PodSandboxId)
	// Docker has no part in it but to say where the sandbox is, and each connection asks that.
	_, stream := docker.Begin(r.Context(), s.cfg.Observe, "port-forward {id}", req.PodSandboxId)
	defer stream.Ended(nil)
	r = r.WithContext(crimeta.CausedBy(r.Context(), 0))
	switch {
	case wsstream.IsWebSocketRequestWithTunnelingProtocol(r):
		throughTunnel(w, r, func(w http.ResponseWriter, r *http.Request) { s.forwardSPDY(w, r, req.PodSandboxId) })
	case !wsstream.IsWebSocketRequest(r):
		s.forwardSPDY(w, r, req.PodSandboxId)
	case len(req.Port) > maxWebSocketPorts:
		http.Error(w, fmt.Sprintf("more than %d ports", maxWebSocketPorts), http.StatusBadRequest)
	default:
		opts := &portforward.V4Options{Ports: req.Port} // all that come this way
		portforward.ServePortForward(w, r, forwarder{s, r.Context(), req.PodSandboxId}, req.PodSandboxId, "", opts,
			s.cfg.IdleTimeout, s.cfg.CreationTimeout, portforward.SupportedProtocols)
	}
}

// maxWebSocketPorts is what the WebSocket protocol without a tunnel has numbers for: of 255
// channels each port takes two.
const maxWebSocketPorts = 127

// pair are the streams by which one connection is forwarded: its data, and what went wrong. The
// client opens one after the other.
type pair struct {
	id         string
	data, errs httpstream.Stream
	port       int32
	late       *time.Timer
	end        func() // it does not count any more
}

// add takes a stream, unless there is one of its kind.
func (p *pair) add(stream httpstream.Stream, port int32) bool {
	to := &p.errs
	if stream.Headers().Get(portforward.StreamType) == portforward.StreamTypeData {
		to, p.port = &p.data, port
	}
	if *to != nil {
		return false
	}
	*to = stream
	return true
}

// maxRequestID is the length of what names a pair; clients number them.
const maxRequestID = 64

// half returns which pair a stream belongs to and which port it asks for. A client without names
// opens the streams of a pair one right after the other, errors first.
func half(stream httpstream.Stream) (id string, port int32, ok bool) {
	h, number := stream.Headers(), int(stream.Identifier())
	switch h.Get(portforward.StreamType) {
	case portforward.StreamTypeError:
	case portforward.StreamTypeData:
		number -= 2
	default:
		return "", 0, false
	}
	n, err := strconv.ParseUint(h.Get(portforward.PortHeader), 10, 16)
	id = cmp.Or(h.Get(portforward.PortForwardRequestIDHeader), strconv.Itoa(number))
	return id, int32(n), err == nil && n > 0 && len(id) <= maxRequestID
}

// forwardSPDY serves a client that opens two streams for each connection that it wants forwarded.
// k8s.io/cri-streaming does the same, but lets a client have as many halves of pairs as it likes,
// and leaves goroutines when it goes. A half counts as a forwarded connection here.
func (s *Server) forwardSPDY(w http.ResponseWriter, r *http.Request, sandboxID string) {
	if _, err := httpstream.Handshake(r, w, portforward.SupportedProtocols); err != nil {
		return // it has answered
	}
	client := s.upgradeToSPDY(r.Context(), w, r)
	if client == nil {
		return // it has answered
	}
	f := forwarder{s, r.Context(), sandboxID}
	halves, late := map[string]*pair{}, make(chan *pair)
	var running sync.WaitGroup
	defer func() {
		client.Close()
		for _, p := range halves {
			p.late.Stop()
			p.end()
		}
		running.Wait()
	}()
	for {
		select {
		case <-f.ctx.Done():
			return
		case <-client.CloseChan(): // SPDY is over, though the connection may not be
			return
		case p := <-late:
			if halves[p.id] == p {
				delete(halves, p.id)
				f.giveUp(client, p, errors.New("timed out waiting for streams"))
			}
		case one := <-client.opened:
			if !one.ready() {
				return
			}
			p, more := f.join(client, halves, late, one.Stream)
			if p != nil {
				running.Go(func() { f.run(client, p) })
			}
			if !more {
				return
			}
		}
	}
}

// join adds a stream to the halves, and returns its pair when it is complete, and whether the client
// may open more.
func (f forwarder) join(client *spdyClient, halves map[string]*pair, late chan<- *pair, stream httpstream.Stream) (complete *pair, more bool) {
	id, port, ok := half(stream)
	if !ok {
		return nil, !client.refuse(stream)
	}
	if p := halves[id]; p != nil {
		if !p.add(stream, port) {
			return nil, !client.refuse(stream)
		}
		p.late.Stop()
		delete(halves, id)
		return p, true
	}
	p := &pair{id: id, port: port}
	p.add(stream, port)
	var err error
	if p.end, err = f.server.forwards.begin(f.sandboxID); err != nil {
		p.end = func() {}
		f.giveUp(client, p, err)
		return nil, !client.isUnwanted() // a client closes its connection at an error
	}
	p.late = time.AfterFunc(f.server.cfg.CreationTimeout, func() {
		select {
		case late <- p:
		case <-f.ctx.Done():
		}
	})
	halves[id] = p
	return nil, true
}

// run forwards one connection.
func (f forwarder) run(client *spdyClient, p *pair) {
	err := recovery.Call(func() error { return f.connect(p.port, p.data) })
	if err == nil { // otherwise the streams are to be seen to break
		_ = p.data.Close()
		_ = p.errs.Close()
	}
	f.giveUp(client, p, err)
}

// giveUp ends a pair, complete or not, and tells the client what went wrong.
func (f forwarder) giveUp(client *spdyClient, p *pair, err error) {
	p.end() // its socket is closed
	if err != nil {
		klog.V(4).InfoS("Port was not forwarded", "podSandboxID", f.sandboxID, "port", p.port, "err", err)
		if p.errs != nil {
			fmt.Fprintf(p.errs, "error forwarding port %d to pod %s: %v", p.port, f.sandboxID, err)
		}
	}
	for _, stream := range []httpstream.Stream{p.data, p.errs} {
		if stream != nil {
			client.drop(stream)
		}
	}
}

// forwarder is one client's connection, over which many connections can be forwarded to a
// sandbox. ctx ends with it; k8s.io/cri-streaming does not pass one.
type forwarder struct {
	server    *Server
	ctx       context.Context
	sandboxID string
}

// PortForward connects stream to a port of the sandbox until both sides have ended,
// either breaks, or the client is gone.
func (f forwarder) PortForward(_ context.Context, _, _ string, port int32, stream io.ReadWriteCloser) error {
	end, err := f.server.forwards.begin(f.sandboxID)
	if err != nil {
		return fmt.Errorf("forward port %d: %w", port, err)
	}
	defer end()
	// The library calls this from a goroutine of its own.
	return recovery.Call(func() error { return f.connect(port, stream) })
}

func (f forwarder) connect(port int32, stream io.ReadWriteCloser) error {
	conn, err := f.server.dialSandbox(f.ctx, f.sandboxID, port)
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
