package criconfig

import (
	"context"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/volume"
)

// NodeConfig is what a configuration takes from the node rather than from the pod. The
// comments say what zero values mean.
type NodeConfig struct {
	Name    string
	HostIPs func() []string // now, primary first; nil: none, see Addresses
	// Allocatable replaces limits that a resourceFieldRef asks for and the
	// container does not set; nil: nothing does.
	Allocatable func() v1.ResourceList
	// MemoryCapacity, in bytes, is what the oom_score_adj of burstable pods is
	// measured against; 0 treats every request as tiny.
	MemoryCapacity int64
	// HugePageSizes the kernel offers, as CRI names them ("2MB"): a container
	// without a limit for one gets 0.
	HugePageSizes []string
	// NoHugePageLimits is true for a runtime that cannot limit the huge pages of a
	// container: then only the pod's cgroup does.
	NoHugePageLimits bool
	// RecursiveReadOnly is true if the runtime can mount a volume read-only with
	// all mounts below it.
	RecursiveReadOnly bool

	PodLogsRoot string // "" is /var/log/pods
	SeccompRoot string // "" is /var/lib/kubelet/seccomp
	// SeccompDefault makes RuntimeDefault the profile of containers that ask for none.
	SeccompDefault  bool
	DisableCFSQuota bool
	CFSQuotaPeriod  time.Duration // 0 is 100 ms

	ClusterDomain string
	ClusterDNS    []string
	// ResolvConf returns the text of the node's resolver configuration, see
	// ResolvConfFile. nil is the kubelet's empty --resolv-conf: pods with policy
	// Default can look nothing up.
	ResolvConf func() ([]byte, error)

	// MemoryQoS lets cgroup v2 protect and throttle containers' memory (KEP-2570); nil:
	// neither.
	MemoryQoS *MemoryQoS
	// Swap limits containers' swap; nil: the runtime does as it likes.
	Swap *Swap
	// KillTogether ends all processes of a container when the kernel has to end one for want of
	// memory (memory.oom.group), which needs cgroup v2 and a runtime that can be told.
	KillTogether bool
	// Sysctls are those of pods that do not set them.
	Sysctls map[string]string
	// CPUs returns the CPUs that a container of the pod runs on, in the form of
	// cpuset.cpus, and whether it has them to itself: then no CFS quota enforces its
	// CPU limit, since that would throttle it for nothing. nil: it runs on any.
	CPUs func(pod types.UID, container string) (cpus string, exclusive bool)
	// MemoryNodes returns the NUMA nodes that a container's memory is of, in the form of
	// cpuset.mems; empty: of any. nil: all are.
	MemoryNodes func(pod types.UID, container string) string
	// Devices returns what a container gets for devices that plug-ins have given it; nil: it has none.
	Devices func(pod types.UID, container string) Devices
	// CgroupParent names the pod's cgroup for the runtime; nil leaves it to the runtime.
	CgroupParent func(*v1.Pod) string
	// Warn is called with a kubelet event (DNSConfigForming, MissingClusterDNS) for
	// what was left out of a pod's configuration; nil drops it.
	Warn func(pod *v1.Pod, reason, message string)
}

func (n NodeConfig) allocatable() v1.ResourceList {
	if n.Allocatable == nil {
		return nil
	}
	return n.Allocatable()
}

// Devices is what a container gets for its devices. What the spec says of the same variable, annotation or path
// wins.
type Devices struct {
	Envs        map[string]string
	Mounts      []*cri.Mount
	Nodes       []*cri.Device
	Annotations map[string]string
	CDI         []string // fully qualified names
}

// devices returns what a container gets for its devices.
func (n NodeConfig) devices(pod types.UID, container string) Devices {
	if n.Devices == nil {
		return Devices{}
	}
	return n.Devices(pod, container)
}

// Addresses returns the node's addresses as they are now, primary first.
func (n NodeConfig) Addresses() []string {
	if n.HostIPs == nil {
		return nil
	}
	return n.HostIPs()
}

// ContainerInput is what a container's configuration needs beyond its spec.
type ContainerInput struct {
	Node NodeConfig
	// RestartCount is the number of attempts before this one; it numbers the
	// container and its log file.
	RestartCount uint32
	// PodIPs are the sandbox's, primary first; empty with host network, where the
	// node's addresses replace them.
	PodIPs []string
	// ImageRef is what image.Manager.Ensure returned.
	ImageRef string
	// Image is the runtime's status of that image, which names the user it runs as;
	// nil if unknown, which is an error only for a container with runAsNonRoot.
	Image *cri.Image

	// Volumes returns host paths of the pod's volumes; nil for a container without
	// mounts.
	Volumes Volumes
	// Images are the pulled images of the pod's volumes of type image, by volume.
	Images map[string]*cri.ImageSpec
	// HostsPath is the managed /etc/hosts on the host, "" for none. A container
	// that mounts a volume at /etc/hosts keeps its own.
	HostsPath string
	// TerminationLogPath is the host file that terminationMessagePath shows, "" for none.
	TerminationLogPath string

	// Objects returns ConfigMaps and Secrets; nil if there are none.
	Objects Objects
	// ServiceEnv is what the function ServiceEnv returns; nil if there is no API
	// server.
	ServiceEnv map[string]string

	// TargetID is the container whose process namespace an ephemeral container
	// joins, "" for none.
	TargetID string
}

// Volumes returns where the volumes of a pod are on the host.
type Volumes interface {
	// Path returns where the named volume of the pod lies, or an error when the pod
	// has no such volume or it is not set up.
	Path(pod *v1.Pod, name string) (volume.Path, error)
	// SubPath returns a host path that shows subPath of the named volume, made
	// when missing, safe to hand to the runtime whatever links the volume
	// holds. index is the mount's place in the container's volumeMounts.
	SubPath(ctx context.Context, pod *v1.Pod, container string, index int, name, subPath string) (string, error)
	// MountPoints makes the directories in volumes that the container has read-only, at which it
	// mounts others. It is called as the container is about to be created.
	MountPoints(ctx context.Context, pod *v1.Pod, c *v1.Container) error
	// ReadFile returns the content of the regular file at path in the named volume,
	// at most limit bytes long, and never from outside the volume whatever links it
	// holds. The error is fs.ErrNotExist when there is no such file.
	ReadFile(ctx context.Context, pod *v1.Pod, name, path string, limit int64) ([]byte, error)
	// Groups returns the groups that the pod's processes are to be in because of its volumes.
	Groups(pod *v1.Pod) []int64
}

// Objects returns the objects that environment variables are taken from. For a
// missing object apierrors.IsNotFound holds for the error.
type Objects interface {
	ConfigMap(ctx context.Context, namespace, name string) (*v1.ConfigMap, error)
	Secret(ctx context.Context, namespace, name string) (*v1.Secret, error)
}
