package logrotate

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"k8s.io/apimachinery/pkg/types"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/mini-kubelet/mini-kubelet/pkg/pods/actual"
)

// node is a runtime with containers, each with a log.
type node struct {
	root  string
	clock *clocktesting.FakeClock
	pods  []*actual.Pod
	*Rotator

	mu     sync.Mutex
	calls  []string
	away   bool                    // it answers nothing
	reopen func(path string) error // nil: make the file
}

const logSize = 1000

func newNode(t testing.TB, containers int, change ...func(*Config)) *node {
	t.Helper()
	n := &node{root: t.TempDir(), clock: clocktesting.NewFakeClock(time.Date(2026, 11, 30, 0, 0, 0, 0, time.UTC))}
	for i := range containers {
		n.pods = append(n.pods, &actual.Pod{
			UID: types.UID(fmt.Sprintf("uid%d", i)), Name: "pod", Namespace: "ns",
			Containers: []actual.Container{{ID: fmt.Sprint(i), Name: "c", State: actual.StateRunning}},
		})
		if err := os.MkdirAll(filepath.Dir(n.log(i)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(n.log(i), nil, 0o640); err != nil {
			t.Fatal(err)
		}
	}
	cfg := Config{
		Runtime: n, Pods: func() []*actual.Pod { return n.pods }, Listed: make(chan struct{}), Root: n.root,
		Limits: Limits{Size: logSize, Files: 4}, Workers: 2, Interval: 10 * time.Second, Clock: n.clock,
	}
	for _, c := range change {
		c(&cfg)
	}
	var err error
	if n.Rotator, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	return n
}

func (n *node) log(i int) string {
	p := n.pods[i]
	return filepath.Join(n.root, fmt.Sprintf("%s_%s_%s", p.Namespace, p.Name, p.UID), "c", "0.log")
}

func (n *node) ContainerStatus(_ context.Context, r *cri.ContainerStatusRequest, _ ...grpc.CallOption) (*cri.ContainerStatusResponse, error) {
	n.note("status " + r.ContainerId)
	if n.away {
		return nil, status.Error(codes.DeadlineExceeded, "no answer")
	}
	for i, p := range n.pods {
		if c := p.Containers[0]; c.ID == r.ContainerId {
			s := &cri.ContainerStatus{LogPath: n.log(i), Metadata: &cri.ContainerMetadata{Name: "c"}, State: cri.ContainerState_CONTAINER_RUNNING}
			if c.State == actual.StateExited {
				s.State = cri.ContainerState_CONTAINER_EXITED
			}
			return &cri.ContainerStatusResponse{Status: s}, nil
		}
	}
	return nil, status.Error(codes.NotFound, "no such container")
}

func (n *node) ReopenContainerLog(_ context.Context, r *cri.ReopenContainerLogRequest, _ ...grpc.CallOption) (*cri.ReopenContainerLogResponse, error) {
	n.note("reopen " + r.ContainerId)
	for i, p := range n.pods {
		if p.Containers[0].ID != r.ContainerId {
			continue
		}
		if n.reopen != nil {
			return &cri.ReopenContainerLogResponse{}, n.reopen(n.log(i))
		}
		return &cri.ReopenContainerLogResponse{}, os.WriteFile(n.log(i), nil, 0o640)
	}
	return nil, status.Error(codes.NotFound, "no such container")
}

func (n *node) note(call string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.calls = append(n.calls, call)
}

// looks has the rotator look, and waits until it has compressed. It returns what it has asked
// the runtime.
func (n *node) looks(t *testing.T) []string {
	t.Helper()
	n.calls = nil
	n.clock.Step(n.cfg.Interval)
	n.look(t.Context())
	n.packing.Wait()
	slices.Sort(n.calls)
	return n.calls
}

func (n *node) fill(t *testing.T, i, bytes int) {
	t.Helper()
	if err := os.WriteFile(n.log(i), []byte(strings.Repeat("x", bytes)), 0o640); err != nil {
		t.Fatal(err)
	}
}

// files returns the names of the log's files without what they have in common.
func (n *node) files(t *testing.T, i int) string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(n.log(i)))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, strings.TrimPrefix(e.Name(), "0.log.20261130-"))
	}
	return strings.Join(names, " ")
}

