package harness

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/mini-kubelet/mini-kubelet/test/controlplane"
)

// Cluster is a real control plane for tests.
type Cluster struct {
	*controlplane.Cluster
	Client *kubernetes.Clientset // the administrator's
	dir    string
}

// sharedCluster is the control plane that the tests of a process share.
var sharedCluster = sync.OnceValues(func() (*Cluster, error) {
	return startCluster(controlplane.Config{})
})

// SharedCluster returns the control plane that most tests share. A test that
// damages one starts its own.
func SharedCluster(t T) *Cluster {
	t.Helper()
	needCluster(t)
	c, err := sharedCluster()
	if err != nil {
		t.Fatalf("%v", err)
	}
	return c
}

// StartCluster starts a control plane for one test.
func StartCluster(t T, cfg controlplane.Config) *Cluster {
	t.Helper()
	needCluster(t)
	c, err := startCluster(cfg)
	if err != nil {
		t.Fatalf("%v", err)
	}
	t.Cleanup(func() {
		if err := c.Remove(); err != nil {
			t.Errorf("stop the control plane: %v", err)
		}
	})
	return c
}

// needCluster skips the test if the control plane's programs are not built, unless
// they are required (MINI_KUBELET_E2E, which `make e2e` sets).
func needCluster(t T) {
	t.Helper()
	if _, err := controlplane.Binaries(); err != nil {
		if os.Getenv("MINI_KUBELET_E2E") != "" {
			t.Fatalf("%v", err)
		}
		t.Skipf("%v", err)
	}
	NeedDockerd(t)
}

func startCluster(cfg controlplane.Config) (*Cluster, error) {
	dir, _, err := newDir("k")
	if err != nil {
		return nil, err
	}
	cfg.Dir, cfg.Address, cfg.Env = dir, controlplane.HostAddress(), environ()
	if cfg.Port, err = freePorts(5); err != nil {
		return nil, err
	}
	cp, err := controlplane.New(cfg)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	if err := cp.Start(ctx); err != nil {
		return nil, err
	}
	client, err := cp.Client()
	if err != nil {
		return nil, err
	}
	return &Cluster{Cluster: cp, Client: client, dir: dir}, nil
}

// freePorts finds that many consecutive ports that nobody listens on.
func freePorts(n int) (int, error) {
	for range 50 {
		b := make([]byte, 2)
		if _, err := rand.Read(b); err != nil {
			return 0, err
		}
		first := 20000 + (int(b[0])<<8|int(b[1]))%(firstPort-20000-n) // below those of agents
		free := true
		for p := first; p < first+n && free; p++ {
			l, err := net.Listen("tcp", ":"+strconv.Itoa(p))
			if free = err == nil; free {
				l.Close()
			}
		}
		if free {
			return first, nil
		}
	}
	return 0, errors.New("no free ports in a row")
}

// Node is an agent that has joined a cluster.
type Node struct {
	*Agent
	Cluster *Cluster
	Port    int // of its kubelet API
}

// NewNode prepares a node without starting its agent: it will bootstrap with the
// cluster's token.
func NewNode(t T, c *Cluster, cfg AgentConfig) *Node {
	t.Helper()
	_, text, err := net.SplitHostPort(FreePort(t))
	if err != nil {
		t.Fatalf("%v", err)
	}
	port, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("%v", err)
	}
	own := map[string]any{
		// The machine's disk may be as full as it likes.
		"evictionHard": map[string]string{"memory.available": "100Mi", "nodefs.available": "1Mi", "imagefs.available": "1Mi"},
		"port":         port, "rotateCertificates": true, "clusterDNS": []string{"10.96.0.10"}, "clusterDomain": "cluster.local",
		"authentication": map[string]any{"x509": map[string]any{"clientCAFile": c.PKI("ca.crt")}},
	}
	maps.Copy(own, cfg.Config)
	cfg.Config = own
	a := NewAgent(t, cfg)
	n := &Node{Agent: a, Cluster: c, Port: port}
	bootstrap := filepath.Join(a.Dir, "bootstrap.conf")
	if err := c.BootstrapKubeconfig(bootstrap); err != nil {
		t.Fatalf("%v", err)
	}
	a.cfg.Args = append([]string{"--bootstrap-kubeconfig", bootstrap, "--kubeconfig", n.Kubeconfig()}, a.cfg.Args...)
	t.Cleanup(func() {
		// The agent is still running here: cleanups run last to first.
		err := c.Client.CoreV1().Nodes().Delete(context.Background(), a.Node, metav1.DeleteOptions{})
		if err != nil && !apierrors.IsNotFound(err) && !c.Unreachable() {
			t.Errorf("remove node %s: %v", a.Node, err)
		}
	})
	return n
}

