package e2e

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"

	"github.com/mini-kubelet/mini-kubelet/test/controlplane"
	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

// apiServersPair is the certificate with which the API server calls nodes.
func apiServersPair(t *testing.T, n *harness.Node) tls.Certificate {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(n.Cluster.PKI("apiserver-kubelet-client.crt"), n.Cluster.PKI("apiserver-kubelet-client.key"))
	if err != nil {
		t.Fatal(err)
	}
	return pair
}

// raw opens a connection to the kubelet API and sends a request, and leaves the rest
// to the test.
func raw(t *testing.T, n *harness.Node, request string, cfg *tls.Config) *tls.Conn {
	t.Helper()
	cfg.InsecureSkipVerify = true
	conn, err := tls.Dial("tcp", fmt.Sprintf("%s:%d", controlplane.HostAddress(), n.Port), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, request+" HTTP/1.1\r\nHost: node\r\n"); err != nil {
		t.Fatal(err)
	}
	return conn
}

func TestClientsThatVanish(t *testing.T) {
	n, ns := join(t)
	n.Create(ns, harness.Pod("big", `yes "a line of a log that is long enough to fill buffers" | head -c 30000000; sleep 1000`, quick))
	n.Create(ns, harness.Pod("p", `nc -l -k -p 8080 -e cat & while true; do read line; done`, quick, func(p *v1.Pod) {
		p.Spec.Containers[0].Stdin, p.Spec.Containers[0].TTY = true, true
	}))
	n.AwaitReady(ns, "big")
	n.AwaitReady(ns, "p")
	pair := tls.Config{Certificates: []tls.Certificate{apiServersPair(t, n)}}
	before, err := n.Audit()
	if err != nil {
		t.Fatal(err)
	}
	during := before
	var conns []*tls.Conn
	for range 5 {
		for _, path := range []string{"/containerLogs/" + ns + "/big/c", "/containerLogs/" + ns + "/big/c?follow=true", "/containerLogs/" + ns + "/p/c?follow=true"} {
			conn := raw(t, n, "GET "+path, pair.Clone())
			if _, err := io.WriteString(conn, "\r\n"); err != nil {
				t.Fatal(err)
			}
			conns = append(conns, conn)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var cmds []*exec.Cmd
	for i := range 3 {
		for _, args := range [][]string{
			{"exec", "-i", "p", "--", "cat"}, {"exec", "-i", "p", "--", "sh", "-c", "yes"}, {"attach", "-i", "-t", "p"}, {"logs", "-f", "big"},
			{"port-forward", "pod/p", fmt.Sprintf("%d:8080", 0)},
		} {
			cmd := exec.CommandContext(ctx, n.Cluster.Program("kubectl"), append([]string{"--kubeconfig", n.Cluster.Kubeconfig(), "-n", ns}, args...)...)
			if i == 0 { // the other API of kubectl
				cmd.Env = append(cmd.Environ(), "KUBECTL_REMOTE_COMMAND_WEBSOCKETS=false", "KUBECTL_PORT_FORWARD_WEBSOCKETS=false")
			}
			stdin, err := cmd.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			defer stdin.Close()
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			cmds = append(cmds, cmd)
		}
	}
	harness.Eventually(t, "all clients are served", harness.Patience, func() error {
		during, err = n.Audit()
		if err == nil && during.Goroutines < before.Goroutines+60 {
			err = fmt.Errorf("%d goroutines, %d before", during.Goroutines, before.Goroutines)
		}
		return err
	}, n.Explain)
	time.Sleep(2 * time.Second)
	for _, conn := range conns {
		conn.NetConn().Close() // without a word
	}
	for _, cmd := range cmds {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	harness.Eventually(t, "nothing is left of the clients", harness.Patience, func() error {
		after, err := n.Audit()
		if err != nil {
			return err
		}
		if after.Goroutines > before.Goroutines+10 || after.FDs > before.FDs+10 {
			return fmt.Errorf("goroutines %d, %d, %d; files %d, %d, %d", before.Goroutines, during.Goroutines, after.Goroutines, before.FDs, during.FDs, after.FDs)
		}
		return nil
	})
	if out := n.MustKubectl(ns, "exec", "p", "--", "echo", "well"); out != "well\n" {
		t.Errorf("exec afterwards: %q", out)
	}
}

func TestKubeletAPIErrors(t *testing.T) {
	n, ns := join(t)
	n.Create(ns, harness.Pod("p", "", quick))
	n.Create(ns, harness.Pod("waits", "", quick, func(p *v1.Pod) {
		p.Spec.Containers[0].Image, p.Spec.Containers[0].ImagePullPolicy = "none.invalid/none", v1.PullNever
	}))
	n.AwaitReady(ns, "p")
	n.Await(ns, "waits", "waits", func(p *v1.Pod) bool {
		w := harness.Status(p, "c").State.Waiting
		return w != nil && w.Reason == "ErrImageNeverPull"
	})
	pair := apiServersPair(t, n)
	for path, want := range map[string]string{ // the kubelet's answers
		"/containerLogs/" + ns + "/none/c":             `404 pod "none" does not exist`,
		"/containerLogs/" + ns + "/p/none":             `404 container "none" not found in pod "p"`,
		"/containerLogs/" + ns + "/p/c?previous=true":  `400 previous terminated container "c" in pod "p" not found`,
		"/containerLogs/" + ns + "/waits/c":            `400 container "c" in pod "waits" is waiting to start: ErrImageNeverPull`,
		"/containerLogs/" + ns + "/p/c?tailLines=x":    `400 {"message": "Unable to decode query."}`,
		"/containerLogs/" + ns + "/p/c?tailLines=-1":   `422 {"message": "Invalid request: `,
		"/exec/" + ns + "/none/c?command=id&output=1":  `404 pod "none" does not exist`,
		"/attach/" + ns + "/none/c?output=1":           `404 pod "none" does not exist`,
		"/portForward/" + ns + "/none":                 `404 pod "none" does not exist`,
		"/exec/" + ns + "/p/none?command=id&output=1":  `500 container not found ("none")`,
		"/exec/" + ns + "/waits/c?command=id&output=1": `500 container not found ("c")`,
		"/exec/" + ns + "/p/c?command=id":              `400 you must specify at least 1 of stdin, stdout, stderr`,
		"/attach/" + ns + "/p/none?output=1":           `500 container not found ("none")`,
	} {
		code, body := ask(t, n, "GET", path, "", pair)
		if got := fmt.Sprintf("%d %s", code, strings.TrimSpace(body)); !strings.HasPrefix(got, want) {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}

	// An unknown or unauthorized caller gets no upgrade.
	for _, how := range []string{
		"Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: v4.channel.k8s.io\r\n",
		"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: v5.channel.k8s.io\r\n",
	} {
		for _, path := range []string{"/exec/" + ns + "/p/c?command=id&output=1", "/attach/" + ns + "/p/c?output=1", "/portForward/" + ns + "/p"} {
			conn := raw(t, n, "GET "+path, &tls.Config{})
			if _, err := io.WriteString(conn, how+"\r\n"); err != nil {
				t.Fatal(err)
			}
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil || resp.StatusCode != http.StatusUnauthorized {
				t.Errorf("%s upgraded by nobody: %v, %v", path, resp, err)
			}
			conn.Close()
		}
	}
}

func TestTLSOfTheKubeletAPI(t *testing.T) {
	t.Parallel()
	dial := func(n *harness.Node, cfg *tls.Config) (uint16, error) {
		cfg.InsecureSkipVerify = true
		conn, err := tls.Dial("tcp", fmt.Sprintf("%s:%d", controlplane.HostAddress(), n.Port), cfg)
		if err != nil {
			return 0, err
		}
		defer conn.Close()
		return conn.ConnectionState().CipherSuite, nil
	}
	c := harness.SharedCluster(t)
	old := harness.NewNode(t, c, harness.AgentConfig{Config: map[string]any{"tlsCipherSuites": []string{"TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"}}})
	strict := harness.NewNode(t, c, harness.AgentConfig{Config: map[string]any{"tlsMinVersion": "VersionTLS13"}})
	for _, n := range []*harness.Node{old, strict} {
		n.Start()
		n.WaitReady()
	}
	if suite, err := dial(old, &tls.Config{MaxVersion: tls.VersionTLS12}); err != nil || suite != tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 {
		t.Errorf("TLS 1.2: suite %s, %v", tls.CipherSuiteName(suite), err)
	}
	if _, err := dial(old, &tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}}); err == nil {
		t.Error("a suite that is not configured was accepted")
	}
	if _, err := dial(old, &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}); err == nil {
		t.Error("TLS 1.1 was accepted")
	}
	if _, err := dial(strict, &tls.Config{MaxVersion: tls.VersionTLS12}); err == nil {
		t.Error("TLS 1.2 was accepted where 1.3 is the least")
	}
	if _, err := dial(strict, &tls.Config{}); err != nil {
		t.Errorf("TLS 1.3: %v", err)
	}
}
