package e2e

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	autoscaling "k8s.io/api/autoscaling/v2"
	v1 "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	rbac "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"github.com/mini-kubelet/mini-kubelet/test/controlplane"
	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

// TestMetricsServerFeedsTopAndTheAutoscaler runs the real metrics-server on the node: `kubectl
// top` shows what a busy Deployment uses, and its HorizontalPodAutoscaler scales it.
func TestMetricsServerFeedsTopAndTheAutoscaler(t *testing.T) {
	if net.ParseIP(controlplane.HostAddress()).IsLoopback() {
		t.Skip("the machine has no address but loopback's: the API server takes no such endpoint of an aggregated API")
	}
	n, ns := join(t)
	busy := template(n, "busy", "while :; do :; done")
	busy.Spec.Containers[0].Resources = v1.ResourceRequirements{
		Requests: v1.ResourceList{v1.ResourceCPU: quantity("100m"), v1.ResourceMemory: quantity("16Mi")},
		Limits:   v1.ResourceList{v1.ResourceCPU: quantity("200m"), v1.ResourceMemory: quantity("64Mi")},
	}
	if _, err := n.Cluster.Client.AppsV1().Deployments(ns).Create(t.Context(), &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "busy"},
		Spec:       appsv1.DeploymentSpec{Replicas: ptr.To[int32](1), Selector: selector("busy"), Template: busy},
	}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := n.Cluster.Client.AutoscalingV2().HorizontalPodAutoscalers(ns).Create(t.Context(), &autoscaling.HorizontalPodAutoscaler{
		ObjectMeta: metav1.ObjectMeta{Name: "busy"},
		Spec: autoscaling.HorizontalPodAutoscalerSpec{
			ScaleTargetRef: autoscaling.CrossVersionObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: "busy"},
			MinReplicas:    ptr.To[int32](1), MaxReplicas: 2,
			Metrics: []autoscaling.MetricSpec{{Type: autoscaling.ResourceMetricSourceType, Resource: &autoscaling.ResourceMetricSource{
				Name: v1.ResourceCPU, Target: autoscaling.MetricTarget{Type: autoscaling.UtilizationMetricType, AverageUtilization: ptr.To[int32](30)},
			}}},
		},
	}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	n.MustKubectl(ns, "rollout", "status", "deployment/busy", patiently)
	log := startMetricsServer(t, n, ns)
	explain := func() string { return "metrics-server:\n" + log() + "\n" + n.Explain() }

	harness.Eventually(t, "kubectl top pod shows the load", harness.Patience, func() error {
		out, _, err := n.Cluster.Kubectl(t.Context(), nil, "-n", ns, "top", "pod", "--containers", "--no-headers")
		if err != nil {
			return err
		}
		// POD NAME CPU(cores) MEMORY(bytes)
		f := strings.Fields(string(out))
		if len(f) < 4 || !strings.HasPrefix(f[0], "busy-") || f[1] != "c" {
			return errors.New(string(out))
		}
		// By its limit it has 200m at most; how much it gets, this machine decides.
		return within(f[2], "20m", "300m", f[3], "0", "64Mi")
	}, explain)
	harness.Eventually(t, "kubectl top node shows the node", harness.Patience, func() error {
		out, _, err := n.Cluster.Kubectl(t.Context(), nil, "top", "node", n.Node(), "--no-headers")
		if err != nil {
			return err
		}
		// NAME CPU(cores) CPU(%) MEMORY(bytes) MEMORY(%)
		f := strings.Fields(string(out))
		if len(f) != 5 || f[0] != n.Node() {
			return errors.New(string(out))
		}
		return within(f[1], "20m", "1000", f[3], "64Mi", "100Ti")
	}, explain)
	harness.Eventually(t, "the autoscaler has added a replica", 2*harness.Patience, func() error {
		h, err := n.Cluster.Client.AutoscalingV2().HorizontalPodAutoscalers(ns).Get(t.Context(), "busy", metav1.GetOptions{})
		if err != nil {
			return err
		}
		d, err := n.Cluster.Client.AppsV1().Deployments(ns).Get(t.Context(), "busy", metav1.GetOptions{})
		if err == nil && d.Status.ReadyReplicas < 2 {
			err = fmt.Errorf("%d are ready; the autoscaler says %+v", d.Status.ReadyReplicas, h.Status)
		}
		return err
	}, explain)
}

// within reports what is wrong with an amount of CPU and one of memory as kubectl prints them.
func within(cpu, leastCPU, mostCPU, memory, leastMemory, mostMemory string) error {
	for _, r := range [][3]string{{cpu, leastCPU, mostCPU}, {memory, leastMemory, mostMemory}} {
		q, err := resource.ParseQuantity(r[0])
		if err != nil {
			return fmt.Errorf("%q: %w", r[0], err)
		}
		if q.Cmp(quantity(r[1])) < 0 || q.Cmp(quantity(r[2])) > 0 {
			return fmt.Errorf("%s is not between %s and %s", r[0], r[1], r[2])
		}
	}
	return nil
}

