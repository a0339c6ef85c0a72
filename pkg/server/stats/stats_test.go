package stats

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/grpc"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
	stats "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
	"k8s.io/utils/ptr"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/diskusage"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
	"github.com/mini-kubelet/mini-kubelet/test/testrun"
)

type runtimeStats struct {
	list []*cri.PodSandboxStats
	err  error
}

func (r runtimeStats) ListPodSandboxStats(context.Context, *cri.ListPodSandboxStatsRequest, ...grpc.CallOption) (*cri.ListPodSandboxStatsResponse, error) {
	return &cri.ListPodSandboxStatsResponse{Stats: r.list}, r.err
}

func (r runtimeStats) ImageFsInfo(context.Context, *cri.ImageFsInfoRequest, ...grpc.CallOption) (*cri.ImageFsInfoResponse, error) {
	one := &cri.FilesystemUsage{Timestamp: 1e9, FsId: &cri.FilesystemIdentifier{Mountpoint: "/"}, UsedBytes: number(77), InodesUsed: number(7)}
	return &cri.ImageFsInfoResponse{ImageFilesystems: []*cri.FilesystemUsage{one}}, r.err
}

type volumes struct{ hosts string }

func (v volumes) HostsPath(types.UID) (string, error) { return v.hosts, nil }

func (volumes) Space(_ context.Context, _ *v1.Pod, name string) (diskusage.Space, error) {
	if name == "unknown" {
		return diskusage.Space{}, errors.New("the disk is made of cheese")
	}
	return diskusage.Space{At: time.Unix(1, 0), Used: ptr.To[uint64](1000), Capacity: ptr.To[uint64](5000), InodesUsed: ptr.To[uint64](10)}, nil
}

func number(n uint64) *cri.UInt64Value { return &cri.UInt64Value{Value: n} }

// sandbox belongs to a pod with two containers, "b" before "a"; "gone" has ended.
func sandbox(uid string) *cri.PodSandboxStats {
	c := func(name string, cpu, memory uint64) *cri.ContainerStats {
		return &cri.ContainerStats{
			Attributes: &cri.ContainerAttributes{Metadata: &cri.ContainerMetadata{Name: name}},
			Cpu:        &cri.CpuUsage{Timestamp: 1e9, UsageCoreNanoSeconds: number(cpu)},
			Memory:     &cri.MemoryUsage{Timestamp: 1e9, WorkingSetBytes: number(memory)},
			Swap:       &cri.SwapUsage{Timestamp: 1e9, SwapUsageBytes: number(3), SwapAvailableBytes: number(4)},
			WritableLayer: &cri.FilesystemUsage{
				Timestamp: 1e9, FsId: &cri.FilesystemIdentifier{Mountpoint: "/"}, UsedBytes: number(100), InodesUsed: number(1),
			},
		}
	}
	return &cri.PodSandboxStats{
		Attributes: &cri.PodSandboxAttributes{Labels: map[string]string{pods.LabelPodName: "p", pods.LabelPodNamespace: "n", pods.LabelPodUID: uid}},
		Linux: &cri.LinuxPodSandboxStats{Containers: []*cri.ContainerStats{
			c("b", 2e9, 200), c("a", 1e9, 100), {Attributes: &cri.ContainerAttributes{Metadata: &cri.ContainerMetadata{Name: "gone"}}},
		}},
	}
}

// somePod has a claim, a hostPath, an emptyDir, and a volume that cannot be measured.
func somePod() *v1.Pod {
	v := func(name string, s v1.VolumeSource) v1.Volume { return v1.Volume{Name: name, VolumeSource: s} }
	return &v1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "n", UID: "1"}, Spec: v1.PodSpec{Volumes: []v1.Volume{
		v("data", v1.VolumeSource{PersistentVolumeClaim: &v1.PersistentVolumeClaimVolumeSource{ClaimName: "claim"}}), v("scratch", v1.VolumeSource{EmptyDir: &v1.EmptyDirVolumeSource{}}),
		v("host", v1.VolumeSource{HostPath: &v1.HostPathVolumeSource{}}), v("unknown", v1.VolumeSource{EmptyDir: &v1.EmptyDirVolumeSource{}}),
	}}}
}

