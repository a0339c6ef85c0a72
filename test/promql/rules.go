package main

import "fmt"

// kind says what is expected of a rule on a healthy node.
type kind string

const (
	record kind = "record" // has a value
	alert  kind = "alert"  // is empty, but nothing that it looks at is
	panel  kind = "panel"  // has a value
)

// rule is a query of kube-prometheus.
type rule struct {
	kind kind
	name string
	expr string
	// quantile is the label that the recorded series get; "": none.
	quantile string
	// silent are the selectors in expr that find nothing as long as nothing is wrong.
	silent []string
	// joined: without its thresholds the alert has a value even then.
	joined bool
}

// How the ServiceMonitor of kube-prometheus has the endpoints labelled.
const (
	agent    = `job="kubelet", metrics_path="/metrics"`
	cadvisor = `job="kubelet", metrics_path="/metrics/cadvisor"`
	state    = `job="kube-state-metrics"`
)

// rules are put together from facts: which metrics the rules and dashboards of kube-prometheus
// select by which labels, by what they group and join, and where their thresholds are. Facts from
//
//	github.com/prometheus-operator/kube-prometheus (Apache-2.0)
//	  047d5049 manifests/kubernetesControlPlane-prometheusRule.yaml
//	  6298c1bd manifests/kubernetesControlPlane-serviceMonitorKubelet.yaml
//	github.com/kubernetes-monitoring/kubernetes-mixin (Apache-2.0)
//	  03a94e91 rules/apps.libsonnet, rules/kubelet.libsonnet
//	  01a70d75 dashboards/kubelet.libsonnet
//
// testdata/left-out.txt names the other rules of these, and why they are not here.
func rules() []rule {
	var all []rule
	all = append(all, podRecords()...)
	all = append(all, kubeletRecords()...)
	all = append(all, kubeletAlerts()...)
	all = append(all, nodeAlerts()...)
	all = append(all, volumeAlerts()...)
	all = append(all, podAlerts()...)
	return append(all, panels()...)
}

// onNode adds the node that a pod is on, by the labels of the pod.
func onNode(expr, by string) string {
	return fmt.Sprintf(`%s * on (%s) group_left(node) topk by (%s) (1, max by (%s, node) (kube_pod_info{node!=""}))`, expr, by, by, by)
}

// podRecords are the groups k8s.rules and node.rules.
func podRecords() []rule {
	var all []rule
	for suffix, rate := range map[string]string{"sum_irate": "irate", "sum_rate5m": "rate"} {
		used := fmt.Sprintf(`sum by (cluster, namespace, pod, container) (%s(container_cpu_usage_seconds_total{%s, image!=""}[5m]))`, rate, cadvisor)
		all = append(all, rule{kind: record, name: "node_namespace_pod_container:container_cpu_usage_seconds_total:" + suffix, expr: onNode(used, "cluster, namespace, pod")})
	}
	for _, metric := range []string{"container_memory_working_set_bytes", "container_memory_rss", "container_memory_cache", "container_memory_swap"} {
		used := fmt.Sprintf(`%s{%s, image!=""}`, metric, cadvisor)
		all = append(all, rule{kind: record, name: "node_namespace_pod_container:" + metric, expr: onNode(used, "cluster, namespace, pod")})
	}
	const active = `max by (namespace, pod, cluster) (kube_pod_status_phase{phase=~"Pending|Running"} == 1)`
	for _, what := range []string{"requests", "limits"} {
		for _, resource := range []string{"memory", "cpu"} {
			metric := "kube_pod_container_resource_" + what
			series := fmt.Sprintf(`%s{resource=%q, %s}`, metric, resource, state)
			all = append(all,
				rule{kind: record, name: fmt.Sprintf("cluster:namespace:pod_%s:active:%s", resource, metric),
					expr: series + ` * on (namespace, pod, cluster) group_left() ` + active},
				rule{kind: record, name: fmt.Sprintf("namespace_%s:%s:sum", resource, metric),
					expr: `sum by (namespace, cluster) (sum by (namespace, pod, cluster) (max by (namespace, pod, container, cluster) (` + series +
						`) * on (namespace, pod, cluster) group_left() ` + active + `))`})
		}
	}
	return append(all, rule{kind: record, name: "node_namespace_pod:kube_pod_info:",
		expr: fmt.Sprintf(`topk by (cluster, namespace, pod) (1, max by (cluster, node, namespace, pod) (label_replace(kube_pod_info{%s, node!=""}, "pod", "$1", "pod", "(.*)")))`, state)})
}

