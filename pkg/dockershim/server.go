package dockershim

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/cdi"
	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/checkpoint"
	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/convert"
	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/docker"
	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/imageservice"
	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/imagevolume"
	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/logs"
	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/network"
	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/streaming"
)

// maxRequest bounds what a client sends, in bytes, as containerd does. Answers are not bounded:
// lists hold what pods say of themselves (labels, annotations, hooks), and a dozen pods as large
// as an API server takes are longer than that.
const maxRequest = 16 << 20

// Config is what a Server is built from. Fields that are not set take the defaults named
// beside them.
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
	// holds a configuration when New is called, else docker.
	NetworkPlugin string
	CNIConfDir    string   // /etc/cni/net.d
	CNIBinDirs    []string // /opt/cni/bin, /usr/lib/cni
	CNICacheDir   string   // /var/lib/cni/cache
	HairpinMode   string   // promiscuous-bridge, hairpin-veth or none
	// NonMasqueradeCIDR is where kubenet does not masquerade; 10.0.0.0/8.
	NonMasqueradeCIDR string
	MTU               int32  // of kubenet; 0: the kernel's for a bridge
	KubenetBridge     string // cbr0
	// CDISpecDirs are where CDI files are read for a Docker that gives no CDI devices itself; /etc/cdi, /var/run/cdi.
	CDISpecDirs []string
	// StreamingAddress is where exec, attach and port-forward are served; 127.0.0.1:0.
	StreamingAddress string
	// ImagePullProgressDeadline cancels a pull that makes no progress; 1 min.
	ImagePullProgressDeadline time.Duration
	// Observe, unless nil, hears of each call to Docker, with what Because of crimeta has said of the CRI call.
	Observe docker.Observer
	// RequestTimeout bounds a Docker call other than pulls and stops; 2 min.
	RequestTimeout time.Duration
}

func (c Config) withDefaults() Config {
	text := func(field *string, value string) {
		if *field == "" {
			*field = value
		}
	}
	text(&c.Listen, "unix:///var/run/dockershim.sock")
	text(&c.DockerEndpoint, "unix:///var/run/docker.sock")
	text(&c.StateDir, "/var/lib/dockershim")
	text(&c.CNIConfDir, "/etc/cni/net.d")
	text(&c.CNICacheDir, "/var/lib/cni/cache")
	text(&c.StreamingAddress, "127.0.0.1:0")
	if len(c.CNIBinDirs) == 0 {
		c.CNIBinDirs = []string{"/opt/cni/bin", "/usr/lib/cni"}
	}
	if len(c.CDISpecDirs) == 0 {
		c.CDISpecDirs = cdi.DefaultDirs()
	}
	if c.RequestTimeout <= 0 {
		c.RequestTimeout = 2 * time.Minute
	}
	return c
}

// Server answers CRI v1 over a Unix socket. Every RPC is safe for concurrent use.
type Server struct {
	cri.UnimplementedRuntimeServiceServer

	cfg        Config
	docker     *docker.Engine
	privileges *docker.Privileges // of the daemon
	platform   convert.Platform   // what conversions must know

	state
	services
	subscribers subscribers

	noting   sync.Mutex      // held while the loading of the sandbox image is noted
	tasks    sync.WaitGroup  // what events have started in the background
	base     context.Context // of tasks
	stopping chan struct{}   // closed when Run ends
}

// services are the parts that RPCs delegate to, each a package of its own.
type services struct {
	imageService *imageservice.Service
	volumes      *imagevolume.Mounts
	network      network.Plugin
	logs         *logs.Manager
	streams      *streaming.Server
	usage        *usage
}

