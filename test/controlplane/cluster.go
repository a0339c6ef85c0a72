package controlplane

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// Token is the bootstrap token of every test cluster: it opens a control plane
// that only this machine reaches.
const Token = "abcdef.0123456789abcdef"

// Config says which cluster to run.
type Config struct {
	Dir     string // everything that it keeps; made if missing, and used by nobody else
	Address string // at which it is reached and nodes join
	Port    int    // of the API server; etcd and the others use the next ones
	// KubeletConfiguration is the kubelet-config ConfigMap's, as YAML; "" is one that
	// suits this machine's Docker.
	KubeletConfiguration string
	// SigningDuration is how long the certificates that it signs are valid; 0: a year.
	SigningDuration time.Duration
	// APIServerArgs and ControllerManagerArgs are added to theirs.
	APIServerArgs, ControllerManagerArgs []string
	Env                                  []string // of its programs; nil: this process's own
}

// Cluster is a running control plane.
type Cluster struct {
	cfg     Config
	bin     string
	version string
	etcd, apiServer, controllers,
	scheduler *program
}

const (
	podCIDR     = "10.244.0.0/16"
	serviceCIDR = "10.96.0.0/16"
	// stopPatience is how long a program may take to end when asked to.
	stopPatience = 10 * time.Second
)

// New prepares a cluster; it starts nothing. It also finds one that is already
// running in its directory.
func New(cfg Config) (*Cluster, error) {
	bin, err := Binaries()
	if err != nil {
		return nil, err
	}
	version, err := Version()
	if err != nil {
		return nil, err
	}
	etcd, err := lookPath("etcd")
	if err != nil {
		return nil, err
	}
	if cfg.Dir, err = realPath(cfg.Dir); err != nil {
		return nil, err
	}
	if net.ParseIP(cfg.Address) == nil || cfg.Port <= 0 {
		return nil, fmt.Errorf("control plane: no address or port")
	}
	c := &Cluster{cfg: cfg, bin: bin, version: version}
	c.etcd = &program{dir: cfg.Dir, name: "etcd", path: etcd, args: c.etcdArgs()}
	c.apiServer = &program{dir: cfg.Dir, name: "kube-apiserver", path: filepath.Join(bin, "kube-apiserver"), args: c.apiServerArgs()}
	c.controllers = &program{dir: cfg.Dir, name: "kube-controller-manager", path: filepath.Join(bin, "kube-controller-manager"), args: c.controllerArgs()}
	c.scheduler = &program{dir: cfg.Dir, name: "kube-scheduler", path: filepath.Join(bin, "kube-scheduler"), args: c.schedulerArgs()}
	for _, p := range []*program{c.etcd, c.apiServer, c.controllers, c.scheduler} {
		p.env = cfg.Env
	}
	return c, nil
}

// Start makes what is missing and starts what is not running, and returns when the
// cluster is ready for nodes. If it fails, it stops what it has started.
func (c *Cluster) Start(ctx context.Context) (err error) {
	if err := claim(c.cfg.Dir); err != nil {
		return err
	}
	for _, dir := range []string{"", "logs", "etcd", "pki", "bin"} {
		if err := os.MkdirAll(filepath.Join(c.cfg.Dir, dir), 0o700); err != nil {
			return err
		}
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.Stop())
		}
	}()
	if err := os.WriteFile(c.kubeadmConfig(), []byte(c.initConfiguration()), 0o600); err != nil {
		return err
	}
	fresh := !exists(c.Kubeconfig())
	if err := c.credentials(ctx); err != nil {
		return err
	}
	if err := c.etcd.start(); err != nil {
		return err
	}
	if err := c.StartAPIServer(ctx); err != nil {
		return err
	}
	if err := errors.Join(c.controllers.start(), c.scheduler.start()); err != nil {
		return err
	}
	if fresh || !exists(filepath.Join(c.cfg.Dir, "laid-out")) {
		if err := c.layOut(ctx); err != nil {
			return err
		}
	}
	return nil
}

// StartAPIServer starts the API server again and waits until it is ready.
func (c *Cluster) StartAPIServer(ctx context.Context) error {
	if err := c.apiServer.start(); err != nil {
		return err
	}
	client, err := c.super()
	if err != nil {
		return err
	}
	err = await(ctx, 3*time.Minute, func(ctx context.Context) error {
		if c.apiServer.pid() == 0 {
			return errors.New("it has exited")
		}
		return client.Discovery().RESTClient().Get().AbsPath("/readyz").Do(ctx).Error()
	})
	if err != nil {
		return fmt.Errorf("the API server does not become ready: %w; its log ends:\n%s", err, c.apiServer.tail())
	}
	return nil
}

