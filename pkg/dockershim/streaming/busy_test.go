package streaming

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/docker/docker/client"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mini-kubelet/mini-kubelet/test/testrun"
)

// busyDocker is the machine's Docker behind a proxy. held is called with each question about a command before it
// is passed on, and output with each part of a command's output.
func busyDocker(t *testing.T, held func(context.Context), output func()) *client.Client {
	t.Helper()
	network, address, _ := strings.Cut(dockerClient(t).DaemonHost(), "://")
	proxy := &httputil.ReverseProxy{
		ErrorLog: log.New(io.Discard, "", 0),
		Rewrite:  func(r *httputil.ProxyRequest) { r.Out.URL.Scheme, r.Out.URL.Host = "http", "docker" },
		Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, address)
		}},
		ModifyResponse: func(r *http.Response) error {
			if body, ok := r.Body.(io.ReadWriteCloser); ok && r.StatusCode == http.StatusSwitchingProtocols {
				r.Body = heldOutput{body, output}
			}
			return nil
		},
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "/exec/") && strings.HasSuffix(r.URL.Path, "/json") {
			held(r.Context())
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	c, err := client.NewClientWithOpts(client.WithHTTPClient(&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}),
		client.WithHost("tcp://"+server.Listener.Addr().String()), client.WithAPIVersionNegotiation())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

type heldOutput struct {
	io.ReadWriteCloser
	held func()
}

func (h heldOutput) Read(p []byte) (int, error) {
	n, err := h.ReadWriteCloser.Read(p)
	h.held()
	return n, err
}

// Docker may take longer to say which process a command is than its caller waits: it is killed all the same.
func TestACommandIsKilledHoweverLateDockerTellsItsProcess(t *testing.T) {
	free := make(chan struct{})
	c := busyDocker(t, func(ctx context.Context) {
		select {
		case <-free:
		case <-ctx.Done():
		}
	}, func() {})
	s := startServer(t, c)
	s.killWithin = 10 * time.Millisecond
	id := startContainer(t, c, forever)
	leavesNothing(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		_, err := s.ExecSync(ctx, &cri.ExecSyncRequest{ContainerId: id, Cmd: []string{"sleep", "484848"}})
		ended <- err
	}()
	testrun.Eventually(t, "it runs", func() bool { return processesWith(t, "484848") > 0 })
	cancel()
	if err := soon(t, "the call ends", ended); status.Code(err) != codes.Canceled {
		t.Errorf("error %v", err)
	}
	close(free)
	testrun.Eventually(t, "it is killed", func() bool { return processesWith(t, "484848") == 0 })
}

// Docker may stand still when a command ends, with the command's last output.
func TestOutputIsNotCutOffByADockerThatStandsStill(t *testing.T) {
	for name, child := range map[string]string{"alone": "", "a child holds the output": "sleep 1000000 & "} {
		t.Run(name, func(t *testing.T) { standsStill(t, child) })
	}
}

func standsStill(t *testing.T, child string) {
	const mark = "494949"
	var killed atomic.Bool
	watched, arrived, flows := make(chan struct{}), make(chan struct{}), make(chan struct{})
	watch, arrive, flow := sync.OnceFunc(func() { close(watched) }), sync.OnceFunc(func() { close(arrived) }), sync.OnceFunc(func() { close(flows) })
	defer flow()
	c := busyDocker(t, func(context.Context) {
		switch running := processesWith(t, mark) > 0; {
		case running:
			watch()
		case killed.Load() && child != "": // it goes on when it is asked something after the end
			<-arrived
			flow()
		}
	}, func() {
		arrive()
		<-flows
	})
	s := startServer(t, c)
	id := startContainer(t, c, forever)
	leavesNothing(t)
	ended := make(chan error, 1)
	go func() {
		r, err := s.ExecSync(t.Context(), &cri.ExecSyncRequest{ContainerId: id, Cmd: []string{"sh", "-c", child + "sleep " + mark + "; echo last; exit 5"}})
		if err == nil && (string(r.Stdout) != "last\n" || r.ExitCode != 5) {
			err = fmt.Errorf("output %q, exit code %d", r.Stdout, r.ExitCode)
		}
		ended <- err
	}()
	soon(t, "its end is watched for", watched)
	testrun.Eventually(t, "it is killed", func() bool {
		all, err := processTable()
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range all {
			if text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", p.pid)); err == nil && string(text) == "sleep\x00"+mark+"\x00" {
				killed.Store(true)
				return unix.Kill(p.pid, unix.SIGTERM) == nil
			}
		}
		return false
	})
	if child == "" {
		time.AfterFunc(2*time.Second, flow)
	}
	if err := soon(t, "it has ended", ended); err != nil {
		t.Error(err)
	}
}
