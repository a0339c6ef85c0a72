package cadvisor

import (
	"context"
	"fmt"
	"strings"
	"time"

	dto "github.com/prometheus/client_model/go"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// addFromRuntime adds what the runtime tells of containers whose cgroups are not known.
func (s *Source) addFromRuntime(ctx context.Context, p *page, unknown []subject) error {
	described, err := s.cfg.Runtime.ListMetricDescriptors(ctx, &cri.ListMetricDescriptorsRequest{})
	if err != nil {
		return fmt.Errorf("ask the runtime which metrics it has: %w", err)
	}
	list, err := s.cfg.Runtime.ListPodSandboxMetrics(ctx, &cri.ListPodSandboxMetricsRequest{})
	if err != nil {
		return fmt.Errorf("ask the runtime for its metrics: %w", err)
	}
	p.addCRI(described.Descriptors, list.PodMetrics, unknown)
	return nil
}

// addCRI adds the metrics of the subjects. Labels that all series have are filled in by who the
// subject is; of a family that we know, its other labels are ours as well.
func (p *page) addCRI(described []*cri.MetricDescriptor, list []*cri.PodSandboxMetrics, of []subject) {
	byName := map[string]*cri.MetricDescriptor{}
	for _, d := range described {
		if isName(d.Name) && strings.HasPrefix(d.Name, "container_") {
			byName[d.Name] = d
		}
	}
	known := map[string]*family{}
	for i := range families {
		known[families[i].name] = &families[i]
	}
	byID := map[string]subject{}
	for _, s := range of {
		byID[s.name] = s
	}
	add := func(id string, metrics []*cri.Metric) {
		who, ok := byID[id]
		if !ok {
			return
		}
		for _, m := range metrics {
			d := byName[m.Name]
			if d == nil || m.Value == nil || len(d.LabelKeys) != len(m.LabelValues) {
				continue
			}
			p.addOne(d, m, who.labels, known[m.Name])
		}
	}
	for _, pod := range list {
		add(pod.PodSandboxId, pod.Metrics)
		for _, c := range pod.ContainerMetrics {
			add(c.ContainerId, c.Metrics)
		}
	}
}

func (p *page) addOne(d *cri.MetricDescriptor, m *cri.Metric, who labels, f *family) {
	told := map[string]string{}
	for i, key := range d.LabelKeys {
		told[key] = m.LabelValues[i]
	}
	if who.id = told["id"]; !strings.HasPrefix(who.id, "/") {
		who.id = "/" + who.name
	}
	help, kind := d.Help, dto.MetricType_GAUGE
	if m.MetricType == cri.MetricType_COUNTER {
		kind = counter
	}
	var names, values []string
	if f != nil {
		names, help, kind = f.extra, f.help, f.kind
	} else {
		for _, key := range d.LabelKeys {
			if !isBase(key) && isName(key) {
				names = append(names, key)
			}
		}
	}
	for _, name := range names {
		value := told[name]
		if name == "cpu" && value == "" {
			value = "total"
		}
		values = append(values, value)
	}
	var at time.Time
	if m.Timestamp > 0 {
		at = time.Unix(0, m.Timestamp)
	}
	p.put(m.Name, help, kind, float64(m.Value.Value), at, withExtra(who.pairs(), names, values))
}

func isBase(label string) bool {
	switch label {
	case "container", "id", "image", "name", "namespace", "pod":
		return true
	}
	return false
}

// isName reports whether Prometheus takes it as a name of metrics and labels.
func isName(s string) bool {
	for i, c := range s {
		if c != '_' && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return s != "" && len(s) <= 200
}
