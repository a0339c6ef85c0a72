package integration

import (
	"errors"
	"fmt"
	"net/netip"
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
	a.Start()
	a.Write("server.yaml", harness.Pod("server", "mkdir -p /tmp/www; echo hello >/tmp/www/index.html; exec httpd -f -p 8080 -h /tmp/www"))
	server := a.WaitRunning("server")
	inside := func(p *v1.Pod) {
		t.Helper()
		if ip, err := netip.ParseAddr(p.Status.PodIP); err != nil || !subnet.Contains(ip) {
			t.Fatalf("pod %s has the address %q, which is not of %s\n%s", p.Name, p.Status.PodIP, subnet, a.Explain())
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