// nodeName is the series by which an instance gets its node's name.
const nodeName = `max by (cluster, instance, node) (kubelet_node_name{` + agent + `})`

// kubeletRecords is the group kubelet.rules.
func kubeletRecords() []rule {
	var all []rule
	for _, q := range []string{"0.99", "0.9", "0.5"} {
		all = append(all, rule{kind: record, name: "node_quantile:kubelet_pleg_relist_duration_seconds:histogram_quantile", quantile: q,
			expr: fmt.Sprintf(`histogram_quantile(%s, sum(rate(kubelet_pleg_relist_duration_seconds_bucket{%s}[5m])) by (cluster, instance, le) * on (cluster, instance) group_left(node) %s)`, q, agent, nodeName)})
	}
	return all
}

// kubeletAlerts are those of the group kubernetes-system-kubelet that ask the agent.
func kubeletAlerts() []rule {
	all := []rule{
		{kind: alert, name: "KubeletDown", expr: `absent(up{` + agent + `} == 1)`, joined: true},
		{kind: alert, name: "KubeletPlegDurationHigh", joined: true,
			expr: `node_quantile:kubelet_pleg_relist_duration_seconds:histogram_quantile{quantile="0.99"} >= 10`},
		{kind: alert, name: "KubeletPodStartUpLatencyHigh", joined: true,
			expr: `histogram_quantile(0.99, sum(rate(kubelet_pod_worker_duration_seconds_bucket{` + agent + `}[5m])) by (cluster, instance, le)) * on (cluster, instance) group_left(node) kubelet_node_name{` + agent + `} > 60`},
		{kind: alert, name: "KubeletClientCertificateRenewalErrors", joined: true, expr: `increase(kubelet_certificate_manager_client_expiration_renew_errors[5m]) > 0`},
		{kind: alert, name: "KubeletServerCertificateRenewalErrors", joined: true, expr: `increase(kubelet_server_expiration_renew_errors[5m]) > 0`},
		{kind: alert, name: "KubeNodeEviction", silent: []string{`kubelet_evictions{job="kubelet",metrics_path="/metrics"}`},
			expr: `sum(rate(kubelet_evictions{` + agent + `}[15m])) by (cluster, eviction_signal, instance) * on (cluster, instance) group_left(node) ` + nodeName + ` > 0`},
		{kind: alert, name: "KubeVersionMismatch", joined: true,
			expr: `count(count by (git_version) (label_replace(kubernetes_build_info{job!~"kube-dns|coredns"}, "git_version", "$1", "git_version", "(v[0-9]*.[0-9]*).*"))) > 1`},
		{kind: alert, name: "KubeClientErrors", silent: []string{`rest_client_requests_total{code=~"5.."}`},
			expr: `sum(rate(rest_client_requests_total{code=~"5.."}[5m])) by (cluster, instance, job, namespace) / sum(rate(rest_client_requests_total[5m])) by (cluster, instance, job, namespace) > 0.01`},
	}
	for _, which := range []string{"client", "server"} {
		for _, seconds := range []int{7 * 24 * 3600, 24 * 3600} {
			all = append(all, rule{kind: alert, name: fmt.Sprintf("Kubelet%sCertificateExpiration", map[string]string{"client": "Client", "server": "Server"}[which]), joined: true,
				expr: fmt.Sprintf(`kubelet_certificate_manager_%s_ttl_seconds < %d`, which, seconds)})
		}
	}
	return all
}

