package kubenet

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containernetworking/cni/libcni"

	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/network/cni"
	"github.com/mini-kubelet/mini-kubelet/test/testrun"
)

func TestSetPodCIDR(t *testing.T) {
	for name, tt := range map[string]struct{ cidr, want string }{
		"not a CIDR":              {"10.1.2.3", "pod CIDR"},
		"two of one family":       {"10.1.0.0/24,10.2.0.0/24", "one of each family"},
		"three":                   {"10.1.0.0/24,fd00::/64,10.2.0.0/24", "one of each family"},
		"absurd prefix length":    {"10.1.0.0/99", "pod CIDR"},
		"nothing between commas":  {"10.1.0.0/24,", "pod CIDR"},
		"an empty string is none": {"", "pod CIDR"},
	} {
		t.Run(name, func(t *testing.T) {
			n, err := New(Config{})
			if err != nil {
				t.Fatal(err)
			}
			if err := n.SetPodCIDR(tt.cidr, true); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("SetPodCIDR(%q) = %v, want an error about %q", tt.cidr, err, tt.want)
			}
			if _, err := n.Network(); err == nil {
				t.Error("the network is ready after a CIDR that was refused")
			}
		})
	}
}

func TestNewRefusesBadConfiguration(t *testing.T) {
	if _, err := New(Config{HairpinMode: "sideways"}); err == nil || !strings.Contains(err.Error(), "sideways") {
		t.Errorf("hairpin mode: %v", err)
	}
	if _, err := New(Config{NonMasqueradeCIDR: "ten"}); err == nil || !strings.Contains(err.Error(), "non-masquerade") {
		t.Errorf("non-masquerade CIDR: %v", err)
	}
}

func TestComposedNetworkIsValidForEveryMode(t *testing.T) {
	for _, mode := range []string{PromiscuousBridge, HairpinVeth, HairpinNone} {
		conf, err := compose(Config{Bridge: "b", HairpinMode: mode, MTU: 1400}, []netip.Prefix{netip.MustParsePrefix("10.1.0.0/24"), netip.MustParsePrefix("fd00::/64")})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := libcni.ConfListFromBytes(conf); err != nil {
			t.Errorf("%s: %v", mode, err)
		}
		for what, want := range map[string]bool{`"promiscMode":true`: mode == PromiscuousBridge, `"hairpinMode":true`: mode == HairpinVeth} {
			if got := strings.Contains(string(conf), what); got != want {
				t.Errorf("%s: configuration has %s: %v, want %v", mode, what, got, want)
			}
		}
	}
}

func TestMasqueradeRule(t *testing.T) {
	c4, c6 := netip.MustParsePrefix("10.1.0.0/24"), netip.MustParsePrefix("fd00:1::/64")
	for name, tt := range map[string]struct {
		cidr netip.Prefix
		non  string
		want string
	}{
		"outside the non-masquerade CIDR":           {c4, "10.0.0.0/8", "! -d 10.0.0.0/8 -j MASQUERADE"},
		"never, when everything is the cluster":     {c4, "0.0.0.0/0", ""},
		"of the other family outside the pods' own": {c6, "10.0.0.0/8", "! -d fd00:1::/64 -j MASQUERADE"},
	} {
		t.Run(name, func(t *testing.T) {
			rs := rulesOf("b", tt.cidr, netip.MustParsePrefix(tt.non))
			got := ""
			if last := rs[len(rs)-1]; last.Table == "nat" {
				got = strings.Join(last.Spec, " ")
			}
			if (got == "") != (tt.want == "") || !strings.HasSuffix(got, tt.want) {
				t.Errorf("nat rule = %q, want %q", got, tt.want)
			}
		})
	}
}

