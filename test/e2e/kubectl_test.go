package e2e

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"

	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

func TestKubectlExec(t *testing.T) {
	n, ns := join(t)
	n.Create(ns, harness.Pod("p", "sleep 1000", quick))
	n.AwaitReady(ns, "p")
	if out := n.MustKubectl(ns, "exec", "p", "--", "echo", "hello"); out != "hello\n" {
		t.Errorf("exec echo: %q", out)
	}
	// Binary both ways, more than any buffer on the way.
	data := make([]byte, 3<<20)
	_, _ = rand.Read(data)
	out, _, err := n.Cluster.Kubectl(t.Context(), bytes.NewReader(data), "-n", ns, "exec", "-i", "p", "--", "cat")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(out, data) {
		t.Errorf("cat gave back %d bytes that are not the %d sent", len(out), len(data))
	}
	_, _, err = n.Cluster.Kubectl(t.Context(), nil, "-n", ns, "exec", "p", "--", "sh", "-c", "exit 42")
	if err == nil || !strings.Contains(err.Error(), "exit code 42") {
		t.Errorf("exit 42 became %v", err)
	}
	_, _, err = n.Cluster.Kubectl(t.Context(), nil, "-n", ns, "exec", "p", "-c", "none", "--", "true")
	if err == nil || !strings.Contains(err.Error(), "none") {
		t.Errorf("exec in a container that is not there: %v", err)
	}
	out, stderr, err := n.Cluster.Kubectl(t.Context(), nil, "-n", ns, "exec", "p", "--", "sh", "-c", "echo out; echo err >&2")
	if err != nil || string(out) != "out\n" || !strings.Contains(stderr, "err\n") {
		t.Errorf("streams: %q %q %v", out, stderr, err)
	}
}

func TestKubectlLogs(t *testing.T) {
	n, ns := join(t)
	// Docker reads the two streams apart: only what is read has an order.
	n.Create(ns, harness.Pod("p", "echo first >&2; until [ -e /tmp/go ]; do sleep 0.1; done; seq 1 100000; echo last; sleep 1000", quick))
	n.AwaitReady(ns, "p")
	n.AwaitLog(ns, "p", "first\n")
	n.MustKubectl(ns, "exec", "p", "--", "touch", "/tmp/go")
	harness.Eventually(t, "the whole log is there", harness.Patience, func() error {
		out := n.MustKubectl(ns, "logs", "p")
		if !strings.HasPrefix(out, "first\n1\n2\n") || !strings.HasSuffix(out, "\n100000\nlast\n") || strings.Count(out, "\n") != 100002 {
			return fmt.Errorf("log of %d lines, %.20q to %q", strings.Count(out, "\n"), out, out[max(0, len(out)-20):])
		}
		return nil
	}, n.Explain)
	if out := n.MustKubectl(ns, "logs", "p", "--tail=1"); out != "last\n" {
		t.Errorf("--tail=1: %q", out)
	}
	if out := n.MustKubectl(ns, "logs", "p", "--limit-bytes=5"); out != "first" {
		t.Errorf("--limit-bytes=5: %q", out)
	}
	out := n.MustKubectl(ns, "logs", "p", "--tail=1", "--timestamps")
	stamp, rest, _ := strings.Cut(out, " ")
	if _, err := time.Parse(time.RFC3339Nano, stamp); err != nil || rest != "last\n" {
		t.Errorf("--timestamps: %q: %v", out, err)
	}
	if out := n.MustKubectl(ns, "logs", "p", "--since=1h", "--tail=1"); out != "last\n" {
		t.Errorf("--since=1h: %q", out)
	}
}

func TestKubectlLogsPreviousAndFollow(t *testing.T) {
	n, ns := join(t)
	n.Create(ns, harness.Pod("p", "if [ -e /data/again ]; then for i in 1 2 3; do echo now $i; done; sleep 1000; fi; touch /data/again; echo before; exit 3", quick, func(p *v1.Pod) {
		p.Spec.Volumes = []v1.Volume{{Name: "data", VolumeSource: v1.VolumeSource{EmptyDir: &v1.EmptyDirVolumeSource{}}}}
		p.Spec.Containers[0].VolumeMounts = []v1.VolumeMount{{Name: "data", MountPath: "/data"}}
	}))
	n.Await(ns, "p", "runs again", func(p *v1.Pod) bool {
		s := harness.Status(p, "c")
		return s.RestartCount == 1 && s.State.Running != nil
	})
	n.AwaitLog(ns, "p", "before\n", "--previous")
	ctx, cancel := context.WithTimeout(t.Context(), harness.Patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, n.Cluster.Program("kubectl"), "--kubeconfig", n.Cluster.Kubeconfig(), "-n", ns, "logs", "-f", "p")
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(pipe)
	for i := 1; i <= 3; i++ {
		if !lines.Scan() || lines.Text() != fmt.Sprintf("now %d", i) {
			t.Fatalf("line %d of -f: %q", i, lines.Text())
		}
	}
	// The log of a container that ends ends.
	n.MustKubectl(ns, "delete", "pod", "p", "--wait=false")
	if lines.Scan() {
		t.Errorf("-f goes on with %q", lines.Text())
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("logs -f ended with %v", err)
	}
}

