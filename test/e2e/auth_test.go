package e2e

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"

	authv1 "k8s.io/api/authentication/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mini-kubelet/mini-kubelet/test/controlplane"
	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

// ask sends a request to the node's kubelet API.
func ask(t *testing.T, n *harness.Node, method, path, token string, certs ...tls.Certificate) (int, string) {
	t.Helper()
	client := http.Client{Transport: &http.Transport{
		// The serving certificate is the node's own; its identity is not tested here.
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true, Certificates: certs},
		DisableKeepAlives: true,
	}}
	req, err := http.NewRequestWithContext(t.Context(), method, fmt.Sprintf("https://%s:%d%s", controlplane.HostAddress(), n.Port, path), nil)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func TestKubeletAPIAuthentication(t *testing.T) {
	n, ns := join(t)
	n.Create(ns, harness.Pod("p", "sleep 1000", quick))
	n.AwaitReady(ns, "p")
	core := n.Cluster.Client.CoreV1()
	tr, err := core.ServiceAccounts(ns).CreateToken(t.Context(), "default", &authv1.TokenRequest{}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	token := tr.Status.Token
	paths := []string{"/pods", "/runningpods/", "/metrics", "/metrics/resource", "/stats/summary", "/configz", "/logs/", "/debug/pprof/",
		"/containerLogs/" + ns + "/p/c", "/exec/" + ns + "/p/c?command=id&output=1", "/attach/" + ns + "/p/c?output=1", "/portForward/" + ns + "/p", "/none"}
	for _, path := range paths {
		if code, body := ask(t, n, "GET", path, ""); code != 401 || strings.TrimSpace(body) != "Unauthorized" {
			t.Errorf("%s by nobody: %d %q", path, code, body)
		}
		if code, body := ask(t, n, "GET", path, "no-such-token"); code != 401 || strings.TrimSpace(body) != "Unauthorized" {
			t.Errorf("%s with a wrong token: %d %q", path, code, body)
		}
		if code, body := ask(t, n, "GET", path, token); code != 403 || strings.Contains(body, "containers") {
			t.Errorf("%s by somebody without rights: %d %q", path, code, body)
		}
	}
	if code, _ := ask(t, n, "POST", "/run/"+ns+"/p/c?cmd=id", token); code != 403 {
		t.Errorf("/run without rights: %d", code)
	}

	// A right to nodes/metrics allows metrics and nothing else.
	name := ns + "-metrics"
	role := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: name}, Rules: []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"nodes/metrics"}, Verbs: []string{"get"}}}}
	binding := &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: name}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: name},
		Subjects: []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: ns, Name: "reader"}},
	}
	if _, err := n.Cluster.Client.RbacV1().ClusterRoles().Create(t.Context(), role, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := n.Cluster.Client.RbacV1().ClusterRoleBindings().Create(t.Context(), binding, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	n.MustKubectl(ns, "create", "serviceaccount", "reader")
	tr, err = core.ServiceAccounts(ns).CreateToken(t.Context(), "reader", &authv1.TokenRequest{}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	harness.Eventually(t, "the right counts", harness.Patience, func() error {
		if code, body := ask(t, n, "GET", "/metrics", tr.Status.Token); code != 200 || !strings.Contains(body, "go_goroutines") {
			return fmt.Errorf("/metrics: %d %.100q", code, body)
		}
		return nil
	})
	if code, _ := ask(t, n, "GET", "/pods", tr.Status.Token); code != 403 {
		t.Errorf("/pods with a right to metrics only: %d", code)
	}

	// The API server's own certificate opens everything.
	pair, err := tls.LoadX509KeyPair(n.Cluster.PKI("apiserver-kubelet-client.crt"), n.Cluster.PKI("apiserver-kubelet-client.key"))
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{"/pods": `"name":"p"`, "/configz": "kubeletconfig", "/healthz": "ok", "/runningpods/": `"p"`} {
		if code, body := ask(t, n, "GET", path, "", pair); code != 200 || !strings.Contains(body, want) {
			t.Errorf("%s by the API server: %d %.200q", path, code, body)
		}
	}
	if code, body := ask(t, n, "POST", "/run/"+ns+"/p/c?cmd=echo+hello", "", pair); code != 200 || body != "hello\n" {
		t.Errorf("/run: %d %q", code, body)
	}
}

func TestNodeRestrictionIsToldPlainly(t *testing.T) {
	n, _ := join(t)
	// A node may change no other node, and no label that says what it may run.
	other := "control-plane-of-" + n.Node()
	_, err := n.As().CoreV1().Nodes().Get(t.Context(), other, metav1.GetOptions{})
	if err == nil || !strings.Contains(err.Error(), "forbidden") {
		t.Errorf("a node reads another: %v", err)
	}
	bad := harness.NewNode(t, n.Cluster, harness.AgentConfig{Args: []string{"--node-labels", "node-restriction.kubernetes.io/x=y"}})
	bad.Launch()
	harness.Eventually(t, "the log says which label a node may not give itself", harness.Patience, func() error {
		if !strings.Contains(bad.Log(), "node-restriction.kubernetes.io/x: a node may not give itself this label") {
			return fmt.Errorf("not yet")
		}
		return nil
	}, bad.Explain)
}

// joinWithCertificate starts a node, for a parallel test, whose serving certificate is the cluster's.
func joinWithCertificate(t *testing.T) *harness.Node {
	t.Helper()
	t.Parallel()
	n := harness.NewNode(t, harness.SharedCluster(t), harness.AgentConfig{Config: map[string]any{"serverTLSBootstrap": true}})
	n.Start()
	n.WaitReady()
	// Nobody approves these automatically, so that nodes cannot take names.
	harness.Eventually(t, "the request for a serving certificate is there", harness.Patience, func() error {
		out, _, err := n.Cluster.Kubectl(t.Context(), nil, "get", "csr", "--field-selector", "spec.signerName=kubernetes.io/kubelet-serving", "-o", "jsonpath={range .items[?(@.spec.username==\"system:node:"+n.Node()+"\")]}{.metadata.name} {end}")
		if err != nil {
			return err
		}
		names := strings.Fields(string(out)) // several, where the answer to a request came too late
		if len(names) == 0 {
			return fmt.Errorf("none of %s", n.Node())
		}
		_, _, err = n.Cluster.Kubectl(t.Context(), nil, append([]string{"certificate", "approve"}, names...)...)
		return err
	}, n.Explain)
	return n
}

func TestServingCertificateOfTheCluster(t *testing.T) {
	n := joinWithCertificate(t)
	ca, err := os.ReadFile(n.Cluster.PKI("ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	harness.Eventually(t, "port 10250 shows a certificate of the cluster", harness.Patience, func() error {
		conn, err := tls.Dial("tcp", fmt.Sprintf("%s:%d", controlplane.HostAddress(), n.Port), &tls.Config{RootCAs: roots})
		if err != nil {
			return err
		}
		return conn.Close()
	}, n.Explain)
}
