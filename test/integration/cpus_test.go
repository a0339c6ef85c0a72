package integration

import (
	"fmt"
	"math/rand/v2"
	"os"
	goruntime "runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/utils/cpuset"

	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

// allowed returns the CPUs that the kernel lets the container's process run on.
func allowed(t *testing.T, a *harness.Agent, pod *v1.Pod) cpuset.CPUSet {
	t.Helper()
	info, err := a.Docker.Client.ContainerInspect(t.Context(), harness.ID(harness.Status(pod, "c").ContainerID))
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", info.State.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if list, ok := strings.CutPrefix(line, "Cpus_allowed_list:"); ok {
			cpus, err := cpuset.Parse(strings.TrimSpace(list))
			if err != nil {
				t.Fatal(err)
			}
			return cpus
		}
	}
	t.Fatalf("no Cpus_allowed_list in %s", text)
	return cpuset.CPUSet{}
}

// onlyOneCPU starts an agent with the static policy that has one CPU to give away.
func onlyOneCPU(t *testing.T) *harness.Agent {
	t.Helper()
	harness.NeedDockerd(t)
	n := goruntime.NumCPU()
	if n < 2 {
		t.Skip("this machine has one CPU")
	}
	return harness.StartAgent(t, harness.AgentConfig{Config: map[string]any{
		"cpuManagerPolicy": "static", "systemReserved": map[string]string{"cpu": strconv.Itoa(n - 1)},
	}})
}

func TestCPUsSurviveAnAgentKilledAtRandomMoments(t *testing.T) {
	t.Parallel()
	a := onlyOneCPU(t)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	a.Write("shares.yaml", harness.Pod("shares", ""))
	shares := a.WaitRunning("shares")
	all := allowed(t, a, shares)
	var own types.UID
	for round := range 6 {
		// Another pod replaces the one before: it must get the same CPU.
		a.Write("own.yaml", harness.Pod("own", "", needs(nil, amounts("cpu", "1", "memory", "32Mi")), func(p *v1.Pod) {
			p.Spec.Containers[0].Env = []v1.EnvVar{{Name: "ROUND", Value: strconv.Itoa(round)}}
		}))
		time.Sleep(time.Duration(random.Int64N(int64(1500 * time.Millisecond)))) // the moment
		a.Kill()
		a.Start()
		p := a.WaitPod("own", "the new pod runs", func(p *v1.Pod) bool { return p.UID != own && harness.Ready(p) })
		own = p.UID
		cpu := allowed(t, a, p)
		if cpu.Size() != 1 {
			t.Fatalf("round %d: the Guaranteed container runs on CPUs %s, want one", round, cpu)
		}
		harness.Eventually(t, "the other container leaves that CPU", harness.Patience, func() error {
			if got := allowed(t, a, shares); !got.Equals(all.Difference(cpu)) {
				return fmt.Errorf("round %d: the container that shares runs on CPUs %s, want %s", round, got, all.Difference(cpu))
			}
			return nil
		}, a.Explain)
	}
	if s := harness.Status(a.WaitRunning("shares"), "c"); s.RestartCount != 0 {
		t.Errorf("the container that shares was restarted: %+v", s)
	}
}

