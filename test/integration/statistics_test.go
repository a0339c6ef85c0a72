package integration

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	stats "k8s.io/kubelet/pkg/apis/stats/v1alpha1"

	"github.com/mini-kubelet/mini-kubelet/test/csidriver"
	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

// queried is a metric that somebody queries, and the labels that must not be empty.
type queried struct {
	path, metric string
	labels       []string
}

func facts(t *testing.T, file string) (all []queried) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for l := range strings.Lines(string(text)) {
		if f := strings.Fields(l); len(f) >= 2 && f[0][0] == '/' {
			all = append(all, queried{f[0], f[1], f[2:]})
		}
	}
	if len(all) == 0 {
		t.Fatal("no facts in " + file)
	}
	return all
}

// scrape returns the families of a page of the read-only port.
func scrape(a *harness.Agent, path string) (map[string]*dto.MetricFamily, error) {
	body, err := a.Get(path)
	if err != nil {
		return nil, err
	}
	p := expfmt.NewTextParser(model.LegacyValidation)
	return p.TextToMetricFamilies(bytes.NewReader(body))
}

func labelsOf(m *dto.Metric) map[string]string {
	all := map[string]string{}
	for _, l := range m.Label {
		all[l.GetName()] = l.GetValue()
	}
	return all
}

// answers reports whether a series is what is queried, of that pod.
func (q queried) answers(m *dto.Metric, pod *v1.Pod) bool {
	has := labelsOf(m)
	for _, name := range q.labels {
		if has[name] == "" {
			return false
		}
	}
	return !slices.Contains(q.labels, "pod") || has["pod"] == pod.Name && has["namespace"] == pod.Namespace
}

// TestNothingThatKubePrometheusQueriesIsMissing asks for all that its rules and dashboards
// query of a pod that runs, with a network and limits.
func TestNothingThatKubePrometheusQueriesIsMissing(t *testing.T) {
	a := start(t)
	a.Write("busy.yaml", harness.Pod("busy", "while :; do echo x >/tmp/x; done", func(p *v1.Pod) {
		p.Spec.Containers[0].Resources.Limits = v1.ResourceList{v1.ResourceCPU: resource.MustParse("50m"), v1.ResourceMemory: resource.MustParse("64Mi")}
	}))
	pod := a.WaitRunning("busy")
	wanted := facts(t, "testdata/kube-prometheus.txt")
	if _, err := a.Get("/healthz"); err != nil { // only this is counted in /metrics/slis
		t.Fatal(err)
	}
	harness.Eventually(t, "there is a series for each query", harness.Patience, func() error {
		pages := map[string]map[string]*dto.MetricFamily{}
		var missing []string
		for _, q := range wanted {
			if pages[q.path] == nil {
				page, err := scrape(a, q.path)
				if err != nil {
					return err
				}
				pages[q.path] = page
			}
			if !slices.ContainsFunc(pages[q.path][q.metric].GetMetric(), func(m *dto.Metric) bool { return q.answers(m, pod) }) {
				missing = append(missing, fmt.Sprint(q))
			}
		}
		if len(missing) > 0 {
			return errString("no series for\n" + strings.Join(missing, "\n"))
		}
		return nil
	}, a.Explain)

	page, err := scrape(a, "/metrics/cadvisor")
	if err != nil {
		t.Fatal(err)
	}
	used := map[string]float64{} // CPU time, by cgroup
	for _, m := range page["container_cpu_usage_seconds_total"].GetMetric() {
		l := labelsOf(m)
		used[l["id"]] = m.Counter.GetValue()
		if l["container"] == "c" && l["pod"] == pod.Name && (l["image"] != harness.Busybox || l["cpu"] != "total" || l["name"] != harness.ID(harness.Status(pod, "c").ContainerID)) {
			t.Errorf("labels %v", l)
		}
	}
	for _, id := range []string{"/", a.CgroupRoot() + "/kubepods", a.CgroupRoot() + "/kubepods/burstable"} {
		if _, ok := used[id]; !ok {
			t.Errorf("no CPU time of the cgroup %s: %v", id, used)
		}
	}
	if v := page["container_scrape_error"].GetMetric()[0].Gauge.GetValue(); v != 0 {
		t.Errorf("container_scrape_error %v", v)
	}
	for _, m := range page["container_spec_memory_limit_bytes"].GetMetric() {
		if l := labelsOf(m); l["container"] == "c" && l["pod"] == pod.Name && m.Gauge.GetValue() != 64<<20 {
			t.Errorf("memory limit %v, want 64 MiB", m.Gauge.GetValue())
		}
	}
	a.Remove("busy.yaml")
	a.WaitGone("busy")
	harness.Eventually(t, "a pod that is gone has no metrics", harness.Patience, func() error {
		body, err := a.Get("/metrics/cadvisor")
		if err == nil && strings.Contains(string(body), `pod="`+pod.Name) {
			err = errString("it has")
		}
		return err
	}, a.Explain)
}

