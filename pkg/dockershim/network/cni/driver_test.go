package cni

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mini-kubelet/mini-kubelet/test/testrun"
)

const plugins = "/usr/lib/cni"

// site is a bridge network of its own, made by the real plug-ins.
type site struct {
	t      *testing.T
	bridge string
	subnet string // first three numbers
	state  string
	cache  string
	dir    *Dir
	conf   string
}

func newSite(t *testing.T) *site {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("network namespaces need root")
	}
	if _, err := os.Stat(filepath.Join(plugins, "bridge")); err != nil {
		t.Skip("the CNI plug-ins are not installed (Debian: containernetworking-plugins): ", err)
	}
	n := rand.IntN(200)
	s := &site{t: t, bridge: fmt.Sprintf("mkt%d", rand.IntN(1e6)), subnet: fmt.Sprintf("10.211.%d", n), state: t.TempDir(), cache: t.TempDir(), conf: t.TempDir()}
	s.write(fmt.Sprintf(`{
	  "cniVersion": "1.0.0", "name": "net-%s",
	  "plugins": [
	    {"type": "bridge", "bridge": %q, "isGateway": true,
	     "ipam": {"type": "host-local", "dataDir": %q, "ranges": [[{"subnet": "%s.0/24"}], [{"subnet": "fd00:%x::/64"}]]}}
	  ]}`, s.bridge, s.bridge, s.state+"/ipam", s.subnet, rand.IntN(0xffff)))
	s.dir = NewDir(s.conf)
	t.Cleanup(func() { exec.Command("ip", "link", "del", s.bridge).Run() })
	return s
}

func (s *site) write(conf string) {
	s.t.Helper()
	if err := os.WriteFile(filepath.Join(s.conf, "10-net.conflist"), []byte(conf), 0o644); err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) driver() *Driver {
	s.t.Helper()
	d, err := New(Config{Network: s.dir, BinDirs: []string{plugins}, CacheDir: s.cache, StateDir: s.state + "/records"})
	if err != nil {
		s.t.Fatal(err)
	}
	return d
}

// netns makes a network namespace that goes with the test.
func (s *site) netns() string {
	s.t.Helper()
	name := fmt.Sprintf("mkt-%d", rand.IntN(1e9))
	if out, err := exec.Command("ip", "netns", "add", name).CombinedOutput(); err != nil {
		s.t.Fatalf("ip netns add: %v: %s", err, out)
	}
	s.t.Cleanup(func() { exec.Command("ip", "netns", "del", name).Run() })
	return "/run/netns/" + name
}

// leased returns the addresses that host-local has given out.
func (s *site) leased() []string {
	files, _ := filepath.Glob(s.state + "/ipam/net-*/[0-9f]*")
	var ips []string
	for _, f := range files {
		ips = append(ips, filepath.Base(f))
	}
	return ips
}

func (s *site) clean(d *Driver) {
	s.t.Helper()
	if l := s.leased(); len(l) != 0 {
		s.t.Errorf("addresses still leased: %v", l)
	}
	if ids, _ := d.records.ids(); len(ids) != 0 {
		s.t.Errorf("records left: %v", ids)
	}
}

// IDs of sandboxes.
var a, keep, drop = strings.Repeat("a", 64), strings.Repeat("b", 64), strings.Repeat("c", 64)

func sandbox(id string) Sandbox { return Sandbox{ID: id, Name: "web", Namespace: "default", UID: "u"} }

