package cadvisor

import (
	"context"
	"errors"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	dto "github.com/prometheus/client_model/go"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/klog/v2"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/cgroupstats"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods/actual"
	"github.com/mini-kubelet/mini-kubelet/pkg/resources/machine"
)

// Runtime is asked for the metrics of containers whose cgroups are not to be found.
type Runtime interface {
	ListMetricDescriptors(context.Context, *cri.ListMetricDescriptorsRequest, ...grpc.CallOption) (*cri.ListMetricDescriptorsResponse, error)
	ListPodSandboxMetrics(context.Context, *cri.ListPodSandboxMetricsRequest, ...grpc.CallOption) (*cri.ListPodSandboxMetricsResponse, error)
}

// Config is what a Source is made of. Its functions are called concurrently, and their results
// are not changed.
type Config struct {
	Runtime Runtime
	// Observed are the pods that the runtime was last seen to have.
	Observed func() []*actual.Pod
	Pod      func(types.UID) (*v1.Pod, bool)
	Status   func(types.UID) (v1.PodStatus, bool)
	// Cgroup returns the path of the pod's cgroup; nil: pods have none of their own.
	Cgroup func(*v1.Pod) string
	// System are the paths of cgroups that are no pod's, beside the root.
	System []string
	// Layers returns what writable layers occupy, by container; nil: not known.
	Layers       func(context.Context) map[string]*cri.FilesystemUsage
	SandboxImage string // which image the sandboxes have
	Root         string // a directory on the node's own file system
	Booted       time.Time
	Version      string // of Kubernetes, which stands for cAdvisor's own
}

// Source reads the metrics. It is a prometheus.Gatherer, safe for concurrent use.
type Source struct {
	cfg    Config
	reader *cgroupstats.Reader
}

// gatherTimeout bounds what the runtime is asked for one reading.
const gatherTimeout = 10 * time.Second

// New checks the configuration.
func New(cfg Config) (*Source, error) {
	if cfg.Runtime == nil || cfg.Observed == nil || cfg.Pod == nil || cfg.Status == nil || cfg.Root == "" {
		return nil, errors.New("cadvisor: no Runtime, Observed, Pod, Status or Root")
	}
	r, err := cgroupstats.New()
	if err != nil {
		return nil, err
	}
	// The agent and the runtime may share a cgroup: no series may come twice.
	cfg.System = slices.Compact(slices.Sorted(slices.Values(cfg.System)))
	return &Source{cfg: cfg, reader: r}, nil
}

// Gather implements prometheus.Gatherer: it reads everything anew.
func (s *Source) Gather() ([]*dto.MetricFamily, error) {
	ctx, cancel := context.WithTimeout(context.Background(), gatherTimeout)
	defer cancel()
	p := newPage()
	look := s.look(ctx)
	failed := false
	s.addSystem(p, look)
	var unknown []subject
	for _, o := range s.cfg.Observed() {
		unknown = append(unknown, s.addPod(p, look, o)...)
	}
	if len(unknown) > 0 {
		if err := s.addFromRuntime(ctx, p, unknown); err != nil {
			klog.V(2).InfoS("The runtime tells no metrics of containers whose cgroups are not known", "containers", len(unknown), "err", err)
			failed = status.Code(err) != codes.Unimplemented // else it is not an error that passes
		}
	}
	addMachine(p, s.cfg.Version, failed)
	return p.families(), nil
}

// look holds what one reading found out for all subjects.
type look struct {
	layers  map[string]*cri.FilesystemUsage
	devices devices
	node    storage
}

func (s *Source) look(ctx context.Context) *look {
	l := &look{devices: devices{}}
	if s.cfg.Layers != nil {
		l.layers = s.cfg.Layers(ctx)
	}
	l.node, _ = l.devices.fileSystem(s.cfg.Root)
	return l
}

