package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	goruntime "runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

func conditionOf(p *v1.Pod, kind v1.PodConditionType) *v1.PodCondition {
	i := slices.IndexFunc(p.Status.Conditions, func(c v1.PodCondition) bool { return c.Type == kind })
	if i < 0 {
		return nil
	}
	return &p.Status.Conditions[i]
}

// resize changes the CPU request and limit of the container "c".
func resize(t *testing.T, n *harness.Node, ns, pod, request, limit string) {
	t.Helper()
	if err := tryResize(t, n, ns, pod, request, limit); err != nil {
		t.Fatalf("resize: %v", err)
	}
}

func tryResize(t *testing.T, n *harness.Node, ns, pod, request, limit string) error {
	t.Helper()
	patch := fmt.Sprintf(`{"spec":{"containers":[{"name":"c","resources":{"requests":{"cpu":%q},"limits":{"cpu":%q}}}]}}`, request, limit)
	_, err := n.Cluster.Client.CoreV1().Pods(ns).Patch(t.Context(), pod, types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{}, "resize")
	return err
}

// quotas returns the CFS quotas of the pod's cgroup and of its container's.
func quotas(n *harness.Node, p *v1.Pod) string {
	pod := filepath.Join("/sys/fs/cgroup/cpu", n.CgroupRoot(), "kubepods/burstable/pod"+string(p.UID))
	read := func(dir string) string {
		text, err := os.ReadFile(filepath.Join(dir, "cpu.cfs_quota_us"))
		if err != nil {
			return err.Error()
		}
		return strings.TrimSpace(string(text))
	}
	return read(pod) + " " + read(filepath.Join(pod, harness.ID(harness.Status(p, "c").ContainerID)))
}