func (n *node) causes() string { return strings.Join(slices.Sorted(maps.Keys(n.told)), ", ") }

func TestOnlyWhatIsFullIsRotated(t *testing.T) {
	n := newNode(t, 3)
	n.fill(t, 1, logSize)
	n.fill(t, 2, logSize-1)
	if got := n.looks(t); !slices.Equal(got, []string{"reopen 1", "status 0", "status 1", "status 2"}) {
		t.Errorf("asked %v", got)
	}
	for i, want := range []string{"0.log", "0.log 000010", "0.log"} {
		if got := n.files(t, i); got != want {
			t.Errorf("log %d: %q, want %q", i, got, want)
		}
	}
	if got := n.looks(t); len(got) > 0 {
		t.Errorf("nothing has changed, and it asked %v", got)
	}
	for range 4 {
		n.fill(t, 1, logSize)
		n.looks(t)
	}
	if got, want := n.files(t, 1), "0.log 000040.gz 000050.gz 000100"; got != want {
		t.Errorf("after five rotations: %q, want %q", got, want)
	}
	fi, err := os.Stat(n.log(1) + ".20261130-000050.gz")
	if err != nil || fi.Mode().Perm() != 0o640 {
		t.Errorf("a compressed file has mode %v, %v", fi.Mode(), err)
	}
	if n.causes() != "" {
		t.Errorf("failed: %s", n.causes())
	}
}

func TestLogsThatAreNotOurs(t *testing.T) {
	n := newNode(t, 2)
	n.fill(t, 0, logSize)
	elsewhere := filepath.Join(t.TempDir(), "0.log")
	for _, path := range []string{elsewhere, n.log(1), filepath.Dir(n.log(0)) + "/../c/1.log", "0.log", ""} {
		n.logs = map[string]*containerLog{}
		n.cfg.Runtime = liar{n, path}
		if n.looks(t); n.files(t, 0) != "0.log" {
			t.Errorf("the runtime says %q, and there are %s", path, n.files(t, 0))
		}
	}
}

type liar struct {
	*node
	path string
}

func (l liar) ContainerStatus(ctx context.Context, r *cri.ContainerStatusRequest, _ ...grpc.CallOption) (*cri.ContainerStatusResponse, error) {
	resp, err := l.node.ContainerStatus(ctx, r)
	resp.Status.LogPath = l.path
	return resp, err
}

func TestWhatStandsInPlaceOfALog(t *testing.T) {
	for name, put := range map[string]func(log, victim string) error{
		"a link":      func(log, victim string) error { return os.Symlink(victim, log) },
		"a directory": func(log, _ string) error { return os.Mkdir(log, 0o755) },
		"a pipe":      func(log, _ string) error { return unix.Mkfifo(log, 0o644) },
		"a link in place of its directory": func(log, victim string) error {
			if err := os.RemoveAll(filepath.Dir(log)); err != nil {
				return err
			}
			return os.Symlink(filepath.Dir(victim), filepath.Dir(log))
		},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t, 2)
			victim := filepath.Join(t.TempDir(), "0.log")
			if err := os.WriteFile(victim, bytes.Repeat([]byte("v"), logSize), 0o644); err != nil {
				t.Fatal(err)
			}
			if err := os.Remove(n.log(0)); err != nil {
				t.Fatal(err)
			}
			if err := put(n.log(0), victim); err != nil {
				t.Fatal(err)
			}
			n.fill(t, 1, logSize)
			for range 2 {
				n.looks(t)
			}
			if entries, _ := os.ReadDir(filepath.Dir(victim)); len(entries) != 1 {
				t.Errorf("the victim's directory has %v", entries)
			}
			if n.causes() == "" || strings.Contains(n.causes(), ",") {
				t.Errorf("causes %q", n.causes())
			}
			if got := n.files(t, 1); got != "0.log 000010" {
				t.Errorf("the other log has %q", got)
			}
		})
	}
}

