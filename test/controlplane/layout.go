package controlplane

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// defaultKubelet is what kubeadm puts into kubelet-config, except for the cgroup
// driver, which must be Docker's.
const defaultKubelet = `cgroupDriver: cgroupfs
failCgroupV1: false
`

func lookPath(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("install Debian's etcd-server: %w", err)
	}
	return filepath.Abs(path)
}

func (c *Cluster) kubeadmConfig() string { return filepath.Join(c.cfg.Dir, "kubeadm.yaml") }

// initConfiguration is the configuration for `kubeadm init`.
func (c *Cluster) initConfiguration() string {
	kubelet := c.cfg.KubeletConfiguration
	if kubelet == "" {
		kubelet = defaultKubelet
	}
	return fmt.Sprintf(`apiVersion: kubeadm.k8s.io/v1beta4
kind: InitConfiguration
bootstrapTokens:
- token: %s
  ttl: 24h0m0s
  groups: [system:bootstrappers:kubeadm:default-node-token]
localAPIEndpoint: {advertiseAddress: %s, bindPort: %d}
nodeRegistration: {name: control-plane, criSocket: unix:///var/run/dockershim.sock}
---
apiVersion: kubeadm.k8s.io/v1beta4
kind: ClusterConfiguration
kubernetesVersion: %s
clusterName: mini
certificatesDir: %s
controlPlaneEndpoint: %s
networking: {podSubnet: %s, serviceSubnet: %s}
apiServer: {certSANs: [127.0.0.1, localhost]}
---
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
%s`, Token, c.cfg.Address, c.cfg.Port, c.version, filepath.Join(c.cfg.Dir, "pki"), c.Endpoint(), podCIDR, serviceCIDR, kubelet)
}

// credentials makes missing certificates and kubeconfigs.
func (c *Cluster) credentials(ctx context.Context) error {
	if _, err := c.kubeadm(ctx, "init", "phase", "certs", "all", "--config", c.kubeadmConfig()); err != nil {
		return err
	}
	for _, who := range []string{"admin", "super-admin", "controller-manager", "scheduler"} {
		if exists(filepath.Join(c.cfg.Dir, who+".conf")) {
			continue
		}
		if _, err := c.kubeadm(ctx, "init", "phase", "kubeconfig", who, "--config", c.kubeadmConfig(), "--kubeconfig-dir", c.cfg.Dir); err != nil {
			return err
		}
	}
	return nil
}

// layOut puts into the API server what kubeadm would: the administrators' rights,
// ConfigMaps, the bootstrap token and its rights.
func (c *Cluster) layOut(ctx context.Context) error {
	client, err := c.super()
	if err != nil {
		return err
	}
	_, err = client.RbacV1().ClusterRoleBindings().Create(ctx, &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "kubeadm:cluster-admins"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "cluster-admin"},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.GroupKind, Name: "kubeadm:cluster-admins"}},
	}, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("bind cluster-admin: %w", err)
	}
	for _, phase := range [][]string{{"upload-config", "kubeadm"}, {"upload-config", "kubelet"}, {"bootstrap-token"}} {
		args := append(append([]string{"init", "phase"}, phase...), "--config", c.kubeadmConfig(), "--kubeconfig", c.Kubeconfig())
		if _, err := c.kubeadm(ctx, args...); err != nil {
			return err
		}
	}
	// Pods can be created once the controllers have given the namespace its service
	// account.
	err = await(ctx, 3*time.Minute, func(ctx context.Context) error {
		_, err := client.CoreV1().ServiceAccounts("default").Get(ctx, "default", metav1.GetOptions{})
		return err
	})
	if err != nil {
		return fmt.Errorf("wait for the controllers: %w; their log ends:\n%s", err, c.controllers.tail())
	}
	// cluster-info must be signed before a node can join with the token.
	err = await(ctx, 3*time.Minute, func(ctx context.Context) error {
		cm, err := client.CoreV1().ConfigMaps("kube-public").Get(ctx, "cluster-info", metav1.GetOptions{})
		if err == nil && cm.Data["jws-kubeconfig-abcdef"] == "" {
			err = errors.New("cluster-info is not signed")
		}
		return err
	})
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(c.cfg.Dir, "laid-out"), nil, 0o600)
}

func (c *Cluster) kubeadm(ctx context.Context, args ...string) (string, error) {
	return run(ctx, c.cfg.Dir, c.cfg.Env, filepath.Join(c.bin, "kubeadm"), args...)
}

// port is the nth of the cluster's ports: 0 is the API server's, 1 and 2 etcd's, 3
// and 4 those of the controllers and the scheduler.
func (c *Cluster) port(n int) string { return strconv.Itoa(c.cfg.Port + n) }

func (c *Cluster) etcdArgs() []string {
	client, peer := "https://127.0.0.1:"+c.port(1), "https://127.0.0.1:"+c.port(2)
	return []string{
		"--name=control-plane", "--data-dir=" + filepath.Join(c.cfg.Dir, "etcd"),
		"--listen-client-urls=" + client, "--advertise-client-urls=" + client,
		"--listen-peer-urls=" + peer, "--initial-advertise-peer-urls=" + peer, "--initial-cluster=control-plane=" + peer,
		"--cert-file=" + c.PKI("etcd/server.crt"), "--key-file=" + c.PKI("etcd/server.key"),
		"--client-cert-auth=true", "--trusted-ca-file=" + c.PKI("etcd/ca.crt"),
		"--peer-cert-file=" + c.PKI("etcd/peer.crt"), "--peer-key-file=" + c.PKI("etcd/peer.key"),
		"--peer-client-cert-auth=true", "--peer-trusted-ca-file=" + c.PKI("etcd/ca.crt"),
		"--unsafe-no-fsync=true", // a test's data need not survive a power cut
	}
}