func TestKubectlCopy(t *testing.T) {
	n, ns := join(t)
	n.Create(ns, harness.Pod("p", "sleep 1000", quick))
	n.AwaitReady(ns, "p")
	data := make([]byte, 1<<20)
	_, _ = rand.Read(data)
	dir := t.TempDir()
	to, from := filepath.Join(dir, "to"), filepath.Join(dir, "from")
	if err := os.WriteFile(to, data, 0o600); err != nil {
		t.Fatal(err)
	}
	n.MustKubectl(ns, "cp", to, "p:/tmp/file")
	n.MustKubectl(ns, "cp", "p:/tmp/file", from)
	back, err := os.ReadFile(from)
	if err != nil || !bytes.Equal(back, data) {
		t.Errorf("the file came back with %d bytes: %v", len(back), err)
	}
}

func TestKubectlAttach(t *testing.T) {
	n, ns := join(t)
	n.Create(ns, harness.Pod("p", "read line; echo got $line; sleep 1000", quick, func(p *v1.Pod) { p.Spec.Containers[0].Stdin = true }))
	n.AwaitReady(ns, "p")
	ctx, cancel := context.WithTimeout(t.Context(), harness.Patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, n.Cluster.Program("kubectl"), "--kubeconfig", n.Cluster.Kubeconfig(), "-n", ns, "attach", "-i", "p")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(in, "something\n"); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() && lines.Text() != "got something" {
	}
	if lines.Text() != "got something" {
		t.Errorf("attach ended with %q", lines.Text())
	}
	cancel()
	_ = cmd.Wait()
}

func TestKubectlPortForward(t *testing.T) {
	n, ns := join(t)
	// Ready once it listens: kubectl ends when a connection is refused.
	n.Create(ns, harness.Pod("p", "mkdir /www; yes 0123456789abcdef | head -c 2000000 > /www/big; httpd -p 8000 -h /www && touch /tmp/ready; exec sleep 1000",
		quick, harness.ReadyOnceTouched))
	n.AwaitReady(ns, "p")
	ctx, cancel := context.WithTimeout(t.Context(), harness.Patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, n.Cluster.Program("kubectl"), "--kubeconfig", n.Cluster.Kubeconfig(), "-n", ns, "port-forward", "p", ":8000")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { cancel(); _ = cmd.Wait() }()
	lines := bufio.NewScanner(out)
	if !lines.Scan() {
		t.Fatalf("port-forward says nothing: %v", lines.Err())
	}
	// "Forwarding from 127.0.0.1:41234 -> 8000"
	var port int
	if _, err := fmt.Sscanf(lines.Text(), "Forwarding from 127.0.0.1:%d ->", &port); err != nil {
		t.Fatalf("port-forward says %q", lines.Text())
	}
	go io.Copy(io.Discard, out)
	for range 3 {
		harness.Eventually(t, "the forwarded port answers", harness.Patience, func() error {
			resp, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/big", port))
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			if err == nil && len(body) != 2000000 {
				err = fmt.Errorf("%d bytes", len(body))
			}
			return err
		})
	}
}

func TestKubectlDescribeShowsWhatHappened(t *testing.T) {
	n, ns := join(t)
	n.Create(ns, harness.Pod("p", "exit 1", quick))
	n.Await(ns, "p", "backs off", func(p *v1.Pod) bool {
		w := harness.Status(p, "c").State.Waiting
		return w != nil && w.Reason == "CrashLoopBackOff"
	})
	harness.Eventually(t, "describe shows the events", harness.Patience, func() error {
		out := n.MustKubectl(ns, "describe", "pod", "p")
		for _, want := range []string{"Pulled", "Created", "Started", "BackOff", "CrashLoopBackOff", "Exit Code:    1"} {
			if !strings.Contains(out, want) {
				return fmt.Errorf("no %s in:\n%s", want, out)
			}
		}
		return nil
	})
	out := n.MustKubectl("", "get", "node", n.Node(), "-o", "wide")
	if !strings.Contains(out, "Ready") || !strings.Contains(out, "docker://") {
		t.Errorf("get node:\n%s", out)
	}
	if out := n.MustKubectl("", "describe", "node", n.Node()); !strings.Contains(out, "KubeletReady") {
		t.Errorf("describe node:\n%s", out)
	}
}
