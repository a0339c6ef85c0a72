package integration

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

// cgroupV1 returns where the kernel shows a controller's version 1 cgroups.
func cgroupV1(t *testing.T, controller string) string {
	t.Helper()
	dir := filepath.Join("/sys/fs/cgroup", controller)
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		t.Skip("this machine has cgroup v2")
	}
	return dir
}

// cgroupFile reads a file of a cgroup below the agent's own.
func cgroupFile(t *testing.T, a *harness.Agent, path, file string) (string, error) {
	t.Helper()
	controller, _, _ := strings.Cut(file, ".")
	text, err := os.ReadFile(filepath.Join(cgroupV1(t, controller), a.CgroupRoot(), path, file))
	return strings.TrimSpace(string(text)), err
}

// wantCgroup waits until the kernel has these values, by cgroup/file.
func wantCgroup(t *testing.T, a *harness.Agent, what string, want map[string]string) {
	t.Helper()
	harness.Eventually(t, what, harness.Patience, func() error {
		var all error
		for path, value := range want {
			got, err := cgroupFile(t, a, filepath.Dir(path), filepath.Base(path))
			if err == nil && got != value {
				err = fmt.Errorf("%s is %s, want %s", path, got, value)
			}
			all = errors.Join(all, err)
		}
		return all
	}, a.Explain)
}

func TestCgroupsOfTheClassesAreThereAtStart(t *testing.T) {
	t.Parallel()
	harness.NeedDockerd(t)
	a := harness.StartAgent(t, harness.AgentConfig{Config: map[string]any{
		"systemReserved": map[string]string{"memory": "64Mi", "pid": "100"},
	}})
	wantCgroup(t, a, "the classes have their shares", map[string]string{
		"kubepods/burstable/cpu.shares":  "2",
		"kubepods/besteffort/cpu.shares": "2",
	})
	limit, err := cgroupFile(t, a, "kubepods", "memory.limit_in_bytes")
	if err != nil || len(limit) > 15 {
		t.Errorf("all pods may use %s bytes of memory, %v", limit, err)
	}
	if most, err := cgroupFile(t, a, "kubepods", "pids.max"); err != nil || most == "max" {
		t.Errorf("all pods may have %s processes, %v", most, err)
	}
}

// amounts reads pairs of a resource and its quantity.
func amounts(pairs ...string) v1.ResourceList {
	l := v1.ResourceList{}
	for i := 0; i < len(pairs); i += 2 {
		l[v1.ResourceName(pairs[i])] = resource.MustParse(pairs[i+1])
	}
	return l
}

// needs gives the pod's first container requests and limits.
func needs(requests, limits v1.ResourceList) func(*v1.Pod) {
	return func(p *v1.Pod) {
		p.Spec.Containers[0].Resources = v1.ResourceRequirements{Requests: requests, Limits: limits}
	}
}

// cgroupOf is the cgroup of a controller that the container's process is in, as
// the kernel says, and oom_score_adj of that process.
func cgroupOf(t *testing.T, a *harness.Agent, p *v1.Pod, container, controller string) (path, oomScoreAdj string) {
	t.Helper()
	info, err := a.Docker.Client.ContainerInspect(t.Context(), harness.ID(harness.Status(p, container).ContainerID))
	if err != nil {
		t.Fatal(err)
	}
	proc := fmt.Sprintf("/proc/%d/", info.State.Pid)
	score, err := os.ReadFile(proc + "oom_score_adj")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(proc + "cgroup")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.SplitN(strings.TrimSpace(line), ":", 3); f[1] == controller {
			return f[2], strings.TrimSpace(string(score))
		}
	}
	t.Fatalf("no cgroup of %s in %s", controller, text)
	return "", ""
}