// Two pods on the bridge talk, each reaches itself through a host port of its
// own, and nothing is left when they are gone: with the real plug-ins.
func TestPodsTalkThoughForwardIsDropped(t *testing.T) {
	const plugins = "/usr/lib/cni"
	if os.Getuid() != 0 {
		t.Skip("network namespaces need root")
	}
	for _, p := range []string{filepath.Join(plugins, "bridge"), "/bin/busybox"} {
		if _, err := os.Stat(p); err != nil {
			t.Skip("needed for this test (Debian: containernetworking-plugins, busybox-static): ", err)
		}
	}
	if _, err := exec.LookPath("iptables"); err != nil {
		t.Skip("needs iptables: ", err)
	}
	for _, mode := range []string{PromiscuousBridge, HairpinVeth} {
		t.Run(mode, func(t *testing.T) {
			state := t.TempDir()
			bridge := fmt.Sprintf("mkk%d", rand.IntN(1e6))
			record := state + "/kubenet.json"
			n, err := New(Config{Bridge: bridge, HairpinMode: mode, DataDir: state + "/cni/ipam", CacheDir: state + "/cni/cache", Record: record})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				removed, err := Reset(record)
				if err != nil || !slices.Equal(removed, []string{"bridge " + bridge}) {
					t.Errorf("Reset has removed %q: %v", removed, err)
				}
				exec.Command("ip", "link", "del", bridge).Run()
				if out, _ := exec.Command("iptables-save").Output(); strings.Contains(string(out), bridge) {
					t.Errorf("iptables rules of %s are left", bridge)
				}
				for _, path := range []string{state + "/cni", record} {
					if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
						t.Errorf("%s is left: %v", path, err)
					}
				}
			})
			d, err := cni.New(cni.Config{Network: n, BinDirs: []string{plugins}, CacheDir: state + "/cni/cache", StateDir: state + "/records"})
			if err != nil {
				t.Fatal(err)
			}
			ctx := t.Context()
			if err := d.Status(ctx); err == nil || !strings.Contains(err.Error(), "no pod CIDR yet") {
				t.Errorf("Status before the CIDR is known: %v", err)
			}
			cidr := fmt.Sprintf("10.212.%d.0/24", rand.IntN(250))
			for range 2 {
				if err := n.SetPodCIDR(cidr, false); err != nil {
					t.Fatal(err)
				}
			}
			if err := n.SetPodCIDR("10.213.0.0/24", false); err == nil {
				t.Error("the pod CIDR was changed under running pods")
			}
			hostPort := int32(20000 + rand.IntN(9000))
			ips := map[string]string{}
			spaces := map[string]string{}
			for _, id := range []string{"a", "b"} {
				name := fmt.Sprintf("mkk-%d", rand.IntN(1e9))
				if out, err := exec.Command("ip", "netns", "add", name).CombinedOutput(); err != nil {
					t.Fatalf("ip netns add: %v: %s", err, out)
				}
				t.Cleanup(func() { exec.Command("ip", "netns", "del", name).Run() })
				s := cni.Sandbox{ID: bridge + id, Name: id, Namespace: "default", UID: id}
				if id == "a" {
					s.Ports = []cni.Port{{HostPort: hostPort, ContainerPort: 80, Protocol: "tcp"}}
				}
				r, err := d.Add(ctx, s, "/run/netns/"+name)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() {
					if err := d.Del(context.Background(), s.ID, "/run/netns/"+name); err != nil {
						t.Errorf("Del: %v", err)
					}
				})
				ips[id], spaces[id] = r.IPs[0], name
			}
			in := func(id string, args ...string) ([]byte, error) {
				return exec.CommandContext(ctx, "ip", append([]string{"netns", "exec", spaces[id], "/bin/busybox"}, args...)...).CombinedOutput()
			}
			// Until it works: a busy machine starts the server when it can, and loses what waits for too long.
			works := func(what string, ok func() (string, bool)) {
				t.Helper()
				for end := time.Now().Add(testrun.Patience); ; time.Sleep(100 * time.Millisecond) {
					out, done := ok()
					if done {
						return
					}
					if time.Now().After(end) {
						t.Errorf("%s: %s", what, out)
						return
					}
				}
			}
			works("pod b does not reach pod a", func() (string, bool) {
				out, err := in("b", "ping", "-c1", "-W3", ips["a"])
				return fmt.Sprintf("%v: %s", err, out), err == nil
			})
			www := t.TempDir()
			if err := os.WriteFile(filepath.Join(www, "index.html"), []byte("hello"), 0o644); err != nil {
				t.Fatal(err)
			}
			srv := exec.Command("ip", "netns", "exec", spaces["a"], "/bin/busybox", "httpd", "-f", "-p", "80", "-h", www)
			if err := srv.Start(); err != nil {
				t.Fatal(err)
			}
			defer func() { srv.Process.Kill(); srv.Wait() }()
			fetch := func(from, ip string, port int32) {
				t.Helper()
				script := fmt.Sprintf(`printf 'GET / HTTP/1.0\r\n\r\n' | /bin/busybox nc -w 5 %s %d`, ip, port)
				works(fmt.Sprintf("pod %s fetches from %s:%d", from, ip, port), func() (string, bool) {
					out, err := in(from, "sh", "-c", script)
					return fmt.Sprintf("%v: %q", err, out), err == nil && strings.HasSuffix(string(out), "hello")
				})
			}
			fetch("b", ips["a"], 80)
			gateway := ips["a"][:strings.LastIndex(ips["a"], ".")] + ".1"
			fetch("b", gateway, hostPort)
			if mode == PromiscuousBridge {
				t.Log("skipped: a pod reaching itself through the host with a promiscuous bridge; since Linux 6.9 bridge netfilter hands such packets up without their connection tracking")
				return
			}
			fetch("a", gateway, hostPort)
		})
	}
}
