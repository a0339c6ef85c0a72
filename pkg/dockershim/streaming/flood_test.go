package streaming

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/client"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mini-kubelet/mini-kubelet/test/testrun"
)

// serveWithoutDocker serves URLs whose handlers get no further than to Docker.
func serveWithoutDocker(t *testing.T) *Server {
	t.Helper()
	c, err := client.NewClientWithOpts(client.WithHost("unix:///nonexistent/docker.sock"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return startServer(t, c)
}

func dial(t *testing.T, s *Server) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", s.host)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(testrun.Patience)); err != nil {
		t.Fatal(err)
	}
	return c
}

// token returns the path of a URL that works.
func token(t *testing.T, s *Server) string {
	t.Helper()
	token, err := s.tokens.put(asked{req: &cri.ExecRequest{ContainerId: "c", Cmd: []string{"true"}, Stdout: true}}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return "/exec/" + token
}

// Processes without a token hold half-open requests: they get no more descriptors than their
// share, and who has a token is answered meanwhile.
func TestStrangersCannotTakeAllConnections(t *testing.T) {
	s := serveWithoutDocker(t)
	const visitors = 20
	flood := make([]net.Conn, 0, 4*maxStrangers)
	for i := range 4 * maxStrangers {
		c := dial(t, s)
		flood = append(flood, c)
		// It may be closed already.
		_, _ = io.WriteString(c, "GET /exec/x HTTP/1.1\r\n")
		if i%(4*maxStrangers/visitors) != 0 {
			continue
		}
		resp, err := http.Get("http://" + s.host + token(t, s))
		if err != nil {
			t.Fatalf("after %d: %v", i, err)
		}
		resp.Body.Close()
		if resp.StatusCode == http.StatusNotFound || resp.StatusCode == http.StatusServiceUnavailable {
			t.Errorf("after %d: %s", i, resp.Status)
		}
	}
	// Those beyond the bound are closed without waiting for anything.
	for i, c := range flood[:len(flood)-maxStrangers] {
		if _, err := io.Copy(io.Discard, c); err != nil && !strings.Contains(err.Error(), "reset") {
			t.Fatalf("connection %d is still open: %v", i, err)
		}
	}
}

func TestAConnectionWithoutATokenIsClosed(t *testing.T) {
	s := serveWithoutDocker(t)
	for name, tc := range map[string]struct {
		request string
		status  int
	}{
		"unknown token": {"GET /exec/x HTTP/1.1\r\nHost: a\r\n\r\n", http.StatusNotFound},
		"unknown path":  {"GET / HTTP/1.1\r\nHost: a\r\n\r\n", http.StatusNotFound},
		"endless body":  {"POST /attach/x HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n", http.StatusNotFound},
		"long headers":  {"GET /exec/x HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("x", maxHeader+8<<10), http.StatusRequestHeaderFieldsTooLarge},
		"nothing":       {"", 0}, // ends with headerTimeout
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := dial(t, s)
			if _, err := io.WriteString(c, tc.request); err != nil {
				t.Fatal(err)
			}
			from := bufio.NewReader(c)
			if tc.status != 0 {
				resp, err := http.ReadResponse(from, nil)
				if err != nil {
					t.Fatal(err)
				}
				if _, _ = io.Copy(io.Discard, resp.Body); resp.StatusCode != tc.status {
					t.Errorf("answer %s", resp.Status)
				}
			}
			if _, err := io.Copy(io.Discard, from); err != nil && !strings.Contains(err.Error(), "reset") {
				t.Errorf("still open: %v", err)
			}
		})
	}
}

// fakeListener accepts what it is given.
type fakeListener struct{ conns chan net.Conn }

func (f fakeListener) Accept() (net.Conn, error) { return <-f.conns, nil }
func (fakeListener) Close() error                { return nil }
func (fakeListener) Addr() net.Addr              { return &net.TCPAddr{} }

func TestSessionsAreCountedApartFromStrangers(t *testing.T) {
	from := fakeListener{make(chan net.Conn, 1)}
	l := &connections{Listener: from, sessions: map[*conn]struct{}{}}
	accept := func() *conn {
		t.Helper()
		near, far := net.Pipe()
		t.Cleanup(func() { far.Close() })
		from.conns <- near
		c, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		return c.(*conn)
	}
	closed := func(c *conn) bool { return c.ctx.Err() != nil }
	var sessions []*conn
	for range maxSessions {
		c := accept()
		if !l.admit(c) {
			t.Fatal("not admitted")
		}
		sessions = append(sessions, c)
	}
	if l.admit(accept()) {
		t.Errorf("more than %d sessions", maxSessions)
	}
	for range 2 * maxStrangers {
		accept()
	}
	for i, c := range sessions {
		if closed(c) {
			t.Fatalf("session %d was closed for strangers", i)
		}
	}
	if n := l.strangers.Len(); n != maxStrangers {
		t.Errorf("%d strangers, want %d", n, maxStrangers)
	}
	sessions[0].Close()
	sessions[0].Close()
	late := accept()
	if !l.admit(late) || l.admit(late) {
		t.Error("a session that ended made no room for one other")
	}
	gone := accept()
	gone.Close()
	if l.admit(gone) {
		t.Error("a closed connection was admitted")
	}
	l.closeAll()
	if n := l.strangers.Len() + len(l.sessions); n != 0 || !closed(late) {
		t.Error(fmt.Sprint(n, " connections are left"))
	}
	near, far := net.Pipe()
	defer far.Close()
	from.conns <- near
	if _, err := l.Accept(); err == nil {
		t.Error("accepted after the end")
	}
}