func (c *Cluster) apiServerArgs() []string {
	return append([]string{
		"--advertise-address=" + c.cfg.Address, "--secure-port=" + c.port(0), "--allow-privileged=true",
		"--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction", "--enable-bootstrap-token-auth=true",
		"--client-ca-file=" + c.PKI("ca.crt"),
		"--etcd-servers=https://127.0.0.1:" + c.port(1), "--etcd-cafile=" + c.PKI("etcd/ca.crt"),
		"--etcd-certfile=" + c.PKI("apiserver-etcd-client.crt"), "--etcd-keyfile=" + c.PKI("apiserver-etcd-client.key"),
		"--kubelet-client-certificate=" + c.PKI("apiserver-kubelet-client.crt"), "--kubelet-client-key=" + c.PKI("apiserver-kubelet-client.key"),
		"--kubelet-preferred-address-types=InternalIP,ExternalIP,Hostname",
		"--proxy-client-cert-file=" + c.PKI("front-proxy-client.crt"), "--proxy-client-key-file=" + c.PKI("front-proxy-client.key"),
		"--requestheader-allowed-names=front-proxy-client", "--requestheader-client-ca-file=" + c.PKI("front-proxy-ca.crt"),
		// No kube-proxy serves this machine: aggregated APIs are reached at their endpoints.
		"--enable-aggregator-routing=true",
		"--requestheader-extra-headers-prefix=X-Remote-Extra-", "--requestheader-group-headers=X-Remote-Group", "--requestheader-username-headers=X-Remote-User",
		"--service-account-issuer=https://kubernetes.default.svc.cluster.local",
		"--service-account-key-file=" + c.PKI("sa.pub"), "--service-account-signing-key-file=" + c.PKI("sa.key"),
		"--service-cluster-ip-range=" + serviceCIDR,
		// Off by default, and a volume source of pods.
		"--runtime-config=certificates.k8s.io/v1beta1/clustertrustbundles=true", "--feature-gates=ClusterTrustBundle=true,ClusterTrustBundleProjection=true",
		"--tls-cert-file=" + c.PKI("apiserver.crt"), "--tls-private-key-file=" + c.PKI("apiserver.key"),
	}, c.cfg.APIServerArgs...)
}

func (c *Cluster) controllerArgs() []string {
	conf := filepath.Join(c.cfg.Dir, "controller-manager.conf")
	args := []string{
		"--kubeconfig=" + conf, "--authentication-kubeconfig=" + conf, "--authorization-kubeconfig=" + conf,
		"--bind-address=127.0.0.1", "--secure-port=" + c.port(3), "--leader-elect=false",
		"--client-ca-file=" + c.PKI("ca.crt"), "--root-ca-file=" + c.PKI("ca.crt"),
		"--cluster-signing-cert-file=" + c.PKI("ca.crt"), "--cluster-signing-key-file=" + c.PKI("ca.key"),
		"--requestheader-client-ca-file=" + c.PKI("front-proxy-ca.crt"),
		"--service-account-private-key-file=" + c.PKI("sa.key"), "--use-service-account-credentials=true",
		"--allocate-node-cidrs=true", "--cluster-cidr=" + podCIDR, "--service-cluster-ip-range=" + serviceCIDR,
		// It creates the directory in which it looks for plug-ins, by default one of the
		// machine's.
		"--flex-volume-plugin-dir=" + filepath.Join(c.cfg.Dir, "flexvolume"),
		"--controllers=*,bootstrapsigner,tokencleaner", "--kube-api-qps=200", "--kube-api-burst=400",
		// By default they wait for minutes, for nodes that start many pods at once.
		"--horizontal-pod-autoscaler-sync-period=2s", "--horizontal-pod-autoscaler-cpu-initialization-period=5s", "--horizontal-pod-autoscaler-initial-readiness-delay=2s",
	}
	if c.cfg.SigningDuration > 0 {
		args = append(args, "--cluster-signing-duration="+c.cfg.SigningDuration.String())
	}
	return append(args, c.cfg.ControllerManagerArgs...)
}

func (c *Cluster) schedulerArgs() []string {
	conf := filepath.Join(c.cfg.Dir, "scheduler.conf")
	return []string{
		"--kubeconfig=" + conf, "--authentication-kubeconfig=" + conf, "--authorization-kubeconfig=" + conf,
		"--bind-address=127.0.0.1", "--secure-port=" + c.port(4), "--leader-elect=false", "--kube-api-qps=200", "--kube-api-burst=400",
	}
}

// HostAddress is the address of this machine at which nodes and API server reach
// each other: that of the default route, or loopback on a machine without one.
func HostAddress() string {
	conn, err := net.Dial("udp", "192.0.2.1:9") // sends nothing
	if err != nil {
		return "127.0.0.1"
	}
	defer conn.Close()
	return conn.LocalAddr().(*net.UDPAddr).IP.String()
}
