package logs

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/client"

	"github.com/mini-kubelet/mini-kubelet/test/testrun"
)

var testImage = fmt.Sprintf("mini-kubelet-test/logs:%d", os.Getpid())

func removeTestImage() {
	if c, err := client.NewClientWithOpts(client.FromEnv, client.WithAPIVersionNegotiation()); err == nil {
		_, _ = c.ImageRemove(context.Background(), testImage, image.RemoveOptions{}) // if it was made
	}
}

// dockerClient returns a client and makes sure of the image, or skips the test.
func dockerClient(t testing.TB) *client.Client {
	t.Helper()
	c, err := client.NewClientWithOpts(client.FromEnv, client.WithAPIVersionNegotiation())
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
	if err := w.WriteHeader(&tar.Header{Name: "bin/busybox", Mode: 0o755, Size: int64(len(busybox))}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(busybox); err != nil {
		t.Fatal(err)
	}
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

// startContainer runs a shell script and returns the container's ID and log path.
func startContainer(t testing.TB, c *client.Client, tty bool, script string) (id, logPath string) {
	t.Helper()
	ctx := context.Background()
	r, err := c.ContainerCreate(ctx,
		&container.Config{Image: testImage, Cmd: []string{"/bin/busybox", "sh", "-c", script}, Tty: tty},
		&container.HostConfig{LogConfig: DockerLogConfig(), NetworkMode: "none"}, nil, nil, "")
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
	info, err := c.ContainerInspect(ctx, r.ID)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Dir(info.LogPath)); err != nil {
		t.Skipf("Docker's logs are not readable here: %v", err)
	}
	return r.ID, info.LogPath
}

func waitExit(t testing.TB, c *client.Client, id string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), testrun.Patience)
	defer cancel()
	ok, failed := c.ContainerWait(ctx, id, container.WaitConditionNotRunning)
	select {
	case <-ok:
	case err := <-failed:
		t.Fatal(err)
	}
}

func TestDockerContainerThatLogsFast(t *testing.T) {
	c := dockerClient(t)
	const lines = 200_000 // 15 MB of records: Docker rotates during the test
	id, logPath := startContainer(t, c, false, fmt.Sprintf("busybox seq 1 %d", lines))
	cri, state := filepath.Join(t.TempDir(), "0.log"), t.TempDir()
	exited := make(chan struct{})
	go func() {
		defer close(exited)
		waitExit(t, c, id)
	}()
	// Agents come and go, and the log is rotated.
	for i, running := 0, true; running; i++ {
		m, stop := startManager(t, Config{StateDir: state})
		if err := m.Follow(context.Background(), id, logPath, cri); err != nil {
			t.Fatal(err)
		}
		select {
		case <-exited:
			running = false
			ctx, cancel := context.WithTimeout(context.Background(), testrun.Patience)
			if err := m.Finish(ctx, id); err != nil {
				t.Error(err)
			}
			cancel()
		case <-time.After(100 * time.Millisecond):
			if err := os.Rename(cri, fmt.Sprintf("%s.%d", cri, i)); err != nil {
				t.Fatal(err)
			}
			if err := m.Reopen(id); err != nil {
				t.Fatal(err)
			}
		}
		stop()
	}
	got := texts(t, cri)
	for i, text := range got {
		if text != fmt.Sprint(i+1) {
			t.Fatalf("line %d is %q", i+1, text)
		}
	}
	if len(got) != lines {
		t.Fatalf("%d lines, want %d", len(got), lines)
	}
}

func TestDockerContainerThatEndsAtOnce(t *testing.T) {
	c := dockerClient(t)
	long := strings.Repeat("0123456789", 4000) // more than Docker puts in one record
	id, logPath := startContainer(t, c, false, "echo out; echo err >&2; busybox yes 0123456789 | busybox tr -d '\\n' | busybox head -c 40000; echo; busybox printf end")
	waitExit(t, c, id)
	cri := filepath.Join(t.TempDir(), "0.log")
	m, err := New(Config{StateDir: t.TempDir()}) // not even running
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Follow(context.Background(), id, logPath, cri); err != nil {
		t.Fatal(err)
	}
	finish(t, m, id)
	b, err := os.ReadFile(cri)
	if err != nil {
		t.Fatal(err)
	}
	streams := map[string]string{}
	for line := range bytes.Lines(b) {
		f := bytes.SplitN(line, []byte(" "), 4)
		streams[string(f[1])] += string(checkLine(t, line))
	}
	if want := "out\n" + long + "\nend"; streams["stdout"] != want || streams["stderr"] != "err\n" {
		t.Errorf("stdout has %d bytes, want %d; stderr %q", len(streams["stdout"]), len(want), streams["stderr"])
	}
}

func TestDockerContainerWithTTY(t *testing.T) {
	c := dockerClient(t)
	id, logPath := startContainer(t, c, true, "echo one; echo two >&2")
	cri := filepath.Join(t.TempDir(), "0.log")
	m, _ := startManager(t, Config{StateDir: t.TempDir()})
	if err := m.Follow(context.Background(), id, logPath, cri); err != nil {
		t.Fatal(err)
	}
	waitExit(t, c, id)
	finish(t, m, id)
	sameLines(t, texts(t, cri), []string{"one\r", "two\r"})
}
