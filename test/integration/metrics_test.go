package integration

import (
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	v1 "k8s.io/api/core/v1"

	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

// TestTheKubeletsMetricsAreThere has each event happen that the kubelet counts, and compares names, types and
// labels with the kubelet's, and some values with what has happened.
func TestTheKubeletsMetricsAreThere(t *testing.T) {
	a := start(t)
	registry := harness.StartRegistry(t)
	gone := harness.Pod("gone", "sleep 1000")
	a.Write("gone.yaml", gone)
	a.WaitRunning("gone")
	a.Write("works.yaml", harness.Pod("works", "echo x; trap 'exit 0' TERM; while :; do sleep 1; done", func(p *v1.Pod) {
		init := *p.Spec.Containers[0].DeepCopy()
		init.Name, init.Command = "init", []string{"true"}
		p.Spec.InitContainers = []v1.Container{init}
		p.Spec.Volumes = []v1.Volume{{Name: "scratch", VolumeSource: v1.VolumeSource{EmptyDir: &v1.EmptyDirVolumeSource{}}}}
		p.Spec.Containers[0].VolumeMounts = []v1.VolumeMount{{Name: "scratch", MountPath: "/scratch"}}
	}))
	a.Write("fails.yaml", harness.Pod("fails", "exit 3"))
	a.Write("pulls.yaml", harness.Pod("pulls", "sleep 1000", func(p *v1.Pod) { p.Spec.Containers[0].Image = registry.Push(t, "test/metrics", "1") }))
	a.Write("missing.yaml", harness.Pod("missing", "sleep 1000", func(p *v1.Pod) {
		p.Spec.Containers[0].ImagePullPolicy = v1.PullNever
		p.Spec.Containers[0].Image = "nobody/has:this"
	}))
	a.Write("rejected.yaml", harness.Pod("rejected", "sleep 1000", func(p *v1.Pod) { p.Spec.NodeSelector = map[string]string{"no": "where"} }))
	taken, err := net.Listen("tcp4", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	a.Write("taken.yaml", harness.Pod("taken", "sleep 1000", func(p *v1.Pod) {
		port := int32(taken.Addr().(*net.TCPAddr).Port)
		p.Spec.Containers[0].Ports = []v1.ContainerPort{{ContainerPort: port, HostPort: port}}
	}))
	a.WaitRunning("works")
	a.WaitRunning("pulls")
	a.WaitPhase("rejected", v1.PodFailed)
	a.WaitPod("fails", "has restarted", func(p *v1.Pod) bool { return harness.Status(p, "c").RestartCount > 0 })
	a.Remove("gone.yaml")
	a.WaitGone("gone")

	wanted := kubeletFamilies(t)
	var page map[string]*dto.MetricFamily
	harness.Eventually(t, "each family is as the kubelet's", harness.Patience, func() error {
		var err error
		if page, err = scrape(a, "/metrics"); err != nil {
			return err
		}
		var wrong []string
		for _, w := range wanted {
			if got := shape(page[w.name]); got != w {
				wrong = append(wrong, fmt.Sprintf("%v, want %v", got, w))
			}
		}
		if len(wrong) > 0 {
			return errString("not as the kubelet's:\n" + strings.Join(wrong, "\n"))
		}
		return nil
	}, a.Explain)

	for _, v := range []struct {
		family, labels string
		least, most    float64
	}{
		{"kubelet_started_pods_total", "", 4, 100}, // gone, works, fails, pulls
		{"kubelet_started_containers_total", "container_type=init_container", 1, 1},
		{"kubelet_terminated_containers_total", "container_type=container exit_code=3 reason=Error", 1, 1000},
		{"kubelet_terminated_containers_total", "container_type=init_container exit_code=0 reason=Completed", 1, 1},
		{"kubelet_started_containers_errors_total", "code=ErrImageNeverPull container_type=container", 1, 1000},
		{"kubelet_image_pull_duration_seconds", "image_size_in_bytes=0-10MB", 1, 1},
		{"kubelet_admission_rejections_total", "reason=Other", 1, 10},
		{"kubelet_orphaned_runtime_pods_total", "", 0, 0},
		{"kubelet_managed_ephemeral_containers", "", 0, 0},
		{"volume_manager_total_volumes", "plugin_name=kubernetes.io/empty-dir state=actual_state_of_world", 1, 1},
		{"volume_manager_total_volumes", "plugin_name=kubernetes.io/empty-dir state=desired_state_of_world", 1, 1},
		{"storage_operation_duration_seconds", "migrated=false operation_name=volume_mount status=success volume_plugin=kubernetes.io/empty-dir", 1, 1},
		{"kubelet_pleg_last_seen_seconds", "", float64(time.Now().Add(-time.Minute).Unix()), float64(time.Now().Add(time.Minute).Unix())},
		{"kubelet_http_inflight_requests", "long_running=false method=GET path=metrics server_type=readonly", 1, 1},
	} {
		if got, ok := series(page[v.family], v.labels); !ok || got < v.least || got > v.most {
			t.Errorf("%s{%s} is %v (there: %v), want %v to %v", v.family, v.labels, got, ok, v.least, v.most)
		}
	}
}

// family is what those who query a metric rely on.
type family struct{ name, kind, labels string }

func kubeletFamilies(t *testing.T) (all []family) {
	t.Helper()
	text, err := os.ReadFile("testdata/kubelet-metrics.txt")
	if err != nil {
		t.Fatal(err)
	}
	for l := range strings.Lines(string(text)) {
		if f := strings.Fields(l); len(f) >= 2 && f[0] != "#" {
			all = append(all, family{f[0], f[1], strings.Join(f[2:], " ")})
		}
	}
	return all
}

func shape(f *dto.MetricFamily) family {
	s := family{name: f.GetName(), kind: strings.ToLower(f.GetType().String())}
	for _, m := range f.GetMetric() {
		var names []string
		for _, l := range m.Label {
			names = append(names, l.GetName())
		}
		slices.Sort(names)
		s.labels = strings.Join(names, " ")
	}
	return s
}

// series returns the value of a family's series with those labels; of a histogram, how many were counted.
func series(f *dto.MetricFamily, labels string) (float64, bool) {
	for _, m := range f.GetMetric() {
		var all []string
		for _, l := range m.Label {
			all = append(all, l.GetName()+"="+l.GetValue())
		}
		slices.Sort(all)
		if strings.Join(all, " ") == labels {
			return m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount()), true
		}
	}
	return 0, false
}
