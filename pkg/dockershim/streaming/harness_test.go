package streaming

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/client"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/remotecommand"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mini-kubelet/mini-kubelet/test/testrun"
)

var testImage = fmt.Sprintf("mini-kubelet-test/streaming:%d", os.Getpid())

func TestMain(m *testing.M) {
	code := m.Run()
	if c, err := client.NewClientWithOpts(client.FromEnv, client.WithAPIVersionNegotiation()); err == nil {
		_, _ = c.ImageRemove(context.Background(), testImage, image.RemoveOptions{}) // if it was made
	}
	os.Exit(code)
}

var applets = []string{"sh", "cat", "sleep", "echo", "seq", "head", "dd", "stty", "setsid", "kill", "yes", "touch", "rm", "test", "true"}

// dockerClient returns a client and makes sure of the image, or skips the test.
func dockerClient(t testing.TB) *client.Client {
	t.Helper()
	// Without idle connections, so that what is left over can be counted.
	oneUse := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	c, err := client.NewClientWithOpts(client.WithHTTPClient(oneUse), client.WithHost(client.DefaultDockerHost), client.WithHostFromEnv(), client.WithAPIVersionNegotiation())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	ctx := context.Background()
	if _, err := c.Ping(ctx); err != nil {
		t.Skipf("needs Docker: %v", err)
	}
	if _, err := c.ImageInspect(ctx, testImage); err == nil {
		return c
	}
	busybox, err := os.ReadFile("/bin/busybox")
	if err != nil {
		t.Skipf("needs busybox-static: %v", err)
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	add := func(h tar.Header, data []byte) {
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(data); err != nil {
			t.Fatal(err)
		}
	}
	add(tar.Header{Name: "bin/busybox", Mode: 0o755, Size: int64(len(busybox))}, busybox)
	for _, name := range applets {
		add(tar.Header{Name: "bin/" + name, Typeflag: tar.TypeSymlink, Linkname: "busybox"}, nil)
	}
	add(tar.Header{Name: "tmp/", Mode: 0o777, Typeflag: tar.TypeDir}, nil)
	add(tar.Header{Name: "bin/not-executable", Mode: 0o644}, nil)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	r, err := c.ImageImport(ctx, image.ImportSource{Source: &b, SourceName: "-"}, testImage, image.ImportOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := io.Copy(io.Discard, r); err != nil {
		t.Fatal(err)
	}
	return c
}

// startContainer runs a shell script until the test ends.
func startContainer(t testing.TB, c *client.Client, script string, change ...func(*container.Config, *container.HostConfig)) (id string) {
	t.Helper()
	ctx := context.Background()
	cfg := &container.Config{Image: testImage, Cmd: []string{"sh", "-c", script}}
	host := &container.HostConfig{NetworkMode: "none"}
	for _, change := range change {
		change(cfg, host)
	}
	r, err := c.ContainerCreate(ctx, cfg, host, nil, nil, "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.ContainerRemove(ctx, r.ID, container.RemoveOptions{Force: true}); err != nil {
			t.Error(err)
		}
	})
	if err := c.ContainerStart(ctx, r.ID, container.StartOptions{}); err != nil {
		t.Fatal(err)
	}
	return r.ID
}

const forever = "sleep 1000000"

func startServer(t testing.TB, c *client.Client) *Server {
	t.Helper()
	s, err := New(Config{Docker: c})
	if err != nil {
		t.Fatal(err)
	}
	testrun.Start(t, s.Run)
	return s
}

// leavesNothing fails the test when, after cleanup of what is begun later, there are
// more goroutines or files than now.
func leavesNothing(t testing.TB) {
	t.Helper()
	before, files := len(goroutinesNow()), openFDs(t)
	t.Cleanup(func() {
		for end := time.Now().Add(testrun.Patience); ; time.Sleep(5 * time.Millisecond) {
			now, f := goroutinesNow(), openFDs(t)
			if len(now) <= before && f <= files {
				return
			}
			if time.Now().After(end) {
				t.Errorf("%d goroutines and %d files, before %d and %d\n%s", len(now), f, before, files, strings.Join(now, "\n\n"))
				return
			}
		}
	})
}

// goroutinesNow returns the stacks of all goroutines but those of client-go's: its WebSocket
// client leaves some behind for some seconds, its port-forward (since 0.37) one for good
// when its second stream cannot be made.
func goroutinesNow() []string {
	b := make([]byte, 1<<20)
	b = b[:runtime.Stack(b, true)]
	return slices.DeleteFunc(strings.Split(string(b), "\n\n"), func(stack string) bool {
		return strings.Contains(stack, "remotecommand.(*heartbeat).start") || strings.Contains(stack, "portforward.(*PortForwarder).handleConnection.func1")
	})
}

func openFDs(t testing.TB) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// transports are the ways in which clients come.
var transports = map[string]func(u string) (remotecommand.Executor, error){
	"SPDY": func(u string) (remotecommand.Executor, error) {
		parsed, err := url.Parse(u)
		if err != nil {
			return nil, err
		}
		return remotecommand.NewSPDYExecutor(&rest.Config{Host: parsed.Host}, "POST", parsed)
	},
	"WebSocket v5": func(u string) (remotecommand.Executor, error) {
		return remotecommand.NewWebSocketExecutor(&rest.Config{}, "GET", u)
	},
	"WebSocket v4": func(u string) (remotecommand.Executor, error) {
		return remotecommand.NewWebSocketExecutorForProtocols(&rest.Config{}, "GET", u, "v4.channel.k8s.io")
	},
}

func eachTransport(t *testing.T, test func(t *testing.T, visit func(u string) (remotecommand.Executor, error))) {
	for name, visit := range transports {
		t.Run(name, func(t *testing.T) { test(t, visit) })
	}
}

func execURL(t testing.TB, s *Server, req *cri.ExecRequest) string {
	t.Helper()
	r, err := s.Exec(context.Background(), req)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(r.Url, "http://127.0.0.1:") {
		t.Fatalf("URL %q is not complete", r.Url)
	}
	return r.Url
}

// processesWith returns how many processes on the host have the mark in their arguments.
func processesWith(t testing.TB, mark string) int {
	t.Helper()
	n := 0
	all, err := processTable()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range all {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", p.pid))
		if err == nil && !p.zombie && bytes.Contains(b, []byte(mark)) {
			n++
		}
	}
	return n
}
