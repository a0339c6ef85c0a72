package cri

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/container"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

// addresses fails until exactly these addresses are in use.
func (r *runtime) addresses(want ...string) {
	r.t.Helper()
	harness.Eventually(r.t, fmt.Sprintf("the addresses %v are in use", want), harness.Patience, func() error {
		got, err := r.Addresses()
		slices.Sort(got)
		slices.Sort(want)
		if err == nil && !slices.Equal(got, want) {
			err = fmt.Errorf("%v are", got)
		}
		return err
	})
}

func (r *runtime) ip(sandbox string) (string, cri.PodSandboxState) {
	r.t.Helper()
	st, err := r.PodSandboxStatus(r.t.Context(), &cri.PodSandboxStatusRequest{PodSandboxId: sandbox})
	if err != nil {
		r.t.Fatal(err)
	}
	return st.Status.Network.GetIp(), st.Status.State
}

// TestDockershimWithCNI runs sandboxes on real CNI plug-ins.
func TestDockershimWithCNI(t *testing.T) {
	t.Parallel()
	r := &runtime{harness.StartShimCNI(t, harness.Docker(t)), t}
	p := r.pod(forever)
	ip, state := r.ip(p.id)
	if state != cri.PodSandboxState_SANDBOX_READY {
		t.Fatalf("sandbox is %v", state)
	}
	if got := r.mustExec(p.ctr, "sh", "-c", "ip -4 addr show eth0 | grep -o 'inet [0-9.]*'"); got != "inet "+ip {
		t.Errorf("the pod has %q, its status says %s", got, ip)
	}
	r.addresses(ip)

	// The address outlives a restart of the runtime, which must know it again.
	r.Restart(t)
	if again, state := r.ip(p.id); again != ip || state != cri.PodSandboxState_SANDBOX_READY {
		t.Errorf("after a restart %s, %v; want %s, ready", again, state, ip)
	}

	// A sandbox that is removed behind the runtime's back gives its address back,
	// at once, and also if that happens while no runtime runs.
	other := r.sandboxConfig()
	id := r.sandbox(other)
	otherIP, _ := r.ip(id)
	r.addresses(ip, otherIP)
	if err := r.Docker.Client.ContainerRemove(t.Context(), id, container.RemoveOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
	r.addresses(ip)
	for _, c := range []string{p.ctr, p.id} {
		if err := r.Docker.Client.ContainerRemove(t.Context(), c, container.RemoveOptions{Force: true}); err != nil {
			t.Fatal(err)
		}
	}
	r.addresses()

	// A sandbox whose attachment fails leaves nothing.
	conf := filepath.Join(r.Dir, "cni", "10.conflist")
	good, err := os.ReadFile(conf)
	if err != nil {
		t.Fatal(err)
	}
	broken := strings.Replace(string(good), `"type": "bridge"`, `"type": "no-such-plugin"`, 1)
	if err := os.WriteFile(conf, []byte(broken), 0o644); err != nil {
		t.Fatal(err)
	}
	ready := func(want bool) {
		t.Helper()
		harness.Eventually(t, fmt.Sprintf("NetworkReady is %v", want), harness.Patience, func() error {
			s, err := r.Status(t.Context(), &cri.StatusRequest{})
			if err != nil {
				return err
			}
			for _, c := range s.Status.Conditions {
				if c.Type == cri.NetworkReady && c.Status != want {
					return fmt.Errorf("%v", c)
				}
			}
			return nil
		})
	}
	ready(false)
	if resp, err := r.RunPodSandbox(t.Context(), &cri.RunPodSandboxRequest{Config: r.sandboxConfig()}); err == nil {
		t.Errorf("sandbox %s runs without a network", resp.PodSandboxId)
	}
	if err := os.WriteFile(conf, good, 0o644); err != nil {
		t.Fatal(err)
	}
	ready(true)
	r.addresses()
	// What could not be detached is tried again once a minute.
	harness.Eventually(t, "nothing is left", 2*harness.Patience, r.leftovers)
}
