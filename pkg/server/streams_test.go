package server

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	portforwardclient "k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/transport/spdy"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/cri-streaming/pkg/streaming"
	remotecommandserver "k8s.io/cri-streaming/pkg/streaming/remotecommand"
	"k8s.io/streaming/pkg/httpstream"
	utilexec "k8s.io/utils/exec"

	"github.com/mini-kubelet/mini-kubelet/test/testrun"
)

// process is what the runtime of these tests runs.
type process struct{ release <-chan struct{} }

func (p process) Exec(_ context.Context, id string, cmd []string, in io.Reader, out, errs io.WriteCloser, _ bool, _ <-chan remotecommandserver.TerminalSize) error {
	switch cmd[0] {
	case "cat":
		fmt.Fprintf(errs, "%s %q", id, cmd)
		_, err := io.Copy(out, in)
		return err
	case "fail":
		return utilexec.CodeExitError{Err: errors.New("failed"), Code: 7}
	case "hang":
		fmt.Fprint(out, "begun")
		<-p.release
	case "talk": // until nobody listens
		for {
			if _, err := out.Write([]byte("x")); err != nil {
				return nil
			}
		}
	}
	return nil
}

func (p process) Attach(ctx context.Context, id string, in io.Reader, out, errs io.WriteCloser, tty bool, resize <-chan remotecommandserver.TerminalSize) error {
	return p.Exec(ctx, id, []string{"cat", "attached"}, in, out, errs, tty, resize)
}

func (process) PortForward(_ context.Context, _ string, port int32, stream io.ReadWriteCloser) error {
	defer stream.Close()
	b := make([]byte, 5)
	if _, err := io.ReadFull(stream, b); err != nil {
		return err
	}
	_, err := fmt.Fprintf(stream, "%d got %s", port, b)
	return err
}

// runtimeHost has a runtime like others than the dockershim: streams as in
// k8s.io/cri-streaming, which supports neither version 5 of the WebSocket protocol
// nor tunnels.
type runtimeHost struct {
	host
	server streaming.Server
	header http.Header // of the last request to the runtime
}

func newRuntimeHost(t *testing.T) *runtimeHost {
	t.Helper()
	h := &runtimeHost{}
	release := make(chan struct{})
	ts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.header = r.Header.Clone()
		h.server.ServeHTTP(w, r)
	}))
	t.Cleanup(func() {
		close(release)
		ts.Close()
	})
	c := streaming.DefaultConfig
	c.BaseURL, _ = url.Parse(ts.URL + "/")
	var err error
	if h.server, err = streaming.NewServer(c, process{release}); err != nil {
		t.Fatal(err)
	}
	return h
}

func (h *runtimeHost) Exec(_ context.Context, _ types.NamespacedName, _ types.UID, o *v1.PodExecOptions) (*url.URL, error) {
	r, err := h.server.GetExec(&cri.ExecRequest{ContainerId: o.Container, Cmd: o.Command, Tty: o.TTY, Stdin: o.Stdin, Stdout: o.Stdout, Stderr: o.Stderr})
	if err != nil {
		return nil, err
	}
	return url.Parse(r.Url)
}

func (h *runtimeHost) Attach(_ context.Context, _ types.NamespacedName, _ types.UID, o *v1.PodAttachOptions) (*url.URL, error) {
	r, err := h.server.GetAttach(&cri.AttachRequest{ContainerId: o.Container, Stdin: o.Stdin, Stdout: o.Stdout, Stderr: o.Stderr})
	if err != nil {
		return nil, err
	}
	return url.Parse(r.Url)
}

func (h *runtimeHost) PortForward(_ context.Context, _ types.NamespacedName, _ types.UID, o *v1.PodPortForwardOptions) (*url.URL, error) {
	r, err := h.server.GetPortForward(&cri.PortForwardRequest{PodSandboxId: "s", Port: o.Ports})
	if err != nil {
		return nil, err
	}
	return url.Parse(r.Url)
}

