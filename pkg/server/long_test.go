package server

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"
)

// pipes is a listener for connections in memory, for tests with synthetic time.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}
func (p *pipes) Close() error {
	select {
	case <-p.done:
	default:
		close(p.done)
	}
	return nil
}
func (p *pipes) Addr() net.Addr { return &net.IPAddr{} }

// serveLong serves one handler as the kubelet API serves its long requests, and
// returns a way to send a request, which gives the connection.
func serveLong(t *testing.T, long *longRequests, h http.HandlerFunc) func(request string) net.Conn {
	t.Helper()
	l := &pipes{conns: make(chan net.Conn), done: make(chan struct{})}
	s := &http.Server{Handler: short(long.handler(h)), ReadHeaderTimeout: headerTimeout, IdleTimeout: apiIdleTimeout}
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	t.Cleanup(func() {
		long.end()
		s.Close()
		long.wait()
		<-served
	})
	return func(request string) net.Conn {
		client, server := net.Pipe()
		l.conns <- server
		if _, err := io.WriteString(client, request); err != nil {
			t.Fatal(err)
		}
		return client
	}
}

const get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"

func TestAFollowedLogOutlastsEveryTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lines := make(chan string)
		send := serveLong(t, newLongRequests(), func(w http.ResponseWriter, r *http.Request) {
			out := &logWriter{w: w, flush: true}
			out.Write(nil)
			for {
				select {
				case line := <-lines:
					fmt.Fprintln(out, line)
				case <-r.Context().Done():
					return
				}
			}
		})
		conn := send(get)
		defer conn.Close()
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		body := bufio.NewReader(resp.Body)
		for _, pause := range []time.Duration{time.Second, 2 * shortTimeout, 24 * time.Hour} {
			time.Sleep(pause)
			select {
			case lines <- pause.String():
			case <-time.After(time.Second):
				t.Fatalf("the request was ended within %s", pause)
			}
			got, err := body.ReadString('\n')
			if err != nil || got != pause.String()+"\n" {
				t.Fatalf("after %s: %q, %v", pause, got, err)
			}
		}
	})
}

func TestALongRequestEndsWithItsClient(t *testing.T) {
	for name, request := range map[string]string{
		"GET":                get,
		"POST with a body":   "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
		"POST with no body":  "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
		"pipelined requests": get + "GET",
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				entered, ended := make(chan struct{}), make(chan struct{})
				send := serveLong(t, newLongRequests(), func(_ http.ResponseWriter, r *http.Request) {
					close(entered)
					<-r.Context().Done()
					close(ended)
				})
				conn := send(request)
				<-entered
				conn.Close()
				<-ended // otherwise synctest reports a deadlock
			})
		})
	}
}

func TestABodyThatDoesNotComeIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		send := serveLong(t, newLongRequests(), func(http.ResponseWriter, *http.Request) { t.Error("the handler was called") })
		begin := time.Now()
		conn := send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhe")
		defer conn.Close()
		io.Copy(io.Discard, conn)
		if took := time.Since(begin); took != shortTimeout {
			t.Errorf("the connection was closed after %s, want %s", took, shortTimeout)
		}
	})
}

func TestAClientThatTakesNothingIsCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ended := make(chan error)
		send := serveLong(t, newLongRequests(), func(w http.ResponseWriter, _ *http.Request) {
			_, err := (&logWriter{w: w, flush: true}).Write([]byte("line\n"))
			ended <- err
		})
		begin := time.Now()
		conn := send(get)
		defer conn.Close()
		if err := <-ended; err == nil {
			t.Error("writing to a client that does not read succeeded")
		}
		if took := time.Since(begin); took != stallTimeout {
			t.Errorf("it was cut off after %s, want %s", took, stallTimeout)
		}
	})
}

// upgrade hijacks the connection and echoes until one side ends.
func upgrade(t *testing.T, entered, left chan<- struct{}) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		close(entered)
		io.Copy(conn, conn)
		<-r.Context().Done()
		close(left)
	}
}

func TestAnUpgradedConnection(t *testing.T) {
	t.Run("keeps what came with the request, and lasts", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			entered, left := make(chan struct{}), make(chan struct{})
			conn := serveLong(t, newLongRequests(), upgrade(t, entered, left))(get + "early")
			<-entered
			buf := make([]byte, 5)
			if _, err := io.ReadFull(conn, buf); err != nil || string(buf) != "early" {
				t.Fatalf("%q, %v", buf, err)
			}
			time.Sleep(24 * time.Hour)
			if _, err := io.WriteString(conn, "later"); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(conn, buf); err != nil || string(buf) != "later" {
				t.Fatalf("%q, %v", buf, err)
			}
			conn.Close()
			<-left
		})
	})
	t.Run("ends with the server, which waits for it", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			long := newLongRequests()
			entered, left := make(chan struct{}), make(chan struct{})
			conn := serveLong(t, long, upgrade(t, entered, left))(get)
			defer conn.Close()
			<-entered
			long.end()
			long.wait()
			select {
			case <-left:
			default:
				t.Error("wait returned while the stream was open")
			}
		})
	})
}

func TestNoLongRequestBeginsAfterTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		long := newLongRequests()
		send := serveLong(t, long, func(http.ResponseWriter, *http.Request) { t.Error("the handler was called") })
		long.end()
		conn := send(get)
		defer conn.Close()
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil || resp.StatusCode != http.StatusServiceUnavailable {
			t.Fatalf("%v, %v", resp, err)
		}
	})
}

func TestAServerThatIsNotTheAPIHasNoLongRequests(t *testing.T) {
	var none *longRequests
	none.end()
	none.wait()
}
