// Package logindtest runs a real systemd-logind on a D-Bus of its own, with nobody behind
// it: what it asks of systemd is recorded and not done.
package logindtest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
)

// Logind is a running logind. Its methods are for one goroutine.
type Logind struct {
	Address string // of its bus, for DBUS_SYSTEM_BUS_ADDRESS
	ConfDir string // what it reads as /etc/systemd/logind.conf.d
	// Units gets the name of each unit that logind has systemd start: poweroff.target.
	Units chan string

	t    testing.TB
	conn *dbus.Conn
	pid  int
}

// program is where Debian and Fedora have it.
const program = "/lib/systemd/systemd-logind"

// conf keeps logind from the machine's keys, terminals and users.
const conf = `[Login]
NAutoVTs=0
ReserveVT=0
KillUserProcesses=no
RemoveIPC=no
HandlePowerKey=ignore
HandleRebootKey=ignore
HandleSuspendKey=ignore
HandleHibernateKey=ignore
HandleLidSwitch=ignore
`

// Start starts one that lets a shutdown be held up for that time; it ends with the test. The
// test is skipped where the machine has no logind or no D-Bus.
func Start(t testing.TB, longest time.Duration) *Logind {
	t.Helper()
	for _, p := range []string{program, "dbus-daemon", "unshare"} {
		if _, err := exec.LookPath(p); err != nil {
			t.Skipf("this machine has no %s", filepath.Base(p))
		}
	}
	// Not t.TempDir: a socket's path is short.
	dir, err := os.MkdirTemp("", "logind-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	l := &Logind{t: t, ConfDir: filepath.Join(dir, "conf.d"), Units: make(chan string, 16)}
	if err := os.Mkdir(l.ConfDir, 0o755); err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf("%sInhibitDelayMaxSec=%d\n", conf, int64(longest/time.Second))
	if err := os.WriteFile(filepath.Join(l.ConfDir, "10-test.conf"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	l.Address = "unix:path=" + filepath.Join(dir, "bus")
	config := filepath.Join(dir, "bus.conf")
	// No services to activate, and everybody may do everything: only root gets at the socket.
	if err := os.WriteFile(config, []byte(`<busconfig><listen>`+l.Address+`</listen><auth>EXTERNAL</auth>
<policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/></policy></busconfig>`), 0o600); err != nil {
		t.Fatal(err)
	}
	l.run(dir, "dbus-daemon", "--nofork", "--nopidfile", "--config-file="+config)
	l.conn = l.connect()
	l.standInForSystemd()
	// Its runtime directory and its configuration are its own.
	l.pid = l.run(dir, "unshare", "--mount", "--propagation", "private", "sh", "-c",
		`mkdir -p /run/systemd /etc/systemd/logind.conf.d && mount -t tmpfs tmpfs /run/systemd && mount --bind "$1" /etc/systemd/logind.conf.d && exec `+program, "sh", l.ConfDir)
	l.eventually("logind answers", func() bool {
		var owner string
		return l.conn.BusObject().Call("org.freedesktop.DBus.GetNameOwner", 0, "org.freedesktop.login1").Store(&owner) == nil
	})
	return l
}

// PowerOff asks logind to shut the machine down, which it does once nobody holds it up: the
// order is in Units.
func (l *Logind) PowerOff() {
	l.t.Helper()
	if err := l.conn.Object("org.freedesktop.login1", "/org/freedesktop/login1").Call("org.freedesktop.login1.Manager.PowerOff", 0, false).Err; err != nil {
		l.t.Fatalf("ask logind to power off: %v", err)
	}
}

// CallOff has logind tell everybody that a shutdown has failed, as it does when systemd's
// job for it has.
func (l *Logind) CallOff() {
	l.t.Helper()
	if err := l.conn.Emit("/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager.JobRemoved", uint32(1), job, "poweroff.target", "canceled"); err != nil {
		l.t.Fatal(err)
	}
}

// Say sends a signal of logind's name that is not logind's, to everybody.
func (l *Logind) Say(begins bool) {
	l.t.Helper()
	if err := l.conn.Emit("/org/freedesktop/login1", "org.freedesktop.login1.Manager.PrepareForShutdown", begins); err != nil {
		l.t.Fatal(err)
	}
}

// Inhibitors returns who holds up a shutdown.
func (l *Logind) Inhibitors() []string {
	l.t.Helper()
	var list []struct {
		What, Who, Why, Mode string
		UID, PID             uint32
	}
	if err := l.conn.Object("org.freedesktop.login1", "/org/freedesktop/login1").Call("org.freedesktop.login1.Manager.ListInhibitors", 0).Store(&list); err != nil {
		l.t.Fatalf("list inhibitors: %v", err)
	}
	var who []string
	for _, i := range list {
		who = append(who, i.Who+" "+i.What+" "+i.Mode)
	}
	return who
}

// run starts a program that ends with the test, and with the test process.
func (l *Logind) run(dir, name string, args ...string) (pid int) {
	l.t.Helper()
	log, err := os.Create(filepath.Join(dir, filepath.Base(name)+".log"))
	if err != nil {
		l.t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "DBUS_SYSTEM_BUS_ADDRESS=" + l.Address}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		l.t.Fatalf("start %s: %v", name, err)
	}
	l.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if text, err := os.ReadFile(log.Name()); err == nil && l.t.Failed() {
			l.t.Logf("%s:\n%s", name, strings.TrimSpace(string(text)))
		}
	})
	return cmd.Process.Pid
}

