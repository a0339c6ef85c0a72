package stats

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/grpc"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
)

type runtimeStats struct {
	list []*cri.PodSandboxStats
	err  error
}

func (r runtimeStats) ListPodSandboxStats(context.Context, *cri.ListPodSandboxStatsRequest, ...grpc.CallOption) (*cri.ListPodSandboxStatsResponse, error) {
	return &cri.ListPodSandboxStatsResponse{Stats: r.list}, r.err
}

func number(n uint64) *cri.UInt64Value { return &cri.UInt64Value{Value: n} }

// sandbox belongs to a pod with two containers, "b" before "a"; "gone" has ended.
func sandbox(uid string) *cri.PodSandboxStats {
	c := func(name string, cpu, memory uint64) *cri.ContainerStats {
		return &cri.ContainerStats{
			Attributes: &cri.ContainerAttributes{Metadata: &cri.ContainerMetadata{Name: name}},
			Cpu:        &cri.CpuUsage{Timestamp: 1e9, UsageCoreNanoSeconds: number(cpu)},
			Memory:     &cri.MemoryUsage{Timestamp: 1e9, WorkingSetBytes: number(memory)},
		}
	}
	return &cri.PodSandboxStats{
		Attributes: &cri.PodSandboxAttributes{Labels: map[string]string{pods.LabelPodName: "p", pods.LabelPodNamespace: "n", pods.LabelPodUID: uid}},
		Linux: &cri.LinuxPodSandboxStats{Containers: []*cri.ContainerStats{
			c("b", 2e9, 200), c("a", 1e9, 100), {Attributes: &cri.ContainerAttributes{Metadata: &cri.ContainerMetadata{Name: "gone"}}},
		}},
	}
}

func source(t *testing.T, r Runtime) *Source {
	t.Helper()
	s, err := New(Config{
		Runtime: r, Node: "n1", Root: t.TempDir(),
		Pod: func(uid types.UID) (*v1.Pod, bool) { return &v1.Pod{}, uid == "1" },
		Status: func(types.UID) (v1.PodStatus, bool) {
			return v1.PodStatus{ContainerStatuses: []v1.ContainerStatus{{Name: "a", State: v1.ContainerState{Running: &v1.ContainerStateRunning{StartedAt: metav1.Unix(7, 0)}}}}}, true
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSummaryIsOfThePodsOfThisNode(t *testing.T) {
	s, err := source(t, runtimeStats{list: []*cri.PodSandboxStats{sandbox("1"), sandbox("of another")}}).Summary(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Pods) != 1 || s.Pods[0].PodRef.UID != "1" || len(s.Pods[0].Containers) != 2 || s.Pods[0].Containers[0].Name != "a" {
		t.Fatalf("pods: %+v", s.Pods)
	}
	// The runtime does not report the pod as a whole: it is the sum.
	if p := s.Pods[0]; *p.CPU.UsageCoreNanoSeconds != 3e9 || *p.Memory.WorkingSetBytes != 300 {
		t.Errorf("pod: cpu %d, memory %d", *p.CPU.UsageCoreNanoSeconds, *p.Memory.WorkingSetBytes)
	}
	if s.Node.NodeName != "n1" || s.Node.Memory == nil || *s.Node.Memory.WorkingSetBytes == 0 || s.Node.Fs == nil || *s.Node.Fs.CapacityBytes == 0 || s.Node.Rlimit == nil {
		t.Errorf("node: %+v", s.Node)
	}
}

func TestMetricsOfResources(t *testing.T) {
	g, err := source(t, runtimeStats{list: []*cri.PodSandboxStats{sandbox("1")}}).Metrics()
	if err != nil {
		t.Fatal(err)
	}
	want := `# HELP container_cpu_usage_seconds_total Cumulative cpu time consumed by the container in core-seconds
# TYPE container_cpu_usage_seconds_total counter
container_cpu_usage_seconds_total{container="a",namespace="n",pod="p"} 1 1000
container_cpu_usage_seconds_total{container="b",namespace="n",pod="p"} 2 1000
# HELP container_start_time_seconds Start time of the container since unix epoch in seconds
# TYPE container_start_time_seconds gauge
container_start_time_seconds{container="a",namespace="n",pod="p"} 7
# HELP pod_memory_working_set_bytes Current working set of the pod in bytes
# TYPE pod_memory_working_set_bytes gauge
pod_memory_working_set_bytes{namespace="n",pod="p"} 300 1000
# HELP resource_scrape_error 1 if there was an error while getting container metrics, 0 otherwise
# TYPE resource_scrape_error gauge
resource_scrape_error 0
`
	if err := testutil.GatherAndCompare(g, strings.NewReader(want), "container_cpu_usage_seconds_total", "container_start_time_seconds", "pod_memory_working_set_bytes", "resource_scrape_error"); err != nil {
		t.Error(err)
	}
}

func TestARuntimeThatDoesNotAnswerIsTold(t *testing.T) {
	s := source(t, runtimeStats{err: errors.New("no answer")})
	if _, err := s.Summary(t.Context(), true); err == nil {
		t.Error("Summary without the runtime")
	}
	g, err := s.Metrics()
	if err != nil {
		t.Fatal(err)
	}
	want := "# HELP resource_scrape_error 1 if there was an error while getting container metrics, 0 otherwise\n# TYPE resource_scrape_error gauge\nresource_scrape_error 1\n"
	if err := testutil.GatherAndCompare(g, strings.NewReader(want)); err != nil {
		t.Error(err)
	}
}

func TestCPUTimeOfBothCgroupVersions(t *testing.T) {
	for name, tt := range map[string]struct{ file, text string }{
		"v1": {"cpuacct/cpuacct.usage", "5000000000\n"},
		"v2": {"cpu.stat", "usage_usec 5000000\nuser_usec 1\n"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, tt.file)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(tt.text), 0o644); err != nil {
				t.Fatal(err)
			}
			r := newNodeReader(dir, dir)
			now := time.Now()
			if s := r.cpu(now); s == nil || *s.UsageCoreNanoSeconds != 5e9 || s.UsageNanoCores != nil {
				t.Fatalf("first look: %+v", s)
			}
			if err := os.WriteFile(path, []byte(strings.ReplaceAll(tt.text, "5", "6")), 0o644); err != nil {
				t.Fatal(err)
			}
			if s := r.cpu(now.Add(2 * time.Second)); s.UsageNanoCores == nil || *s.UsageNanoCores != 5e8 {
				t.Errorf("second look: %+v", s)
			}
		})
	}
}
