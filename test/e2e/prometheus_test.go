package e2e

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	authv1 "k8s.io/api/authentication/v1"
	v1 "k8s.io/api/core/v1"
	rbac "k8s.io/api/rbac/v1"
	storage "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/mini-kubelet/mini-kubelet/test/controlplane"
	"github.com/mini-kubelet/mini-kubelet/test/csidriver"
	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

// TestNoRuleOfKubePrometheusIsEmpty has Prometheus' own scraper and engine (test/promql) watch a
// healthy node with requests, limits, traffic, probes and a claim, as kube-prometheus configures
// them: all its recording rules about nodes and pods have series, all that its alerts look at is
// there, and none fires.
func TestNoRuleOfKubePrometheusIsEmpty(t *testing.T) {
	program, err := filepath.Abs("../../bin/promql")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(program); err != nil {
		t.Fatalf("Prometheus' engine is not built: run `make promql`: %v", err)
	}
	n := joinWithCertificate(t)
	ns := n.Namespace()
	claim(t, n, ns, "data", v1.PersistentVolumeSource{CSI: &v1.CSIPersistentVolumeSource{Driver: measuringDriver(t, n), VolumeHandle: "vol-1"}})
	n.Create(ns, observed("web", claimed("data")))
	n.AwaitReady(ns, "web")

	// What is said of the pods is that they are well: only once they are.
	var started atomic.Bool
	state := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !started.Load() {
			http.Error(w, "a pod is still to start", http.StatusServiceUnavailable)
			return
		}
		text, err := stateMetrics(r.Context(), n, ns)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "text/plain; version=0.0.4")
		_, _ = w.Write([]byte(text))
	}))
	t.Cleanup(state.Close)
	file := filepath.Join(t.TempDir(), "prometheus.yml")
	if err := os.WriteFile(file, []byte(scrapeConfig(n, scraperToken(t, n, ns), state.Listener.Addr().String())), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), program, "-config", file, "-scrapes", "6", "-patience", (3 * harness.Patience).String())
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	// One that starts while Prometheus looks, so that start-up times are measured.
	n.Create(ns, observed("later"))
	n.AwaitReady(ns, "later")
	started.Store(true)
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v\n%s\n%s", err, out.String(), n.Explain())
	}
	t.Log(out.String())
}

// measuringDriver starts a CSI driver that tells what its volumes occupy, and returns its name.
func measuringDriver(t *testing.T, n *harness.Node) string {
	t.Helper()
	api := n.Cluster.Client.StorageV1()
	object := &storage.CSIDriver{ObjectMeta: metav1.ObjectMeta{Name: n.Node() + ".stats.example"}}
	object.Spec.AttachRequired = ptr.To(false)
	if _, err := api.CSIDrivers().Create(t.Context(), object, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = api.CSIDrivers().Delete(context.Background(), object.Name, metav1.DeleteOptions{}) })
	d, err := csidriver.Start(csidriver.Config{Name: object.Name, Root: filepath.Join(n.Dir, "root"), Data: filepath.Join(n.Dir, "csi"), Stats: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Stop)
	return object.Name
}

// observed is a pod of which everything can be measured: it works a little within its limits,
// has traffic, writes, and is probed.
func observed(name string, change ...func(*v1.Pod)) *v1.Pod {
	script := "mkdir -p /www; echo hello >/www/index.html; httpd -h /www -p 8080; while :; do wget -q -O /tmp/x http://$IP:8080/; sleep 0.5; done"
	return harness.Pod(name, script, append([]func(*v1.Pod){quick, func(p *v1.Pod) {
		c := &p.Spec.Containers[0]
		c.Env = append(c.Env, v1.EnvVar{Name: "IP", ValueFrom: &v1.EnvVarSource{FieldRef: &v1.ObjectFieldSelector{FieldPath: "status.podIP"}}})
		c.Resources.Requests = v1.ResourceList{v1.ResourceCPU: quantity("50m"), v1.ResourceMemory: quantity("32Mi")}
		c.Resources.Limits = v1.ResourceList{v1.ResourceCPU: quantity("1"), v1.ResourceMemory: quantity("64Mi"), v1.ResourceEphemeralStorage: quantity("1Gi")}
		c.ReadinessProbe = &v1.Probe{ProbeHandler: v1.ProbeHandler{Exec: &v1.ExecAction{Command: []string{"true"}}}, PeriodSeconds: 5, TimeoutSeconds: 10}
		c.LivenessProbe = &v1.Probe{ProbeHandler: v1.ProbeHandler{Exec: &v1.ExecAction{Command: []string{"true"}}}, PeriodSeconds: 5, TimeoutSeconds: 10, FailureThreshold: 10}
	}}, change...)...)
}