// New connects to Docker and prepares everything; Run serves. It fails when Docker does not
// answer, is too old or uses another cgroup driver, and when a directory or an image reference
// of the configuration cannot be used.
func New(ctx context.Context, cfg Config) (_ *Server, err error) {
	cfg = cfg.withDefaults()
	engine, err := docker.Connect(ctx, cfg.DockerEndpoint, cfg.Observe)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = engine.Close()
		}
	}()
	if err := checkCgroupDriver(cfg.CgroupDriver, engine.About.CgroupDriver); err != nil {
		return nil, err
	}
	// The label that finds our containers must not depend on how the path was given.
	if cfg.StateDir, err = filepath.Abs(cfg.StateDir); err != nil {
		return nil, err
	}
	s := &Server{
		cfg: cfg, docker: engine, privileges: docker.FindPrivileges(engine), platform: convert.NewPlatform(engine, cfg.StateDir),
		state:    state{containers: docker.NewContainers(engine, cfg.StateDir), images: docker.NewImages(engine)},
		stopping: make(chan struct{}), base: context.Background(),
	}
	s.volumes = imagevolume.New(filepath.Join(cfg.StateDir, "images"), engine, s.containers)
	if s.checkpoints, err = checkpoint.New(filepath.Join(cfg.StateDir, "sandbox")); err != nil {
		return nil, err
	}
	if s.logs, err = logs.New(logs.Config{StateDir: filepath.Join(cfg.StateDir, "logs")}); err != nil {
		return nil, err
	}
	if s.usage, err = newUsage(); err != nil {
		return nil, err
	}
	if s.imageService, err = imageservice.New(imageservice.Config{
		Docker: engine, WritableLayers: s.usage.layers.Total, MountedBy: s.volumes.User, SandboxImage: cfg.SandboxImage,
		PullProgressDeadline: cfg.ImagePullProgressDeadline, RequestTimeout: cfg.RequestTimeout, Observe: cfg.Observe,
	}); err != nil {
		return nil, err
	}
	if s.network, err = network.New(network.Config{
		Plugin: cfg.NetworkPlugin, Docker: engine.Client, ConfDir: cfg.CNIConfDir, BinDirs: cfg.CNIBinDirs, CacheDir: cfg.CNICacheDir,
		StateDir: filepath.Join(cfg.StateDir, "network"), HairpinMode: cfg.HairpinMode, NonMasqueradeCIDR: cfg.NonMasqueradeCIDR,
		MTU: int(cfg.MTU), KubenetBridge: cfg.KubenetBridge, KubenetRecord: kubenetRecord(cfg.StateDir),
	}); err != nil {
		return nil, err
	}
	if s.streams, err = streaming.New(streaming.Config{Docker: engine.Client, Address: cfg.StreamingAddress, Observe: cfg.Observe}); err != nil {
		return nil, err
	}
	return s, nil
}

// Run serves until ctx ends or a part fails. Containers run on.
func (s *Server) Run(ctx context.Context) error {
	defer s.docker.Close()
	listener, err := listen(ctx, s.cfg.Listen)
	if err != nil {
		return err
	}
	server := s.grpc()
	group, ctx := errgroup.WithContext(ctx)
	s.base = ctx
	group.Go(func() error { return s.logs.Run(ctx) })
	group.Go(func() error { return s.streams.Run(ctx) })
	group.Go(func() error { return s.network.Run(ctx) })
	group.Go(func() error { return s.usage.layers.Run(ctx) })
	if err := s.recover(ctx); err != nil {
		listener.Close()
		group.Go(func() error { return err })
		return group.Wait()
	}
	group.Go(func() error { return s.containers.Watch(ctx, s.happened) })
	group.Go(func() error { return s.tidy(ctx) })
	group.Go(func() error { return server.Serve(listener) })
	group.Go(func() error {
		<-ctx.Done()
		close(s.stopping)
		server.Stop()
		return nil
	})
	err = group.Wait()
	s.tasks.Wait()
	return err
}

// grpc returns the server of both services, which does not serve yet.
func (s *Server) grpc() *grpc.Server {
	server := grpc.NewServer(
		grpc.ChainUnaryInterceptor(unaryErrors), grpc.ChainStreamInterceptor(streamErrors),
		grpc.MaxRecvMsgSize(maxRequest), grpc.WaitForHandlers(true))
	cri.RegisterRuntimeServiceServer(server, s)
	cri.RegisterImageServiceServer(server, imageRPCs{s.imageService, s.images})
	return server
}

// action returns the context for a change to Docker's state. It is bounded, and is not
// cancelled with the client's call, which would leave open what Docker has done.
func (s *Server) action(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(context.WithoutCancel(ctx), s.cfg.RequestTimeout,
		fmt.Errorf("docker did not answer within %v", s.cfg.RequestTimeout))
}

// checkCgroupDriver compares the driver that the caller uses with Docker's.
func checkCgroupDriver(wanted, actual string) error {
	if wanted == "" || actual == "" || wanted == actual {
		return nil
	}
	return errors.New("misconfiguration: kubelet cgroup driver: " + strconv.Quote(wanted) +
		" is different from docker cgroup driver: " + strconv.Quote(actual))
}