// StartNode starts an agent and waits until the cluster shows it as a Ready node.
func StartNode(t T, c *Cluster, cfg AgentConfig) *Node {
	t.Helper()
	n := NewNode(t, c, cfg)
	n.Start()
	n.WaitReady()
	return n
}

// Kubeconfig is the file that the agent writes once it has a certificate.
func (n *Node) Kubeconfig() string { return filepath.Join(n.Dir, "kubelet.conf") }

// WaitReady waits until the cluster shows the node as Ready.
func (n *Node) WaitReady() {
	n.t.Helper()
	if err := n.Cluster.WaitReady(n.t.Context(), n.Node()); err != nil {
		n.t.Fatalf("%v\n%s", err, n.Agent.Explain())
	}
}

// Node is the name of the node.
func (n *Node) Node() string { return n.Agent.Node }

// Namespace makes a namespace for the test, ready for pods, and later removes it
// with everything in it.
func (n *Node) Namespace() string {
	n.t.Helper()
	b := make([]byte, 4)
	_, _ = rand.Read(b)
	name := "t-" + hex.EncodeToString(b)
	ctx := n.t.Context()
	if _, err := n.Cluster.Client.CoreV1().Namespaces().Create(ctx, &v1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{}); err != nil {
		n.t.Fatalf("%v", err)
	}
	Eventually(n.t, "the namespace is ready for pods", Patience, func() error { return n.Cluster.ReadyForPods(ctx, name) })
	n.t.Cleanup(func() {
		// Pods go at once: the node may be gone, or about to go.
		ctx, zero := context.Background(), int64(0)
		if n.Cluster.Unreachable() {
			return
		}
		_ = n.Cluster.Client.CoreV1().Namespaces().Delete(ctx, name, metav1.DeleteOptions{})
		_ = n.Cluster.Client.CoreV1().Pods(name).DeleteCollection(ctx, metav1.DeleteOptions{GracePeriodSeconds: &zero}, metav1.ListOptions{})
	})
	return name
}

// ReadyForPods returns nil once the controllers have given a namespace what any pod in it uses: the service
// account, and the certificate beside its token. A pod that comes earlier waits, and has events of that.
func (c *Cluster) ReadyForPods(ctx context.Context, namespace string) error {
	_, err := c.Client.CoreV1().ServiceAccounts(namespace).Get(ctx, "default", metav1.GetOptions{})
	if err == nil {
		_, err = c.Client.CoreV1().ConfigMaps(namespace).Get(ctx, "kube-root-ca.crt", metav1.GetOptions{})
	}
	return err
}

// Create creates a pod that is bound to this node, without the scheduler.
func (n *Node) Create(namespace string, pod *v1.Pod) *v1.Pod {
	n.t.Helper()
	pod = pod.DeepCopy()
	pod.Namespace, pod.Spec.NodeName = namespace, n.Node()
	made, err := n.Cluster.Client.CoreV1().Pods(namespace).Create(n.t.Context(), pod, metav1.CreateOptions{})
	if err != nil {
		n.t.Fatalf("create pod %s: %v", pod.Name, err)
	}
	return made
}

// Await waits until cond accepts the pod as the API server has it. It watches, so
// that a state that lasts only milliseconds is seen too.
func (n *Node) Await(namespace, name, what string, cond func(*v1.Pod) bool) *v1.Pod {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(n.t.Context(), Patience)
	defer cancel()
	var pod *v1.Pod
	Eventually(n.t, "pod "+name+" "+what, Patience, func() (err error) {
		pod, err = n.watch(ctx, namespace, name, cond)
		return err
	}, n.Explain)
	return pod
}