func clientOf(base string) *rest.Config {
	return &rest.Config{Host: base, BearerToken: "secret", TLSClientConfig: rest.TLSClientConfig{Insecure: true}}
}

var transports = map[string]func(u string) (remotecommand.Executor, error){
	"SPDY": func(u string) (remotecommand.Executor, error) {
		parsed, err := url.Parse(u)
		if err != nil {
			return nil, err
		}
		return remotecommand.NewSPDYExecutor(clientOf(u), "POST", parsed)
	},
	"WebSocket": func(u string) (remotecommand.Executor, error) {
		return remotecommand.NewWebSocketExecutor(clientOf(u), "GET", u)
	},
}

func TestStreamsOfExecAndAttach(t *testing.T) {
	for name, visit := range transports {
		for path, want := range map[string]string{
			"/exec/ns/p/c?command=cat&command=-u&input=1&output=1&error=1": `c ["cat" "-u"]`,
			"/exec/ns/p/u/c?command=cat&input=1&output=1&error=1":          `c ["cat"]`,
			"/attach/ns/p/c?input=1&output=1&error=1":                      `c ["cat" "attached"]`,
		} {
			t.Run(name+path, func(t *testing.T) {
				h := newRuntimeHost(t)
				base, _ := startAPI(t, h, nil)
				e, err := visit(base + path)
				if err != nil {
					t.Fatal(err)
				}
				var out, errs bytes.Buffer
				data := strings.Repeat("0123456789", 100_000)
				err = e.StreamWithContext(soon(t), remotecommand.StreamOptions{Stdin: strings.NewReader(data), Stdout: &out, Stderr: &errs})
				if err != nil || out.String() != data || errs.String() != want {
					t.Errorf("%d bytes, %q, %v", out.Len(), errs.String(), err)
				}
				if h.header.Get("Authorization") != "" {
					t.Error("the runtime was told the client's token")
				}
			})
		}
	}
}

func TestTheExitCodeOfExec(t *testing.T) {
	for name, visit := range transports {
		t.Run(name, func(t *testing.T) {
			base, _ := startAPI(t, newRuntimeHost(t), nil)
			e, err := visit(base + "/exec/ns/p/c?command=fail&output=1")
			if err != nil {
				t.Fatal(err)
			}
			err = e.StreamWithContext(soon(t), remotecommand.StreamOptions{Stdout: io.Discard})
			var exit interface{ ExitStatus() int }
			if !errors.As(err, &exit) || exit.ExitStatus() != 7 {
				t.Errorf("%v, want exit code 7", err)
			}
		})
	}
}