func source(t *testing.T, r Runtime) *Source {
	t.Helper()
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "logs", "a"), 0o755); err != nil {
		t.Fatal(err)
	}
	s, err := New(Config{
		Runtime: r, Node: "n1", Root: dir, Volumes: volumes{filepath.Join(dir, "logs")}, VolumePeriod: time.Minute, System: map[string]string{"pods": "/", "gone": "/there/is/none"},
		LogDir: func(*v1.Pod) string { return filepath.Join(dir, "logs") },
		Pod:    func(uid types.UID) (*v1.Pod, bool) { return somePod(), uid == "1" },
		Status: func(types.UID) (v1.PodStatus, bool) {
			return v1.PodStatus{ContainerStatuses: []v1.ContainerStatus{{Name: "a", State: v1.ContainerState{Running: &v1.ContainerStateRunning{StartedAt: metav1.Unix(7, 0)}}}}}, true
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	testrun.Start(t, s.Measure)
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
# HELP scrape_error (Deprecated since 1.29.0) 1 if there was an error while getting container metrics, 0 otherwise
# TYPE scrape_error gauge
scrape_error 0
# HELP container_swap_limit_bytes Current amount of the container swap limit in bytes. Reported only on non-windows systems
# TYPE container_swap_limit_bytes gauge
container_swap_limit_bytes{container="a",namespace="n",pod="p"} 7 1000
container_swap_limit_bytes{container="b",namespace="n",pod="p"} 7 1000
# HELP pod_swap_usage_bytes Current amount of the pod swap usage in bytes. Reported only on non-windows systems
# TYPE pod_swap_usage_bytes gauge
pod_swap_usage_bytes{namespace="n",pod="p"} 6 1000
`
	if err := testutil.GatherAndCompare(g, strings.NewReader(want), "container_cpu_usage_seconds_total", "container_start_time_seconds", "pod_memory_working_set_bytes", "resource_scrape_error",
		"scrape_error", "container_swap_limit_bytes", "pod_swap_usage_bytes"); err != nil {
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
	if err := testutil.GatherAndCompare(g, strings.NewReader(want), "resource_scrape_error"); err != nil {
		t.Error(err)
	}
}

func TestRates(t *testing.T) {
	r := nodeReader{rates: map[string]sample{}}
	now := time.Now()
	for _, step := range []struct {
		used  uint64
		after time.Duration
		want  *uint64
	}{
		{used: 5e9}, {used: 6e9, after: 2 * time.Second, want: ptr.To[uint64](5e8)}, {used: 7e9, after: time.Millisecond, want: ptr.To[uint64](5e8)},
		{used: 1, after: time.Second}, {used: 1, after: time.Second, want: ptr.To[uint64](0)},
	} {
		now = now.Add(step.after)
		if s := r.cpu("/a", step.used, now); *s.UsageCoreNanoSeconds != step.used || !ptr.Equal(s.UsageNanoCores, step.want) {
			t.Errorf("%+v: %+v", step, s)
		}
	}
}

func TestWhatAPodOccupies(t *testing.T) {
	src := source(t, runtimeStats{list: []*cri.PodSandboxStats{sandbox("1")}})
	var p stats.PodStats
	var node stats.NodeStats
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) { // until the background has measured it
		s, err := src.Summary(t.Context(), false)
		if err != nil {
			t.Fatal(err)
		}
		p, node = s.Pods[0], s.Node
		measured := len(p.VolumeStats) == 2 && p.Containers[0].Logs != nil && p.Containers[1].Logs != nil
		if measured && node.Runtime != nil || time.Now().After(deadline) { // on a busy machine, even the sum of the images may be late
			break
		}
	}
	if len(p.VolumeStats) != 2 || p.VolumeStats[0].Name != "data" || p.VolumeStats[0].PVCRef == nil || p.VolumeStats[0].PVCRef.Name != "claim" || p.VolumeStats[1].PVCRef != nil {
		t.Fatalf("volumes %+v", p.VolumeStats)
	}
	if v := p.VolumeStats[0]; *v.UsedBytes != 1000 || *v.CapacityBytes != 5000 || *v.Inodes != 0 {
		t.Errorf("volume %+v", v)
	}
	if l := p.Containers[0].Logs; l == nil || *l.InodesUsed != 1 || *l.CapacityBytes == 0 {
		t.Errorf("logs %+v", l)
	}
	if r := p.Containers[0].Rootfs; *r.UsedBytes != 100 || *r.InodesUsed != 1 || *r.CapacityBytes == 0 || *r.InodesFree == 0 {
		t.Errorf("root file system %+v", r)
	}
	// Two layers, the emptyDir, the logs of one and perhaps the hosts file.
	if e := p.EphemeralStorage; e == nil || *e.UsedBytes < 1200 || *e.InodesUsed < 13 || *e.CapacityBytes == 0 {
		t.Errorf("ephemeral storage %+v", e)
	}
	if p.Swap == nil || *p.Swap.SwapUsageBytes != 6 || *p.Swap.SwapAvailableBytes != 8 {
		t.Errorf("swap %+v", p.Swap)
	}
	if node.Runtime == nil || *node.Runtime.ImageFs.UsedBytes != 77 || *node.Runtime.ContainerFs.CapacityBytes == 0 || node.Swap == nil || node.Network == nil {
		t.Errorf("node %+v", node)
	}
	if len(node.SystemContainers) != 1 || node.SystemContainers[0].Name != "pods" || *node.SystemContainers[0].CPU.UsageCoreNanoSeconds == 0 {
		t.Errorf("system containers %+v", node.SystemContainers)
	}
}

func TestMetricsOfClaims(t *testing.T) {
	s := source(t, runtimeStats{})
	s.cfg.Status = func(types.UID) (v1.PodStatus, bool) { return v1.PodStatus{Phase: v1.PodRunning}, true }
	r := prometheus.NewPedanticRegistry()
	r.MustRegister(s.Volumes(func() []*v1.Pod { return []*v1.Pod{somePod(), somePod()} }))
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if n, err := testutil.GatherAndCount(r); err != nil || n > 0 {
			break
		}
	}
	want := `# HELP kubelet_volume_stats_capacity_bytes Capacity in bytes of the volume
# TYPE kubelet_volume_stats_capacity_bytes gauge
kubelet_volume_stats_capacity_bytes{namespace="n",persistentvolumeclaim="claim"} 5000
# HELP kubelet_volume_stats_used_bytes Number of used bytes in the volume
# TYPE kubelet_volume_stats_used_bytes gauge
kubelet_volume_stats_used_bytes{namespace="n",persistentvolumeclaim="claim"} 1000
`
	if err := testutil.GatherAndCompare(r, strings.NewReader(want), "kubelet_volume_stats_capacity_bytes", "kubelet_volume_stats_used_bytes"); err != nil {
		t.Error(err)
	}
}
