package controlplane

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Machine is this machine as a node: kubeadm only uses /etc/kubernetes and
// /var/lib/kubelet, so there can be only one.
type Machine struct {
	Agent string // mini-kubelet's binary
	Dir   string // for its log and other files; made if missing, and used by nobody else
	// Name of the node; "" is the host's name.
	Name string
	// Socket of the container runtime; "" is the built-in dockershim's.
	Socket string
	// Args are added to the agent's, before kubeadm's; reset gets them as well.
	Args []string
	Env  []string // for kubeadm and the agent; nil: that of the cluster's programs
}

func (c *Cluster) with(m Machine) Machine {
	if m.Env == nil {
		m.Env = c.cfg.Env
	}
	return m
}

// The paths that kubeadm writes to.
const (
	kubernetesDir = "/etc/kubernetes"
	kubeletDir    = "/var/lib/kubelet"
)

func (m Machine) socket() string {
	if m.Socket != "" {
		return m.Socket
	}
	return "unix:///var/run/dockershim.sock"
}

func (m Machine) name() (string, error) {
	if m.Name != "" {
		return m.Name, nil
	}
	host, err := os.Hostname()
	return strings.ToLower(host), err
}

func (m Machine) env() []string {
	if m.Env != nil {
		return m.Env
	}
	return os.Environ()
}

func (m Machine) agent() (*program, error) {
	dir, err := realPath(m.Dir)
	if err != nil {
		return nil, err
	}
	return &program{dir: dir, name: "kubelet", path: filepath.Join(dir, "bin", "kubelet"), env: m.env()}, nil
}

// Join runs the real `kubeadm join`, with the agent installed as the kubelet, and waits
// until the node is Ready. kubeadm asks systemd to start the kubelet, which a test
// machine may not have: instead, Join starts the agent itself, as kubeadm's unit would,
// once kubeadm has written what the agent needs. Leave undoes it, even if Join has failed
// or its process has died.
func (c *Cluster) Join(ctx context.Context, m Machine, out io.Writer) error {
	m = c.with(m)
	agent, err := m.agent()
	if err != nil {
		return err
	}
	if agent.pid() != 0 {
		return errors.New("the agent runs already")
	}
	hash, err := c.CAHash()
	if err != nil {
		return err
	}
	name, err := m.name()
	if err != nil {
		return err
	}
	if err := c.record(m, agent.dir); err != nil {
		return err
	}
	if err := m.install(agent); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	// If one fails, the other ends.
	group, both := errgroup.WithContext(ctx)
	group.Go(func() error { return m.supervise(both, agent) })
	group.Go(func() error {
		text, err := run(both, agent.dir, append(m.env(), "PATH="+filepath.Dir(agent.path)+":"+os.Getenv("PATH")), c.Program("kubeadm"),
			"join", c.Endpoint(), "--token", Token, "--discovery-token-ca-cert-hash", hash, "--node-name", name, "--cri-socket", m.socket(),
			// The runtime belongs to the agent and starts with it; the kernel's configuration
			// is not readable on every test machine, and a second agent may have the ports.
			"--ignore-preflight-errors", "CRI,ContainerRuntimeVersion,SystemVerification,Swap,FileExisting-crictl")
		fmt.Fprint(out, text)
		return err
	})
	if err := group.Wait(); err != nil {
		return fmt.Errorf("%w; the agent's log ends:\n%s", err, agent.tail())
	}
	if err := c.WaitReady(ctx, name); err != nil {
		return fmt.Errorf("%w; the agent's log ends:\n%s", err, agent.tail())
	}
	return nil
}

// install puts the agent where PATH finds it as "kubelet", together with a
// systemctl that does nothing.
func (m Machine) install(agent *program) error {
	bin := filepath.Dir(agent.path)
	for _, dir := range []string{bin, filepath.Join(agent.dir, "logs")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	source, err := filepath.Abs(m.Agent)
	if err != nil {
		return err
	}
	if err := copyFile(source, agent.path+".new"); err != nil {
		return err
	}
	if err := os.Rename(agent.path+".new", agent.path); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(bin, "systemctl"), []byte("#!/bin/sh\nexit 0\n"), 0o755)
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// supervise starts the agent, as kubeadm's drop-in for the kubelet's unit does,
// once the files that it needs are there.
func (m Machine) supervise(ctx context.Context, agent *program) error {
	flags := filepath.Join(kubeletDir, "kubeadm-flags.env")
	err := await(ctx, 2*time.Minute, func(context.Context) error {
		for _, path := range []string{flags, filepath.Join(kubeletDir, "config.yaml"), filepath.Join(kubernetesDir, "bootstrap-kubelet.conf")} {
			if !exists(path) {
				return fmt.Errorf("kubeadm has not written %s", path)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return m.StartAgent(agent)
}

// StartAgent starts the agent with the flags of kubeadm's unit.
func (m Machine) StartAgent(agent *program) error {
	text, err := os.ReadFile(filepath.Join(kubeletDir, "kubeadm-flags.env"))
	if err != nil {
		return err
	}
	_, value, ok := strings.Cut(strings.TrimSpace(string(text)), "=")
	if !ok {
		return fmt.Errorf("kubeadm-flags.env: want KUBELET_KUBEADM_ARGS=..., got %q", text)
	}
	agent.args = append([]string{
		"--bootstrap-kubeconfig=" + filepath.Join(kubernetesDir, "bootstrap-kubelet.conf"),
		"--kubeconfig=" + filepath.Join(kubernetesDir, "kubelet.conf"),
		"--config=" + filepath.Join(kubeletDir, "config.yaml"),
		// What nobody takes back afterwards.
		"--kernel-settings=leave", "--make-iptables-util-chains=false",
	}, m.Args...)
	agent.args = append(agent.args, strings.Fields(strings.Trim(value, `"`))...)
	return agent.start()
}

// WaitReady waits until the node is Ready.
func (c *Cluster) WaitReady(ctx context.Context, node string) error {
	client, err := c.Client()
	if err != nil {
		return err
	}
	return await(ctx, 3*time.Minute, func(ctx context.Context) error {
		n, err := client.CoreV1().Nodes().Get(ctx, node, metav1.GetOptions{})
		if err != nil {
			return err
		}
		for _, cond := range n.Status.Conditions {
			if cond.Type == v1.NodeReady {
				if cond.Status == v1.ConditionTrue {
					return nil
				}
				return fmt.Errorf("node %s is not Ready: %s: %s", node, cond.Reason, cond.Message)
			}
		}
		return fmt.Errorf("node %s has no Ready condition", node)
	})
}
