package shutdown

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/godbus/dbus/v5"
	"k8s.io/klog/v2"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/durable"
)

// Names of logind and of systemd on D-Bus.
const (
	logindName    = "org.freedesktop.login1"
	logindPath    = dbus.ObjectPath("/org/freedesktop/login1")
	logindManager = "org.freedesktop.login1.Manager"
	systemdName   = "org.freedesktop.systemd1"
	systemdPath   = dbus.ObjectPath("/org/freedesktop/systemd1")
	prepare       = "PrepareForShutdown"
	busName       = "org.freedesktop.DBus"
	ownerChanged  = "NameOwnerChanged"
)

// Logind is systemd's logind on the system bus (DBUS_SYSTEM_BUS_ADDRESS, where that is set). It is
// used by one goroutine.
type Logind struct {
	// ConfDir is where logind's configuration is added to; "" is confDir.
	ConfDir string

	raised bool // the delay was asked for since the agent started
}

// confDir is Logind.ConfDir's default, and confFile the file in it, the kubelet's.
const (
	confDir  = "/etc/systemd/logind.conf.d"
	confFile = "99-kubelet.conf"
)

// reloadPatience is how long logind may take to read its configuration again.
const reloadPatience = 10 * time.Second

// callTimeout bounds each call to logind.
const callTimeout = 10 * time.Second

// logindWatch is a Watch of a Logind.
type logindWatch struct {
	conn      *dbus.Conn
	heard     *heard
	shutdowns chan bool
}

// Watch implements Machine. Where logind would not wait so long (InhibitDelayMaxSec), its
// configuration is changed, once; if it still would not, shutdowns are held up for as long as it
// lets them.
func (l *Logind) Watch(ctx context.Context, longest time.Duration) (Watch, error) {
	h := &heard{news: make(chan struct{}, 1), lost: make(chan struct{})}
	conn, err := dbus.ConnectSystemBus(dbus.WithContext(ctx), dbus.WithSignalHandler(h))
	if err != nil {
		return nil, fmt.Errorf("connect to the system's D-Bus: %w", err)
	}
	w := &logindWatch{conn: conn, heard: h, shutdowns: make(chan bool)}
	if err := w.prepare(ctx, l, longest); err != nil {
		conn.Close()
		return nil, err
	}
	return w, nil
}

func (w *logindWatch) prepare(ctx context.Context, l *Logind, longest time.Duration) error {
	delay, err := w.delay(ctx)
	if err != nil {
		return err
	}
	if delay < longest && !l.raised {
		l.raised = true
		if err := w.setDelay(ctx, l, longest); err != nil {
			klog.ErrorS(err, "Pods have less time when the machine shuts down than shutdownGracePeriod says", "time", delay)
		}
	}
	// First to be told, then to ask: nothing that begins in between is missed.
	for _, rule := range [][]dbus.MatchOption{
		{dbus.WithMatchSender(logindName), dbus.WithMatchInterface(logindManager), dbus.WithMatchMember(prepare), dbus.WithMatchObjectPath(logindPath)},
		{dbus.WithMatchSender(busName), dbus.WithMatchInterface(busName), dbus.WithMatchMember(ownerChanged), dbus.WithMatchArg(0, logindName)},
	} {
		if err := w.conn.AddMatchSignalContext(ctx, rule...); err != nil {
			return fmt.Errorf("be told of shutdowns by logind: %w", err)
		}
	}
	owner, err := w.owner(ctx)
	if err != nil {
		return err
	}
	w.heard.believe(owner)
	var begun bool
	if err := w.property(ctx, "PreparingForShutdown", &begun); err != nil {
		return err
	}
	go w.follow(begun)
	return nil
}

// owner asks the bus who logind is.
func (w *logindWatch) owner(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var owner string
	if err := w.conn.BusObject().CallWithContext(ctx, busName+".GetNameOwner", 0, logindName).Store(&owner); err != nil {
		return "", fmt.Errorf("ask the bus who logind is: %w", err)
	}
	return owner, nil
}

// follow hands on whether a shutdown has begun, at once and whenever logind says so, until the
// connection ends or logind is another one.
func (w *logindWatch) follow(begun bool) {
	defer close(w.shutdowns)
	for {
		select {
		case w.shutdowns <- begun:
		case <-w.conn.Context().Done():
			return
		}
		select {
		case <-w.heard.news:
			begun = w.heard.last()
		case <-w.heard.lost:
			return
		case <-w.conn.Context().Done():
			return
		}
	}
}

