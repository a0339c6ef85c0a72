package stats

import (
	"runtime"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
)

// Self returns the metrics that say which node this is and what runs on it: the version is that
// of the kubelet that the agent replaces, such as v1.37.2.
func Self(node, version string) []prometheus.Collector {
	constant := func(name, help string, labels prometheus.Labels) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help, ConstLabels: labels}, func() float64 { return 1 })
	}
	major, rest, _ := strings.Cut(strings.TrimPrefix(version, "v"), ".")
	minor, _, _ := strings.Cut(rest, ".")
	return []prometheus.Collector{
		constant("kubelet_node_name", "The node's name. The count is always 1.", prometheus.Labels{"node": node}),
		constant("kubernetes_build_info", "A metric with a constant '1' value labeled by major, minor, git version, git commit, git tree state, build date, Go version, and compiler from which Kubernetes was built, and platform on which it is running.",
			prometheus.Labels{
				"major": major, "minor": minor, "git_version": version, "git_commit": "", "git_tree_state": "", "build_date": "",
				"go_version": runtime.Version(), "compiler": runtime.Compiler, "platform": runtime.GOOS + "/" + runtime.GOARCH,
			}),
	}
}