// TestTheSummaryIsComplete asks the read-only port for all that a stock node tells of a pod
// with an emptyDir and a claim of a CSI driver that measures.
func TestTheSummaryIsComplete(t *testing.T) {
	a := start(t)
	d, err := csidriver.Start(csidriver.Config{Name: a.Node + ".csi.example", Root: filepath.Join(a.Dir, "root"), Data: filepath.Join(a.Dir, "csi"), Stats: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Stop)
	web := usesClaim("web", "data")
	web.Spec.Volumes = append(web.Spec.Volumes, v1.Volume{Name: "scratch", VolumeSource: v1.VolumeSource{EmptyDir: &v1.EmptyDirVolumeSource{}}})
	a.WriteText("storage.yaml", claimFor("data")+"---\n"+volumeOf("disk", "1Gi", fmt.Sprintf("csi: {driver: %s.csi.example, volumeHandle: vol-1}", a.Node)))
	a.Write("web.yaml", web)
	pod := a.WaitRunning("web")

	var node stats.NodeStats
	harness.Eventually(t, "all of the pod is told", harness.Patience, func() error {
		var s stats.Summary
		if err := getJSON(a, "/stats/summary", &s); err != nil {
			return err
		}
		node = s.Node
		// A page of a busy moment lacks the images' file system.
		if node.Network == nil || node.Fs == nil || *node.Fs.Inodes == 0 || node.Swap == nil || node.Rlimit == nil ||
			node.Runtime == nil || node.Runtime.ImageFs == nil || *node.Runtime.ImageFs.CapacityBytes == 0 || node.Runtime.ContainerFs == nil {
			return fmt.Errorf("node %+v, runtime %+v", node, node.Runtime)
		}
		for _, p := range s.Pods {
			if p.PodRef.UID == string(pod.UID) {
				return complete(p)
			}
		}
		return errString("no such pod")
	}, a.Explain)
	if !slices.ContainsFunc(node.SystemContainers, func(c stats.ContainerStats) bool { return c.Name == "pods" && *c.CPU.UsageCoreNanoSeconds > 0 }) {
		t.Errorf("system containers %+v", node.SystemContainers)
	}

	resp, err := http.PostForm("http://"+a.ReadOnly()+"/stats/summary", url.Values{"only_cpu_and_memory": {"true"}})
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var brief stats.Summary
	if err := json.NewDecoder(resp.Body).Decode(&brief); err != nil || len(brief.Pods) != 1 || brief.Pods[0].CPU == nil || brief.Pods[0].Network != nil || brief.Node.Fs != nil {
		t.Errorf("POST for CPU and memory only: %+v, %v", brief, err)
	}

	metrics, err := scrape(a, "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	if m := metrics["kubelet_volume_stats_used_bytes"].GetMetric(); len(m) != 1 || labelsOf(m[0])["persistentvolumeclaim"] != "data" || m[0].Gauge.GetValue() != 400 {
		t.Errorf("kubelet_volume_stats_used_bytes: %v", m)
	}
	resources, err := scrape(a, "/metrics/resource")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"container_cpu_usage_seconds_total", "pod_memory_working_set_bytes", "pod_swap_usage_bytes", "node_swap_usage_bytes", "container_swap_usage_bytes", "scrape_error", "resource_scrape_error"} {
		if len(resources[name].GetMetric()) == 0 {
			t.Errorf("/metrics/resource has no %s", name)
		}
	}
}

