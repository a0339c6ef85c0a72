// Package stats reports what the node, its pods and their containers use, in the two forms
// of the kubelet API: the Summary of /stats/summary, and the metrics of /metrics/resource,
// which metrics-server and so `kubectl top` read.
//
//	CRI ListPodSandboxStats, ImageFsInfo ─┐
//	cgroups, /proc, statfs ───────────────┼─▶ Summary ─▶ /stats/summary, /metrics/resource
//	volumes, logs: in the background ─────┘           └▶ kubelet_volume_stats_*
//
// All who ask within a second share one call to the runtime. What pods and images occupy on disk
// is measured in the background, and only while somebody asks for it.
package stats

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/klog/v2"
	stats "k8s.io/kubelet/pkg/apis/stats/v1alpha1"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/diskusage"
	"github.com/mini-kubelet/mini-kubelet/pkg/base/shared"
)

// Runtime is what the container runtime is asked.
type Runtime interface {
	ListPodSandboxStats(context.Context, *cri.ListPodSandboxStatsRequest, ...grpc.CallOption) (*cri.ListPodSandboxStatsResponse, error)
	ImageFsInfo(context.Context, *cri.ImageFsInfoRequest, ...grpc.CallOption) (*cri.ImageFsInfoResponse, error)
}

// Volumes knows where pods' files are, and what they occupy.
type Volumes interface {
	// Space may take minutes.
	Space(ctx context.Context, pod *v1.Pod, volume string) (diskusage.Space, error)
	HostsPath(types.UID) (string, error)
}

// Config is what a Source is made of.
type Config struct {
	Runtime Runtime
	Node    string // its name
	Root    string // directory on the node's file system
	// Pod returns the pod with that UID; ok is false if it is not known.
	Pod func(types.UID) (*v1.Pod, bool)
	// Status returns the pod's last status, for its start time and its containers'.
	Status func(types.UID) (v1.PodStatus, bool)
	Booted time.Time

	Volumes Volumes
	// VolumePeriod is how often at most a volume is measured; volumes are not if it is
	// negative.
	VolumePeriod time.Duration
	LogDir       func(*v1.Pod) string // where the logs of its containers are, by name
	// System are the cgroups of the node's own parts, by their names in the API:
	// kubelet, runtime, misc, pods.
	System map[string]string
}

// Source reads what is used. Safe for concurrent use.
type Source struct {
	cfg   Config
	node  *nodeReader
	meter *meter
	// pods is what the runtime tells; layers the same, for what changes slowly.
	pods, layers shared.Work[[]*cri.PodSandboxStats]
	images       *imageInfo
}

// How old what the runtime has told may be: for most, and for the sizes of writable layers,
// which runtimes measure in the background.
const (
	maxAge      = time.Second
	maxLayerAge = 10 * time.Second
)

// New checks the configuration.
func New(cfg Config) (*Source, error) {
	if cfg.Runtime == nil || cfg.Pod == nil || cfg.Status == nil || cfg.Root == "" || cfg.Volumes == nil || cfg.LogDir == nil {
		return nil, errors.New("usage: no Runtime, Pod, Status, Root, Volumes or LogDir")
	}
	node, err := newNodeReader(cfg)
	if err != nil {
		return nil, err
	}
	s := &Source{cfg: cfg, node: node, meter: newMeter()}
	s.images = newImageInfo(func(ctx context.Context) (*cri.ImageFsInfoResponse, error) {
		return cfg.Runtime.ImageFsInfo(ctx, &cri.ImageFsInfoRequest{})
	})
	s.pods.Do, s.pods.MaxAge, s.pods.Timeout = s.list, maxAge, scrapeTimeout
	s.layers.Do, s.layers.MaxAge, s.layers.Timeout = s.pods.Get, maxLayerAge, scrapeTimeout
	return s, nil
}

// Measure measures in the background what pods and images occupy on disk, until ctx ends.
func (s *Source) Measure(ctx context.Context) error {
	var images sync.WaitGroup
	defer images.Wait()
	images.Go(func() { s.images.run(ctx) })
	return s.meter.run(ctx)
}

func (s *Source) list(ctx context.Context) ([]*cri.PodSandboxStats, error) {
	list, err := s.cfg.Runtime.ListPodSandboxStats(ctx, &cri.ListPodSandboxStatsRequest{})
	if err != nil {
		return nil, fmt.Errorf("ask the runtime what the pods use: %w", err)
	}
	return list.Stats, nil
}

// Layers returns what writable layers occupied a moment ago, by container; what is not known
// is missing.
func (s *Source) Layers(ctx context.Context) map[string]*cri.FilesystemUsage {
	all := map[string]*cri.FilesystemUsage{}
	list, err := s.layers.Get(ctx)
	if err != nil {
		klog.V(2).InfoS("The runtime does not tell what writable layers occupy", "err", err)
		return all
	}
	for _, p := range list {
		for _, c := range p.GetLinux().GetContainers() {
			if l := c.GetWritableLayer(); l != nil {
				all[c.GetAttributes().GetId()] = l
			}
		}
	}
	return all
}

// Summary returns what the node and its running pods use. With onlyCPUAndMemory it
// leaves out the rest.
func (s *Source) Summary(ctx context.Context, onlyCPUAndMemory bool) (*stats.Summary, error) {
	list, err := s.pods.Get(ctx)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	out := &stats.Summary{Node: s.node.stats(now, onlyCPUAndMemory), Pods: []stats.PodStats{}}
	d := &disks{}
	if !onlyCPUAndMemory {
		d.root = fileSystem(s.cfg.Root, now)
		d.image, d.container = s.imageFileSystems(ctx)
		out.Node.Fs, out.Node.Runtime = d.root, &stats.RuntimeStats{ImageFs: d.image, ContainerFs: d.container}
	}
	for _, sandbox := range list {
		if p, ok := s.pod(sandbox, d, onlyCPUAndMemory); ok {
			out.Pods = append(out.Pods, p)
		}
	}
	slices.SortFunc(out.Pods, func(a, b stats.PodStats) int {
		return strings.Compare(a.PodRef.Namespace+"/"+a.PodRef.Name+"/"+a.PodRef.UID, b.PodRef.Namespace+"/"+b.PodRef.Name+"/"+b.PodRef.UID)
	})
	return out, nil
}