func TestGuaranteedPodHasACPUToItself(t *testing.T) {
	t.Parallel()
	a, n := onlyOneCPU(t), goruntime.NumCPU()
	whole := needs(nil, amounts("cpu", "1", "memory", "32Mi"))
	a.Write("shares.yaml", harness.Pod("shares", "", needs(amounts("memory", "16Mi"), nil)))
	shares := a.WaitRunning("shares")
	all := allowed(t, a, shares)
	if all.Size() != n {
		t.Fatalf("alone, the container that shares runs on CPUs %s, want %d", all, n)
	}
	wantShared := func(what string, own cpuset.CPUSet) {
		t.Helper()
		harness.Eventually(t, what, harness.Patience, func() error {
			if got := allowed(t, a, shares); !got.Equals(all.Difference(own)) {
				return fmt.Errorf("the container that shares runs on CPUs %s, want %s", got, all.Difference(own))
			}
			return nil
		}, a.Explain)
	}

	a.Write("own.yaml", harness.Pod("own", "", whole))
	own := a.WaitRunning("own")
	cpu := allowed(t, a, own)
	if cpu.Size() != 1 {
		t.Fatalf("the Guaranteed container runs on CPUs %s, want one", cpu)
	}
	wantShared("the other container leaves that CPU", cpu)
	path, _ := cgroupOf(t, a, own, "c", "cpu")
	path = strings.TrimPrefix(path, a.CgroupRoot()+"/")
	wantCgroup(t, a, "no quota is held for a CPU that nobody else uses", map[string]string{
		path + "/cpu.cfs_quota_us": "-1", path[:strings.LastIndex(path, "/")] + "/cpu.cfs_quota_us": "-1", path + "/cpu.shares": "1024",
	})

	a.Kill()
	a.Start()
	late := harness.Pod("late", "") // once it runs, the agent has looked at all
	a.Write("late.yaml", late)
	if got := allowed(t, a, a.WaitRunning("late")); !got.Equals(all.Difference(cpu)) {
		t.Errorf("a container made after the restart runs on CPUs %s, want %s", got, all.Difference(cpu))
	}
	if now := a.WaitRunning("own"); harness.Status(now, "c").ContainerID != harness.Status(own, "c").ContainerID || !allowed(t, a, now).Equals(cpu) {
		t.Errorf("after the restart the Guaranteed container runs on CPUs %s, want %s: %+v", allowed(t, a, now), cpu, harness.Status(now, "c"))
	}
	wantShared("after the restart the other container stays where it is", cpu)

	a.Write("second.yaml", harness.Pod("second", "", whole))
	second := a.WaitPhase("second", v1.PodFailed)
	const why = "Pod was rejected: Allocate failed due to not enough cpus available to satisfy request: requested=1, available=0, which is unexpected"
	if second.Status.Reason != "UnexpectedAdmissionError" || second.Status.Message != why {
		t.Errorf("rejected as %s: %s", second.Status.Reason, second.Status.Message)
	}

	a.Remove("second.yaml")
	a.WaitGone("second")

	// Replaced while no agent runs: the new pod takes the CPU of the one that it follows.
	a.Kill()
	a.Write("own.yaml", harness.Pod("own", "", whole, func(p *v1.Pod) { p.Spec.Containers[0].Env = []v1.EnvVar{{Name: "NEW", Value: "1"}} }))
	a.Start()
	next := a.WaitPod("own", "the new pod runs", func(p *v1.Pod) bool { return p.UID != own.UID && harness.Ready(p) })
	if got := allowed(t, a, next); !got.Equals(cpu) {
		t.Errorf("the new pod runs on CPUs %s, want %s", got, cpu)
	}

	a.Kill()
	a.Remove("own.yaml")
	a.Start()
	a.WaitGone("own")
	wantShared("the CPU is shared again", cpuset.New())

	a.Kill()
	a.SetConfig("cpuManagerPolicy", "none")
	a.Launch()
	if err := a.WaitExit(); err == nil || !strings.Contains(a.Log(), `configured policy \"none\" differs from state checkpoint policy \"static\"`) &&
		!strings.Contains(a.Log(), `configured policy "none" differs from state checkpoint policy "static"`) {
		t.Errorf("another policy over the same state: %v", err)
	}
	if _, stderr, err := a.Run(append([]string{"reset", "--yes"}, a.Flags()...)...); err != nil {
		t.Fatalf("reset: %v\n%s", err, stderr)
	}
	a.Start() // the state is gone with the rest
}

// containerd of this age does not say which CPUs a container has: the agent has to
// remember where it moved it.
func TestCPUsOnContainerd(t *testing.T) {
	t.Parallel()
	n := goruntime.NumCPU()
	if n < 2 {
		t.Skip("this machine has one CPU")
	}
	r := harness.StartContainerd(t)
	a := harness.NewAgent(t, harness.AgentConfig{Config: map[string]any{
		"containerRuntimeEndpoint": r.Endpoint, "cpuManagerPolicy": "static", "reservedSystemCPUs": fmt.Sprintf("1-%d", n-1),
	}})
	a.Start()
	cpus := func(pod *v1.Pod) string {
		id := strings.TrimPrefix(harness.Status(pod, "c").ContainerID, "containerd://")
		out, err := r.ExecSync(t.Context(), &cri.ExecSyncRequest{ContainerId: id, Cmd: []string{"/bin/sh", "-c", "while read k v; do [ $k = Cpus_allowed_list: ] && echo $v; done < /proc/self/status; true"}, Timeout: 120})
		if err != nil || out.ExitCode != 0 {
			t.Fatalf("ask the container: %v, %v", out, err)
		}
		return strings.TrimSpace(string(out.Stdout))
	}
	a.Write("shares.yaml", harness.Pod("shares", ""))
	shares := a.WaitRunning("shares")
	all := cpus(shares)
	moved := func(what, want string) {
		t.Helper()
		harness.Eventually(t, what, harness.Patience, func() error {
			if got := cpus(shares); got != want {
				return fmt.Errorf("the container that shares runs on CPUs %s, want %s", got, want)
			}
			return nil
		}, a.Explain)
	}
	a.Write("own.yaml", harness.Pod("own", "", needs(nil, amounts("cpu", "1", "memory", "32Mi"))))
	if got := cpus(a.WaitRunning("own")); got != "0" {
		t.Errorf("the Guaranteed container runs on CPUs %s, want 0", got)
	}
	rest := cpuset.New()
	for i := 1; i < n; i++ {
		rest = rest.Union(cpuset.New(i))
	}
	moved("the other container leaves that CPU", rest.String())
	a.Kill()
	a.Remove("own.yaml")
	a.Start()
	moved("the CPU is shared again", all)
}
