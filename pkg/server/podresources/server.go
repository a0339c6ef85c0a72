package podresources

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"
	api "k8s.io/kubelet/pkg/apis/podresources/v1"
	"k8s.io/kubelet/pkg/apis/podresources/v1alpha1"
	"k8s.io/utils/clock"
	"k8s.io/utils/cpuset"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/durable"
	"github.com/mini-kubelet/mini-kubelet/pkg/base/grpcsocket"
	"github.com/mini-kubelet/mini-kubelet/pkg/resources/devicemanager"
	"github.com/mini-kubelet/mini-kubelet/pkg/resources/memorymanager"
)

// The socket's place below the kubelet's directory.
const (
	Dir        = "pod-resources"
	SocketName = "kubelet.sock"
)

const (
	// qps and burst are the kubelet's, for all clients together (DefaultQPS, DefaultBurstTokens).
	qps, burst = 100, 10

	maxConnections = 64
	maxRequests    = 16 // of one connection at a time
	maxRequest     = 64 << 10
	connectTimeout = 10 * time.Second
	// A connection that does nothing, or is old, gives way; a gRPC client opens another. One whose client reads no
	// answers is cut off maxGrace later.
	maxIdle  = 5 * time.Minute
	maxAge   = 30 * time.Minute
	maxGrace = 30 * time.Second
)

// Devices knows which devices of device plug-ins there are and who has them.
type Devices interface {
	Devices(uid types.UID, container string) []devicemanager.Device
	AllocatableDevices() []devicemanager.Device
}

// CPUs knows which CPUs containers have to themselves.
type CPUs interface {
	ExclusiveCPUs(uid types.UID, container string) cpuset.CPUSet
	AllocatableCPUs() cpuset.CPUSet
}

// Memory knows on which NUMA nodes containers have memory.
type Memory interface {
	Memory(uid types.UID, container string) []memorymanager.Block
	AllocatableMemory() []memorymanager.Block
}

// Config is what a Server is made of.
type Config struct {
	Root string // the kubelet's directory
	// Pods returns the pods that this node is to run; Active reports whether one of them is admitted and not over.
	Pods    func() []*v1.Pod
	Active  func() func(types.UID) bool
	Devices Devices
	CPUs    CPUs                  // nil: nobody has CPUs to himself
	Memory  Memory                // nil: nobody has memory of certain nodes
	Metrics prometheus.Registerer // nil: none
	Clock   clock.WithTicker      // nil: the real one
}

// Server is one part of the agent; see Run.
type Server struct {
	cfg     Config
	dir     string
	limit   *rate.Limiter
	metrics metrics
}

// New returns a Server that does not listen yet.
func New(cfg Config) (*Server, error) {
	if !filepath.IsAbs(cfg.Root) || cfg.Pods == nil || cfg.Active == nil || cfg.Devices == nil {
		return nil, errors.New("podresources: no Root, Pods, Active or Devices")
	}
	if cfg.Clock == nil {
		cfg.Clock = clock.RealClock{}
	}
	m, err := newMetrics(cfg.Metrics)
	if err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg, dir: filepath.Join(cfg.Root, Dir), limit: rate.NewLimiter(qps, burst), metrics: m}
	if err := makeWay(s.dir); err != nil {
		klog.ErrorS(err, "The PodResources API has no directory")
	}
	return s, nil
}

// Run serves until ctx ends, and tries again later where that is impossible: pods run without it.
func (s *Server) Run(ctx context.Context) error {
	grpcsocket.Keep(ctx, s.cfg.Clock, "The PodResources API cannot be served", s.open)
	return nil
}

func (s *Server) open(ctx context.Context) (*grpcsocket.Server, error) {
	l, err := listen(ctx, s.dir)
	if err != nil {
		return nil, err
	}
	g := grpc.NewServer(
		grpc.UnaryInterceptor(s.limited), grpc.MaxRecvMsgSize(maxRequest), grpc.MaxConcurrentStreams(maxRequests),
		grpc.ConnectionTimeout(connectTimeout), grpc.WaitForHandlers(true),
		grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionIdle: maxIdle, MaxConnectionAge: maxAge, MaxConnectionAgeGrace: maxGrace}),
	)
	api.RegisterPodResourcesListerServer(g, &listerV1{s: s})
	v1alpha1.RegisterPodResourcesListerServer(g, &listerV1alpha1{s: s})
	return &grpcsocket.Server{GRPC: g, Listener: l, Path: filepath.Join(s.dir, SocketName), Connections: maxConnections}, nil
}

// limited turns requests away that come too fast, in the kubelet's words.
func (s *Server) limited(ctx context.Context, q any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	if !s.limit.Allow() {
		return nil, status.Error(codes.ResourceExhausted, "rejected by rate limit")
	}
	return next(ctx, q)
}

const lost = "Nothing."

// makeWay moves aside what is in the place of the directory.
func makeWay(dir string) error {
	if err := durable.MakeWay(dir, lost); err != nil && !errors.Is(err, durable.ErrDamaged) {
		return fmt.Errorf("directory of the PodResources API: %w", err)
	}
	return nil
}

// listen opens the socket. What a killed agent has left there is replaced, whatever else is there is moved
// aside. The directory has the kubelet's mode; only root, or the agent's own user, can connect.
func listen(ctx context.Context, dir string) (net.Listener, error) {
	if err := makeWay(dir); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, err
	}
	if err := os.Chmod(dir, 0o750); err != nil { // whatever the umask, and who made it
		return nil, err
	}
	path := filepath.Join(dir, SocketName)
	switch fi, err := os.Lstat(path); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, err
	case fi.Mode().Type() == fs.ModeSocket:
		err = os.Remove(path)
		if err != nil {
			return nil, err
		}
	default:
		err = durable.MoveAside(path, lost, errors.New("it is no socket"))
		if !errors.Is(err, durable.ErrDamaged) {
			return nil, err
		}
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o600); err != nil {
		_ = l.Close()
		return nil, err
	}
	return l, nil
}
