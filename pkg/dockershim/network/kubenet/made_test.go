package kubenet

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/netdump"
)

var c4, d4 = netip.MustParsePrefix("10.1.0.0/24"), netip.MustParsePrefix("10.2.0.0/24")

func TestOnlyWhatWasNotThereIsOurs(t *testing.T) {
	non := netip.MustParsePrefix("10.0.0.0/8")
	rules := rulesOf("b", c4, non)
	first := made{Boot: "1", CIDRs: []netip.Prefix{c4}, Bridge: true, Addresses: []netip.Prefix{c4}, Rules: rules, Dirs: []string{"/n/b", "/n"}}
	for name, tt := range map[string]struct {
		before made
		now    facts
		want   made
	}{
		"an empty machine":                 {made{}, facts{boot: "1", missing: []string{"/n/b", "/n"}}, first},
		"again, with all of it there":      {first, facts{boot: "1", bridge: true, addresses: []netip.Prefix{c4}, rules: rules}, first},
		"again, with nothing there":        {first, facts{boot: "1", missing: []string{"/n/b", "/n"}}, first},
		"everything is there, of somebody": {made{}, facts{boot: "1", bridge: true, addresses: []netip.Prefix{c4}, rules: rules}, made{Boot: "1", CIDRs: []netip.Prefix{c4}}},
		"a bridge is there, without an address of the CIDR": {made{}, facts{boot: "1", bridge: true, addresses: []netip.Prefix{d4}, rules: rules[:1]},
			made{Boot: "1", CIDRs: []netip.Prefix{c4}, Addresses: []netip.Prefix{c4}, Rules: rules[1:]}},
		"somebody has made all since the machine was started anew": {first, facts{boot: "2", bridge: true, addresses: []netip.Prefix{c4}, rules: rules},
			made{Boot: "2", CIDRs: []netip.Prefix{c4}, Dirs: first.Dirs}},
		"the machine was started anew": {first, facts{boot: "2"}, made{Boot: "2", CIDRs: []netip.Prefix{c4}, Bridge: true, Addresses: []netip.Prefix{c4}, Rules: rules, Dirs: first.Dirs}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := tt.before.with([]netip.Prefix{c4}, rules, tt.now); !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got  %+v\nwant %+v", got, tt.want)
			}
		})
	}
	addresses, old := first.outdated([]netip.Prefix{d4}, rulesOf("b", d4, non))
	if !slices.Equal(addresses, []netip.Prefix{c4}) || len(old) != 1 || !old[0].is(rules[2]) {
		t.Errorf("with another CIDR the addresses of %v and the rules %+v are of no use, want %v and %+v", addresses, old, c4, rules[2:])
	}
}

// onMachine is a network with a bridge of a name of its own, which is made like the plug-in does.
func onMachine(t *testing.T) (n *Network, bridge string, subnet func() string) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	if _, err := exec.LookPath("iptables"); err != nil {
		t.Skip("needs iptables: ", err)
	}
	dir := t.TempDir()
	bridge = fmt.Sprintf("mkk%d", rand.IntN(1e6))
	n, err := New(Config{Bridge: bridge, DataDir: dir + "/cni/networks", CacheDir: dir + "/cni/cache", Record: dir + "/kubenet.json"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := Reset(n.cfg.Record); err != nil {
			t.Error(err)
		}
		exec.Command("ip", "link", "del", bridge).Run()
	})
	next := rand.IntN(200)
	return n, bridge, func() string { next++; return fmt.Sprintf("10.214.%d.0/24", next) }
}

func ip(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		t.Fatalf("ip %s: %v: %s", strings.Join(args, " "), err, out)
	}
}

func addresses(t *testing.T, bridge string) (all []string) {
	t.Helper()
	link, err := netlink.LinkByName(bridge)
	if err != nil {
		return nil
	}
	list, err := netdump.Whole(func() ([]netlink.Addr, error) { return netlink.AddrList(link, netlink.FAMILY_V4) })
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range list {
		all = append(all, a.IPNet.String())
	}
	return all
}

func rulesWith(t *testing.T, text string) int {
	t.Helper()
	out, err := exec.Command("iptables-save").Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.Count(string(out), text)
}

func gateway(cidr string) string { return strings.Replace(cidr, ".0/24", ".1/24", 1) }

func TestAnUnusedNetworkTakesAnotherPodCIDR(t *testing.T) {
	n, bridge, subnet := onMachine(t)
	first, second := subnet(), subnet()
	if err := n.SetPodCIDR(first, true); err != nil {
		t.Fatal(err)
	}
	ip(t, "link", "add", bridge, "type", "bridge")
	ip(t, "addr", "add", gateway(first), "dev", bridge)
	again, err := New(n.cfg) // also after a restart
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []*Network{n, again} {
		if err := n.SetPodCIDR(second, false); err == nil {
			t.Error("the pod CIDR was changed under pods")
		}
	}
	if rulesWith(t, first) != 1 || !slices.Equal(addresses(t, bridge), []string{gateway(first)}) {
		t.Error("a CIDR that was refused has changed something")
	}
	if err := again.SetPodCIDR(second, true); err != nil {
		t.Fatal(err)
	}
	list, err := again.Network()
	if err != nil || !strings.Contains(string(list.Bytes), second) {
		t.Errorf("the network is %s, %v", list.Bytes, err)
	}
	if has := addresses(t, bridge); len(has) > 0 || rulesWith(t, first) != 0 || rulesWith(t, second) != 1 {
		t.Errorf("the bridge has %v; %d rules of the old CIDR, %d of the new", has, rulesWith(t, first), rulesWith(t, second))
	}
	if removed, err := Reset(n.cfg.Record); err != nil || len(removed) != 1 || rulesWith(t, bridge) != 0 {
		t.Errorf("removed %q, %v; %d rules are left", removed, err, rulesWith(t, bridge))
	}
}

