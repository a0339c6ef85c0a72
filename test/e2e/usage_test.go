package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
	stats "k8s.io/kubelet/pkg/apis/stats/v1alpha1"

	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

// TestUsageIsServed asks as metrics-server does, through the API server's proxy.
func TestUsageIsServed(t *testing.T) {
	n, ns := join(t)
	n.Create(ns, harness.Pod("busy", "while true; do true; done", quick, func(p *v1.Pod) {
		first := p.Spec.Containers[0]
		first.Name, first.Command = "first", []string{"sleep", "2"}
		p.Spec.InitContainers = []v1.Container{first}
		p.Spec.Containers[0].ReadinessProbe = &v1.Probe{ProbeHandler: v1.ProbeHandler{Exec: &v1.ExecAction{Command: []string{"true"}}}}
	}))
	busy := n.AwaitReady(ns, "busy")
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
	for path, wanted := range map[string][]string{
		"/metrics/cadvisor": {`container_memory_working_set_bytes{container="c",id="/`, `namespace="` + ns + `",pod="busy"}`},
		"/metrics": {
			`rest_client_requests_total{code="200",`, "rest_client_request_duration_seconds_bucket{", "kubelet_certificate_manager_client_ttl_seconds ",
			"kubelet_certificate_manager_server_ttl_seconds ", "kubelet_certificate_manager_client_expiration_renew_errors 0", `kubelet_node_name{node="` + n.Node() + `"} 1`,
		},
		"/metrics/slis": {},
	} {
		out := n.MustKubectl("", "get", "--raw", proxy+path)
		for _, want := range wanted {
			if !strings.Contains(out, want) {
				t.Errorf("%s has no %s", path, want)
			}
		}
	}
	probes := func() string { return n.MustKubectl("", "get", "--raw", proxy+"/metrics/probes") }
	if out, want := probes(), fmt.Sprintf(`prober_probe_total{container="c",namespace=%q,pod="busy",pod_uid=%q,probe_type="Readiness",result="successful"}`, ns, busy.UID); !strings.Contains(out, want) {
		t.Errorf("no %s in:\n%s", want, out)
	}
	// The two seconds of the init container are the pod's own, and no latency of the node's.
	const total, sli = "kubelet_pod_start_total_duration_seconds_", "kubelet_pod_start_sli_duration_seconds_"
	startup := []string{"kubelet_node_startup_duration_seconds", "kubelet_node_startup_pre_kubelet_duration_seconds", "kubelet_node_startup_registration_duration_seconds"}
	value := func(name string) float64 { return sample(t, n.MustKubectl("", "get", "--raw", proxy+"/metrics"), name) }
	measured := func() {
		t.Helper()
		harness.Eventually(t, "the start of one pod has been measured", harness.Patience, func() error {
			if all, own := value(total+"count"), value(sli+"count"); all != 1 || own != 1 {
				return fmt.Errorf("%v pods have started, %v of them measured without what they wait for", all, own)
			}
			return nil
		}, n.Explain)
	}
	measured()
	if value(total+"sum")-value(sli+"sum") < 1 || value("kubelet_first_network_pod_start_sli_duration_seconds") == 0 {
		t.Errorf("the pod's start took %v s, of which %v s were the node's", value(total+"sum"), value(sli+"sum"))
	}
	for _, name := range startup {
		if value(name) == 0 {
			t.Errorf("%s is 0 of a node that this agent has registered", name)
		}
	}
	var s stats.Summary
	if err := json.Unmarshal([]byte(n.MustKubectl("", "get", "--raw", proxy+"/stats/summary")), &s); err != nil {
		t.Fatal(err)
	}
	used := false
	for _, p := range s.Pods {
		if p.PodRef.Namespace == ns && len(p.Containers) == 1 && p.Containers[0].CPU != nil && *p.Containers[0].CPU.UsageCoreNanoSeconds > 0 && *p.Memory.WorkingSetBytes > 0 {
			used = true
		}
	}
	if !used {
		t.Errorf("the summary has no use of the pod: %+v", s.Pods)
	}
	n.MustKubectl(ns, "delete", "pod", "busy")
	harness.Eventually(t, "a pod that is gone has no metrics", harness.Patience, func() error {
		if out := probes(); strings.Contains(out, "busy") {
			return errors.New(out)
		}
		return nil
	}, n.Explain)
	// What has started before is no start of the next agent's.
	n.Kill()
	n.Start()
	n.Create(ns, harness.Pod("next", "sleep 1000", quick))
	n.AwaitReady(ns, "next")
	measured()
	for _, name := range startup {
		if got := value(name); got != 0 {
			t.Errorf("%s is %v of a node that had been registered", name, got)
		}
	}
}

// sample is the value of the one series of that name on a page of metrics.
func sample(t *testing.T, page, name string) float64 {
	t.Helper()
	for line := range strings.Lines(page) {
		if rest, ok := strings.CutPrefix(line, name+" "); ok {
			value, err := strconv.ParseFloat(strings.TrimSpace(rest), 64)
			if err != nil {
				t.Fatal(err)
			}
			return value
		}
	}
	t.Fatalf("no %s on the page", name)
	return 0
}
