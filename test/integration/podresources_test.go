package integration

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	goruntime "runtime"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	v1 "k8s.io/api/core/v1"
	deviceapi "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
	api "k8s.io/kubelet/pkg/apis/podresources/v1"
	"k8s.io/kubelet/pkg/apis/podresources/v1alpha1"

	"github.com/mini-kubelet/mini-kubelet/test/deviceplugin"
	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

// TestWhoHasWhatIsTold asks a real agent who has its CPU and a plug-in's device, also after a crash.
func TestWhoHasWhatIsTold(t *testing.T) {
	t.Parallel()
	a := onlyOneCPU(t)
	socket := filepath.Join(a.Dir, "root", "pod-resources", "kubelet.sock")
	conn, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithAuthority("localhost"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 2*harness.Patience)
	defer cancel()
	client, ready := api.NewPodResourcesListerClient(conn), grpc.WaitForReady(true)

	plugin, err := deviceplugin.Start(ctx, deviceplugin.Config{
		Resource: gadget, Root: filepath.Join(a.Dir, "root"), Devices: []*deviceapi.Device{
			{ID: "one", Health: deviceapi.Healthy, Topology: &deviceapi.TopologyInfo{Nodes: []*deviceapi.NUMANode{{ID: 0}}}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer plugin.Stop()
	var all *api.AllocatableResourcesResponse
	harness.Eventually(t, "the agent has seen the device", harness.Patience, func() error {
		if all, err = client.GetAllocatableResources(ctx, &api.AllocatableResourcesRequest{}, ready); err != nil {
			return err
		}
		return device(all.Devices)
	}, a.Explain)
	if len(all.CpuIds) != 1 {
		t.Errorf("of %d CPUs %v can be given away, want one", goruntime.NumCPU(), all.CpuIds)
	}

	a.Write("own.yaml", harness.Pod("own", "", needs(nil, amounts("cpu", "1", "memory", "32Mi"))))
	a.Write("user.yaml", harness.Pod("user", "", gadgets(1)))
	a.Write("over.yaml", harness.Pod("over", "exit 0", func(p *v1.Pod) { p.Spec.RestartPolicy = v1.RestartPolicyNever }))
	a.WaitRunning("user")
	cpu := allowed(t, a, a.WaitRunning("own"))
	a.WaitPhase("over", v1.PodSucceeded)
	told := func() error {
		list, err := client.List(ctx, &api.ListPodResourcesRequest{}, ready)
		if err != nil {
			return err
		}
		if len(list.PodResources) != 2 { // not the one that is over
			return fmt.Errorf("pods are %v", list.PodResources)
		}
		own, user := list.PodResources[0], list.PodResources[1]
		if own.Name != "own-"+a.Node || len(own.Containers) != 1 || fmt.Sprint(own.Containers[0].CpuIds) != fmt.Sprint(cpu.List()) {
			return fmt.Errorf("the pod with CPU %s: %v", cpu, own)
		}
		if user.Name != "user-"+a.Node || len(user.Containers) != 1 || len(user.Containers[0].CpuIds) > 0 {
			return fmt.Errorf("the pod with the device: %v", user)
		}
		return device(user.Containers[0].Devices)
	}
	harness.Eventually(t, "the pods have what they have", harness.Patience, told, a.Explain)
	one, err := client.Get(ctx, &api.GetPodResourcesRequest{PodNamespace: "default", PodName: "own-" + a.Node})
	if err != nil || len(one.GetPodResources().GetContainers()) != 1 || fmt.Sprint(one.PodResources.Containers[0].CpuIds) != fmt.Sprint(cpu.List()) {
		t.Errorf("Get: %v, %v", one, err)
	}
	for _, name := range []string{"over-" + a.Node, "nobody"} {
		_, err = client.Get(ctx, &api.GetPodResourcesRequest{PodNamespace: "default", PodName: name})
		if want := "pod " + name + " in namespace default not found"; status.Convert(err).Message() != want {
			t.Errorf("Get of %s: %v, want %s", name, err, want)
		}
	}
	old, err := v1alpha1.NewPodResourcesListerClient(conn).List(ctx, &v1alpha1.ListPodResourcesRequest{})
	if err != nil || len(old.PodResources) != 3 {
		t.Errorf("v1alpha1: %v, %v", old, err)
	}
	wantLimit(ctx, t, conn)

	a.Kill() // and leaves its socket
	if c, err := net.Dial("unix", socket); err == nil {
		c.Close()
		t.Error("somebody answers at the socket of an agent that was killed")
	} else if _, gone := os.Lstat(socket); gone != nil {
		t.Errorf("the killed agent's socket is gone: %v", gone)
	}
	a.Start()
	harness.Eventually(t, "a new agent says the same", harness.Patience, told, a.Explain)
	page, err := a.Get("/metrics")
	if err != nil || !strings.Contains(string(page), `kubelet_pod_resources_endpoint_requests_list{server_api_version="v1"} `) {
		t.Errorf("metrics do not count the requests: %v", err)
	}
}

// device returns nil for the device of the test's plug-in alone.
func device(list []*api.ContainerDevices) error {
	if len(list) != 1 || list[0].ResourceName != gadget || fmt.Sprint(list[0].DeviceIds) != "[one]" || len(list[0].GetTopology().GetNodes()) != 1 {
		return fmt.Errorf("devices are %v", list)
	}
	return nil
}

// wantLimit asks at once for more than is answered in a second.
func wantLimit(ctx context.Context, t *testing.T, conn *grpc.ClientConn) {
	t.Helper()
	const n = 400
	answers, begun := make(chan error, n), time.Now()
	for range n {
		go func() {
			_, err := api.NewPodResourcesListerClient(conn).GetAllocatableResources(ctx, &api.AllocatableResourcesRequest{})
			answers <- err
		}()
	}
	rejected := 0
	for range n {
		switch err := <-answers; {
		case status.Code(err) == codes.ResourceExhausted && status.Convert(err).Message() == "rejected by rate limit":
			rejected++
		case err != nil:
			t.Error(err)
		}
	}
	// 10 and then 100 a second: a machine that took this long may have had them all answered.
	if most := 10 + int(time.Since(begun).Seconds()*100) + 1; n-rejected > most {
		t.Errorf("%d of %d requests were answered within %v", n-rejected, n, time.Since(begun))
	}
}