// scraperToken gives Prometheus the identity and the rights that kube-prometheus gives it.
func scraperToken(t *testing.T, n *harness.Node, ns string) string {
	t.Helper()
	return serviceAccount(t, n, ns, "prometheus-"+ns, []rbac.PolicyRule{
		{APIGroups: []string{""}, Resources: []string{"nodes/metrics"}, Verbs: []string{"get"}},
		{NonResourceURLs: []string{"/metrics", "/metrics/slis"}, Verbs: []string{"get"}},
	})
}

// serviceAccount makes one with these rights in the whole cluster, and returns a token of it.
func serviceAccount(t *testing.T, n *harness.Node, ns, name string, rules []rbac.PolicyRule) string {
	t.Helper()
	ctx, api := t.Context(), n.Cluster.Client
	if _, err := api.CoreV1().ServiceAccounts(ns).Create(ctx, &v1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx := context.Background()
		_ = api.CoreV1().ServiceAccounts(ns).Delete(ctx, name, metav1.DeleteOptions{})
		_ = api.RbacV1().ClusterRoleBindings().Delete(ctx, name, metav1.DeleteOptions{})
		_ = api.RbacV1().ClusterRoles().Delete(ctx, name, metav1.DeleteOptions{})
	})
	if _, err := api.RbacV1().ClusterRoles().Create(ctx, &rbac.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: name}, Rules: rules}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := api.RbacV1().ClusterRoleBindings().Create(ctx, &rbac.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		RoleRef:    rbac.RoleRef{APIGroup: rbac.GroupName, Kind: "ClusterRole", Name: name},
		Subjects:   []rbac.Subject{{Kind: rbac.ServiceAccountKind, Namespace: ns, Name: name}},
	}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	token, err := api.CoreV1().ServiceAccounts(ns).CreateToken(ctx, name, &authv1.TokenRequest{Spec: authv1.TokenRequestSpec{ExpirationSeconds: ptr.To[int64](3600)}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return token.Status.Token
}

// scrapeConfig is the ServiceMonitor of kube-prometheus, as the Prometheus operator turns it
// into a configuration: which endpoints, and with which labels.
func scrapeConfig(n *harness.Node, token, state string) string {
	var b strings.Builder
	b.WriteString("global: {scrape_interval: 5s, scrape_timeout: 5s}\nscrape_configs:\n")
	target := net.JoinHostPort(controlplane.HostAddress(), strconv.Itoa(n.Port))
	for path, more := range map[string]string{
		"/metrics": "", "/metrics/probes": "", "/metrics/resource": "",
		"/metrics/slis": `
  metric_relabel_configs:
  - {action: drop, source_labels: [__name__], regex: process_start_time_seconds}`,
		"/metrics/cadvisor": `
  honor_timestamps: false
  metric_relabel_configs:
  - {action: drop, source_labels: [__name__], regex: container_(network_tcp_usage_total|network_udp_usage_total|tasks_state|cpu_load_average_10s)}
  - {action: drop, source_labels: [__name__, pod, namespace], regex: (container_spec_.*|container_file_descriptors|container_sockets|container_threads_max|container_threads|container_start_time_seconds|container_last_seen);;}
  - {action: drop, source_labels: [__name__, container], regex: (container_blkio_device_usage_total);.+}`,
	} {
		// kube-prometheus verifies no node's certificate; here it is the cluster's.
		fmt.Fprintf(&b, `- job_name: kubelet %s
  scheme: https
  metrics_path: %s
  honor_labels: true
  authorization: {credentials: %s}
  tls_config: {ca_file: %s}
  relabel_configs:
  - {source_labels: [__metrics_path__], target_label: metrics_path}
  static_configs:
  - targets: ['%s']
    labels: {job: kubelet, namespace: kube-system, service: kubelet, endpoint: https-metrics, node: %s}%s
`, path, path, token, n.Cluster.PKI("ca.crt"), target, n.Node(), more)
	}
	fmt.Fprintf(&b, `- job_name: kube-state-metrics
  honor_labels: true
  static_configs:
  - targets: ['%s']
    labels: {namespace: monitoring, service: kube-state-metrics}
`, state)
	return b.String()
}

// stateMetrics says of the pods of a namespace and of the node what kube-state-metrics would, as
// far as rules ask for it: nothing but what the API server has.
func stateMetrics(ctx context.Context, n *harness.Node, ns string) (string, error) {
	var b strings.Builder
	put := func(name string, value float64, labels ...string) {
		b.WriteString(name + "{")
		for i := 0; i+1 < len(labels); i += 2 {
			fmt.Fprintf(&b, "%s=%q,", labels[i], labels[i+1])
		}
		fmt.Fprintf(&b, "} %g\n", value)
	}
	node, err := n.Cluster.Client.CoreV1().Nodes().Get(ctx, n.Node(), metav1.GetOptions{})
	if err != nil {
		return "", err
	}
	stateOfNode(put, node)
	pods, err := n.Cluster.Client.CoreV1().Pods(ns).List(ctx, metav1.ListOptions{})
	if err != nil {
		return "", err
	}
	for i := range pods.Items {
		stateOfPod(put, &pods.Items[i])
	}
	claims, err := n.Cluster.Client.CoreV1().PersistentVolumeClaims(ns).List(ctx, metav1.ListOptions{})
	if err != nil {
		return "", err
	}
	for _, c := range claims.Items {
		for _, mode := range c.Spec.AccessModes {
			put("kube_persistentvolumeclaim_access_mode", 1, "namespace", ns, "persistentvolumeclaim", c.Name, "access_mode", string(mode))
		}
	}
	return b.String(), nil
}

type putState func(name string, value float64, labels ...string)

func stateOfNode(put putState, node *v1.Node) {
	for _, c := range node.Status.Conditions {
		for _, status := range []v1.ConditionStatus{v1.ConditionTrue, v1.ConditionFalse, v1.ConditionUnknown} {
			put("kube_node_status_condition", one(c.Status == status), "node", node.Name, "condition", string(c.Type), "status", strings.ToLower(string(status)))
		}
	}
	for metric, list := range map[string]v1.ResourceList{"kube_node_status_capacity": node.Status.Capacity, "kube_node_status_allocatable": node.Status.Allocatable} {
		for name, q := range list {
			put(metric, q.AsApproximateFloat64(), "node", node.Name, "resource", stateName(name))
		}
	}
	for _, taint := range node.Spec.Taints {
		put("kube_node_spec_taint", 1, "node", node.Name, "key", taint.Key, "value", taint.Value, "effect", string(taint.Effect))
	}
	put("kube_node_spec_unschedulable", one(node.Spec.Unschedulable), "node", node.Name)
}

func stateOfPod(put putState, pod *v1.Pod) {
	who := []string{"namespace", pod.Namespace, "pod", pod.Name, "uid", string(pod.UID)}
	with := func(more ...string) []string { return append(append([]string{}, who...), more...) }
	put("kube_pod_info", 1, with("node", pod.Spec.NodeName, "host_ip", pod.Status.HostIP, "pod_ip", pod.Status.PodIP)...)
	put("kube_pod_owner", 1, with("owner_kind", "", "owner_name", "")...)
	for _, phase := range []v1.PodPhase{v1.PodPending, v1.PodRunning, v1.PodSucceeded, v1.PodFailed, v1.PodUnknown} {
		put("kube_pod_status_phase", one(pod.Status.Phase == phase), with("phase", string(phase))...)
	}
	for _, c := range pod.Spec.Containers {
		for metric, list := range map[string]v1.ResourceList{"requests": c.Resources.Requests, "limits": c.Resources.Limits} {
			for name, q := range list {
				put("kube_pod_container_resource_"+metric, q.AsApproximateFloat64(), with("container", c.Name, "node", pod.Spec.NodeName, "resource", stateName(name))...)
			}
		}
	}
	for _, c := range pod.Status.ContainerStatuses {
		if c.State.Waiting != nil && c.State.Waiting.Reason != "ContainerCreating" { // it waits for a moment at each start
			put("kube_pod_container_status_waiting_reason", 1, with("container", c.Name, "reason", c.State.Waiting.Reason)...)
		}
	}
}

func stateName(r v1.ResourceName) string {
	return strings.NewReplacer("-", "_", ".", "_", "/", "_").Replace(string(r))
}

func one(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}
