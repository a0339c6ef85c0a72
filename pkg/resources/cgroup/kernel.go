package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/cgroups/manager"
	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
)

// kernel makes, changes and removes cgroups of a layout on this machine.
type kernel struct {
	layout Layout
	v2     bool
	// sizes of the huge pages that can be limited, in bytes; none without that
	// controller.
	sizes []int64
}

const mountPoint = "/sys/fs/cgroup"

func newKernel(layout Layout) *kernel {
	k := &kernel{layout: layout, v2: cgroups.IsCgroup2UnifiedMode()}
	if k.limitsHugePages() {
		k.sizes = kernelPageSizes("/sys/kernel/mm/hugepages")
	}
	return k
}

func (k *kernel) hugePageSizes() []int64 { return k.sizes }

func (k *kernel) limitsHugePages() bool {
	if !k.v2 {
		_, err := os.Stat(filepath.Join(mountPoint, "hugetlb"))
		return err == nil
	}
	text, err := os.ReadFile(filepath.Join(mountPoint, "cgroup.controllers"))
	return err == nil && slices.Contains(strings.Fields(string(text)), "hugetlb")
}

// write makes the cgroup and its parents if they are missing, and sets the values.
// Idempotent.
func (k *kernel) write(n name, v Values) error {
	m, r, err := k.manager(n, v)
	if err != nil {
		return fmt.Errorf("cgroup %s: %w", k.layout.path(n), err)
	}
	// -1 is no process: only the directories are made.
	if err := m.Apply(-1); err != nil {
		return fmt.Errorf("make cgroup %s: %w", k.layout.path(n), err)
	}
	if err := m.Set(r); err != nil {
		return fmt.Errorf("set the limits of cgroup %s: %w", k.layout.path(n), err)
	}
	return nil
}

// exists reports whether the cgroup exists in any hierarchy.
func (k *kernel) exists(n name) bool {
	for _, hierarchy := range k.hierarchies() {
		if _, err := os.Stat(filepath.Join(hierarchy, k.layout.path(n))); err == nil {
			return true
		}
	}
	return false
}

// remove removes the cgroup and those below it. A cgroup in which something runs
// can only be removed with kill, which ends that first. A missing one is fine.
func (k *kernel) remove(n name, kill bool) error {
	m, _, err := k.manager(n, Values{})
	if err != nil {
		return fmt.Errorf("cgroup %s: %w", k.layout.path(n), err)
	}
	pids, err := m.GetAllPids()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("find the processes in cgroup %s: %w", k.layout.path(n), err)
	}
	if len(pids) > 0 && !kill {
		return fmt.Errorf("cgroup %s: processes %v are still in it", k.layout.path(n), pids)
	}
	for _, pid := range pids {
		if err := unix.Kill(pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("kill process %d in cgroup %s: %w", pid, k.layout.path(n), err)
		}
	}
	if err := m.Destroy(); err != nil {
		return fmt.Errorf("remove cgroup %s: %w", k.layout.path(n), err)
	}
	return nil
}

func (k *kernel) manager(n name, v Values) (cgroups.Manager, *cgroups.Resources, error) {
	r := k.resources(v)
	c := &cgroups.Cgroup{Systemd: k.layout.systemd, Resources: r}
	if c.Systemd {
		c.Parent, c.Name = k.layout.unit(n)
	} else {
		c.Path = k.layout.path(n)
	}
	m, err := manager.New(c)
	return m, r, err
}

// resources returns the values in the library's terms.
func (k *kernel) resources(v Values) *cgroups.Resources {
	r := &cgroups.Resources{SkipDevices: true, SkipFreezeOnSet: true, PidsLimit: v.PIDs}
	if v.CPUShares != nil {
		if k.v2 {
			r.CpuWeight = cpuWeight(*v.CPUShares)
		} else {
			r.CpuShares = uint64(*v.CPUShares)
		}
	}
	if v.CPUQuota != nil {
		r.CpuQuota = *v.CPUQuota
	}
	if v.CPUPeriod != nil {
		r.CpuPeriod = uint64(*v.CPUPeriod)
	}
	if v.Memory != nil {
		r.Memory = *v.Memory
	}
	if v.HugePages != nil {
		for _, size := range k.sizes {
			r.HugetlbLimit = append(r.HugetlbLimit, &cgroups.HugepageLimit{Pagesize: pods.PageSizeName(size), Limit: uint64(v.HugePages[size])})
		}
	}
	if k.v2 {
		r.Unified = v.Unified
	}
	return r
}

// pods finds the cgroups of pods in every hierarchy.
func (k *kernel) pods() (map[types.UID]name, error) {
	found := map[types.UID]name{}
	for _, hierarchy := range k.hierarchies() {
		for _, class := range []v1.PodQOSClass{v1.PodQOSGuaranteed, v1.PodQOSBurstable, v1.PodQOSBestEffort} {
			parent := k.layout.qos(class)
			entries, err := os.ReadDir(filepath.Join(hierarchy, k.layout.path(parent)))
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return nil, fmt.Errorf("list the cgroups of pods: %w", err)
			}
			for _, e := range entries {
				if uid, err := k.layout.uid(parent, e.Name()); err == nil && e.IsDir() {
					found[uid] = parent.child(podPrefix + string(uid))
				}
			}
		}
	}
	return found, nil
}

func (k *kernel) hierarchies() []string {
	if k.v2 {
		return []string{mountPoint}
	}
	dirs, _ := filepath.Glob(filepath.Join(mountPoint, "*"))
	return dirs
}

// kernelPageSizes reads the kernel's sizes of huge pages, in bytes.
func kernelPageSizes(dir string) []int64 {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	var sizes []int64
	for _, e := range entries {
		var kib int64
		if _, err := fmt.Sscanf(e.Name(), "hugepages-%dkB", &kib); err == nil {
			sizes = append(sizes, kib<<10)
		}
	}
	return sizes
}