func inNetns(t *testing.T, ns string, args ...string) string {
	t.Helper()
	out, err := exec.Command("ip", append([]string{"netns", "exec", filepath.Base(ns)}, args...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v: %s", args, err, out)
	}
	return string(out)
}

func TestAddGivesBothAddressesAndDelTakesThemBack(t *testing.T) {
	s := newSite(t)
	d, ns := s.driver(), s.netns()
	ctx := t.Context()
	if err := d.Status(ctx); err != nil {
		t.Fatalf("Status: %v", err)
	}
	r, err := d.Add(ctx, sandbox(a), ns)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.IPs) != 2 || !strings.HasPrefix(r.IPs[0], s.subnet) || !strings.HasPrefix(r.IPs[1], "fd00:") {
		t.Errorf("IPs = %v, want one of %s.0/24 and then one of fd00::/16", r.IPs, s.subnet)
	}
	addr := inNetns(t, ns, "ip", "addr", "show", "dev", "eth0")
	for _, ip := range r.IPs {
		if !strings.Contains(addr, ip) {
			t.Errorf("eth0 does not carry %s: %s", ip, addr)
		}
	}
	if lo := inNetns(t, ns, "ip", "link", "show", "dev", "lo"); !strings.Contains(lo, "LOWER_UP") {
		t.Errorf("lo is not up: %s", lo)
	}
	if err := d.Check(ctx, a, ns); err != nil {
		t.Errorf("Check: %v", err)
	}
	again, err := d.Add(ctx, sandbox(a), ns)
	if err != nil || !slices.Equal(again.IPs, r.IPs) {
		t.Errorf("second Add = %v, %v; want the addresses it has", again, err)
	}
	for range 2 {
		if err := d.Del(ctx, a, ns); err != nil {
			t.Errorf("Del: %v", err)
		}
	}
	s.clean(d)
}

func TestDelWorksAfterRestartWithoutNamespaceAndConfiguration(t *testing.T) {
	s := newSite(t)
	ctx := t.Context()
	if _, err := s.driver().Add(ctx, sandbox(a), s.netns()); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(s.conf, "10-net.conflist")); err != nil {
		t.Fatal(err)
	}
	s.dir = NewDir(s.conf)
	d := s.driver()
	if err := d.Status(ctx); err == nil {
		t.Error("Status without a configuration is ready")
	}
	if err := d.Reconcile(ctx, func(string) bool { return false }); err != nil {
		t.Errorf("Reconcile: %v", err)
	}
	s.clean(d)
}