// A link where a rotated file was is not compressed, and what it leads to is not read.
func TestLinkAmongTheRotated(t *testing.T) {
	n := newNode(t, 1)
	if err := os.Symlink("/etc/shadow", n.log(0)+".20261129-000000"); err != nil {
		t.Fatal(err)
	}
	n.fill(t, 0, logSize)
	n.looks(t)
	if got := n.files(t, 0); got != "0.log 0.log.20261129-000000 000010" {
		t.Errorf("files %q", got)
	}
}

func mount(t *testing.T, at, options string) (remount func(flags uintptr)) {
	t.Helper()
	if err := unix.Mount("tmpfs", at, "tmpfs", 0, options); err != nil {
		t.Skipf("no file system can be mounted: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(at, unix.MNT_DETACH) })
	return func(flags uintptr) {
		if err := unix.Mount("", at, "", unix.MS_REMOUNT|flags, options); err != nil {
			t.Fatal(err)
		}
	}
}

func TestReadOnlyFileSystem(t *testing.T) {
	root := t.TempDir()
	remount := mount(t, root, "size=1m")
	m := newNode(t, 5, func(c *Config) { c.Root = root })
	m.root = root
	for i := range 5 {
		if err := os.MkdirAll(filepath.Dir(m.log(i)), 0o755); err != nil {
			t.Fatal(err)
		}
		m.fill(t, i, logSize)
	}
	remount(unix.MS_RDONLY)
	for range 3 {
		for _, call := range m.looks(t) {
			if strings.HasPrefix(call, "reopen") {
				t.Errorf("asked to %s", call)
			}
		}
		if m.causes() != "read-only file system" {
			t.Errorf("causes %q", m.causes())
		}
	}
	remount(0)
	m.looks(t)
	if m.causes() != "" {
		t.Errorf("writable again, and there is %q", m.causes())
	}
	for i := range 5 {
		if got := m.files(t, i); !strings.HasPrefix(got, "0.log 0000") {
			t.Errorf("log %d: %q", i, got)
		}
	}
}

// A full disk hinders compressing, not rotating, and what cannot be compressed stays whole.
func TestFullDisk(t *testing.T) {
	root := t.TempDir()
	mount(t, root, "size=256k")
	n := newNode(t, 1, func(c *Config) { c.Root = root })
	n.root = root
	if err := os.MkdirAll(filepath.Dir(n.log(0)), 0o755); err != nil {
		t.Fatal(err)
	}
	noise := make([]byte, 40<<10) // which does not become smaller
	random := rand.NewChaCha8([32]byte{})
	for range 3 {
		_, _ = random.Read(noise)
		if err := os.WriteFile(n.log(0), noise, 0o640); err != nil {
			t.Fatal(err)
		}
		n.looks(t)
	}
	if got, want := n.files(t, 0), "0.log 000010.gz 000020.gz 000030"; got != want {
		t.Fatalf("files %q, want %q", got, want)
	}
	n.fill(t, 0, logSize)
	filler := filepath.Join(root, "filler")
	_ = os.WriteFile(filler, make([]byte, 256<<10), 0o600)
	n.cfg.Limits.Files = 10
	for i := range 3 {
		n.looks(t)
		if got, want := n.files(t, 0), "0.log 000010.gz 000020.gz 000030 000040"; got != want {
			t.Errorf("the disk is full: %q, want %q", got, want)
		}
		if i > 0 && n.causes() != "no space left on device" {
			t.Errorf("causes %q", n.causes())
		}
	}
	if got, err := os.ReadFile(n.log(0) + ".20261130-000030"); err != nil || !bytes.Equal(got, noise) {
		t.Errorf("the file that could not be compressed has %d bytes, %v", len(got), err)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		n.looks(t)
	}
	if got, want := n.files(t, 0), "0.log 000010.gz 000020.gz 000030.gz 000040"; got != want || n.causes() != "" {
		t.Errorf("there is room again: %q, want %q; causes %q", got, want, n.causes())
	}
}

// While the runtime does not reopen, the log is where it was, and after that it is rotated.
func TestRuntimeThatFailsForAWhile(t *testing.T) {
	n := newNode(t, 2)
	n.reopen = func(string) error { return status.Error(codes.Unavailable, "away") }
	n.fill(t, 0, logSize)
	n.fill(t, 1, logSize)
	for range 2 {
		n.looks(t)
		if n.files(t, 0) != "0.log" || n.causes() != "Unavailable" {
			t.Errorf("files %q, causes %q", n.files(t, 0), n.causes())
		}
	}
	n.reopen = nil
	n.looks(t)
	if n.files(t, 0) != "0.log 000030" || n.causes() != "" {
		t.Errorf("files %q, causes %q", n.files(t, 0), n.causes())
	}
}

// A runtime that does not answer is asked about one container in a look, not about each.
func TestRuntimeThatDoesNotAnswerIsAskedOnce(t *testing.T) {
	n := newNode(t, 5)
	n.away = true
	for look := range 2 {
		if asked := len(n.looks(t)); asked != 1 {
			t.Errorf("look %d: asked %d times", look, asked)
		}
	}
	n.away = false
	if asked := len(n.looks(t)); asked != 5 {
		t.Errorf("asked %d times once it answers, want for each of 5", asked)
	}
}

// A container that has ended and is not known to have is no failure.
func TestContainerThatHasJustEnded(t *testing.T) {
	n := newNode(t, 1)
	n.fill(t, 0, logSize)
	n.reopen = func(string) error {
		n.pods[0].Containers[0].State = actual.StateExited // as the runtime says
		return status.Error(codes.FailedPrecondition, "not running")
	}
	n.looks(t)
	if n.files(t, 0) != "0.log" || n.causes() != "" {
		t.Errorf("files %q, causes %q", n.files(t, 0), n.causes())
	}
	n.looks(t) // now it is known
	if got := n.looks(t); n.files(t, 0) != "0.log" || len(got) > 0 {
		t.Errorf("files %q, asked %v", n.files(t, 0), got)
	}
}

func TestRemovedContainersAreForgotten(t *testing.T) {
	n := newNode(t, 2)
	n.looks(t)
	n.pods = n.pods[:1]
	n.looks(t)
	if len(n.logs) != 1 {
		t.Errorf("%d logs are known", len(n.logs))
	}
}

func TestRunEnds(t *testing.T) {
	for name, size := range map[string]int64{"rotating": 1, "switched off": -1} {
		t.Run(name, func(t *testing.T) {
			listed := make(chan struct{})
			n := newNode(t, 1, func(c *Config) { c.Limits.Size = size; c.Listed = listed })
			n.fill(t, 0, 10)
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error)
			go func() { done <- n.Run(ctx) }()
			close(listed)
			if size > 0 {
				for n.files(t, 0) == "0.log" {
					time.Sleep(time.Millisecond)
				}
				cancel()
			}
			if err := <-done; err != nil {
				t.Error(err)
			}
			cancel()
			if size < 0 && n.files(t, 0) != "0.log" {
				t.Errorf("files %q", n.files(t, 0))
			}
		})
	}
}

func TestNewRefusesWhatCannotWork(t *testing.T) {
	n := newNode(t, 0)
	for name, change := range map[string]func(*Config){
		"one file": func(c *Config) { c.Limits.Files = 1 }, "no workers": func(c *Config) { c.Workers = 0 },
		"no interval": func(c *Config) { c.Interval = 0 }, "no runtime": func(c *Config) { c.Runtime = nil },
	} {
		cfg := n.cfg
		change(&cfg)
		if _, err := New(cfg); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
