package nodepressure

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"sync"
	"time"

	"google.golang.org/grpc"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/diskusage"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
	"github.com/mini-kubelet/mini-kubelet/pkg/volume"
)

// Runtime returns what pods use.
type Runtime interface {
	ListPodSandboxStats(context.Context, *cri.ListPodSandboxStatsRequest, ...grpc.CallOption) (*cri.ListPodSandboxStatsResponse, error)
}

// Volumes returns where a pod's files are.
type Volumes interface {
	Path(pod *v1.Pod, volume string) (volume.Path, error)
}

const (
	// asking bounds a question to the runtime. A node with pressure on memory has no more time.
	asking = 5 * time.Second
	// layersAge is how old the runtime's measurement of a writable layer may be, and layersWait how long a
	// newer one is waited for: a runtime may begin to measure when it is first asked.
	layersAge, layersWait, layersPoll = time.Minute, 5 * time.Second, 200 * time.Millisecond
	// walking bounds the measuring of all pods' files. Those that take longer count with what was found.
	walking = 10 * time.Second
)

// measure asks the runtime what the pods use. A pod that it does not know is absent.
func (m *Manager) measure(ctx context.Context) (map[types.UID]usage, error) {
	list, err := m.stats(ctx)
	if err != nil {
		return nil, err
	}
	return usages(list), nil
}

func (m *Manager) stats(ctx context.Context) ([]*cri.PodSandboxStats, error) {
	ctx, cancel := context.WithTimeout(ctx, asking)
	defer cancel()
	list, err := m.cfg.Runtime.ListPodSandboxStats(ctx, &cri.ListPodSandboxStatsRequest{})
	if err != nil {
		return nil, fmt.Errorf("ask the runtime what the pods use: %w", err)
	}
	return list.Stats, nil
}

func usages(list []*cri.PodSandboxStats) map[types.UID]usage {
	all := map[types.UID]usage{}
	for _, s := range list {
		linux := s.GetLinux()
		u := usage{processes: int64(linux.GetProcess().GetProcessCount().GetValue())}
		for _, c := range linux.GetContainers() {
			one := containerUsage{name: c.GetAttributes().GetMetadata().GetName(), memory: int64(c.GetMemory().GetWorkingSetBytes().GetValue())}
			one.layer = diskusage.Usage{Bytes: c.GetWritableLayer().GetUsedBytes().GetValue(), Inodes: c.GetWritableLayer().GetInodesUsed().GetValue()}
			u.containers = append(u.containers, one)
			u.memory += one.memory
		}
		if whole := linux.GetMemory().GetWorkingSetBytes(); whole != nil {
			u.memory = int64(whole.Value)
		}
		all[types.UID(s.GetAttributes().GetLabels()[pods.LabelPodUID])] = u
	}
	return all
}

// measureDisk is measure with what the pods' files occupy.
func (m *Manager) measureDisk(ctx context.Context, candidates []*v1.Pod, what counted) (map[types.UID]usage, error) {
	list, err := m.stats(ctx)
	for waited := time.Duration(0); err == nil && what.layers && !measured(list, m.cfg.Clock.Now()) && waited < layersWait; waited += layersPoll {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-m.cfg.Clock.After(layersPoll):
		}
		list, err = m.stats(ctx)
	}
	if err != nil {
		return nil, err
	}
	used := usages(list)
	found := make([]*usage, len(candidates)) // nil: not known
	ctx, cancel := context.WithTimeout(ctx, walking)
	defer cancel()
	var walks sync.WaitGroup
	slots := make(chan struct{}, 4)
	for i, pod := range candidates {
		u, ok := used[pod.UID]
		if !ok {
			continue
		}
		found[i] = &u
		walks.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			m.walk(ctx, pod, found[i], what)
		})
	}
	walks.Wait()
	for i, pod := range candidates {
		if found[i] != nil {
			used[pod.UID] = *found[i]
		}
	}
	return used, nil
}

// measured reports whether the runtime has measured all writable layers lately.
func measured(list []*cri.PodSandboxStats, now time.Time) bool {
	for _, s := range list {
		for _, c := range s.GetLinux().GetContainers() {
			if w := c.GetWritableLayer(); w == nil || now.Sub(time.Unix(0, w.Timestamp)) > layersAge {
				return false
			}
		}
	}
	return true
}

// walk measures a pod's logs and volumes. What cannot be measured counts as far as it was.
func (m *Manager) walk(ctx context.Context, pod *v1.Pod, u *usage, what counted) {
	if what.logs {
		for i := range u.containers {
			u.containers[i].logs = occupied(ctx, filepath.Join(m.cfg.LogDir(pod), u.containers[i].name))
		}
	}
	if !what.volumes {
		return
	}
	for _, v := range pod.Spec.Volumes {
		if v.ConfigMap == nil && (v.EmptyDir == nil || v.EmptyDir.Medium == v1.StorageMediumMemory) {
			continue
		}
		path, err := m.cfg.Volumes.Path(pod, v.Name)
		if err != nil {
			continue // not set up: nothing is in it
		}
		d := occupied(ctx, path.Host)
		u.volumes.Bytes += d.Bytes
		u.volumes.Inodes += d.Inodes
	}
}

func occupied(ctx context.Context, path string) diskusage.Usage {
	u, err := diskusage.Of(ctx, path)
	if errors.Is(err, fs.ErrNotExist) {
		return diskusage.Usage{}
	}
	return u
}
