package e2e

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	stats "k8s.io/kubelet/pkg/apis/stats/v1alpha1"

	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

// TestUsageIsServed asks as metrics-server does, through the API server's proxy.
func TestUsageIsServed(t *testing.T) {
	n, ns := join(t)
	n.Create(ns, harness.Pod("busy", "while true; do true; done", quick))
	n.AwaitReady(ns, "busy")
	proxy := "/api/v1/nodes/" + n.Node() + "/proxy"
	harness.Eventually(t, "the pod's CPU time is shown", harness.Patience, func() error {
		out := n.MustKubectl("", "get", "--raw", proxy+"/metrics/resource")
		for _, want := range []string{`container_cpu_usage_seconds_total{container="c",namespace="` + ns + `",pod="busy"}`, "node_memory_working_set_bytes", "resource_scrape_error 0"} {
			if !strings.Contains(out, want) {
				return errors.New("no " + want + " in:\n" + out)
			}
		}
		return nil
	}, n.Explain)
	var s stats.Summary
	if err := json.Unmarshal([]byte(n.MustKubectl("", "get", "--raw", proxy+"/stats/summary")), &s); err != nil {
		t.Fatal(err)
	}
	for _, p := range s.Pods {
		if p.PodRef.Namespace == ns && len(p.Containers) == 1 && p.Containers[0].CPU != nil && *p.Containers[0].CPU.UsageCoreNanoSeconds > 0 && *p.Memory.WorkingSetBytes > 0 {
			return
		}
	}
	t.Errorf("the summary has no use of the pod: %+v", s.Pods)
}
