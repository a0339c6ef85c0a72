package pluginregistry

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/dirwatch"
	"github.com/mini-kubelet/mini-kubelet/test/damage"
	"github.com/mini-kubelet/mini-kubelet/test/testrun"
)

// plugin is a real registration service.
type plugin struct {
	registration.UnimplementedRegistrationServer
	info *registration.PluginInfo

	mu   sync.Mutex
	told []*registration.RegistrationStatus
}

func (p *plugin) GetInfo(context.Context, *registration.InfoRequest) (*registration.PluginInfo, error) {
	return p.info, nil
}

func (p *plugin) NotifyRegistrationStatus(_ context.Context, s *registration.RegistrationStatus) (*registration.RegistrationStatusResponse, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.told = append(p.told, s)
	return &registration.RegistrationStatusResponse{}, nil
}

// last returns what the plug-in was told last, nil if nothing.
func (p *plugin) last() *registration.RegistrationStatus {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.told) == 0 {
		return nil
	}
	return p.told[len(p.told)-1]
}

// serve starts a plug-in at root and returns what stops it and removes its socket.
func serve(t *testing.T, root, kind, name string) (*plugin, func()) {
	t.Helper()
	dir := filepath.Join(root, Dir, "below") // subdirectories are looked into, too
	if err := os.MkdirAll(dir, 0o750); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", filepath.Join(dir, name+"-reg.sock"))
	if err != nil {
		t.Fatal(err)
	}
	p := &plugin{info: &registration.PluginInfo{Type: kind, Name: name, SupportedVersions: []string{"v1"}}}
	s := grpc.NewServer()
	registration.RegisterRegistrationServer(s, p)
	var wait sync.WaitGroup
	wait.Go(func() { _ = s.Serve(l) })
	stop := sync.OnceFunc(func() { s.Stop(); wait.Wait() })
	t.Cleanup(stop)
	return p, stop
}

// handler records what it is told.
type handler struct {
	refuse error
	gone   chan struct{} // Stay returns by itself for each token

	mu    sync.Mutex
	calls []string
}

func (h *handler) note(call string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.calls = append(h.calls, call)
}

func (h *handler) has(calls ...string) func() bool {
	return func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		if len(h.calls) < len(calls) {
			return false
		}
		for i, c := range calls {
			if h.calls[i] != c {
				return false
			}
		}
		return true
	}
}

func (h *handler) Register(_ context.Context, p Plugin) (Registration, error) {
	h.note("register " + p.Name)
	if h.refuse != nil {
		return nil, h.refuse
	}
	return &member{h, p.Name}, nil
}

type member struct {
	h    *handler
	name string
}

func (m *member) Stay(ctx context.Context) {
	m.h.note("stay " + m.name)
	select {
	case <-ctx.Done():
	case <-m.h.gone:
	}
}

func (m *member) Leave(context.Context) { m.h.note("leave " + m.name) }

