package e2e

import (
	"fmt"
	"path/filepath"
	"slices"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	appsv1 "k8s.io/api/apps/v1"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	podresources "k8s.io/kubelet/pkg/apis/podresources/v1"
	"k8s.io/utils/ptr"

	"github.com/mini-kubelet/mini-kubelet/test/deviceplugin"
	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

// limited has a pod's first container want so much of an extended resource.
func limited(spec *v1.PodSpec, name v1.ResourceName, n int64) {
	list := v1.ResourceList{name: *resource.NewQuantity(n, resource.DecimalSI)}
	spec.Containers[0].Resources = v1.ResourceRequirements{Requests: list, Limits: list}
}

// offers waits until the node's status has so much of a resource.
func offers(t *testing.T, n *harness.Node, name v1.ResourceName, capacity, allocatable int64) {
	t.Helper()
	harness.Eventually(t, fmt.Sprintf("the node offers %s", name), harness.Patience, func() error {
		node, err := n.Cluster.Client.CoreV1().Nodes().Get(t.Context(), n.Node(), metav1.GetOptions{})
		if err != nil {
			return err
		}
		has, given := node.Status.Capacity[name], node.Status.Allocatable[name]
		if has.Value() != capacity || given.Value() != allocatable {
			return fmt.Errorf("%s of %s, want %d of %d", given.String(), has.String(), allocatable, capacity)
		}
		return nil
	}, n.Explain)
}

// scheduled runs pods of a Deployment wherever the scheduler finds the resource, and waits until they run.
func scheduled(t *testing.T, n *harness.Node, ns, app string, name v1.ResourceName, replicas int32) {
	t.Helper()
	pod := template(n, app, "sleep 1000")
	limited(&pod.Spec, name, 1)
	if _, err := n.Cluster.Client.AppsV1().Deployments(ns).Create(t.Context(), &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: app},
		Spec:       appsv1.DeploymentSpec{Replicas: ptr.To(replicas), Selector: selector(app), Template: pod},
	}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	n.MustKubectl(ns, "rollout", "status", "deployment/"+app, patiently)
}

// TestTheSchedulerCountsDevices: a plug-in's devices are in the node's status, and so is what an operator says that
// the node has; pods are given both, and one too many waits at the scheduler instead of failing here again and again.
func TestTheSchedulerCountsDevices(t *testing.T) {
	n, ns := join(t)
	gadget, dongle := v1.ResourceName("example.com/gadget-"+n.Node()), v1.ResourceName("example.com/dongle-"+n.Node())
	plugin, err := deviceplugin.Start(t.Context(), deviceplugin.Config{
		Resource: string(gadget), Root: filepath.Join(n.Dir, "root"), Devices: deviceplugin.Devices(map[string]bool{"one": true, "two": true, "three": false}),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(plugin.Stop)
	offers(t, n, gadget, 3, 2)
	scheduled(t, n, ns, "gadgets", gadget, 2)

	spare := harness.Pod("spare", `test "$DEVICES" = three && sleep 1000`, quick)
	limited(&spare.Spec, gadget, 1)
	spare.Namespace, spare.Spec.NodeSelector = ns, map[string]string{v1.LabelHostname: n.Node()}
	if _, err := n.Cluster.Client.CoreV1().Pods(ns).Create(t.Context(), spare, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	n.Await(ns, "spare", "waits for a device", func(p *v1.Pod) bool {
		c := conditionOf(p, v1.PodScheduled)
		return c != nil && c.Reason == v1.PodReasonUnschedulable
	})
	plugin.Set(deviceplugin.Devices(map[string]bool{"one": true, "two": true, "three": true})...)
	n.AwaitReady(ns, "spare")

	whoHasGadgets(t, n, ns, string(gadget))

	patch := fmt.Sprintf(`{"status":{"capacity":{%q:"1"}}}`, dongle)
	if _, err := n.Cluster.Client.CoreV1().Nodes().Patch(t.Context(), n.Node(), types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{}, "status"); err != nil {
		t.Fatal(err)
	}
	offers(t, n, dongle, 1, 1)
	scheduled(t, n, ns, "dongles", dongle, 1)
	list, err := n.Cluster.Client.CoreV1().Pods(ns).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range list.Items {
		if p.Status.Phase == v1.PodFailed {
			t.Errorf("%s failed: %s", p.Name, p.Status.Message)
		}
	}

	plugin.Stop()
	offers(t, n, gadget, 3, 0)
	n.AwaitReady(ns, "spare")
}

// whoHasGadgets asks PodResources of a node whose three devices three pods have, "spare" the third.
func whoHasGadgets(t *testing.T, n *harness.Node, ns, gadget string) {
	t.Helper()
	conn, err := grpc.NewClient("unix://"+filepath.Join(n.Dir, "root", "pod-resources", "kubelet.sock"), grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithAuthority("localhost"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	client := podresources.NewPodResourcesListerClient(conn)
	ids := func(list []*podresources.ContainerDevices) (all []string) {
		for _, d := range list {
			if d.ResourceName == gadget {
				all = append(all, d.DeviceIds...)
			}
		}
		slices.Sort(all)
		return all
	}
	devices := func(p *podresources.PodResources) (all []string) {
		for _, c := range p.GetContainers() {
			all = append(all, ids(c.Devices)...)
		}
		return all
	}
	every := []string{"one", "three", "two"}
	if all, err := client.GetAllocatableResources(t.Context(), &podresources.AllocatableResourcesRequest{}); err != nil || !slices.Equal(ids(all.GetDevices()), every) {
		t.Errorf("allocatable: %v, %v", all, err)
	}
	if one, err := client.Get(t.Context(), &podresources.GetPodResourcesRequest{PodNamespace: ns, PodName: "spare"}); err != nil || !slices.Equal(devices(one.GetPodResources()), []string{"three"}) {
		t.Errorf("the pod with the third device: %v, %v", one, err)
	}
	list, err := client.List(t.Context(), &podresources.ListPodResourcesRequest{})
	var given []string
	for _, p := range list.GetPodResources() {
		if p.Namespace == ns {
			given = append(given, devices(p)...)
		}
	}
	if slices.Sort(given); err != nil || !slices.Equal(given, every) {
		t.Errorf("of all pods: %v, %v", list, err)
	}
}