func TestResetLeavesWhatWasThere(t *testing.T) {
	n, bridge, subnet := onMachine(t)
	cidr, theirs := subnet(), gateway(subnet())
	ip(t, "link", "add", bridge, "type", "bridge")
	ip(t, "addr", "add", theirs, "dev", bridge)
	kept := rulesOf(bridge, netip.MustParsePrefix(cidr), n.non)[0]
	if err := kept.ensure(); err != nil {
		t.Fatal(err)
	}
	defer kept.remove()
	networks := n.dirs()[1]
	if err := os.MkdirAll(networks, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := n.SetPodCIDR(cidr, true); err != nil {
		t.Fatal(err)
	}
	ip(t, "addr", "add", gateway(cidr), "dev", bridge) // as the plug-in does
	own := n.dirs()[0]
	if err := errors.Join(os.Mkdir(own, 0o755), os.WriteFile(own+"/lock", nil, 0o600), os.WriteFile(own+"/last_reserved_ip.0", nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	for range 2 { // it may be repeated
		if removed, err := Reset(n.cfg.Record); err != nil || len(removed) > 0 {
			t.Errorf("removed %q, %v", removed, err)
		}
		if got := addresses(t, bridge); !slices.Equal(got, []string{theirs}) {
			t.Errorf("the bridge has the addresses %v, want %s", got, theirs)
		}
		if left := rulesWith(t, bridge); left != 1 {
			t.Errorf("%d rules are left, want that which was there", left)
		}
		if _, err := os.Lstat(networks); err != nil {
			t.Error(err)
		}
		for _, path := range []string{own, n.cfg.Record} {
			if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s is left: %v", path, err)
			}
		}
	}
}

// Pods start on the node while it looks at its bridge.
func TestLinksThatComeAndGoDisturbNobody(t *testing.T) {
	_, name, _ := onMachine(t)
	ip(t, "link", "add", name, "type", "bridge")
	ip(t, "addr", "add", "10.215.0.1/24", "dev", name)
	port := name + "p"
	ip(t, "link", "add", port, "type", "veth", "peer", "name", name+"q")
	t.Cleanup(func() { exec.Command("ip", "link", "del", port).Run() })
	ip(t, "link", "set", port, "master", name)
	var others sync.WaitGroup
	stop := make(chan struct{})
	for i := range 2 {
		others.Go(func() {
			other := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: fmt.Sprintf("%so%d", name, i)}}
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := netlink.LinkAdd(other); err != nil {
					t.Error(err)
					return
				}
				if err := netlink.LinkDel(other); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	defer others.Wait()
	defer close(stop)
	link, err := bridge(name)
	if err != nil || link == nil {
		t.Fatalf("the bridge: %v, %v", link, err)
	}
	for range 300 {
		if all, err := prefixes(link); err != nil || !slices.Contains(all, netip.MustParsePrefix("10.215.0.0/24")) {
			t.Fatalf("addresses: %v, %v", all, err)
		}
		if removed, err := removeBridge(name); err != nil || removed {
			t.Fatalf("a bridge with an interface was removed: %v, %v", removed, err)
		}
	}
}

// Somebody may have come to use the bridge, and an address may still be given out.
func TestResetLeavesWhatOthersUse(t *testing.T) {
	n, bridge, subnet := onMachine(t)
	if err := n.SetPodCIDR(subnet(), true); err != nil {
		t.Fatal(err)
	}
	port := bridge + "p"
	ip(t, "link", "add", bridge, "type", "bridge")
	ip(t, "link", "add", port, "type", "veth", "peer", "name", bridge+"q")
	t.Cleanup(func() { exec.Command("ip", "link", "del", port).Run() })
	ip(t, "link", "set", port, "master", bridge)
	own := n.dirs()[0]
	given := filepath.Join(own, "10.214.0.7")
	if err := errors.Join(os.MkdirAll(own, 0o755), os.WriteFile(given, nil, 0o600), os.WriteFile(own+"/lock", nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	if removed, err := Reset(n.cfg.Record); err != nil || len(removed) > 0 {
		t.Errorf("removed %q, %v", removed, err)
	}
	if _, err := netlink.LinkByName(bridge); err != nil {
		t.Error(err)
	}
	for _, path := range []string{given, own + "/lock"} {
		if _, err := os.Lstat(path); err != nil {
			t.Error(err)
		}
	}
}