// watch returns the first state of the pod that meets cond, or an error with the
// last one when the watch or the context ends.
func (n *Node) watch(ctx context.Context, namespace, name string, cond func(*v1.Pod) bool) (*v1.Pod, error) {
	pods := n.Cluster.Client.CoreV1().Pods(namespace)
	only := metav1.SingleObject(metav1.ObjectMeta{Name: name})
	list, err := pods.List(ctx, only)
	if err != nil {
		return nil, err
	}
	last := errors.New("there is no such pod")
	for i := range list.Items {
		if cond(&list.Items[i]) {
			return &list.Items[i], nil
		}
		last = errors.New(describeStatus(&list.Items[i].Status))
	}
	only.ResourceVersion = list.ResourceVersion
	w, err := pods.Watch(ctx, only)
	if err != nil {
		return nil, errors.Join(last, err)
	}
	defer w.Stop()
	for e := range w.ResultChan() {
		pod, isPod := e.Object.(*v1.Pod)
		switch {
		case !isPod:
			return nil, errors.Join(last, apierrors.FromObject(e.Object))
		case e.Type == watch.Deleted:
			last = errors.New("the pod was deleted")
		case cond(pod):
			return pod, nil
		default:
			last = errors.New(describeStatus(&pod.Status))
		}
	}
	return nil, last
}

// AwaitReady waits until the API server shows the pod as Ready.
func (n *Node) AwaitReady(namespace, name string) *v1.Pod {
	n.t.Helper()
	return n.Await(namespace, name, "is Ready", Ready)
}

// AwaitGone waits until the API server has no such pod.
func (n *Node) AwaitGone(namespace, name string) {
	n.t.Helper()
	Eventually(n.t, "pod "+name+" is gone", Patience, func() error {
		_, err := n.Cluster.Client.CoreV1().Pods(namespace).Get(n.t.Context(), name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		return errors.Join(err, errors.New("it is still there"))
	}, n.Explain)
}

// Kubectl runs the real kubectl as the administrator and returns its output.
func (c *Cluster) Kubectl(ctx context.Context, stdin io.Reader, args ...string) (stdout []byte, stderr string, err error) {
	cmd := exec.CommandContext(ctx, c.Program("kubectl"), append([]string{"--kubeconfig", c.Kubeconfig()}, args...)...)
	cmd.Env = environ()
	var out, errOut bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, &out, &errOut
	err = cmd.Run()
	if err != nil {
		err = fmt.Errorf("kubectl %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(errOut.String()))
	}
	return out.Bytes(), errOut.String(), err
}

// MustKubectl is Kubectl in a namespace; the test fails if it does.
func (n *Node) MustKubectl(namespace string, args ...string) string {
	n.t.Helper()
	out, _, err := n.Cluster.Kubectl(n.t.Context(), nil, append([]string{"-n", namespace}, args...)...)
	if err != nil {
		n.t.Fatalf("%v\n%s", err, n.Explain())
	}
	return string(out)
}

// AwaitLog waits until the pod's log is want: a container runs before its first line can be
// read. args are further arguments of kubectl logs.
func (n *Node) AwaitLog(namespace, pod, want string, args ...string) {
	n.t.Helper()
	Eventually(n.t, "the log of pod "+pod, Patience, func() error {
		out, _, err := n.Cluster.Kubectl(n.t.Context(), nil, append([]string{"-n", namespace, "logs", pod}, args...)...)
		if err == nil && string(out) != want {
			err = fmt.Errorf("it is %q, want %q", out, want)
		}
		return err
	}, n.Explain)
}

// As returns a client with the node's own identity, from its kubeconfig.
func (n *Node) As() *kubernetes.Clientset {
	n.t.Helper()
	cfg := &rest.Config{
		Host: "https://" + n.Cluster.Endpoint(), QPS: -1,
		TLSClientConfig: rest.TLSClientConfig{CAFile: n.Cluster.PKI("ca.crt"), CertFile: n.ClientPair(), KeyFile: n.ClientPair()},
	}
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		n.t.Fatalf("%v", err)
	}
	return client
}

// ClientPair is the file with the node's client certificate and key.
func (n *Node) ClientPair() string {
	return filepath.Join(n.Dir, "root", "pki", "kubelet-client-current.pem")
}
