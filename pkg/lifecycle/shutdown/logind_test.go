package shutdown

import (
	"slices"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/mini-kubelet/mini-kubelet/test/logindtest"
	"github.com/mini-kubelet/mini-kubelet/test/testrun"
)

func watchLogind(t *testing.T, l *logindtest.Logind, longest time.Duration) Watch {
	t.Helper()
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", l.Address)
	w, err := (&Logind{ConfDir: l.ConfDir}).Watch(t.Context(), longest)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	return w
}

// TestLogindWaits is against the real one, whose orders to systemd nobody carries out.
func TestLogindWaits(t *testing.T) {
	l := logindtest.Start(t, 5*time.Second)
	w := watchLogind(t, l, 30*time.Minute) // longer than logind would: its configuration is changed
	lock, err := w.Inhibit(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if who := l.Inhibitors(); !slices.Equal(who, []string{"kubelet shutdown delay"}) {
		t.Errorf("held up by %q", who)
	}
	if begun := <-w.Shutdowns(); begun {
		t.Error("a shutdown has begun before any was asked for")
	}
	l.Say(true) // somebody else's word counts nothing
	l.PowerOff()
	if begins, ok := <-w.Shutdowns(); !ok || !begins {
		t.Fatalf("told of %v (%v)", begins, ok)
	}
	select {
	case unit := <-l.Units:
		t.Fatalf("%s is started while the lock is held", unit)
	case begins := <-w.Shutdowns():
		t.Fatalf("told of %v too", begins)
	case <-time.After(300 * time.Millisecond):
	}
	// Who comes later hears of it as well.
	again := watchLogind(t, l, time.Second)
	if begins, ok := <-again.Shutdowns(); !ok || !begins {
		t.Errorf("told later of %v (%v)", begins, ok)
	}
	lock.Close()
	if unit := <-l.Units; unit != "poweroff.target" {
		t.Errorf("logind has %s started", unit)
	}
	l.CallOff()
	if begins, ok := <-w.Shutdowns(); !ok || begins {
		t.Errorf("told of %v (%v), want that it is called off", begins, ok)
	}
}

func TestAConnectionThatEndsIsTold(t *testing.T) {
	l := logindtest.Start(t, 5*time.Second)
	w := watchLogind(t, l, time.Second)
	<-w.Shutdowns()
	w.Close()
	testrun.Eventually(t, "the channel is closed", func() bool {
		select {
		case _, ok := <-w.Shutdowns():
			return !ok
		default:
			return false
		}
	})
}

func TestWithoutABusThereIsAnError(t *testing.T) {
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nonexistent/bus")
	if w, err := (&Logind{}).Watch(t.Context(), time.Second); err == nil {
		w.Close()
		t.Error("connected to nothing")
	}
}

// Anybody may send signals to the agent's connection, with any content.
func TestOnlyLogindIsBelieved(t *testing.T) {
	const logind, other = ":1.7", ":1.8"
	signal := func(sender, name string, body ...any) *dbus.Signal {
		return &dbus.Signal{Sender: sender, Path: logindPath, Name: name, Body: body}
	}
	const announcement = logindManager + "." + prepare
	for name, tt := range map[string]struct {
		signal     *dbus.Signal
		told, lost bool
	}{
		"logind":                {signal(logind, announcement, true), true, false},
		"somebody else":         {signal(other, announcement, true), false, false},
		"another signal":        {signal(logind, logindManager+".SessionNew", true), false, false},
		"another path":          {&dbus.Signal{Sender: logind, Path: "/x", Name: announcement, Body: []any{true}}, false, false},
		"no body":               {signal(logind, announcement), false, false},
		"another body":          {signal(logind, announcement, "yes"), false, false},
		"logind is another one": {signal(busName, busName+"."+ownerChanged, logindName, logind, other), false, true},
		"another name's owner":  {signal(busName, busName+"."+ownerChanged, "org.example", logind, other), false, false},
		"who is not the bus":    {signal(other, busName+"."+ownerChanged, logindName, logind, other), false, false},
		"nothing":               {nil, false, false},
	} {
		h := &heard{news: make(chan struct{}, 1), lost: make(chan struct{})}
		h.DeliverSignal("", "", tt.signal)
		if len(h.news) > 0 {
			t.Errorf("%s: believed before it is known who logind is", name)
		}
		h.believe(logind)
		for range 1000 { // none waits
			h.DeliverSignal("", "", tt.signal)
		}
		lost := false
		select {
		case <-h.lost:
			lost = true
		default:
		}
		if told := len(h.news) > 0; told != tt.told || told && !h.last() || lost != tt.lost {
			t.Errorf("%s: told %v, lost %v", name, told, lost)
		}
	}
}