// addSystem adds the cgroups of no pod.
func (s *Source) addSystem(p *page, l *look) {
	if u, ok := s.read("/", s.cfg.Booted); ok {
		if m, err := machine.ReadMemory(); err == nil && !u.HasMemory {
			u.HasMemory = true
			u.Memory, u.WorkingSet, u.RSS = uint64(m.Used()), uint64(m.WorkingSet()), uint64(m.Anonymous)
		}
		u.MemoryLimit = 0
		u.disks = l.devices.disks(u.IO)
		u.interfaces = hostInterfaces()
		u.storage = l.fileSystems()
		p.add(labels{id: "/"}, u)
	}
	for _, id := range s.cfg.System {
		if u, ok := s.read(id, time.Time{}); ok {
			u.disks = l.devices.disks(u.IO)
			p.add(labels{id: id}, u)
		}
	}
}

// read reads a cgroup that began at that time; zero: as its directories tell.
func (s *Source) read(id string, started time.Time) (*usage, bool) {
	f, err := s.reader.Full(id)
	if err == nil && started.IsZero() {
		started = s.reader.Born(id)
	}
	return &usage{Full: f, started: started}, err == nil
}

// addPod adds a pod's cgroup and its containers, and returns those whose cgroups are not
// known.
func (s *Source) addPod(p *page, l *look, o *actual.Pod) (unknown []subject) {
	pod, ok := s.cfg.Pod(o.UID)
	if !ok || !o.Running() {
		return nil
	}
	told, _ := s.cfg.Status(o.UID)
	in := seen{pod: pod, status: told, actual: o}
	if s.cfg.Cgroup != nil {
		in.cgroup = s.cfg.Cgroup(pod)
		in.below = s.reader.Children(in.cgroup)
	}
	all, unknown := in.of(s.cfg.SandboxImage)
	read := make([]*usage, len(all))
	pid := 0 // a process in the pod's network
	for i, sub := range all {
		u, ok := s.read(sub.id, sub.started)
		if !ok {
			continue // it has ended meanwhile
		}
		read[i] = u
		u.disks = l.devices.disks(u.IO)
		if sub.kind == podGroup {
			continue
		}
		if len(u.PIDs) > 0 && pid == 0 {
			pid = u.PIDs[0]
		}
		u.counted = true
		u.files, u.sockets = cgroupstats.OpenFiles(u.PIDs)
		l.addLayer(u, sub.name)
	}
	if at := slices.IndexFunc(all, func(s subject) bool { return s.kind == sandbox && !s.hostNetwork }); at >= 0 && read[at] != nil && pid > 0 {
		read[at].interfaces, _ = cgroupstats.Network(pid)
	}
	for i, sub := range all {
		if read[i] != nil {
			p.add(sub.labels, read[i])
		}
	}
	return unknown
}

// addLayer adds what a container's writable layer occupies. The disk below it is shown also
// before anything was read from it or written to it.
func (l *look) addLayer(u *usage, id string) {
	layer := l.layers[id]
	if layer == nil {
		return
	}
	at, ok := l.devices.fileSystem(layer.GetFsId().GetMountpoint())
	if !ok {
		return
	}
	at.used = layer.GetUsedBytes().GetValue()
	u.storage = []storage{at}
	if d, ok := l.devices.below(layer.GetFsId().GetMountpoint()); ok && !slices.ContainsFunc(u.disks, func(o disk) bool { return o.device == d.device }) {
		u.disks = append(u.disks, d)
	}
}

// fileSystems are the node's own file system and those of writable layers.
func (l *look) fileSystems() []storage {
	var all []storage
	add := func(s storage) {
		if s.device != "" && !slices.ContainsFunc(all, func(o storage) bool { return o.device == s.device }) {
			all = append(all, s)
		}
	}
	add(l.node)
	for _, layer := range l.layers {
		if s, ok := l.devices.fileSystem(layer.GetFsId().GetMountpoint()); ok {
			add(s)
		}
	}
	return all
}

// hostInterfaces are the machine's own: the loopback and the ends of containers' interfaces
// are none of them, as in cAdvisor.
func hostInterfaces() []cgroupstats.Interface {
	all, err := cgroupstats.Network(os.Getpid())
	if err != nil {
		return nil
	}
	return slices.DeleteFunc(all, func(i cgroupstats.Interface) bool {
		return strings.HasPrefix(i.Name, "veth") || strings.HasPrefix(i.Name, "docker")
	})
}

func text(n uint64) string { return strconv.FormatUint(n, 10) }
