package streaming

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/client"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
	"k8s.io/streaming/pkg/httpstream/spdy"

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

func TestWhoOpensStreamsWithoutEndIsHungUpOn(t *testing.T) {
	s := serveWithoutDocker(t)
	s.cfg.CreationTimeout = time.Hour
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	open := &connections{Listener: listener, sessions: map[*conn]struct{}{}}
	ended := make(chan bool, 1) // whether the session had begun
	server := &http.Server{ConnContext: open.context, ConnState: open.state, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		begun := false
		one := &session{server: s, opts: &remotecommand.Options{Stdout: true}, run: func(ctx context.Context, _ stdio) error {
			begun = true
			<-ctx.Done()
			return ctx.Err()
		}}
		one.serve(w, r, nil)
		ended <- begun
	})}
	served := make(chan error, 1)
	go func() { served <- server.Serve(open) }()
	t.Cleanup(func() { server.Close(); open.closeAll(); <-served })
	for name, wanted := range map[string][]string{"complete": {"error", "stdout"}, "incomplete": {"error"}} {
		c, err := net.Dial("tcp", listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		conn, err := spdy.NewClientConnection(buffered{c, upgrade(t, c, "/", "v4.channel.k8s.io")})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		create := func(kind string) error {
			_, err := conn.CreateStream(http.Header{remotecommand.StreamType: {kind}})
			return err
		}
		for _, kind := range wanted {
			if err := create(kind); err != nil {
				t.Fatal(err)
			}
		}
		for range maxUnwanted {
			if err := create("stdin"); name == "complete" && err == nil {
				t.Errorf("%s: an unwanted stream was accepted", name)
			}
			select {
			case <-conn.CloseChan():
				t.Fatalf("%s: hung up on too early", name)
			default:
			}
		}
		go create("stdin")
		select {
		case begun := <-ended:
			if begun != (name == "complete") {
				t.Errorf("%s: begun: %v", name, begun)
			}
		case <-time.After(testrun.Patience):
			t.Errorf("%s: the session goes on", name)
		}
	}
}