func TestPodsLiveInCgroupsOfTheirOwn(t *testing.T) {
	t.Parallel()
	harness.NeedDockerd(t)
	a := harness.StartAgent(t, harness.AgentConfig{Config: map[string]any{"podPidsLimit": 200}})
	cgroupV1(t, "cpu")
	a.Write("pods.yaml",
		harness.Pod("guaranteed", "", needs(nil, amounts("cpu", "250m", "memory", "64Mi"))),
		harness.Pod("burstable", "", needs(amounts("cpu", "100m", "memory", "32Mi"), amounts("cpu", "500m", "memory", "128Mi")),
			func(p *v1.Pod) {
				second := harness.Container("d", "")
				second.Resources.Requests = amounts("cpu", "50m")
				p.Spec.Containers = append(p.Spec.Containers, second)
			}),
		harness.Pod("besteffort", ""),
	)
	pods := map[string]*v1.Pod{}
	parents := map[string]string{"guaranteed": "kubepods", "burstable": "kubepods/burstable", "besteffort": "kubepods/besteffort"}
	place := func(name string) string { return parents[name] + "/pod" + string(pods[name].UID) }
	for name := range parents {
		pods[name] = a.WaitRunning(name)
		for _, controller := range []string{"cpu", "memory", "pids"} {
			got, _ := cgroupOf(t, a, pods[name], "c", controller)
			// The memory controller shows paths from its own root as the others do.
			if want := a.CgroupRoot() + "/" + place(name) + "/"; !strings.HasPrefix(got, want) {
				t.Errorf("%s of %s is in %s, want below %s", controller, name, got, want)
			}
		}
	}
	check := func(when string) {
		t.Helper()
		g, b, e := place("guaranteed"), place("burstable"), place("besteffort")
		wantCgroup(t, a, "the limits of pods are what they ask for, "+when, map[string]string{
			g + "/cpu.shares": "256", g + "/cpu.cfs_quota_us": "25000", g + "/cpu.cfs_period_us": "100000", g + "/memory.limit_in_bytes": "67108864",
			// One container has no limits, so the pod has none.
			b + "/cpu.shares": "153", b + "/cpu.cfs_quota_us": "-1", b + "/memory.limit_in_bytes": "9223372036854771712",
			e + "/cpu.shares": "2", e + "/cpu.cfs_quota_us": "-1",
			g + "/pids.max": "200", e + "/pids.max": "200",
			"kubepods/burstable/cpu.shares": "153",
		})
	}
	check("at first")

	a.Kill()
	dir := filepath.Join(cgroupV1(t, "cpu"), a.CgroupRoot(), place("besteffort"))
	if err := os.WriteFile(filepath.Join(dir, "cpu.shares"), []byte("77"), 0o644); err != nil {
		t.Fatal(err)
	}
	orphan := filepath.Join(cgroupV1(t, "cpu"), a.CgroupRoot(), "kubepods/burstable/pod0123-orphan")
	if err := os.Mkdir(orphan, 0o755); err != nil {
		t.Fatal(err)
	}
	a.Start()
	check("after a restart of the agent")
	for name := range parents {
		if n := harness.Status(a.WaitRunning(name), "c").RestartCount; n != 0 {
			t.Errorf("%s was restarted %d times", name, n)
		}
	}
	harness.Eventually(t, "the orphan is removed", harness.Patience, func() error { return gone(orphan) }, a.Explain)

	a.Remove("pods.yaml")
	for name := range parents {
		a.WaitGone(name)
	}
	for name := range parents {
		left, err := filepath.Glob("/sys/fs/cgroup/*" + a.CgroupRoot() + "/" + place(name))
		if err != nil || len(left) > 0 {
			t.Errorf("cgroups of %s are left: %v %v", name, left, err)
		}
	}
	wantCgroup(t, a, "no burstable pod is left to have shares", map[string]string{"kubepods/burstable/cpu.shares": "2"})
}

func gone(path string) error {
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%s: %v", path, err)
	}
	return nil
}

func TestAPodMayNotHaveMoreProcessesThanTheLimit(t *testing.T) {
	t.Parallel()
	harness.NeedDockerd(t)
	a := harness.StartAgent(t, harness.AgentConfig{Config: map[string]any{"podPidsLimit": 20}})
	// The shell that cannot fork says so and ends.
	a.Write("pod.yaml", harness.Pod("bomb", "for i in $(seq 60); do sleep 1000 & done; echo all of them; exit 0", func(p *v1.Pod) {
		p.Spec.RestartPolicy = v1.RestartPolicyNever
	}))
	p := a.WaitPhase("bomb", v1.PodFailed)
	if s := harness.Status(p, "c"); s.State.Terminated == nil || s.State.Terminated.ExitCode == 0 {
		t.Errorf("status %+v", s.State)
	}
}

