package nodeip

import (
	"context"
	"errors"
	"net"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"k8s.io/utils/clock"
	testclock "k8s.io/utils/clock/testing"

	"github.com/mini-kubelet/mini-kubelet/test/testrun"
)

// nameServer answers every question for an IPv4 address with the one that it has.
type nameServer struct {
	address atomic.Pointer[[4]byte]
	asked   atomic.Int32
}

func (s *nameServer) start(t *testing.T) *net.Resolver {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(testrun.Start(t, func(ctx context.Context) error {
		stop := context.AfterFunc(ctx, func() { conn.Close() })
		defer stop()
		b := make([]byte, 512)
		for {
			n, from, err := conn.ReadFrom(b)
			if err != nil {
				return nil
			}
			var m dnsmessage.Message
			if m.Unpack(b[:n]) != nil || len(m.Questions) != 1 {
				continue
			}
			s.asked.Add(1)
			m.Response, m.Additionals = true, nil
			if q := m.Questions[0]; q.Type == dnsmessage.TypeA {
				m.Answers = []dnsmessage.Resource{{Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class}, Body: &dnsmessage.AResource{A: *s.address.Load()}}}
			}
			if answer, err := m.Pack(); err == nil {
				_, _ = conn.WriteTo(answer, from)
			}
		}
	}))
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
}

// own returns an address of this machine that others reach.
func own(t *testing.T) string {
	t.Helper()
	for _, s := range ofInterfaces() {
		if ip := net.ParseIP(s); ip.To4() != nil && reachable(ip) == nil {
			return s
		}
	}
	t.Skip("this machine has no address but the loopback's")
	return ""
}

// finder has no route, so that only the name counts.
func finder(t *testing.T, dns *nameServer, clock clock.WithTicker) (*Finder, chan struct{}) {
	t.Helper()
	changed := make(chan struct{}, 1)
	f, err := New(t.Context(), Config{
		Hostname: "node.example", Period: 10 * time.Second, Clock: clock, Resolver: dns.start(t), Patience: time.Minute,
		Route:   func(net.IP) (net.IP, error) { return nil, errors.New("no route") },
		Changed: func() { changed <- struct{}{} },
	})
	if err != nil {
		t.Fatal(err)
	}
	return f, changed
}

func TestAnotherAddressIsNoticed(t *testing.T) {
	mine := own(t)
	var dns nameServer
	dns.address.Store(&[4]byte{192, 0, 2, 1}) // not of this machine
	clock := testclock.NewFakeClock(time.Now())
	f, changed := finder(t, &dns, clock)
	if before := f.IPs(); len(before) != 1 || before[0] == "192.0.2.1" {
		t.Fatalf("the node has %v", before)
	}
	f.ips.Store(&[]string{"127.0.0.9"}) // as if it had had another one
	dns.address.Store((*[4]byte)(net.ParseIP(mine).To4()))
	testrun.Start(t, f.Run)
	testrun.Eventually(t, "the finder waits", clock.HasWaiters)
	clock.Step(10 * time.Second)
	<-changed
	if got := f.IPs(); !slices.Equal(got, []string{mine}) {
		t.Errorf("the node has %v, want %s", got, mine)
	}
}

func TestAnAddressStaysWhileThereIsNoOther(t *testing.T) {
	mine := own(t)
	var dns nameServer
	dns.address.Store((*[4]byte)(net.ParseIP(mine).To4()))
	clock := testclock.NewFakeClock(time.Now())
	f, _ := finder(t, &dns, clock)
	if got := f.IPs(); !slices.Equal(got, []string{mine}) {
		t.Fatalf("the node has %v, want %s", got, mine)
	}
	asked := dns.asked.Load()
	dns.address.Store(&[4]byte{192, 0, 2, 1}) // another machine's now, and there is no route
	stop := testrun.Start(t, f.Run)
	testrun.Eventually(t, "the finder waits", clock.HasWaiters)
	clock.Step(10 * time.Second)
	testrun.Eventually(t, "the name is looked up", func() bool { return dns.asked.Load() > asked })
	stop()
	if got := f.IPs(); !slices.Equal(got, []string{mine}) {
		t.Errorf("the node has %v, want %s", got, mine)
	}
}

func TestGivenAddressesStay(t *testing.T) {
	f, err := New(t.Context(), Config{Given: []string{"192.0.2.7"}, Hostname: "node.example", Period: time.Second, Clock: testclock.NewFakeClock(time.Now())})
	if err != nil {
		t.Fatal(err)
	}
	testrun.Start(t, f.Run)()
	if got := f.IPs(); !slices.Equal(got, []string{"192.0.2.7"}) {
		t.Errorf("the node has %v", got)
	}
}