func getJSON(a *harness.Agent, path string, into any) error {
	body, err := a.Get(path)
	if err != nil {
		return err
	}
	return json.Unmarshal(body, into)
}

// complete says what is missing of a pod that has a network, a claim and an emptyDir.
func complete(p stats.PodStats) error {
	if p.CPU == nil || p.Memory == nil || p.Network == nil || len(p.Network.Interfaces) == 0 || p.ProcessStats == nil || p.Swap == nil {
		return fmt.Errorf("pod %+v", p)
	}
	if e := p.EphemeralStorage; e == nil || e.UsedBytes == nil || e.InodesUsed == nil || e.CapacityBytes == nil {
		return fmt.Errorf("ephemeral storage %+v", e)
	}
	if len(p.Containers) != 1 || p.Containers[0].Rootfs == nil || p.Containers[0].Rootfs.InodesUsed == nil || p.Containers[0].Logs == nil || p.Containers[0].Logs.InodesUsed == nil {
		return fmt.Errorf("containers %+v", p.Containers)
	}
	claimed, local := false, false
	for _, v := range p.VolumeStats {
		claimed = claimed || v.Name == "data" && v.PVCRef != nil && v.PVCRef.Name == "data" && *v.UsedBytes == 400 && *v.InodesFree == 99
		local = local || v.Name == "scratch" && v.PVCRef == nil && *v.CapacityBytes > 0
	}
	if !claimed || !local {
		return fmt.Errorf("volumes %+v", p.VolumeStats)
	}
	return nil
}

// told is what one page says of a container.
type told struct {
	cpu     float64 // seconds
	memory  float64 // working set, bytes
	started float64 // Unix seconds
}

// tellOf returns what a page of metrics says of each container of a pod, by its name.
func tellOf(t *testing.T, a *harness.Agent, path string, pod *v1.Pod) map[string]told {
	t.Helper()
	page, err := scrape(a, path)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]told{}
	for family, set := range map[string]func(*told, float64){
		"container_cpu_usage_seconds_total":  func(c *told, v float64) { c.cpu = v },
		"container_memory_working_set_bytes": func(c *told, v float64) { c.memory = v },
		"container_start_time_seconds":       func(c *told, v float64) { c.started = v },
	} {
		for _, m := range page[family].GetMetric() {
			l := labelsOf(m)
			if l["pod"] != pod.Name || l["namespace"] != pod.Namespace || l["container"] == "" {
				continue
			}
			c := all[l["container"]]
			set(&c, m.GetCounter().GetValue()+m.GetGauge().GetValue())
			all[l["container"]] = c
		}
	}
	return all
}

// tellOfSummary is tellOf of /stats/summary; it also returns how many bytes the pod has received.
func tellOfSummary(t *testing.T, a *harness.Agent, pod *v1.Pod) (all map[string]told, received uint64) {
	t.Helper()
	var s stats.Summary
	if err := getJSON(a, "/stats/summary", &s); err != nil {
		t.Fatal(err)
	}
	all = map[string]told{}
	for _, p := range s.Pods {
		if p.PodRef.UID != string(pod.UID) {
			continue
		}
		for _, c := range p.Containers {
			if c.CPU == nil || c.CPU.UsageCoreNanoSeconds == nil || c.Memory == nil || c.Memory.WorkingSetBytes == nil {
				t.Fatalf("container %+v", c)
			}
			all[c.Name] = told{float64(*c.CPU.UsageCoreNanoSeconds) / 1e9, float64(*c.Memory.WorkingSetBytes), float64(c.StartTime.Unix())}
		}
		if p.Network != nil && p.Network.RxBytes != nil {
			received = *p.Network.RxBytes
		}
	}
	return all, received
}