// APIServerPID is the process ID of the API server, 0 if it is not running.
func (c *Cluster) APIServerPID() int { return c.apiServer.pid() }

// StopAPIServer kills the API server.
func (c *Cluster) StopAPIServer() error { return c.apiServer.stop(0) }

// Stop ends all programs. Their data stays.
func (c *Cluster) Stop() error {
	var group errgroup.Group
	for _, p := range []*program{c.scheduler, c.controllers, c.apiServer} {
		group.Go(func() error { return p.stop(stopPatience) })
	}
	return errors.Join(group.Wait(), c.etcd.stop(stopPatience))
}

// Remove stops the cluster and removes all of its data. A directory that Start has not
// claimed stays as it is.
func (c *Cluster) Remove() error {
	if !claimed(c.cfg.Dir) {
		return nil
	}
	return errors.Join(c.Stop(), os.RemoveAll(c.cfg.Dir))
}

// Kubeconfig is the administrator's kubeconfig file.
func (c *Cluster) Kubeconfig() string { return filepath.Join(c.cfg.Dir, "admin.conf") }

// Program is the path of one of the built programs, e.g. "kubectl".
func (c *Cluster) Program(name string) string { return filepath.Join(c.bin, name) }

// Endpoint is the API server's host:port.
func (c *Cluster) Endpoint() string { return net.JoinHostPort(c.cfg.Address, strconv.Itoa(c.cfg.Port)) }

// PKI is the file of that name in the directory of keys and certificates.
func (c *Cluster) PKI(name string) string { return filepath.Join(c.cfg.Dir, "pki", name) }

// Log is the end of a program's log.
func (c *Cluster) Log(name string) string {
	return (&program{dir: c.cfg.Dir, name: name}).tail()
}

// RESTConfig is the administrator's, without a rate limit.
func (c *Cluster) RESTConfig() (*rest.Config, error) {
	cfg, err := clientcmd.BuildConfigFromFlags("", c.Kubeconfig())
	if err != nil {
		return nil, err
	}
	cfg.QPS = -1
	return cfg, nil
}

// Client is the administrator's client.
func (c *Cluster) Client() (*kubernetes.Clientset, error) {
	cfg, err := c.RESTConfig()
	if err != nil {
		return nil, err
	}
	return kubernetes.NewForConfig(cfg)
}

func (c *Cluster) super() (*kubernetes.Clientset, error) {
	cfg, err := clientcmd.BuildConfigFromFlags("", filepath.Join(c.cfg.Dir, "super-admin.conf"))
	if err != nil {
		return nil, err
	}
	cfg.QPS = -1
	return kubernetes.NewForConfig(cfg)
}

// CAHash is what `kubeadm join` is given to identify the cluster.
func (c *Cluster) CAHash() (string, error) {
	text, err := os.ReadFile(c.PKI("ca.crt"))
	if err != nil {
		return "", err
	}
	hash, err := caHash(text)
	if err != nil {
		return "", fmt.Errorf("read %s: %w", c.PKI("ca.crt"), err)
	}
	return hash, nil
}

// caHash is the hash of a certificate in PEM.
func caHash(text []byte) (string, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return "", errors.New("there is no certificate in it")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	return "sha256:" + hex.EncodeToString(sum[:]), nil
}

// BootstrapKubeconfig writes a file with which a node requests its first
// certificate.
func (c *Cluster) BootstrapKubeconfig(path string) error {
	return os.WriteFile(path, []byte(fmt.Sprintf(`apiVersion: v1
kind: Config
clusters:
- name: kubernetes
  cluster:
    server: https://%s
    certificate-authority: %s
users:
- name: tls-bootstrap-token-user
  user:
    token: %s
contexts:
- name: bootstrap
  context: {cluster: kubernetes, user: tls-bootstrap-token-user}
current-context: bootstrap
`, c.Endpoint(), c.PKI("ca.crt"), Token)), 0o600)
}

// Unreachable reports whether nothing answers at the API server's address.
func (c *Cluster) Unreachable() bool {
	_, err := (&http.Client{Timeout: time.Second}).Get("https://" + c.Endpoint())
	return err != nil && strings.Contains(err.Error(), "connection refused")
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
