package streaming

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/client"
	"github.com/gorilla/websocket"
	"github.com/moby/spdystream"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"

	"github.com/mini-kubelet/mini-kubelet/test/testrun"
)

// endless is a terminal size that is begun and never ended.
type endless struct{ read int }

func (e *endless) Read(p []byte) (int, error) {
	n := 0
	if e.read == 0 {
		n = copy(p, `{"Width":1,"x":"`)
	}
	for ; n < len(p); n++ {
		p[n] = 'A'
	}
	e.read += n
	return n, nil
}

func TestATerminalSizeIsShort(t *testing.T) {
	read := func(from io.Reader) (widths []uint16) {
		sizes := make(chan remotecommand.TerminalSize)
		go readSizes(t.Context(), from, sizes)
		for s := range sizes {
			widths = append(widths, s.Width)
		}
		return widths
	}
	e := &endless{}
	if got := read(e); len(got) != 0 || e.read > maxSizeText {
		t.Errorf("sizes %v of %d bytes", got, e.read)
	}
	const many = 1000
	if got := read(strings.NewReader(strings.Repeat(`{"Width":80,"Height":24}`+"\n", many))); len(got) != many {
		t.Errorf("%d sizes, want %d", len(got), many)
	}
}

// upgrade sends a request for SPDY and returns the connection once it is.
func upgrade(t *testing.T, c net.Conn, path, protocol string) *bufio.Reader {
	t.Helper()
	if _, err := io.WriteString(c, "POST "+path+" HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: "+protocol+"\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	from := bufio.NewReader(c)
	resp, err := http.ReadResponse(from, nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("not upgraded: %v, %v", resp, err)
	}
	return from
}

func TestWhoOpensNoStreamsIsHungUpOn(t *testing.T) {
	docker, err := client.NewClientWithOpts(client.WithHost("unix:///nonexistent/docker.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer docker.Close()
	s, err := New(Config{Docker: docker, CreationTimeout: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	testrun.Start(t, s.Run)
	for _, protocol := range []string{"v4.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io"} {
		c := dial(t, s)
		from := upgrade(t, c, token(t, s), protocol)
		if _, err := io.Copy(io.Discard, from); err != nil && !strings.Contains(err.Error(), "reset") {
			t.Errorf("%s: still open: %v", protocol, err)
		}
	}
}

// buffered is a connection whose first bytes have been read already.
type buffered struct {
	net.Conn
	from *bufio.Reader
}

func (b buffered) Read(p []byte) (int, error) { return b.from.Read(p) }

// serveSession serves a session at each visit, without a token. It returns the address, and
// what tells that a session has ended.
func serveSession(t *testing.T, opts remotecommand.Options, run func(context.Context, stdio) error) (address string, ended <-chan struct{}) {
	t.Helper()
	s := serveWithoutDocker(t)
	s.cfg.CreationTimeout = time.Hour
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	open := &connections{Listener: listener, sessions: map[*conn]struct{}{}}
	over := make(chan struct{}, 1)
	server := &http.Server{ConnContext: open.context, ConnState: open.state, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		(&session{server: s, opts: &opts, run: run}).serve(w, r)
		over <- struct{}{}
	})}
	served := make(chan error, 1)
	go func() { served <- server.Serve(open) }()
	t.Cleanup(func() { server.Close(); open.closeAll(); <-served })
	return listener.Addr().String(), over
}

// spdyTo is a client of the server at the address.
func spdyTo(t *testing.T, address, path, protocol string) (net.Conn, *spdystream.Connection) {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	conn, err := spdystream.NewConnection(buffered{c, upgrade(t, c, path, protocol)}, false)
	if err != nil {
		t.Fatal(err)
	}
	go conn.Serve(spdystream.NoOpStreamHandler)
	return c, conn
}

// open opens a stream and waits for the server to answer.
func open(t *testing.T, conn *spdystream.Connection, header http.Header) (*spdystream.Stream, error) {
	stream, err := begin(t, conn, header)
	if err == nil {
		err = stream.WaitTimeout(testrun.Patience)
	}
	return stream, err
}

// begin opens a stream without waiting for the server.
func begin(t *testing.T, conn *spdystream.Connection, header http.Header) (*spdystream.Stream, error) {
	stream, err := conn.CreateStream(header, nil, false)
	if err == nil {
		t.Cleanup(func() { _ = stream.Reset() }) // the library waits for ever for what arrives to be read
	}
	return stream, err
}

func ofKind(kind string) http.Header { return http.Header{remotecommand.StreamType: {kind}} }

func soon[T any](t *testing.T, what string, from <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-from:
	case <-time.After(testrun.Patience):
		t.Fatalf("waited in vain: %s", what)
	}
	return v
}

// until is a session that lasts as long as its client.
func until(begun chan<- struct{}) func(context.Context, stdio) error {
	return func(ctx context.Context, _ stdio) error {
		begun <- struct{}{}
		<-ctx.Done()
		return ctx.Err()
	}
}

func TestWhoOpensStreamsWithoutEndIsHungUpOn(t *testing.T) {
	leavesNothing(t)
	begun := make(chan struct{}, 1)
	address, ended := serveSession(t, remotecommand.Options{Stdout: true}, until(begun))
	for _, protocol := range spdyProtocols {
		for name, wanted := range map[string][]string{"complete": {"error", "stdout"}, "incomplete": {"error"}} {
			_, conn := spdyTo(t, address, "/", protocol)
			for _, kind := range wanted {
				if _, err := open(t, conn, ofKind(kind)); err != nil {
					t.Fatal(err)
				}
			}
			if name == "complete" {
				soon(t, "the session begins", begun)
			}
			for range maxUnwanted {
				if _, err := open(t, conn, ofKind("stdin")); name == "complete" && err == nil {
					t.Errorf("%s, %s: an unwanted stream was accepted", protocol, name)
				}
				select {
				case <-conn.CloseChan():
					t.Fatalf("%s, %s: hung up on too early", protocol, name)
				default:
				}
			}
			if _, err := begin(t, conn, ofKind("stdin")); err != nil {
				t.Fatal(err)
			}
			soon(t, "the session ends", ended)
			soon(t, "the client is hung up on", conn.CloseChan())
		}
	}
	if len(begun) > 0 {
		t.Error("a session without its streams has begun")
	}
}

// Before the third protocol there are no terminal sizes, and before the fourth a result is text.
func TestProtocolsOfSPDY(t *testing.T) {
	leavesNothing(t)
	address, ended := serveSession(t, remotecommand.Options{Stdout: true, TTY: true}, func(_ context.Context, s stdio) error {
		if _, err := io.WriteString(s.out, "out"); err != nil {
			return err
		}
		return errors.New("failed")
	})
	for i, protocol := range spdyProtocols {
		_, conn := spdyTo(t, address, "/", protocol)
		read := map[string]chan string{}
		for _, kind := range []string{"error", "stdout", "resize"} {
			if kind == "resize" && i > 1 {
				continue
			}
			stream, err := open(t, conn, ofKind(kind))
			if err != nil {
				t.Fatal(err)
			}
			got := make(chan string, 1)
			go func() {
				b, _ := io.ReadAll(stream)
				got <- string(b)
			}()
			read[kind] = got
		}
		soon(t, "the session ends", ended)
		if got := soon(t, "stdout", read["stdout"]); got != "out" {
			t.Errorf("%s: stdout %q", protocol, got)
		}
		if got := soon(t, "result", read["error"]); (got == "failed") != (i > 0) || !strings.Contains(got, "failed") {
			t.Errorf("%s: result %q", protocol, got)
		}
	}
}

// The end of a client is behind its input, which the session does not read.
func TestAClientThatVanishesIsNoticedBehindItsInput(t *testing.T) {
	const few, many = 10, 600 // messages: fewer and more than the libraries hold
	for name, send := range map[string]func(t *testing.T, address string, n int) net.Conn{
		"SPDY": func(t *testing.T, address string, n int) net.Conn {
			c, conn := spdyTo(t, address, "/", "v4.channel.k8s.io")
			var in *spdystream.Stream
			for _, kind := range []string{"error", "stdout", "stdin"} {
				var err error
				if in, err = open(t, conn, ofKind(kind)); err != nil {
					t.Fatal(err)
				}
			}
			for range n {
				if _, err := in.Write([]byte("x")); err != nil {
					t.Fatal(err)
				}
			}
			return c
		},
		"WebSocket": func(t *testing.T, address string, n int) net.Conn {
			dialer := websocket.Dialer{Subprotocols: []string{"v5.channel.k8s.io"}}
			ws, resp, err := dialer.Dial("ws://"+address, nil)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			for range n {
				if err := ws.WriteMessage(websocket.BinaryMessage, []byte("\x00x")); err != nil {
					t.Fatal(err)
				}
			}
			return ws.NetConn()
		},
	} {
		for _, n := range []int{0, few, many} {
			t.Run(fmt.Sprint(name, " ", n), func(t *testing.T) {
				leavesNothing(t)
				begun := make(chan struct{}, 1)
				address, ended := serveSession(t, remotecommand.Options{Stdin: true, Stdout: true}, until(begun))
				c := send(t, address, n)
				soon(t, "the session begins", begun)
				c.Close()
				soon(t, "the session ends", ended)
			})
		}
	}
}