// startMetricsServer runs metrics-server with an identity of its own, for this node, and has the
// API server serve what it knows. The result returns the end of its log.
func startMetricsServer(t *testing.T, n *harness.Node, ns string) (log func() string) {
	t.Helper()
	token := serviceAccount(t, n, ns, "metrics-server-"+ns, []rbac.PolicyRule{
		{APIGroups: []string{""}, Resources: []string{"nodes/metrics"}, Verbs: []string{"get"}},
		{APIGroups: []string{""}, Resources: []string{"pods", "nodes"}, Verbs: []string{"get", "list", "watch"}},
		// How it asks who its own clients are.
		{APIGroups: []string{"authentication.k8s.io"}, Resources: []string{"tokenreviews"}, Verbs: []string{"create"}},
		{APIGroups: []string{"authorization.k8s.io"}, Resources: []string{"subjectaccessreviews"}, Verbs: []string{"create"}},
		{APIGroups: []string{""}, Resources: []string{"configmaps"}, ResourceNames: []string{"extension-apiserver-authentication"}, Verbs: []string{"get", "list", "watch"}},
	})
	dir := filepath.Join(n.Dir, "metrics-server")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	kubeconfig := filepath.Join(dir, "kubeconfig")
	if err := os.WriteFile(kubeconfig, []byte(fmt.Sprintf(`apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: 'https://%s', certificate-authority: '%s'}}]
users: [{name: u, user: {token: '%s'}}]
contexts: [{name: x, context: {cluster: c, user: u}}]
current-context: x
`, n.Cluster.Endpoint(), n.Cluster.PKI("ca.crt"), token)), 0o600); err != nil {
		t.Fatal(err)
	}
	_, text, err := net.SplitHostPort(harness.FreePort(t))
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	p := harness.StartProgram(t, dir, n.Cluster.Program("metrics-server"),
		"--kubeconfig="+kubeconfig, "--authentication-kubeconfig="+kubeconfig, "--authorization-kubeconfig="+kubeconfig,
		"--secure-port="+text, "--cert-dir="+filepath.Join(dir, "certs"), "--metric-resolution=10s", "--kubelet-request-timeout=9s",
		// Nobody approves the node's request for a certificate here.
		"--kubelet-insecure-tls", "--kubelet-use-node-status-port", "--kubelet-preferred-address-types=InternalIP",
		"--node-selector="+v1.LabelHostname+"="+n.Node())
	client := &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	t.Cleanup(client.CloseIdleConnections)
	harness.Eventually(t, "metrics-server has scraped the node", harness.Patience, func() error {
		resp, err := client.Get("https://127.0.0.1:" + text + "/readyz")
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return errors.New(resp.Status)
		}
		return nil
	}, p.Log, n.Explain)
	aggregate(t, n, ns, int32(port))
	return p.Log
}

// aggregate has the API server serve metrics.k8s.io from a port of this machine. It is taken
// away before that port closes: an API that does not answer holds up the end of all namespaces.
func aggregate(t *testing.T, n *harness.Node, ns string, port int32) {
	t.Helper()
	ctx, api := t.Context(), n.Cluster.Client
	if _, err := api.CoreV1().Services(ns).Create(ctx, &v1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "metrics-server"},
		Spec:       v1.ServiceSpec{Ports: []v1.ServicePort{{Name: "https", Port: 443, TargetPort: intstr.FromInt32(port)}}},
	}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := api.DiscoveryV1().EndpointSlices(ns).Create(ctx, &discovery.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: "metrics-server", Labels: map[string]string{discovery.LabelServiceName: "metrics-server"}},
		AddressType: discovery.AddressTypeIPv4,
		Endpoints:   []discovery.Endpoint{{Addresses: []string{controlplane.HostAddress()}, Conditions: discovery.EndpointConditions{Ready: ptr.To(true)}}},
		Ports:       []discovery.EndpointPort{{Name: ptr.To("https"), Port: &port}},
	}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	const path = "/apis/apiregistration.k8s.io/v1/apiservices"
	body, err := json.Marshal(map[string]any{
		"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": map[string]any{"name": "v1beta1.metrics.k8s.io"},
		"spec": map[string]any{
			"service": map[string]any{"namespace": ns, "name": "metrics-server", "port": 443},
			"group":   "metrics.k8s.io", "version": "v1beta1", "insecureSkipTLSVerify": true, "groupPriorityMinimum": 100, "versionPriority": 100,
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	rest := api.Discovery().RESTClient()
	t.Cleanup(func() {
		if err := rest.Delete().AbsPath(path, "v1beta1.metrics.k8s.io").Do(context.Background()).Error(); err != nil {
			t.Errorf("take the aggregated API away: %v", err)
		}
	})
	if err := rest.Post().AbsPath(path).Body(body).SetHeader("Content-Type", "application/json").Do(ctx).Error(); err != nil {
		t.Fatal(err)
	}
}
