package streaming

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/docker/docker/client"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"

	"github.com/mini-kubelet/mini-kubelet/test/testrun"
)

// said is what an HTTP server logs, panics among it.
type said struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (s *said) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(b)
}

func (s *said) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// upgrades are the requests by which a client comes to a session, or forwards ports.
var upgrades = []string{
	"GET /session HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\nSec-WebSocket-Protocol: v5.channel.k8s.io\r\n\r\n",
	"GET /session HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\nSec-WebSocket-Protocol: v4.base64.channel.k8s.io\r\n\r\n",
	"GET /session HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n",
	"POST /session HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: v4.channel.k8s.io\r\n\r\n",
	"POST /session HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: v2.channel.k8s.io\r\n\r\n",
	"POST /forward HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: portforward.k8s.io\r\n\r\n",
}

// FuzzFrames: whatever a client sends once it has been let in, nothing panics, and the session
// ends with the client.
func FuzzFrames(f *testing.F) {
	docker, err := client.NewClientWithOpts(client.WithHost("unix:///nonexistent/docker.sock"))
	if err != nil {
		f.Fatal(err)
	}
	defer docker.Close()
	s, err := New(Config{Docker: docker, CreationTimeout: 100 * time.Millisecond})
	if err != nil {
		f.Fatal(err)
	}
	open := &connections{Listener: s.listener, sessions: map[*conn]struct{}{}}
	var running sync.WaitGroup
	mux := http.NewServeMux()
	mux.HandleFunc("/session", func(w http.ResponseWriter, r *http.Request) {
		running.Add(1)
		defer running.Done()
		opts := &remotecommand.Options{Stdin: true, Stdout: true, TTY: true}
		one := &session{server: s, opts: opts, run: readAll}
		one.serve(w, r)
	})
	mux.HandleFunc("/forward", func(w http.ResponseWriter, r *http.Request) {
		running.Add(1)
		defer running.Done()
		s.forwardSPDY(w, r, "s")
	})
	var complaints said
	server := &http.Server{Handler: quiet(mux), ConnContext: open.context, ConnState: open.state, ErrorLog: log.New(&complaints, "", 0)}
	served := make(chan error, 1)
	go func() { served <- server.Serve(open) }()
	f.Cleanup(func() { server.Close(); open.closeAll(); <-served })

	// A masked frame of each channel, SPDY's SYN_STREAM, DATA, PING and GOAWAY, and none of these.
	seeds := [][]byte{
		nil, []byte("garbage"), {0x82, 0x83, 0, 0, 0, 0, 0, 'a', 'b'}, {0x82, 0x8a, 0, 0, 0, 0, 4, '{', '"', 'W', '"', ':', '1', '}', '{', '{'},
		{0x81, 0x83, 0, 0, 0, 0, '0', 'Y', 'Q'}, {0x82, 0x82, 0, 0, 0, 0, 255, 0}, {0x88, 0x80, 0, 0, 0, 0}, {0x82, 0xff, 255, 255, 255, 255, 255, 255, 255, 255},
		{0x80, 3, 0, 1, 0, 0, 0, 10, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0}, {0, 0, 0, 1, 0, 0, 0, 3, 'a', 'b', 'c'}, {0x80, 3, 0, 6, 0, 0, 0, 4, 0, 0, 0, 1},
		{0x80, 3, 0, 7, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0}, {0x80, 3, 0, 1, 0, 255, 255, 255}, {0x80, 3, 0, 4, 0, 0, 0, 4, 255, 255, 255, 255},
	}
	for kind := range upgrades {
		for _, data := range seeds {
			f.Add(uint8(kind), data)
		}
	}
	f.Fuzz(func(t *testing.T, kind uint8, data []byte) {
		upgrade := upgrades[int(kind)%len(upgrades)]
		c, err := net.Dial("tcp", s.host)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if err := c.SetDeadline(time.Now().Add(testrun.Patience)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(c, upgrade); err != nil {
			t.Fatal(err)
		}
		from := bufio.NewReader(c)
		resp, err := http.ReadResponse(from, nil)
		if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
			t.Fatalf("not let in: %v, %v", resp, err)
		}
		_, _ = c.Write(data) // it may be shut out before the end
		_ = c.(*net.TCPConn).CloseWrite()
		if _, err := io.Copy(io.Discard, from); err != nil && !strings.Contains(err.Error(), "reset") {
			t.Errorf("the session goes on without its client: %v", err)
		}
		c.Close()
		ended := make(chan struct{})
		go func() { running.Wait(); close(ended) }()
		select {
		case <-ended:
		case <-time.After(testrun.Patience):
			t.Error("a session goes on without its client")
		}
		if text := complaints.String(); strings.Contains(text, "panic") {
			t.Fatal(text)
		}
	})
}

// readAll is a session that reads all that the client sends.
func readAll(ctx context.Context, streams stdio) error {
	sizes := make(chan struct{})
	go func() {
		defer close(sizes)
		for streams.resize != nil {
			select {
			case _, ok := <-streams.resize:
				if !ok {
					return
				}
			case <-ctx.Done():
				return
			}
		}
	}()
	_, err := io.Copy(streams.out, streams.in)
	return err
}