// heard takes in signals. Anybody on the bus may send them to this connection, and any number:
// only logind's count, and of these only the last is kept. The bus itself says who sends.
type heard struct {
	news chan struct{} // has a token when logind has said something since
	lost chan struct{} // closed when logind is another one

	mu     sync.Mutex
	logind string // its name on the bus; "" believes nobody
	begun  bool
	gone   bool
}

func (h *heard) believe(logind string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.logind = logind
}

func (h *heard) last() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.begun
}

// DeliverSignal implements dbus.SignalHandler.
func (h *heard) DeliverSignal(_, _ string, s *dbus.Signal) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.logind == "" || s == nil || len(s.Body) == 0:
	case s.Sender == busName && s.Name == busName+"."+ownerChanged && s.Body[0] == logindName && !h.gone:
		h.gone = true
		close(h.lost)
	case s.Sender == h.logind && s.Path == logindPath && s.Name == logindManager+"."+prepare:
		begun, ok := s.Body[0].(bool)
		if !ok {
			return
		}
		h.begun = begun
		select {
		case h.news <- struct{}{}:
		default:
		}
	}
}

// Inhibit implements Watch.
func (w *logindWatch) Inhibit(ctx context.Context) (io.Closer, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var fd dbus.UnixFD
	err := w.conn.Object(logindName, logindPath).CallWithContext(ctx, logindManager+".Inhibit", 0,
		"shutdown", "kubelet", "Kubelet needs time to handle node shutdown", "delay").Store(&fd)
	if err != nil {
		return nil, fmt.Errorf("take logind's shutdown lock: %w", err)
	}
	return os.NewFile(uintptr(fd), "shutdown lock"), nil
}

// Shutdowns implements Watch.
func (w *logindWatch) Shutdowns() <-chan bool { return w.shutdowns }

// Close implements Watch. It waits until nothing is followed any more.
func (w *logindWatch) Close() error {
	err := w.conn.Close()
	for range w.shutdowns {
	}
	return err
}

// delay returns how long logind lets a shutdown be held up.
func (w *logindWatch) delay(ctx context.Context) (time.Duration, error) {
	var micros uint64
	if err := w.property(ctx, "InhibitDelayMaxUSec", &micros); err != nil {
		return 0, err
	}
	return time.Duration(min(micros, 1<<53)) * time.Microsecond, nil
}

func (w *logindWatch) property(ctx context.Context, name string, into any) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var v dbus.Variant
	err := w.conn.Object(logindName, logindPath).CallWithContext(ctx, "org.freedesktop.DBus.Properties.Get", 0, logindManager, name).Store(&v)
	if err == nil {
		err = v.Store(into)
	}
	if err != nil {
		return fmt.Errorf("ask logind for %s: %w", name, err)
	}
	return nil
}

// setDelay has logind wait so long.
func (w *logindWatch) setDelay(ctx context.Context, l *Logind, longest time.Duration) error {
	dir := l.ConfDir
	if dir == "" {
		dir = confDir
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("raise logind's InhibitDelayMaxSec: %w", err)
	}
	text := fmt.Sprintf("# Written by mini-kubelet: a shutdown waits for pods.\n[Login]\nInhibitDelayMaxSec=%d\n", int64(longest/time.Second))
	file := filepath.Join(dir, confFile)
	if err := durable.Write(file, []byte(text)); err != nil {
		return fmt.Errorf("raise logind's InhibitDelayMaxSec: %w", err)
	}
	if err := os.Chmod(file, 0o644); err != nil { // logind runs as root, but people read it
		return fmt.Errorf("raise logind's InhibitDelayMaxSec: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, reloadPatience)
	defer cancel()
	const hangUp = int32(1) // SIGHUP
	if err := w.conn.Object(systemdName, systemdPath).CallWithContext(ctx, systemdName+".Manager.KillUnit", 0, "systemd-logind.service", "all", hangUp).Err; err != nil {
		return fmt.Errorf("have logind read its configuration: %w", err)
	}
	for {
		delay, err := w.delay(ctx)
		if err != nil {
			return err
		}
		if delay >= longest {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("logind waits %v at most, less than the %v of shutdownGracePeriod, also after %s was written", delay, longest, file)
		case <-time.After(100 * time.Millisecond):
		}
	}
}
