package shutdown

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
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
)

// Logind is systemd's logind on the system bus (DBUS_SYSTEM_BUS_ADDRESS, where that is set).
type Logind struct {
	// ConfDir is where logind's configuration is added to.
	ConfDir string
}

// confDir is Logind.ConfDir's default, and confFile the file in it, the kubelet's.
const (
	confDir  = "/etc/systemd/logind.conf.d"
	confFile = "99-kubelet.conf"
)

// reloadPatience is how long logind may take to read its configuration again.
const reloadPatience = 5 * time.Second

// callTimeout bounds each call to logind.
const callTimeout = 10 * time.Second

// logindWatch is a Watch of a Logind.
type logindWatch struct {
	conn      *dbus.Conn
	signals   chan *dbus.Signal
	shutdowns chan bool
}

// Watch implements Machine. Where logind would not wait so long (InhibitDelayMaxSec), its
// configuration is changed.
func (l Logind) Watch(ctx context.Context, longest time.Duration) (Watch, error) {
	conn, err := dbus.ConnectSystemBus(dbus.WithContext(ctx))
	if err != nil {
		return nil, fmt.Errorf("connect to the system's D-Bus: %w", err)
	}
	w := &logindWatch{conn: conn, signals: make(chan *dbus.Signal, 16), shutdowns: make(chan bool)}
	if err := w.prepare(ctx, l, longest); err != nil {
		conn.Close()
		return nil, err
	}
	return w, nil
}

func (w *logindWatch) prepare(ctx context.Context, l Logind, longest time.Duration) error {
	delay, err := w.delay(ctx)
	if err != nil {
		return err
	}
	if delay < longest {
		if err := w.setDelay(ctx, l, longest); err != nil {
			return err
		}
	}
	// First to be told, then to ask: nothing that begins in between is missed.
	w.conn.Signal(w.signals)
	err = w.conn.AddMatchSignalContext(ctx, dbus.WithMatchSender(logindName), dbus.WithMatchInterface(logindManager),
		dbus.WithMatchMember(prepare), dbus.WithMatchObjectPath(logindPath))
	if err != nil {
		return fmt.Errorf("be told of shutdowns by logind: %w", err)
	}
	var begun bool
	if err := w.property(ctx, "PreparingForShutdown", &begun); err != nil {
		return err
	}
	go w.follow(ctx, begun)
	return nil
}

// follow hands on what logind says, until the connection ends.
func (w *logindWatch) follow(ctx context.Context, begun bool) {
	defer close(w.shutdowns)
	say := func(begins bool) bool {
		select {
		case w.shutdowns <- begins:
			return true
		case <-w.conn.Context().Done():
			return false
		}
	}
	if begun && !say(true) {
		return
	}
	for s := range w.signals {
		if s.Name != logindManager+"."+prepare || s.Path != logindPath || len(s.Body) == 0 {
			continue
		}
		begins, ok := s.Body[0].(bool)
		if !ok {
			continue
		}
		// Anybody on the bus may send a signal to this connection directly.
		if err := w.fromLogind(ctx, s.Sender); err != nil {
			klog.ErrorS(err, "Ignored an announcement of a shutdown", "sender", s.Sender)
			continue
		}
		if !say(begins) {
			return
		}
	}
}

// fromLogind returns nil if the bus knows the sender as logind.
func (w *logindWatch) fromLogind(ctx context.Context, sender string) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var owner string
	if err := w.conn.BusObject().CallWithContext(ctx, "org.freedesktop.DBus.GetNameOwner", 0, logindName).Store(&owner); err != nil {
		return fmt.Errorf("ask the bus who logind is: %w", err)
	}
	if owner != sender {
		return fmt.Errorf("it is not from logind, which is %s", owner)
	}
	return nil
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
func (w *logindWatch) setDelay(ctx context.Context, l Logind, longest time.Duration) error {
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