func TestResourcesOfThePodAsAWholeBoundItsContainers(t *testing.T) {
	a := start(t)
	a.Write("pod.yaml", harness.Pod("whole", "", func(p *v1.Pod) {
		p.Spec.Containers = append(p.Spec.Containers, harness.Container("d", ""))
		p.Spec.Resources = &v1.ResourceRequirements{Requests: amounts("cpu", "200m", "memory", "64Mi"), Limits: amounts("cpu", "400m", "memory", "96Mi")}
	}))
	p := a.WaitRunning("whole")
	pod := "kubepods/burstable/pod" + string(p.UID)
	wantCgroup(t, a, "the pod's limits are its own", map[string]string{
		pod + "/cpu.shares": "204", pod + "/cpu.cfs_quota_us": "40000", pod + "/memory.limit_in_bytes": "100663296",
	})
	for _, c := range []string{"c", "d"} {
		path, score := cgroupOf(t, a, p, c, "memory")
		text, err := os.ReadFile(filepath.Join(cgroupV1(t, "memory"), path, "memory.limit_in_bytes"))
		if got := strings.TrimSpace(string(text)); err != nil || got != "100663296" {
			t.Errorf("container %s may have %s bytes, %v", c, got, err)
		}
		if n, err := strconv.Atoi(score); err != nil || n < 900 || n > 999 {
			t.Errorf("container %s has oom_score_adj %s, want one of a small burstable container", c, score)
		}
	}
}

func TestScoresOfTheOOMKiller(t *testing.T) {
	a := start(t)
	a.Write("pods.yaml",
		harness.Pod("guaranteed", "", needs(nil, amounts("cpu", "100m", "memory", "64Mi"))),
		harness.Pod("burstable", "", needs(amounts("memory", "1Gi"), nil)),
		harness.Pod("besteffort", ""),
	)
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		t.Fatal(err)
	}
	memory := int64(info.Totalram) * int64(info.Unit)
	own, err := os.ReadFile("/proc/self/oom_score_adj")
	if err != nil {
		t.Fatal(err)
	}
	floor, err := strconv.Atoi(strings.TrimSpace(string(own)))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]int{
		"guaranteed": -997, "besteffort": 1000, "burstable": int(min(max(3, 1000-1000*(1<<30)/memory), 999)),
	} {
		_, score := cgroupOf(t, a, a.WaitRunning(name), "c", "memory")
		// Without CAP_SYS_RESOURCE nobody gets a score below that of who starts it.
		if got, err := strconv.Atoi(score); err != nil || got != want && !(want < floor && got == floor) {
			t.Errorf("%s has oom_score_adj %s, want %d, or %d where that is not permitted", name, score, want, floor)
		}
	}
}

// reservedCgroup makes a cgroup in these controllers, and removes it when the test ends.
func reservedCgroup(t *testing.T, name string, controllers ...string) {
	t.Helper()
	for _, c := range controllers {
		dir := filepath.Join(cgroupV1(t, c), name)
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.Remove(dir) })
	}
}

func TestWhatIsReservedIsEnforced(t *testing.T) {
	t.Parallel()
	cgroupV1(t, "cpu")
	harness.NeedDockerd(t)
	a := harness.NewAgent(t, harness.AgentConfig{Config: map[string]any{
		"enforceNodeAllocatable": []string{"pods", "system-reserved", "kube-reserved-compressible"},
		"systemReserved":         map[string]string{"cpu": "100m", "memory": "64Mi", "pid": "100"}, "kubeReserved": map[string]string{"cpu": "200m", "memory": "32Mi"},
	}})
	system, kube := a.Node+"-system", a.Node+"-kube"
	a.SetConfig("systemReservedCgroup", "/"+system)
	a.SetConfig("kubeReservedCgroup", "/"+kube)
	reservedCgroup(t, kube, "cpu")
	a.Launch()
	if err := a.WaitExit(); err == nil || !strings.Contains(a.Log(), "Failed to enforce System Reserved Cgroup Limits on") || !strings.Contains(a.Log(), "/sys/fs/cgroup/pids/"+system) {
		t.Fatalf("without the cgroup: %v\n%s", err, a.Log())
	}
	reservedCgroup(t, system, "cpu", "memory", "pids")
	if _, err := os.Stat("/sys/fs/cgroup/hugetlb"); err == nil {
		reservedCgroup(t, system, "hugetlb")
	}
	a.Start()
	for file, want := range map[string]string{
		"cpu/" + system + "/cpu.shares": "102", "memory/" + system + "/memory.limit_in_bytes": "67108864", "pids/" + system + "/pids.max": "100",
		"cpu/" + kube + "/cpu.shares": "204",
	} {
		if text, err := os.ReadFile(filepath.Join("/sys/fs/cgroup", file)); strings.TrimSpace(string(text)) != want {
			t.Errorf("%s is %s, want %s: %v", file, text, want, err)
		}
	}
	if _, err := os.Stat("/sys/fs/cgroup/memory/" + kube); err == nil {
		t.Error("a cgroup was made for what is compressible")
	}
}
