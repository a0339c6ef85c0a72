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

// fill sends until the other side's kernel takes no more, and returns how much that was.
func fill(t *testing.T, c net.Conn) (sent int) {
	t.Helper()
	for b := make([]byte, 1<<16); ; {
		if err := c.SetWriteDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		n, err := c.Write(b)
		if sent += n; err != nil {
			return sent
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
			soon(t, gone)
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
	const bytes = int(patience/interval) + 5
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

func TestLeaveSendsWhatWasWritten(t *testing.T) {
	t.Parallel()
	far, near := pair(t)
	written := fill(t, near)
	left := make(chan struct{})
	go func() {
		defer close(left)
		Leave(t.Context(), near.(*net.TCPConn))
	}()
	got, b := 0, make([]byte, 1<<16)
	for {
		n, err := far.Read(b)
		if got += n; err != nil {
			if got != written || err != io.EOF {
				t.Errorf("%d of %d bytes came, %v", got, written, err)
			}
			break
		}
	}
	far.Close()
	soon(t, left)
}

func TestLeaveDoesNotWaitForWhoReadsNothing(t *testing.T) {
	t.Parallel()
	for _, stop := range []bool{true, false} {
		ctx, cancel := context.WithCancel(t.Context())
		if stop {
			cancel()
		}
		far, near := pair(t)
		fill(t, near)
		left := make(chan struct{})
		go func() {
			defer close(left)
			Leave(ctx, near.(*net.TCPConn))
		}()
		soon(t, left)
		testrun.Eventually(t, "the other side hears of it", func() bool {
			s, _ := look(socket(far))
			return s != open
		})
		cancel()
	}
}

func TestLeaveNoticesThatTheOtherSideIsGone(t *testing.T) {
	far, near := pair(t)
	fill(t, near)
	far.SetLinger(0)
	far.Close()
	testrun.Eventually(t, "it is dead", func() bool { s, _ := look(socket(near)); return s == dead })
	before := time.Now()
	Leave(t.Context(), near.(*net.TCPConn))
	if took := time.Since(before); took >= patience { // as if it had not noticed
		t.Errorf("it took %v", took)
	}
}

func soon(t *testing.T, ended <-chan struct{}) {
	t.Helper()
	select {
	case <-ended:
	case <-time.After(testrun.Patience):
		t.Fatal("it does not end")
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
