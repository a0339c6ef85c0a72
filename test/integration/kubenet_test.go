package integration

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"

	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

// The configuration's podCIDR reaches kubenet by CRI: pods have addresses of it, and reach each other
// although Docker may have the kernel drop what is forwarded.
func TestKubenetOnAStandaloneNode(t *testing.T) {
	t.Parallel()
	a, subnet := harness.NewKubenetAgent(t, harness.AgentConfig{Args: []string{"--network-plugin-mtu", "1400"}})
	subnets := []netip.Prefix{subnet}
	if _, err := exec.LookPath("ip6tables"); err == nil && exists("/proc/net/if_inet6") {
		subnets = append(subnets, netip.MustParsePrefix(fmt.Sprintf("fd00:6d6b:0:%x::/64", subnet.Addr().As4()[2])))
		a.SetConfig("podCIDR", fmt.Sprintf("%s,%s", subnets[0], subnets[1]))
	}
	a.Start()
	a.Write("server.yaml", harness.Pod("server", "mkdir -p /tmp/www; echo hello >/tmp/www/index.html; exec httpd -f -p 8080 -h /tmp/www"))
	server := a.WaitRunning("server")
	inside := func(p *v1.Pod) {
		t.Helper()
		if len(p.Status.PodIPs) != len(subnets) {
			t.Fatalf("pod %s has the addresses %v, want one each of %v\n%s", p.Name, p.Status.PodIPs, subnets, a.Explain())
		}
		for i, is := range p.Status.PodIPs {
			if ip, err := netip.ParseAddr(is.IP); err != nil || !subnets[i].Contains(ip) {
				t.Errorf("pod %s has the address %q, which is not of %s", p.Name, is.IP, subnets[i])
			}
		}
	}
	inside(server)
	a.Kill() // the pod CIDR is told again, and nothing is lost
	a.Start()
	a.Write("client.yaml", harness.Pod("client", fmt.Sprintf(
		"until wget -q -O - http://%s:8080/ | grep hello; do sleep 0.1; done; cat /sys/class/net/eth0/mtu >/dev/termination-log", server.Status.PodIP),
		func(p *v1.Pod) { p.Spec.RestartPolicy = v1.RestartPolicyNever }))
	client := a.WaitPhase("client", v1.PodSucceeded)
	inside(client)
	if got := strings.TrimSpace(harness.Status(client, "c").State.Terminated.Message); got != "1400" {
		t.Errorf("the MTU is %s, want 1400", got)
	}
	if p := a.WaitRunning("server"); p.Status.PodIP != server.Status.PodIP || harness.Status(p, "c").RestartCount != 0 {
		t.Errorf("the server has been started anew, with %s", p.Status.PodIP)
	}
	a.Remove("server.yaml")
	a.Remove("client.yaml")
	harness.Eventually(t, "all addresses are given back", harness.Patience, func() error {
		left, err := a.Attachments()
		if err == nil && len(left) > 0 {
			err = errors.New(strings.Join(left, " "))
		}
		return err
	}, a.Explain)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