func TestPortForwarding(t *testing.T) {
	for name, dialer := range map[string]func(*url.URL) (httpstream.Dialer, error){
		"SPDY": func(u *url.URL) (httpstream.Dialer, error) {
			transport, upgrader, err := spdy.RoundTripperFor(clientOf(u.Host))
			if err != nil {
				return nil, err
			}
			return spdy.NewDialerForStreaming(upgrader, &http.Client{Transport: transport}, "POST", u), nil
		},
		"WebSocket": func(u *url.URL) (httpstream.Dialer, error) {
			return portforwardclient.NewSPDYOverWebsocketDialerForStreaming(u, clientOf(u.Host))
		},
	} {
		t.Run(name, func(t *testing.T) {
			base, _ := startAPI(t, newRuntimeHost(t), nil)
			u, err := url.Parse(base + "/portForward/ns/p")
			if err != nil {
				t.Fatal(err)
			}
			d, err := dialer(u)
			if err != nil {
				t.Fatal(err)
			}
			stop, ready, ended := make(chan struct{}), make(chan struct{}), make(chan error, 1)
			f, err := portforwardclient.NewForStreaming(d, []string{"0:80"}, stop, ready, io.Discard, io.Discard)
			if err != nil {
				t.Fatal(err)
			}
			go func() { ended <- f.ForwardPorts() }()
			select {
			case <-ready:
			case err := <-ended:
				t.Fatal(err)
			}
			defer func() {
				close(stop)
				<-ended
			}()
			ports, err := f.GetPorts()
			if err != nil {
				t.Fatal(err)
			}
			conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", ports[0].Local))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			fmt.Fprint(conn, "hello")
			if got, err := io.ReadAll(conn); err != nil || string(got) != "80 got hello" {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
}

// notify signals that something has been written to it.
type notify chan struct{}

func (n notify) Write(p []byte) (int, error) {
	select {
	case n <- struct{}{}:
	default:
	}
	return len(p), nil
}

// zeros is input without an end.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// visitor is a client that can be cut off, as by the end of its process.
type visitor struct {
	begun notify
	ended chan error
	conns chan net.Conn // to the server, once they are there
}

// come opens a stream that lasts, if input with input that the runtime does not read.
func come(t *testing.T, transport, base, cmd string, input bool) *visitor {
	t.Helper()
	v := &visitor{begun: make(notify, 1), ended: make(chan error, 1), conns: make(chan net.Conn, 2)}
	near, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { near.Close() })
	go func() { // the client's own connection would not let itself be closed while it sends
		from, err := near.Accept()
		if err != nil {
			return
		}
		to, err := net.Dial("tcp", strings.TrimPrefix(base, "https://"))
		if err != nil {
			t.Error(err)
			from.Close()
			return
		}
		v.conns <- from
		v.conns <- to
		go func() { io.Copy(from, to); from.Close() }()
		io.Copy(to, from)
		to.Close()
	}()
	o := remotecommand.StreamOptions{Stdout: v.begun}
	u := "https://" + near.Addr().String() + "/exec/ns/p/c?output=1&command=" + cmd
	if input {
		u, o.Stdin = u+"&input=1", zeros{}
	}
	e, err := transports[transport](u)
	if err != nil {
		t.Fatal(err)
	}
	go func() { v.ended <- e.StreamWithContext(soon(t), o) }()
	select {
	case <-v.begun:
	case err := <-v.ended:
		t.Fatalf("ended with %v", err)
	}
	return v
}

// vanish does not wait until what was sent has been read.
func (v *visitor) vanish() {
	for range 2 {
		c := <-v.conns
		c.(*net.TCPConn).SetLinger(0)
		c.Close()
	}
}

// full waits until input has come to a stop on its way to the runtime.
func full(t *testing.T) {
	t.Helper()
	stopped := 0
	eventually(t, func() string {
		b := make([]byte, 1<<20)
		for _, stack := range strings.Split(string(b[:runtime.Stack(b, true)]), "\n\n") {
			if strings.Contains(stack, "waitWrite") && (strings.Contains(stack, "UpgradeAwareHandler") || strings.Contains(stack, "spdystream.(*Stream).Write")) {
				if stopped++; stopped == 20 {
					return ""
				}
				return "input goes on"
			}
		}
		stopped = 0
		return "input goes on"
	})
}

// eachStream calls test for every way to come, a runtime that is silent and one that is not, and
// input that is not read and none.
func eachStream(t *testing.T, test func(t *testing.T, transport, cmd string, input bool)) {
	for transport := range transports {
		for _, cmd := range []string{"hang", "talk"} {
			for name, input := range map[string]bool{"": false, " with input": true} {
				t.Run(transport+" "+cmd+name, func(t *testing.T) { test(t, transport, cmd, input) })
			}
		}
	}
}

func TestAClientThatVanishesLeavesNothing(t *testing.T) {
	eachStream(t, func(t *testing.T, transport, cmd string, input bool) {
		leavesNothing(t) // checked last: after the server has ended
		base, _ := startAPI(t, newRuntimeHost(t), nil)
		before := serving()
		v := come(t, transport, base, cmd, input)
		if input {
			full(t)
		}
		v.vanish()
		<-v.ended
		eventually(t, func() string {
			if now := serving(); len(now) > len(before) {
				return strings.Join(now, "\n\n")
			}
			return ""
		})
	})
}

func TestShutdownEndsStreams(t *testing.T) {
	eachStream(t, func(t *testing.T, transport, cmd string, input bool) {
		var v *visitor
		h := newRuntimeHost(t) // ends after the server
		t.Run("server", func(t *testing.T) {
			base, _ := startAPI(t, h, nil)
			v = come(t, transport, base, cmd, input)
			if input {
				full(t)
			}
		}) // its cleanup waits for Run
		select {
		case <-v.ended:
		case <-soon(t).Done():
			t.Error("the stream outlived the server")
		}
	})
}

func TestARequestWithoutUpgradeGetsNoStream(t *testing.T) {
	base, client := startAPI(t, newRuntimeHost(t), nil)
	if code, body := ask(t, client, "POST", base+"/exec/ns/p/c?command=ls&output=1"); code != 400 || !strings.Contains(body, "Upgrade request required") {
		t.Errorf("%d %q", code, body)
	}
}

// When the runtime refuses an upgrade, the client is not left with a connection to it.
func TestARefusedUpgradeLendsNoConnection(t *testing.T) {
	var asked atomic.Int32
	refuses := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		http.Error(w, "unknown token", http.StatusNotFound)
	}))
	defer refuses.Close()
	u, _ := url.Parse(refuses.URL + "/exec/token")
	base, _ := startAPI(t, &host{url: u}, nil)
	conn, err := tls.Dial("tcp", strings.TrimPrefix(base, "https://"), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, _ = io.WriteString(conn, "POST /exec/ns/p/c?output=1&command=ls HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: v4.channel.k8s.io\r\n\r\n"+
		"GET /exec/another HTTP/1.1\r\nHost: localhost\r\n\r\n")
	_ = conn.SetReadDeadline(time.Now().Add(testrun.Patience))
	answer, err := io.ReadAll(conn)
	if errors.Is(err, os.ErrDeadlineExceeded) || !bytes.HasPrefix(answer, []byte("HTTP/1.1 404 ")) {
		t.Errorf("%q, %v; want the runtime's answer and the end of the connection", answer, err)
	}
	if n := asked.Load(); n != 1 {
		t.Errorf("the runtime got %d requests", n)
	}
}

func TestARuntimeThatIsNotThereIsAnError(t *testing.T) {
	gone := httptest.NewServer(nil)
	u, _ := url.Parse(gone.URL + "/exec/token")
	gone.Close()
	for name, visit := range transports {
		base, _ := startAPI(t, &host{url: u}, nil)
		e, err := visit(base + "/exec/ns/p/c?output=1&command=ls")
		if err != nil {
			t.Fatal(err)
		}
		if err := e.StreamWithContext(soon(t), remotecommand.StreamOptions{Stdout: io.Discard}); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestAFollowedLogEndsWithItsClient(t *testing.T) {
	ended := make(chan struct{})
	h := &host{logs: func(ctx context.Context, o *v1.PodLogOptions, stdout, _ io.Writer) error {
		stdout.Write(nil)
		<-ctx.Done()
		close(ended)
		return errors.New("context cancelled")
	}}
	base, _ := startAPI(t, h, nil)
	conn, err := tls.Dial("tcp", strings.TrimPrefix(base, "https://"), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(conn, "GET /containerLogs/ns/p/c?follow=true HTTP/1.1\r\nHost: a\r\n\r\n")
	if _, err := conn.Read(make([]byte, 1)); err != nil {
		t.Fatal(err) // the header comes before any line
	}
	conn.NetConn().Close()
	select {
	case <-ended:
	case <-time.After(2 * time.Minute):
		t.Error("the log was still followed")
	}
}