func TestReconcileKeepsWhatExists(t *testing.T) {
	s := newSite(t)
	d, ctx := s.driver(), t.Context()
	ns := s.netns()
	for id, n := range map[string]string{keep: ns, drop: s.netns()} {
		if _, err := d.Add(ctx, sandbox(id), n); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.Reconcile(ctx, func(id string) bool { return id == keep }); err != nil {
		t.Fatal(err)
	}
	if _, ok, _ := d.Result(keep); !ok {
		t.Error("the attachment of a living sandbox was deleted")
	}
	if _, ok, _ := d.Result(drop); ok {
		t.Error("the attachment of a dead sandbox was kept")
	}
	if err := d.Del(ctx, keep, ns); err != nil {
		t.Fatal(err)
	}
	s.clean(d)
}

func TestFailedAddLeavesNothing(t *testing.T) {
	s := newSite(t)
	s.write(fmt.Sprintf(`{
	  "cniVersion": "1.0.0", "name": "net-%s",
	  "plugins": [
	    {"type": "bridge", "bridge": %q, "ipam": {"type": "host-local", "dataDir": %q, "ranges": [[{"subnet": "%s.0/24"}]]}},
	    {"type": "tuning", "sysctl": {"net.ipv4.conf.no/such": "1"}}
	  ]}`, s.bridge, s.bridge, s.state+"/ipam", s.subnet))
	s.dir = NewDir(s.conf)
	d := s.driver()
	if _, err := d.Add(t.Context(), sandbox(a), s.netns()); err == nil {
		t.Fatal("Add succeeded though the second plug-in fails")
	}
	s.clean(d)
}

func TestCancelledAddLeavesNothing(t *testing.T) {
	s := newSite(t)
	d, ns := s.driver(), s.netns()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := d.Add(ctx, sandbox(a), ns); err == nil {
		t.Fatal("Add succeeded on a cancelled context")
	}
	s.clean(d)
}

func TestManyAtOnce(t *testing.T) {
	s := newSite(t)
	d := s.driver()
	const n = 10
	spaces := make([]string, n)
	for i := range spaces {
		spaces[i] = s.netns()
	}
	var wg sync.WaitGroup
	for i, ns := range spaces {
		wg.Go(func() {
			id := fmt.Sprintf("s%d", i)
			if _, err := d.Add(t.Context(), sandbox(id), ns); err != nil {
				t.Errorf("Add %s: %v", id, err)
			}
			if err := d.Del(t.Context(), id, ns); err != nil {
				t.Errorf("Del %s: %v", id, err)
			}
		})
	}
	wg.Wait()
	s.clean(d)
}

func TestRecordThatIsTornCountsAsNone(t *testing.T) {
	s := newSite(t)
	d := s.driver()
	if err := os.MkdirAll(d.records.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(d.records.path(a), []byte(`{"sandbox":{"id":"`+a+`"`), 0o600); err != nil {
		t.Fatal(err)
	}
	ns := s.netns()
	if _, err := d.Add(t.Context(), sandbox(a), ns); err != nil {
		t.Errorf("Add over a torn record: %v", err)
	}
	if err := d.Del(t.Context(), a, ns); err != nil {
		t.Error(err)
	}
	s.clean(d)
}

func TestDirTakesTheFirstValidFileAndSaysWhyNone(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := NewDir(dir).Network(); err == nil || !strings.Contains(err.Error(), "no network configuration in") {
		t.Errorf("empty directory: %v", err)
	}
	write("00-broken.conflist", "{")
	write("01-empty.conf", `{"cniVersion":"1.0.0","name":"x"}`)
	if _, err := NewDir(dir).Network(); err == nil || !strings.Contains(err.Error(), "00-broken.conflist") || !strings.Contains(err.Error(), "01-empty.conf") {
		t.Errorf("only broken files: %v, want both named", err)
	}
	write("20-b.conf", `{"cniVersion":"1.0.0","name":"b","type":"bridge"}`)
	write("10-a.conflist", `{"cniVersion":"1.0.0","name":"a","plugins":[{"type":"bridge"}]}`)
	n, err := NewDir(dir).Network()
	if err != nil || n.Name != "a" {
		t.Errorf("network = %v, %v; want a, the first by name", n, err)
	}
}

func TestDirFollowsChanges(t *testing.T) {
	parent := t.TempDir()
	dir := filepath.Join(parent, "net.d") // made later
	d := NewDir(dir)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "10-a.conflist"), []byte(`{"cniVersion":"1.0.0","name":"a","plugins":[{"type":"bridge"}]}`), 0o644); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if n, err := d.Network(); err == nil && n.Name == "a" {
			return
		}
	}
	t.Fatal("the new configuration was not noticed")
}

func TestCapabilitiesReachTheRuntimeConfig(t *testing.T) {
	rt := runtimeConf(Sandbox{
		ID: "a", Ports: []Port{{HostPort: 80, ContainerPort: 8080, Protocol: "tcp", HostIP: "127.0.0.1"}},
		Bandwidth: Bandwidth{IngressRate: 1}, DNS: DNS{Servers: []string{"10.0.0.1"}}, IPRanges: [][]IPRange{{{Subnet: "10.0.0.0/24"}}},
	}, "/ns")
	for _, c := range []string{"portMappings", "bandwidth", "dns", "ipRanges"} {
		if rt.CapabilityArgs[c] == nil {
			t.Errorf("capability %s is not passed", c)
		}
	}
	if rt := runtimeConf(sandbox(a), "/ns"); len(rt.CapabilityArgs) != 0 {
		t.Errorf("capabilities of a plain sandbox = %v", rt.CapabilityArgs)
	}
}

var _ Configuration = (*Dir)(nil)

func TestDirGoesOnWithoutInotify(t *testing.T) {
	if !testrun.WithoutInotify(t) {
		return
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "10-a.conflist"), []byte(`{"cniVersion":"1.0.0","name":"a","plugins":[{"type":"bridge"}]}`), 0o644); err != nil {
		t.Fatal(err)
	}
	d := NewDir(dir)
	stop := testrun.Start(t, d.Run)
	if n, err := d.Network(); err != nil || n.Name != "a" {
		t.Errorf("network = %v, %v", n, err)
	}
	stop() // which fails the test if it had ended by itself
}