func (l *Logind) connect() *dbus.Conn {
	var conn *dbus.Conn
	l.eventually("the bus answers", func() (ok bool) {
		var err error
		conn, err = dbus.Connect(l.Address)
		return err == nil
	})
	l.t.Cleanup(func() { conn.Close() })
	return conn
}

func (l *Logind) eventually(what string, ok func() bool) {
	l.t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			l.t.Fatalf("not within a minute: %s", what)
		}
	}
}

const job = dbus.ObjectPath("/org/freedesktop/systemd1/job/1")

// systemd is the part of it that logind asks.
type systemd struct{ l *Logind }

// StartUnit records what is to be started.
func (s systemd) StartUnit(unit, _ string) (dbus.ObjectPath, *dbus.Error) {
	s.l.Units <- unit
	return job, nil
}

// KillUnit sends logind a signal, if it is meant.
func (s systemd) KillUnit(unit, _ string, signal int32) *dbus.Error {
	if unit != "systemd-logind.service" {
		return dbus.MakeFailedError(fmt.Errorf("no unit %s", unit))
	}
	if err := syscall.Kill(s.l.pid, syscall.Signal(signal)); err != nil {
		return dbus.MakeFailedError(err)
	}
	return nil
}

// Subscribe is what logind begins with.
func (s systemd) Subscribe() *dbus.Error { return nil }

// target is poweroff.target, which logind wants to know to be there.
type target struct{}

// Get is of the interface Properties.
func (target) Get(_, name string) (dbus.Variant, *dbus.Error) {
	if name != "LoadState" {
		return dbus.Variant{}, dbus.MakeFailedError(fmt.Errorf("no property %s", name))
	}
	return dbus.MakeVariant("loaded"), nil
}

func (l *Logind) standInForSystemd() {
	l.t.Helper()
	if err := l.conn.Export(target{}, "/org/freedesktop/systemd1/unit/poweroff_2etarget", "org.freedesktop.DBus.Properties"); err != nil {
		l.t.Fatal(err)
	}
	if err := l.conn.Export(systemd{l}, "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager"); err != nil {
		l.t.Fatal(err)
	}
	if reply, err := l.conn.RequestName("org.freedesktop.systemd1", dbus.NameFlagDoNotQueue); err != nil || reply != dbus.RequestNameReplyPrimaryOwner {
		l.t.Fatalf("take systemd's name on the bus: %v, %v", reply, err)
	}
}