// TestTheThreePagesAgree compares what /stats/summary, /metrics/resource and /metrics/cadvisor say of a pod: the same
// containers, started at the same time, whose CPU time only grows from one reading to the next, and which hold the
// memory that they were given.
func TestTheThreePagesAgree(t *testing.T) {
	a := start(t)
	const held = 24 << 20
	a.Write("two.yaml", harness.Pod("two", "x=$(head -c 25165824 /dev/zero | tr '\\0' x); while :; do sleep 1; done", func(p *v1.Pod) {
		idle := *p.Spec.Containers[0].DeepCopy()
		idle.Name, idle.Command = "idle", []string{"sleep", "1000"}
		p.Spec.Containers = append(p.Spec.Containers, idle)
	}))
	pod := a.WaitRunning("two")
	harness.Eventually(t, "the container holds its memory", harness.Patience, func() error {
		// Each page may be of a second before.
		summary, _ := tellOfSummary(t, a, pod)
		resource, cadvisor := tellOf(t, a, "/metrics/resource", pod), tellOf(t, a, "/metrics/cadvisor", pod)
		if m := min(summary["c"].memory, resource["c"].memory, cadvisor["c"].memory); m < held {
			return errString(fmt.Sprintf("%v bytes", m))
		}
		return nil
	}, a.Explain)

	first, received := tellOfSummary(t, a, pod)
	resource := tellOf(t, a, "/metrics/resource", pod)
	cadvisor := tellOf(t, a, "/metrics/cadvisor", pod)
	var last map[string]told
	harness.Eventually(t, "the summary is read anew", harness.Patience, func() error {
		if last, _ = tellOfSummary(t, a, pod); last["c"].cpu < cadvisor["c"].cpu || last["idle"].cpu < cadvisor["idle"].cpu {
			return errString(fmt.Sprintf("CPU time %v, and %v before", last, cadvisor))
		}
		return nil
	}, a.Explain)
	for _, name := range []string{"c", "idle"} {
		one, two, three := first[name], resource[name], cadvisor[name]
		if one.started == 0 || two.started != one.started || three.started != one.started {
			t.Errorf("%s was started at %v, %v and %v", name, one.started, two.started, three.started)
		}
		// Both are of the runtime's answer, which is good for a second: the second page cannot be older than the first.
		if one.cpu <= 0 || two.cpu < one.cpu {
			t.Errorf("%s has used %v s, and %v s later", name, one.cpu, two.cpu)
		}
		if name == "c" && (one.memory < held || two.memory < held || three.memory < held || max(one.memory, two.memory, three.memory) > 4*held) {
			t.Errorf("%s has %v, %v and %v bytes, and holds %d", name, one.memory, two.memory, three.memory, held)
		}
	}
	if len(first) != 2 || len(resource) != 2 || len(cadvisor) != 2 {
		t.Errorf("containers: %v, %v, %v", first, resource, cadvisor)
	}
	// The page may be of a second before.
	harness.Eventually(t, "the page has what the pod had received", harness.Patience, func() error {
		page, err := scrape(a, "/metrics/cadvisor")
		if err != nil {
			return err
		}
		seen := uint64(0)
		for _, m := range page["container_network_receive_bytes_total"].GetMetric() {
			if l := labelsOf(m); l["pod"] == pod.Name && l["interface"] == "eth0" {
				seen = uint64(m.GetCounter().GetValue())
			}
		}
		if seen < received {
			return errString(fmt.Sprintf("%d bytes, and %d before", seen, received))
		}
		return nil
	}, a.Explain)
}