// nodeAlerts are those that ask what the agent has told the API server about its node.
func nodeAlerts() []rule {
	const onPod = "instance, pod, namespace, cluster"
	return []rule{
		{kind: alert, name: "KubeNodeNotReady", joined: true, expr: `kube_node_status_condition{` + state + `, condition="Ready", status="true"} == 0`},
		{kind: alert, name: "KubeNodeReadinessFlapping", joined: true, expr: `sum(changes(kube_node_status_condition{status="true", condition="Ready"}[15m])) by (cluster, node) > 2`},
		{kind: alert, name: "KubeNodePressure", joined: true,
			expr: `kube_node_status_condition{` + state + `, condition=~"(MemoryPressure|DiskPressure|PIDPressure)", status="true"} == 1 and on (cluster, node) kube_node_spec_unschedulable{` + state + `} == 0`},
		{kind: alert, name: "KubeNodeUnreachable",
			silent: []string{
				`kube_node_spec_taint{effect="NoSchedule",job="kube-state-metrics",key="node.kubernetes.io/unreachable"}`,
				`kube_node_spec_taint{job="kube-state-metrics",key=~"ToBeDeletedByClusterAutoscaler|cloud.google.com/impending-node-termination|aws-node-termination-handler/spot-itn"}`,
			},
			expr: `(kube_node_spec_taint{` + state + `, key="node.kubernetes.io/unreachable", effect="NoSchedule"} unless ignoring(key, value) kube_node_spec_taint{` + state +
				`, key=~"ToBeDeletedByClusterAutoscaler|cloud.google.com/impending-node-termination|aws-node-termination-handler/spot-itn"}) == 1`},
		{kind: alert, name: "KubeletTooManyPods", joined: true,
			expr: `count by (cluster, node) ((kube_pod_status_phase{` + state + `, phase="Running"} == 1) * on (` + onPod + `) group_left(node) topk by (` + onPod + `) (1, kube_pod_info{` + state +
				`})) / max by (cluster, node) (kube_node_status_capacity{` + state + `, resource="pods"} != 1) > 0.95`},
	}
}

// volumeAlerts are those of the group kubernetes-storage that ask the agent.
func volumeAlerts() []rule {
	var all []rule
	for name, m := range map[string]struct{ free, total, used string }{
		"KubePersistentVolumeFillingUp":       {"available_bytes", "capacity_bytes", "used_bytes"},
		"KubePersistentVolumeInodesFillingUp": {"inodes_free", "inodes", "inodes_used"},
	} {
		series := func(what string) string { return "kubelet_volume_stats_" + what + "{" + agent + "}" }
		full := func(below string) string {
			return fmt.Sprintf(`(%s / %s) < %s and %s > 0`, series(m.free), series(m.total), below, series(m.used))
		}
		const unless = ` unless on (namespace, persistentvolumeclaim) kube_persistentvolumeclaim_access_mode{access_mode="ReadOnlyMany"} == 1` +
			` unless on (namespace, persistentvolumeclaim) kube_persistentvolumeclaim_labels{label_excluded_from_alerts="true"} == 1`
		silent := []string{`kube_persistentvolumeclaim_access_mode{access_mode="ReadOnlyMany"}`, `kube_persistentvolumeclaim_labels{label_excluded_from_alerts="true"}`}
		all = append(all,
			rule{kind: alert, name: name, expr: full("0.03") + unless, silent: silent, joined: true},
			rule{kind: alert, name: name, expr: full("0.15") + fmt.Sprintf(` and predict_linear(%s[6h], %d) < 0`, series(m.free), 4*24*3600) + unless, silent: silent, joined: true})
	}
	return all
}

