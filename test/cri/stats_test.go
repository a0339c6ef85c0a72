package cri

import (
	"fmt"
	"strings"
	"testing"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

var statsCases = []testCase{
	{name: "statistics of a container", run: func(t *testing.T, r *runtime) {
		p := r.pod("while :; do :; done")
		harness.Eventually(t, "its CPU time and rate are told", harness.Patience, func() error {
			resp, err := r.ContainerStats(t.Context(), &cri.ContainerStatsRequest{ContainerId: p.ctr})
			if err != nil {
				return err
			}
			s := resp.Stats
			if s.GetAttributes().GetId() != p.ctr || s.Attributes.Metadata.Name != "c" || s.Attributes.Labels["io.kubernetes.container.name"] != "c" {
				t.Fatalf("attributes %v", s.Attributes)
			}
			if s.GetCpu().GetUsageCoreNanoSeconds().GetValue() == 0 || s.GetMemory().GetWorkingSetBytes().GetValue() == 0 || s.GetMemory().GetUsageBytes().GetValue() < s.GetMemory().GetWorkingSetBytes().GetValue() {
				return fmt.Errorf("statistics %v", s)
			}
			if !r.isDockershim() {
				return nil
			}
			if rate := s.GetCpu().GetUsageNanoCores().GetValue(); rate < 5e6 || s.GetWritableLayer().GetInodesUsed().GetValue() == 0 {
				return fmt.Errorf("rate %d, writable layer %v", rate, s.WritableLayer)
			}
			return nil
		})
		list, err := r.ListContainerStats(t.Context(), &cri.ListContainerStatsRequest{Filter: &cri.ContainerStatsFilter{PodSandboxId: p.id}})
		if err != nil || len(list.Stats) != 1 || list.Stats[0].Attributes.Id != p.ctr {
			t.Errorf("list %v, %v", list, err)
		}
	}},
	{name: "statistics of a pod, and metrics", only: "dockershim", why: "containerd 1.6 tells less", run: func(t *testing.T, r *runtime) {
		p := r.pod(forever)
		resp, err := r.PodSandboxStats(t.Context(), &cri.PodSandboxStatsRequest{PodSandboxId: p.id})
		if err != nil {
			t.Fatal(err)
		}
		l := resp.Stats.Linux
		if len(l.Containers) != 1 || l.Process.ProcessCount.Value < 2 || l.Network.GetDefaultInterface().GetName() != "eth0" ||
			l.Memory.WorkingSetBytes.Value < l.Containers[0].Memory.WorkingSetBytes.Value || l.Cpu.UsageCoreNanoSeconds.Value < l.Containers[0].Cpu.UsageCoreNanoSeconds.Value {
			t.Errorf("statistics %v", l)
		}
		list, err := r.ListPodSandboxStats(t.Context(), &cri.ListPodSandboxStatsRequest{Filter: &cri.PodSandboxStatsFilter{Id: p.id}})
		if err != nil || len(list.Stats) != 1 {
			t.Errorf("list %v, %v", list, err)
		}
		described, err := r.ListMetricDescriptors(t.Context(), &cri.ListMetricDescriptorsRequest{})
		if err != nil {
			t.Fatal(err)
		}
		keys := map[string]int{}
		for _, d := range described.Descriptors {
			keys[d.Name] = len(d.LabelKeys)
		}
		metrics, err := r.ListPodSandboxMetrics(t.Context(), &cri.ListPodSandboxMetricsRequest{})
		if err != nil {
			t.Fatal(err)
		}
		seen := map[string]bool{}
		for _, m := range metrics.PodMetrics {
			if m.PodSandboxId != p.id {
				continue
			}
			all := m.Metrics
			for _, c := range m.ContainerMetrics {
				all = append(all, c.Metrics...)
			}
			for _, one := range all {
				seen[one.Name] = true
				if n, ok := keys[one.Name]; !ok || n != len(one.LabelValues) {
					t.Errorf("metric %v has no such descriptor", one)
				}
			}
		}
		for _, want := range strings.Fields("container_cpu_usage_seconds_total container_memory_working_set_bytes container_network_receive_bytes_total container_processes") {
			if !seen[want] {
				t.Errorf("no metric %s", want)
			}
		}
	}},
}
