package integration

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

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
		if used[id] == 0 {
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