// podAlerts ask what the agent measures of pods, and what it has told the API server of them.
func podAlerts() []rule {
	return []rule{
		{kind: alert, name: "CPUThrottlingHigh", joined: true,
			expr: `sum(increase(container_cpu_cfs_throttled_periods_total{container!=""}[5m])) by (container, pod, namespace) / sum(increase(container_cpu_cfs_periods_total[5m])) by (container, pod, namespace) > 25 / 100`},
		{kind: alert, name: "KubePodCrashLooping", silent: []string{`kube_pod_container_status_waiting_reason{job="kube-state-metrics",reason="CrashLoopBackOff"}`},
			expr: `max_over_time(kube_pod_container_status_waiting_reason{reason="CrashLoopBackOff", ` + state + `}[5m]) >= 1`},
		{kind: alert, name: "KubeContainerWaiting", silent: []string{`kube_pod_container_status_waiting_reason{job="kube-state-metrics"}`},
			expr: `sum by (namespace, pod, container) (kube_pod_container_status_waiting_reason{` + state + `}) > 0`},
		{kind: alert, name: "KubePodNotReady", joined: true,
			expr: `sum by (namespace, pod) (max by (namespace, pod) (kube_pod_status_phase{` + state + `, phase=~"Pending|Unknown"}) * on (namespace, pod) group_left(owner_kind) topk by (namespace, pod) (1, max by (namespace, pod, owner_kind) (kube_pod_owner{owner_kind!="Job"}))) > 0`},
	}
}

// panels are those of the dashboards "Kubelet" and "Persistent Volumes", for all instances.
func panels() []rule {
	var all []rule
	add := func(name, expr string, args ...any) {
		all = append(all, rule{kind: panel, name: name, expr: fmt.Sprintf(expr, args...)})
	}
	for _, metric := range []string{"kubelet_node_name", "kubelet_running_pods", "kubelet_running_containers"} {
		add("kubelet: "+metric, `sum(%s{%s})`, metric, agent)
	}
	for _, world := range []string{"actual_state_of_world", "desired_state_of_world"} {
		add("kubelet: "+world, `sum(volume_manager_total_volumes{%s, state=%q})`, agent, world)
	}
	for metric, by := range map[string]string{
		"storage_operation_duration_seconds":          "instance, operation_name, volume_plugin",
		"kubelet_runtime_operations_duration_seconds": "instance, operation_type",
		"kubelet_pod_start_duration_seconds":          "instance",
		"kubelet_pod_worker_duration_seconds":         "instance",
		"kubelet_cgroup_manager_duration_seconds":     "instance, operation_type",
		"kubelet_pleg_relist_interval_seconds":        "instance",
		"kubelet_pleg_relist_duration_seconds":        "instance",
		"rest_client_request_duration_seconds":        "instance, verb, url",
	} {
		add("kubelet: rate of "+metric, `sum(rate(%s_count{%s}[5m])) by (%s)`, metric, agent, by)
		add("kubelet: quantile of "+metric, `histogram_quantile(0.99, sum(rate(%s_bucket{%s}[5m])) by (%s, le))`, metric, agent, by)
	}
	add("kubelet: operations", `sum(rate(kubelet_runtime_operations_total{%s}[5m])) by (operation_type, instance)`, agent)
	add("kubelet: requests", `sum(rate(rest_client_requests_total{%s, code=~"2.."}[5m]))`, agent)
	add("kubelet: memory", `process_resident_memory_bytes{%s}`, agent)
	add("kubelet: CPU", `rate(process_cpu_seconds_total{%s}[5m])`, agent)
	add("kubelet: goroutines", `go_goroutines{%s}`, agent)
	for _, m := range [][2]string{{"capacity_bytes", "available_bytes"}, {"inodes_used", "inodes"}} {
		for _, name := range m {
			add("volumes: "+name, `sum without (instance, node) (topk(1, kubelet_volume_stats_%s{%s}))`, name, agent)
		}
	}
	return all
}