func TestAPodIsResizedInPlace(t *testing.T) {
	n, ns := join(t)
	if _, err := os.Stat("/sys/fs/cgroup/cpu/cpu.shares"); err != nil {
		t.Skip("this machine has cgroup v2")
	}
	n.Create(ns, harness.Pod("web", "", quick, func(p *v1.Pod) {
		p.Spec.Containers[0].Resources = v1.ResourceRequirements{
			Requests: v1.ResourceList{"cpu": quantity("100m"), "memory": quantity("32Mi")}, Limits: v1.ResourceList{"cpu": quantity("200m"), "memory": quantity("64Mi")},
		}
	}))
	before := n.AwaitReady(ns, "web")
	await := func(what, want string, cond func(*v1.Pod) bool) {
		t.Helper()
		p := n.Await(ns, "web", what, cond)
		if got := quotas(n, p); got != want {
			t.Errorf("%s: the quotas of pod and container are %s, want %s", what, got, want)
		}
		was, is := harness.Status(before, "c"), harness.Status(p, "c")
		if was.ContainerID != is.ContainerID || is.RestartCount != 0 {
			t.Errorf("%s: the container was restarted", what)
		}
	}
	has := func(limit string) func(*v1.Pod) bool {
		return func(p *v1.Pod) bool {
			s := harness.Status(p, "c")
			return s.Resources != nil && s.Resources.Limits.Cpu().String() == limit && conditionOf(p, v1.PodResizeInProgress) == nil && conditionOf(p, v1.PodResizePending) == nil
		}
	}
	if got := quotas(n, before); got != "20000 20000" {
		t.Fatalf("at first the quotas of pod and container are %s", got)
	}
	resize(t, n, ns, "web", "300m", "500m")
	await("has grown", "50000 50000", has("500m"))
	resize(t, n, ns, "web", "100m", "150m")
	await("has shrunk", "15000 15000", has("150m"))

	node, err := n.Cluster.Client.CoreV1().Nodes().Get(t.Context(), n.Node(), metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	most := node.Status.Allocatable.Cpu().MilliValue()
	beyond := quantity(fmt.Sprintf("%dm", most+1000))
	resize(t, n, ns, "web", "100m", beyond.String())
	await("its limit may be beyond the node", fmt.Sprintf("%d00 %d00", most+1000, most+1000), has(beyond.String()))
	// The API server refuses what is more than the node says it has; what it believes
	// of that may be out of date.
	harness.Eventually(t, "the API server lets a request pass that is beyond the node", harness.Patience, func() error {
		patch := fmt.Appendf(nil, `{"status":{"allocatable":{"cpu":%q},"capacity":{"cpu":%q}}}`, beyond.String(), beyond.String())
		if _, err := n.Cluster.Client.CoreV1().Nodes().Patch(t.Context(), n.Node(), types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status"); err != nil {
			return err
		}
		return tryResize(t, n, ns, "web", beyond.String(), beyond.String())
	}, n.Explain)
	await("asks for more than the node has", fmt.Sprintf("%d00 %d00", most+1000, most+1000), func(p *v1.Pod) bool {
		c := conditionOf(p, v1.PodResizePending)
		return c != nil && c.Status == v1.ConditionTrue && c.Reason == v1.PodReasonInfeasible && c.ObservedGeneration == p.Generation &&
			strings.Contains(c.Message, fmt.Sprintf("Node didn't have enough capacity: cpu, requested: %d, capacity: %d", most+1000, most))
	})
	harness.Eventually(t, "an event tells that it is infeasible", harness.Patience, func() error {
		if out := n.MustKubectl(ns, "get", "events", "--field-selector", "reason=ResizeInfeasible"); !strings.Contains(out, "Pod resize Infeasible") {
			return errors.New(out)
		}
		return nil
	}, n.Explain)
	resize(t, n, ns, "web", "100m", "150m")
	await("asks for what it can have again", "15000 15000", has("150m"))

	n.Create(ns, harness.Pod("other", "", quick, func(p *v1.Pod) {
		p.Spec.Containers[0].Resources.Requests = v1.ResourceList{"cpu": quantity(fmt.Sprintf("%dm", most-500))}
	}))
	n.AwaitReady(ns, "other")
	all := fmt.Sprintf("%dm", most-100)
	resize(t, n, ns, "web", all, all)
	deferred := func(p *v1.Pod) bool {
		c := conditionOf(p, v1.PodResizePending)
		return c != nil && c.Reason == v1.PodReasonDeferred && strings.Contains(c.Message, "Node didn't have enough resource: cpu")
	}
	await("asks for more than is left", "15000 15000", deferred)
	n.Kill()
	n.Start()
	n.WaitReady()
	await("still has what it was given after a restart of the agent", "15000 15000", deferred)
	n.MustKubectl(ns, "delete", "pod", "other", "--now")
	await("has what it asks for once there is room", fmt.Sprintf("%d00 %d00", most-100, most-100), func(p *v1.Pod) bool {
		s := harness.Status(p, "c")
		return s.Resources != nil && s.Resources.Limits.Cpu().MilliValue() == most-100 && conditionOf(p, v1.PodResizePending) == nil && conditionOf(p, v1.PodResizeInProgress) == nil
	})
}

func TestAContainerIsRestartedForAResizeWhereItSaysSo(t *testing.T) {
	n, ns := join(t)
	n.Create(ns, harness.Pod("web", "", quick, func(p *v1.Pod) {
		p.Spec.Containers[0].Resources = v1.ResourceRequirements{Requests: v1.ResourceList{"cpu": quantity("100m")}, Limits: v1.ResourceList{"cpu": quantity("200m")}}
		p.Spec.Containers[0].ResizePolicy = []v1.ContainerResizePolicy{{ResourceName: v1.ResourceCPU, RestartPolicy: v1.RestartContainer}}
	}))
	n.AwaitReady(ns, "web")
	resize(t, n, ns, "web", "100m", "300m")
	p := n.Await(ns, "web", "was restarted for it", func(p *v1.Pod) bool {
		return harness.Status(p, "c").RestartCount == 1 && harness.Ready(p) && conditionOf(p, v1.PodResizeInProgress) == nil
	})
	info, err := n.Docker.Client.ContainerInspect(t.Context(), harness.ID(harness.Status(p, "c").ContainerID))
	if err != nil || info.HostConfig.CPUQuota != 30000 {
		t.Errorf("the new container has a quota of %v, %v", info.HostConfig.CPUQuota, err)
	}
}

func TestCPUsOfAGuaranteedPodAreNotResizedWithTheStaticPolicy(t *testing.T) {
	t.Parallel()
	cpus := goruntime.NumCPU()
	if cpus < 2 {
		t.Skip("this machine has one CPU")
	}
	n := harness.StartNode(t, harness.SharedCluster(t), harness.AgentConfig{Config: map[string]any{
		"cpuManagerPolicy": "static", "systemReserved": map[string]string{"cpu": strconv.Itoa(cpus - 1)},
	}})
	ns := n.Namespace()
	own := v1.ResourceList{"cpu": quantity("1"), "memory": quantity("32Mi")}
	n.Create(ns, harness.Pod("own", "", quick, func(p *v1.Pod) {
		p.Spec.Containers[0].Resources = v1.ResourceRequirements{Requests: own, Limits: own}
	}))
	before := n.AwaitReady(ns, "own")
	if before.Status.QOSClass != v1.PodQOSGuaranteed {
		t.Fatalf("the pod is %s", before.Status.QOSClass)
	}
	resize(t, n, ns, "own", "500m", "500m")
	p := n.Await(ns, "own", "the resize is refused", func(p *v1.Pod) bool { return conditionOf(p, v1.PodResizePending) != nil })
	if c := conditionOf(p, v1.PodResizePending); c.Reason != v1.PodReasonInfeasible || c.Message != `Resize is infeasible for Guaranteed Pods alongside CPU Manager policy "static"` {
		t.Errorf("%s: %s", c.Reason, c.Message)
	}
	was, is := harness.Status(before, "c"), harness.Status(p, "c")
	if was.ContainerID != is.ContainerID || is.Resources.Limits.Cpu().String() != "1" || is.AllocatedResources.Cpu().String() != "1" {
		t.Errorf("the container has become %+v", is)
	}
}