// short makes a directory whose path leaves room for sockets.
func short(t *testing.T) string {
	t.Helper()
	root, err := os.MkdirTemp("/tmp", "plug-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(root) })
	return root
}

func run(t *testing.T, root string, handlers map[string]Handler) (stop func()) {
	t.Helper()
	r, err := New(Config{Root: root, Handlers: handlers})
	if err != nil {
		t.Fatal(err)
	}
	return testrun.Start(t, r.Run)
}

func TestPlugInsGoToTheHandlerOfTheirType(t *testing.T) {
	root := short(t)
	one, two := &handler{}, &handler{refuse: errors.New("no room")}
	run(t, root, map[string]Handler{"One": one, "Two": two})
	first, stop := serve(t, root, "One", "first")
	second, _ := serve(t, root, "Two", "second")
	third, _ := serve(t, root, "Three", "third")
	testrun.Eventually(t, "the first is registered and told so", func() bool {
		return one.has("register first", "stay first")() && first.last() != nil && first.last().PluginRegistered
	})
	testrun.Eventually(t, "the second is refused, and asked again", func() bool {
		return two.has("register second", "register second")() && second.last() != nil && !second.last().PluginRegistered && second.last().Error == "no room"
	})
	stop()
	testrun.Eventually(t, "the first leaves with its socket", one.has("register first", "stay first", "leave first"))
	if third.last() != nil {
		t.Errorf("a plug-in of an unknown type was told %v", third.last())
	}
}

func TestAPlugInThatServesNoLongerIsRegisteredAnew(t *testing.T) {
	root := short(t)
	h := &handler{gone: make(chan struct{}, 1)}
	h.gone <- struct{}{}
	run(t, root, map[string]Handler{"One": h})
	serve(t, root, "One", "p")
	testrun.Eventually(t, "it registers again", h.has("register p", "stay p", "leave p", "register p", "stay p"))
}

func TestASocketMayHaveAnyName(t *testing.T) {
	root := short(t)
	h := &handler{}
	run(t, root, map[string]Handler{"One": h})
	serve(t, root, "One", "a?b#c%zz d")
	testrun.Eventually(t, "it is registered", h.has("register a?b#c%zz d", "stay a?b#c%zz d"))
	if _, err := Dial("below/x.sock"); err == nil {
		t.Error("a relative path is dialled")
	}
}

func TestAFloodOfSocketsIsBoundedAndPushesNobodyOut(t *testing.T) {
	root := short(t)
	dir := filepath.Join(root, Dir)
	if err := os.MkdirAll(dir, 0o750); err != nil {
		t.Fatal(err)
	}
	stale := func(name string) {
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, name), Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		l.SetUnlinkOnClose(false)
		l.Close()
	}
	ctx, cancel := context.WithCancel(t.Context())
	s := &sockets{registry: &Registry{Config{Root: root}}, known: map[socket]context.CancelFunc{}}
	t.Cleanup(func() { cancel(); s.wait.Wait() })
	watch := dirwatch.New()
	t.Cleanup(watch.Close)
	stale("z")
	s.scan(ctx, watch, dir)
	for i := range maxSockets + 10 {
		stale(fmt.Sprint("a", i))
	}
	first := slices.Collect(maps.Keys(s.known))
	s.scan(ctx, watch, dir)
	if len(first) != 1 || len(s.known) != maxSockets || s.known[first[0]] == nil || !s.full {
		t.Errorf("%d sockets are looked at, %v among them: %t", len(s.known), first, s.known[first[0]] != nil)
	}
	looks := 0
	for s.calm(ctx, watch) {
		looks++
	}
	if watch.Err() == nil && (looks == 0 || looks >= maxSockets) {
		t.Errorf("%d looks for %d events", looks, maxSockets)
	}
	for _, name := range slices.Collect(maps.Keys(s.known))[:20] {
		if err := os.Remove(name.path); err != nil {
			t.Fatal(err)
		}
	}
	s.scan(ctx, watch, dir)
	if len(s.known) != maxSockets-9 || s.full {
		t.Errorf("once there is room: %d", len(s.known))
	}
}

func TestThePauseGrowsWithFailuresInARow(t *testing.T) {
	for name, tc := range map[string]struct{ last, stayed, want time.Duration }{
		"the first failure":                     {0, 0, firstRetry},
		"the second":                            {firstRetry, 0, 2 * firstRetry},
		"after many":                            {lastRetry, 0, lastRetry},
		"close to the end":                      {lastRetry - 1, 0, lastRetry},
		"registered, and gone at once":          {8 * firstRetry, time.Second, 16 * firstRetry},
		"registered, and gone a little early":   {lastRetry, settled - 1, lastRetry},
		"it has stayed":                         {lastRetry, settled, firstRetry},
		"it has stayed for days":                {lastRetry, 72 * time.Hour, firstRetry},
		"it has stayed, and there was no pause": {0, settled, firstRetry},
	} {
		if got := nextPause(tc.last, tc.stayed); got != tc.want {
			t.Errorf("%s: %v, want %v", name, got, tc.want)
		}
	}
}

func TestAFileInThePlaceOfTheRegistry(t *testing.T) {
	root := t.TempDir()
	dir := filepath.Join(root, Dir)
	if err := os.WriteFile(dir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	stop := run(t, root, nil)
	testrun.Eventually(t, "the registry is a directory", func() bool { fi, err := os.Lstat(dir); return err == nil && fi.IsDir() })
	stop() // fails the test if it had ended by itself
	damage.MovedAside(t, dir)
}

func TestRunGoesOnWithoutInotify(t *testing.T) {
	if !testrun.WithoutInotify(t) {
		return
	}
	run(t, t.TempDir(), nil)() // fails the test if it had ended by itself
}
