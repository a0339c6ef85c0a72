package integration

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	api "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"

	"github.com/mini-kubelet/mini-kubelet/test/deviceplugin"
	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

const gadget = "example.com/gadget"

// gadgets has a pod's container want so many devices.
func gadgets(n int64) func(*v1.Pod) {
	return func(p *v1.Pod) {
		list := v1.ResourceList{gadget: *resource.NewQuantity(n, resource.DecimalSI)}
		p.Spec.Containers[0].Resources = v1.ResourceRequirements{Requests: list, Limits: list}
	}
}

func TestDevicesOfAPlugIn(t *testing.T) {
	t.Parallel()
	harness.NeedDockerd(t)
	a := harness.StartAgent(t, harness.AgentConfig{})
	cfg := deviceplugin.Config{
		Resource: gadget, Root: filepath.Join(a.Dir, "root"), Devices: deviceplugin.Devices(map[string]bool{"one": true, "two": true}),
		Give: func(ids []string) *api.ContainerAllocateResponse {
			return &api.ContainerAllocateResponse{
				Envs:    map[string]string{"GADGETS": strings.Join(ids, ",")},
				Devices: []*api.DeviceSpec{{HostPath: "/dev/null", ContainerPath: "/dev/gadget", Permissions: "rw"}},
				Mounts:  []*api.Mount{{HostPath: "/etc/hostname", ContainerPath: "/gadget-name", ReadOnly: true}},
			}
		},
	}
	start := func() *deviceplugin.Plugin {
		t.Helper()
		p, err := deviceplugin.Start(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(p.Stop)
		return p
	}
	plugin := start()
	harness.Eventually(t, "the agent has seen the devices", harness.Patience, func() error {
		if !strings.Contains(a.Log(), "Devices changed") {
			return fmt.Errorf("not yet")
		}
		return nil
	}, a.Explain)

	a.Write("user.yaml", harness.Pod("user", `test -c /dev/gadget && test -s /gadget-name && test "$GADGETS" && sleep 1000000`, gadgets(1)))
	user := a.WaitRunning("user")
	healthOf := func(want v1.ResourceHealthStatus) {
		t.Helper()
		user = a.WaitPod("user", "the container's status says how its device is", func(p *v1.Pod) bool {
			list := harness.Status(p, "c").AllocatedResourcesStatus
			return len(list) == 1 && len(list[0].Resources) == 1 && list[0].Resources[0].Health == want
		})
	}
	healthOf(v1.ResourceHealthStatusHealthy)
	id := harness.Status(user, "c").ContainerID
	has := string(harness.Status(user, "c").AllocatedResourcesStatus[0].Resources[0].ResourceID)

	// One is left: a pod that wants two is turned away, for good.
	a.Write("greedy.yaml", harness.Pod("greedy", "", gadgets(2)))
	greedy := a.WaitPhase("greedy", v1.PodFailed)
	if greedy.Status.Reason != "UnexpectedAdmissionError" {
		t.Errorf("the pod that wants more than there is: %+v", greedy.Status)
	}

	plugin.Set(deviceplugin.Devices(map[string]bool{"one": has != "one", "two": has != "two"})...)
	healthOf(v1.ResourceHealthStatusUnhealthy)
	plugin.Stop()
	healthOf(v1.ResourceHealthStatusUnknown)

	// Neither the plug-in's end nor a new agent harms the pod, and the device stays its own.
	killAgent(t, a)
	plugin = start()
	healthOf(v1.ResourceHealthStatusHealthy)
	if s := harness.Status(user, "c"); s.ContainerID != id || s.RestartCount != 0 || string(s.AllocatedResourcesStatus[0].Resources[0].ResourceID) != has {
		t.Errorf("after the restart: %+v", s)
	}
	a.Write("other.yaml", harness.Pod("other", "", gadgets(1)))
	a.WaitRunning("other")
	if got := plugin.Calls("Allocate"); len(got) != 1 || got[0][0] == has {
		t.Errorf("the other pod was given %q beside %q", got, has)
	}
}

// killAgent kills the agent and starts another. A plug-in registers at the new agent's socket, not at what the killed one
// has left.
func killAgent(t *testing.T, a *harness.Agent) {
	t.Helper()
	sock := filepath.Join(a.Dir, "root", "device-plugins", "kubelet.sock")
	old, err := os.Lstat(sock)
	if err != nil {
		t.Fatal(err)
	}
	a.Kill()
	a.Start()
	harness.Eventually(t, "the new agent has a socket of its own", harness.Patience, func() error {
		switch now, err := os.Lstat(sock); {
		case err != nil:
			return err
		case now.ModTime().Equal(old.ModTime()):
			return fmt.Errorf("it is the old one")
		}
		return nil
	}, a.Explain)
}

// The agent is killed while a plug-in gives a pod its device, and while it prepares it; the plug-in ends then, too.
func TestAgentKilledWhileAPlugInIsAsked(t *testing.T) {
	t.Parallel()
	harness.NeedDockerd(t)
	a := harness.StartAgent(t, harness.AgentConfig{})
	cfg := deviceplugin.Config{
		Resource: gadget, Root: filepath.Join(a.Dir, "root"), Devices: deviceplugin.Devices(map[string]bool{"one": true, "two": true}),
		Options: &api.DevicePluginOptions{PreStartRequired: true},
	}
	start := func() *deviceplugin.Plugin {
		t.Helper()
		listed := strings.Count(a.Log(), "Devices changed")
		p, err := deviceplugin.Start(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(p.Stop)
		harness.Eventually(t, "the agent has seen the devices", harness.Patience, func() error {
			if strings.Count(a.Log(), "Devices changed") == listed {
				return fmt.Errorf("not yet")
			}
			return nil
		}, a.Explain)
		return p
	}
	owner := map[string]string{}
	for _, call := range []string{"Allocate", "PreStartContainer"} {
		asked := make(chan struct{})
		cfg.Before = func(ctx context.Context, c string) error {
			if c == call {
				close(asked)
				<-ctx.Done()
			}
			return nil
		}
		plugin := start()
		pod := strings.ToLower(call)
		a.Write(pod+".yaml", harness.Pod(pod, `test "$DEVICES" && sleep 1000000`, gadgets(1)))
		select {
		case <-asked:
		case <-t.Context().Done():
		}
		killAgent(t, a)
		plugin.Stop()
		cfg.Before = nil
		plugin = start()
		p := a.WaitPod(pod, "it has its device, or is turned away", func(p *v1.Pod) bool {
			return p.Status.Phase == v1.PodFailed || p.Status.Phase == v1.PodRunning && len(harness.Status(p, "c").AllocatedResourcesStatus) == 1
		})
		if call == "Allocate" && p.Status.Phase == v1.PodFailed {
			// Nothing was on record yet, and the pod was looked at before the plug-in was back: as with the kubelet.
			if p.Status.Reason != "UnexpectedAdmissionError" {
				t.Errorf("pod %s: %+v", pod, p.Status)
			}
			plugin.Stop()
			continue
		}
		s := harness.Status(p, "c")
		if len(s.AllocatedResourcesStatus) != 1 {
			t.Fatalf("pod %s: %+v", pod, p.Status)
		}
		id := string(s.AllocatedResourcesStatus[0].Resources[0].ResourceID)
		if other, twice := owner[id]; twice || s.RestartCount != 0 {
			t.Errorf("pod %s has device %s, which pod %q has: %+v", pod, id, other, s)
		}
		owner[id] = pod
		if got := plugin.Calls("PreStartContainer"); len(got) != 1 || got[0][0] != id {
			t.Errorf("%s: the new plug-in was asked to prepare %q, want %s", call, got, id)
		}
		plugin.Stop()
	}
}
