package dockershim

import (
	"time"

	"github.com/docker/docker/client"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Config is what a Server is built from. Zero values of the optional fields
// take the defaults named beside them.
type Config struct {
	Listen         string // unix:///var/run/dockershim.sock
	DockerEndpoint string // unix:///var/run/docker.sock
	// StateDir holds sandbox checkpoints and log positions; /var/lib/dockershim.
	StateDir string
	// CgroupDriver that the caller uses, "cgroupfs" or "systemd"; a driver that
	// differs from Docker's is an error of New. Empty: whatever Docker uses.
	CgroupDriver string
	// SandboxImage is the pause image's reference. Empty: the built-in image,
	// which is loaded into Docker when missing.
	SandboxImage string
	// NetworkPlugin is "docker", "cni" or "kubenet". Empty: cni where CNIConfDir
	// holds a configuration, else docker.
	NetworkPlugin string
	CNIConfDir    string   // /etc/cni/net.d
	CNIBinDirs    []string // /opt/cni/bin, /usr/lib/cni
	CNICacheDir   string   // /var/lib/cni/cache
	HairpinMode   string   // promiscuous-bridge, hairpin-veth or none
	// NonMasqueradeCIDR is where kubenet does not masquerade; 10.0.0.0/8.
	NonMasqueradeCIDR string
	// StreamingAddress is where exec, attach and port-forward are served; 127.0.0.1:0.
	StreamingAddress string
	// ImagePullProgressDeadline cancels a pull that makes no progress; 1 min.
	ImagePullProgressDeadline time.Duration
	// RequestTimeout bounds a Docker call other than pulls and stops; 2 min.
	RequestTimeout time.Duration
}

// Server answers CRI v1 over a Unix socket. Every RPC is safe for concurrent use.
type Server struct {
	cri.UnimplementedRuntimeServiceServer
	cri.UnimplementedImageServiceServer

	cfg    Config
	docker *client.Client
}
