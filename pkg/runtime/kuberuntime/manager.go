package kuberuntime

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/utils/clock"

	"github.com/mini-kubelet/mini-kubelet/pkg/journal"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods/actual"
	"github.com/mini-kubelet/mini-kubelet/pkg/runtime/criconfig"
	"github.com/mini-kubelet/mini-kubelet/pkg/runtime/hooks"
)

// CRI is the part of the runtime service that is used here.
type CRI interface {
	RunPodSandbox(context.Context, *cri.RunPodSandboxRequest, ...grpc.CallOption) (*cri.RunPodSandboxResponse, error)
	StopPodSandbox(context.Context, *cri.StopPodSandboxRequest, ...grpc.CallOption) (*cri.StopPodSandboxResponse, error)
	RemovePodSandbox(context.Context, *cri.RemovePodSandboxRequest, ...grpc.CallOption) (*cri.RemovePodSandboxResponse, error)
	PodSandboxStatus(context.Context, *cri.PodSandboxStatusRequest, ...grpc.CallOption) (*cri.PodSandboxStatusResponse, error)
	ListPodSandbox(context.Context, *cri.ListPodSandboxRequest, ...grpc.CallOption) (*cri.ListPodSandboxResponse, error)
	CreateContainer(context.Context, *cri.CreateContainerRequest, ...grpc.CallOption) (*cri.CreateContainerResponse, error)
	StartContainer(context.Context, *cri.StartContainerRequest, ...grpc.CallOption) (*cri.StartContainerResponse, error)
	StopContainer(context.Context, *cri.StopContainerRequest, ...grpc.CallOption) (*cri.StopContainerResponse, error)
	RemoveContainer(context.Context, *cri.RemoveContainerRequest, ...grpc.CallOption) (*cri.RemoveContainerResponse, error)
	UpdateContainerResources(context.Context, *cri.UpdateContainerResourcesRequest, ...grpc.CallOption) (*cri.UpdateContainerResourcesResponse, error)
	ListContainers(context.Context, *cri.ListContainersRequest, ...grpc.CallOption) (*cri.ListContainersResponse, error)
	ContainerStatus(context.Context, *cri.ContainerStatusRequest, ...grpc.CallOption) (*cri.ContainerStatusResponse, error)
	ExecSync(context.Context, *cri.ExecSyncRequest, ...grpc.CallOption) (*cri.ExecSyncResponse, error)
	GetContainerEvents(context.Context, *cri.GetEventsRequest, ...grpc.CallOption) (grpc.ServerStreamingClient[cri.ContainerEventResponse], error)
}

// Images makes a container's image present, by its pull policy.
type Images interface {
	// Ensure returns the runtime's reference of the image. An error may have a
	// method Reason for what the container waits for, and RetryAfter for how long.
	Ensure(ctx context.Context, pod *v1.Pod, c *v1.Container, sandbox *cri.PodSandboxConfig) (ref string, err error)
	// Image returns the status of the image with that reference.
	Image(ctx context.Context, ref string) (*cri.Image, error)
}

// Files are the files that the node keeps for a pod's containers.
type Files interface {
	criconfig.Volumes
	// HostsFile writes the pod's /etc/hosts and returns its path.
	HostsFile(uid types.UID, content []byte) (string, error)
	// TerminationLog makes the file for one attempt's termination message.
	TerminationLog(uid types.UID, container string, attempt uint32) (string, error)
}

// Config is what a Manager is made of. Journal and the probes' functions may be
// nil, as may Images and Files if no pod will be started.
type Config struct {
	CRI    CRI
	Images Images
	Files  Files
	// Objects returns ConfigMaps and Secrets for environments; nil if there are none.
	Objects criconfig.Objects
	// ServiceEnv returns the service variables of a pod's containers; nil if there
	// are no services. An error keeps the container from being created.
	ServiceEnv func(context.Context, *v1.Pod) (map[string]string, error)
	// Handler returns the runtime handler of a RuntimeClass by its name; nil if
	// there are no classes. An error keeps the sandbox from being created.
	Handler func(ctx context.Context, class string) (string, error)
	Node    criconfig.NodeConfig
	Clock   clock.PassiveClock
	// Name is the runtime's, as CRI Version reports it: the prefix of container IDs.
	Name string
	// LinksDir holds the links to all containers' logs; "" is /var/log/containers.
	LinksDir string
	// MaxBackOff is the longest wait between restarts of a crashing container; 0 is 5 min.
	MaxBackOff time.Duration
	Journal    *journal.Journal
	// PreStart prepares what a container has of the node before it is created; nil: there is nothing
	// to prepare. An error keeps the container from being created.
	PreStart func(ctx context.Context, pod *v1.Pod, c *v1.Container) error
	// Failed returns the probe because of which a running container must be
	// restarted, "" if it need not be; Started reports whether it has started up.
	Failed  func(actual.ContainerID) actual.FailedProbe
	Started func(actual.ContainerID) bool
	Metrics prometheus.Registerer // nil: nothing is counted
}

// Manager runs pods over CRI. Its methods are safe for concurrent use for different
// pods; for one pod the worker calls one at a time.
type Manager struct {
	cfg     Config
	hooks   *hooks.Runner
	metrics metrics

	mu       sync.Mutex
	backOffs *backOffs
	holds    holds
}

// New checks the configuration.
func New(cfg Config) (*Manager, error) {
	switch {
	case cfg.CRI == nil:
		return nil, errors.New("runtime: no CRI")
	case cfg.Clock == nil:
		return nil, errors.New("runtime: no Clock")
	case cfg.Name == "":
		return nil, errors.New("runtime: no Name")
	}
	if cfg.LinksDir == "" {
		cfg.LinksDir = "/var/log/containers"
	}
	if cfg.MaxBackOff <= 0 {
		cfg.MaxBackOff = 5 * time.Minute
	}
	counted, err := newMetrics(cfg.Metrics)
	if err != nil {
		return nil, fmt.Errorf("runtime: %w", err)
	}
	runner, err := hooks.New(hooks.Config{Exec: cfg.CRI, Metrics: cfg.Metrics})
	if err != nil {
		return nil, err
	}
	return &Manager{cfg: cfg, hooks: runner, metrics: counted, backOffs: newBackOffs(cfg.MaxBackOff), holds: holds{}}, nil
}

func hashContainer(c *v1.Container) uint64 { return criconfig.HashContainer(c) }
