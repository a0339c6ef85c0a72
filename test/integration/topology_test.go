package integration

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	goruntime "runtime"
	"strconv"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/resources/memorymanager"
	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

// Machines that run this have one NUMA node; more are in the unit tests of the managers.
func TestWhatAPodHasToItselfIsOfOneNUMANode(t *testing.T) {
	t.Parallel()
	harness.NeedDockerd(t)
	n := goruntime.NumCPU()
	if n < 2 {
		t.Skip("this machine has one CPU")
	}
	a := harness.StartAgent(t, harness.AgentConfig{Config: map[string]any{
		"cpuManagerPolicy": "static", "systemReserved": map[string]string{"cpu": strconv.Itoa(n - 1), "memory": "512Mi"},
		"topologyManagerPolicy": "single-numa-node", "topologyManagerScope": "pod",
		"memoryManagerPolicy": "Static", "reservedMemory": []any{map[string]any{"numaNode": 0, "limits": map[string]string{"memory": "512Mi"}}},
		"evictionHard": map[string]string{"memory.available": "0%"},
	}})
	whole := needs(nil, amounts("cpu", "1", "memory", "32Mi"))
	a.Write("own.yaml", harness.Pod("own", "", whole))
	own := a.WaitRunning("own")
	cpu := allowed(t, a, own)
	if cpu.Size() != 1 {
		t.Fatalf("the Guaranteed container runs on CPUs %s, want one", cpu)
	}
	mems := func(p *v1.Pod) string {
		info, err := a.Docker.Client.ContainerInspect(t.Context(), harness.ID(harness.Status(p, "c").ContainerID))
		if err != nil {
			t.Fatal(err)
		}
		return info.HostConfig.CpusetMems
	}
	if got := mems(own); got != "0" {
		t.Errorf("the Guaranteed container's memory is of NUMA nodes %q, want 0", got)
	}
	a.Write("shares.yaml", harness.Pod("shares", ""))
	if got := mems(a.WaitRunning("shares")); got != "" {
		t.Errorf("the memory of a container that shares is of NUMA nodes %q, want any", got)
	}
	a.Write("second.yaml", harness.Pod("second", "", whole))
	second := a.WaitPhase("second", v1.PodFailed)
	const why = "Pod was rejected: Resources cannot be allocated with Topology locality"
	if second.Status.Reason != "TopologyAffinityError" || second.Status.Message != why {
		t.Errorf("rejected as %s: %s", second.Status.Reason, second.Status.Message)
	}
	wantMetrics(t, a, map[string]string{
		`kubelet_topology_manager_admission_requests_total`:                                           "3",
		`kubelet_topology_manager_admission_errors_total`:                                             "1",
		`kubelet_container_aligned_compute_resources_count{boundary="numa_node",scope="pod"}`:         "1",
		`kubelet_container_aligned_compute_resources_failure_count{boundary="numa_node",scope="pod"}`: "1",
		`kubelet_memory_manager_pinning_requests_total`:                                               "1",
		`kubelet_cpu_manager_pinning_requests_total`:                                                  "1",
		`kubelet_cpu_manager_exclusive_cpu_allocation_count`:                                          "1",
		`kubelet_cpu_manager_shared_pool_size_millicores`:                                             "0",
		`kubelet_cpu_manager_allocation_per_numa{numa_node="0"}`:                                      "1",
	})

	a.Kill()
	state, err := os.ReadFile(filepath.Join(a.Dir, "root", memorymanager.FileName))
	if err != nil || !strings.Contains(string(state), string(own.UID)) {
		t.Errorf("the memory of the pod is not on record: %s, %v", state, err)
	}
	a.Start()
	a.Write("late.yaml", harness.Pod("late", "")) // once it runs, the agent has looked at all
	a.WaitRunning("late")
	if now := a.WaitRunning("own"); harness.Status(now, "c").ContainerID != harness.Status(own, "c").ContainerID || !allowed(t, a, now).Equals(cpu) {
		t.Errorf("after the restart the Guaranteed container runs on CPUs %s, want %s: %+v", allowed(t, a, now), cpu, harness.Status(now, "c"))
	}

	a.Kill()
	a.SetConfig("memoryManagerPolicy", "None")
	a.Launch()
	if err := a.WaitExit(); err == nil || !strings.Contains(strings.ReplaceAll(a.Log(), `\"`, `"`), `configured policy "None" differs from state checkpoint policy "Static"`) {
		t.Errorf("another policy over the same state: %v", err)
	}
	a.SetConfig("memoryManagerPolicy", "Static")
	a.SetConfig("reservedMemory", nil)
	a.Launch()
	if err := a.WaitExit(); err == nil || !strings.Contains(strings.ReplaceAll(a.Log(), `\"`, `"`), `of type "memory" is not equal to the value "512Mi" determined by Node Allocatable feature`) {
		t.Errorf("a reservation of no node: %v", err)
	}
	if _, stderr, err := a.Run(append([]string{"reset", "--yes"}, a.Flags()...)...); err != nil {
		t.Fatalf("reset: %v\n%s", err, stderr)
	}
	if _, err := os.Stat(filepath.Join(a.Dir, "root", memorymanager.FileName)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the state is still there after a reset: %v", err)
	}
}

// wantMetrics compares series of /metrics with what they should be.
func wantMetrics(t *testing.T, a *harness.Agent, want map[string]string) {
	t.Helper()
	body, err := a.Get("/metrics")
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for line := range strings.Lines(string(body)) {
		if i := strings.LastIndexByte(line, ' '); i > 0 && line[0] != '#' {
			got[line[:i]] = strings.TrimSpace(line[i+1:])
		}
	}
	for series, value := range want {
		if got[series] != value {
			t.Errorf("%s is %s, want %s", series, fmt.Sprintf("%q", got[series]), value)
		}
	}
}
