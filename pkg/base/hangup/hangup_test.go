package hangup

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mini-kubelet/mini-kubelet/test/testrun"
)

func pair(t *testing.T) (client *net.TCPConn, server net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if server, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	return c.(*net.TCPConn), server
}

// fill sends until the other side's kernel takes no more.
func fill(t *testing.T, c net.Conn) {
	t.Helper()
	for b := make([]byte, 1<<16); ; {
		if err := c.SetWriteDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write(b); err != nil {
			return
		}
	}
}

// wrapped hides the socket, as a tls.Conn does.
type wrapped struct{ net.Conn }

func (w wrapped) NetConn() net.Conn { return w.Conn }

func TestAClientThatEndsIsFound(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(c *net.TCPConn){
		"closed":                      func(c *net.TCPConn) { c.Close() },
		"closed, with unread input":   func(c *net.TCPConn) { c.Write([]byte("input")); c.Close() },
		"half closed":                 func(c *net.TCPConn) { c.CloseWrite() },
		"reset":                       func(c *net.TCPConn) { c.SetLinger(0); c.Close() },
		"reset, while much is unread": func(c *net.TCPConn) { fill(t, c); c.SetLinger(0); c.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, server := pair(t)
			gone := make(chan struct{})
			Watch(t.Context(), tls.Server(wrapped{server}, nil), func() { close(gone) })
			end(client)
			select {
			case <-gone:
			case <-time.After(testrun.Patience):
				t.Error("it was not noticed")
			}
		})
	}
}

func TestAClientThatIsThereIsLeftAlone(t *testing.T) {
	client, server := pair(t)
	raw := socket(server)
	if s, _ := look(raw); s != open {
		t.Errorf("a silent client is %v", s)
	}
	fill(t, client)
	if s, _ := look(raw); s != open {
		t.Errorf("a client whose input is not read is %v", s)
	}
	server.Close()
	if s, _ := look(raw); s != dead {
		t.Error("a connection that was closed here is watched on")
	}
}

// To close is the only way in which some clients can end their input.
func TestWhatAClientHasLeftIsRead(t *testing.T) {
	t.Parallel()
	client, server := pair(t)
	gone := make(chan struct{})
	Watch(t.Context(), server, func() { close(gone) })
	const bytes = readPatience + 5
	if _, err := client.Write(make([]byte, bytes)); err != nil {
		t.Fatal(err)
	}
	client.Close()
	one := make([]byte, 1)
	for range bytes { // longer than the patience, slowly
		if _, err := server.Read(one); err != nil {
			t.Fatal(err)
		}
		select {
		case <-gone:
			t.Fatal("it was cut off")
		case <-time.After(interval):
		}
	}
	testrun.Eventually(t, "it is over", func() bool { _, err := server.Read(one); return err != nil })
}

func TestLeaveSendsWhatIsTaken(t *testing.T) {
	t.Parallel()
	for _, read := range []bool{true, false} {
		far, near := pair(t)
		fill(t, near)
		left := make(chan struct{})
		go func() {
			defer close(left)
			Leave(near.(*net.TCPConn))
		}()
		if read {
			if n, err := io.Copy(io.Discard, far); n < 1<<16 {
				t.Errorf("only %d bytes came, %v", n, err)
			}
		}
		select {
		case <-left:
		case <-time.After(testrun.Patience):
			t.Fatalf("read %v: it does not end", read)
		}
		testrun.Eventually(t, "the other side hears of it", func() bool {
			s, _ := look(socket(far))
			return s != open
		})
	}
}

func TestTheWatchEndsWithItsContext(t *testing.T) {
	_, server := pair(t)
	synctest.Test(t, func(t *testing.T) { // which fails when a goroutine is left
		ctx, cancel := context.WithCancel(t.Context())
		Watch(ctx, server, func() { t.Error("gone") })
		time.Sleep(10 * interval) // of the bubble's time
		cancel()
	})
	near, far := net.Pipe()
	near.Close()
	Watch(t.Context(), far, func() { t.Error("a connection without a socket is watched") })
}
