package nodeobject

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	goruntime "runtime"
	"slices"
	"strconv"
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/utils/cpuset"

	"github.com/mini-kubelet/mini-kubelet/pkg/config/options"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
	"github.com/mini-kubelet/mini-kubelet/pkg/resources/machine"
)

// Machine describes this machine.
type Machine struct {
	Capacity v1.ResourceList
	// Allocatable is what all pods together may request: the capacity less what is
	// reserved for the system and for eviction to have room.
	Allocatable v1.ResourceList
	Info        v1.NodeSystemInfo // without the versions of kubelet and runtime
	// NoLocalStorage says that ephemeral storage is not counted.
	NoLocalStorage bool
}

// Reserved is what pods cannot have.
type Reserved struct {
	System, Kube v1.ResourceList // systemReserved and kubeReserved
	// Eviction thresholds: what the hard ones leave has to stay free.
	Eviction []options.Threshold
}

// required is what a node must know that it has before it is ready; ephemeral storage only if it is counted at all.
var required = []v1.ResourceName{v1.ResourceCPU, v1.ResourceMemory, v1.ResourcePods, v1.ResourceEphemeralStorage}

// missing returns what is required and not known, in the kubelet's order.
func missing(m Machine) (names []string) {
	for _, name := range required {
		if _, known := m.Capacity[name]; !known && (name != v1.ResourceEphemeralStorage || !m.NoLocalStorage) {
			names = append(names, string(name))
		}
	}
	return names
}

// measure finds out what the machine has, without what is allocatable of it. The error says what could not be found
// out, and is missing.
func measure(cfg GaugeConfig, info v1.NodeSystemInfo) (Machine, error) {
	m := Machine{Capacity: hugePages("/sys/kernel/mm/hugepages"), Info: info, NoLocalStorage: cfg.NoLocalStorage}
	cpus := int64(onlineCPUs("/sys/devices/system/cpu/online"))
	m.Capacity[v1.ResourceCPU] = *resource.NewQuantity(cpus, resource.DecimalSI)
	pods := cfg.MaxPods
	if cfg.PodsPerCore > 0 {
		pods = min(pods, cfg.PodsPerCore*cpus)
	}
	m.Capacity[v1.ResourcePods] = *resource.NewQuantity(pods, resource.DecimalSI)
	memory, err := machine.ReadMemory()
	if err == nil {
		m.Capacity[v1.ResourceMemory] = *resource.NewQuantity(memory.Total, resource.BinarySI)
	}
	if memory.Swap > 0 {
		m.Info.Swap = &v1.NodeSwapStatus{Capacity: &memory.Swap}
	}
	if cfg.NoLocalStorage {
		return m, err
	}
	fs, fsErr := machine.ReadFileSystem(cfg.Root)
	if fsErr == nil {
		m.Capacity[v1.ResourceEphemeralStorage] = *resource.NewQuantity(fs.Size, resource.BinarySI)
	}
	return m, errors.Join(err, fsErr)
}

// onlineCPUs counts the CPUs that the kernel lists as in use. A kernel that lists none has as many as this process was
// started with.
func onlineCPUs(path string) int {
	if set, err := cpuset.Parse(machine.Line(path)); err == nil && set.Size() > 0 {
		return set.Size()
	}
	return goruntime.NumCPU()
}

// tooMuch returns an error that names each resource of which systemReserved and kubeReserved together
// are more than the machine has.
func tooMuch(capacity v1.ResourceList, r Reserved) error {
	var all error
	for _, name := range slices.Sorted(maps.Keys(capacity)) {
		have, reserved := capacity[name], r.System[name].DeepCopy()
		reserved.Add(r.Kube[name])
		if reserved.Cmp(have) > 0 {
			all = errors.Join(all, fmt.Errorf("invalid Node Allocatable configuration. Resource %q has a reservation of %s but capacity of %s. Expected capacity >= reservation",
				name, &reserved, &have))
		}
	}
	return all
}

// Of returns what is kept of a machine with that capacity, systemReserved, kubeReserved and the hard eviction thresholds
// together, of each resource that it has: the kubelet's GetNodeAllocatableReservation.
func (r Reserved) Of(capacity v1.ResourceList) v1.ResourceList {
	kept := v1.ResourceList{}
	add := func(name v1.ResourceName, q resource.Quantity) {
		if _, ok := capacity[name]; ok {
			sum := kept[name]
			sum.Add(q)
			kept[name] = sum
		}
	}
	for _, list := range []v1.ResourceList{r.System, r.Kube} {
		for name, q := range list {
			add(name, q)
		}
	}
	for _, t := range r.Eviction {
		switch {
		case !t.Hard():
		case t.Signal == options.MemoryAvailable:
			add(v1.ResourceMemory, *resource.NewQuantity(t.Of(capacity.Memory().Value()), resource.BinarySI))
		case t.Signal == options.NodefsAvailable:
			add(v1.ResourceEphemeralStorage, *resource.NewQuantity(t.Of(capacity.StorageEphemeral().Value()), resource.BinarySI))
		}
	}
	return kept
}

// allocatable is the capacity less all that is reserved, never below zero. Memory
// that huge pages take is not available as memory (KubeletConfiguration, node
// allocatable).
func allocatable(capacity v1.ResourceList, r Reserved) v1.ResourceList {
	out := capacity.DeepCopy()
	subtract := func(name v1.ResourceName, q resource.Quantity) {
		have, ok := out[name]
		if !ok {
			return
		}
		have.Sub(q)
		if have.Sign() < 0 {
			have = *resource.NewQuantity(0, have.Format)
		}
		out[name] = have
	}
	for name, q := range r.Of(capacity) {
		subtract(name, q)
	}
	for name, q := range capacity {
		if pods.IsHugePages(name) {
			subtract(v1.ResourceMemory, q)
		}
	}
	return out
}

// hugePages reads how many bytes of huge pages there are of each size.
func hugePages(dir string) v1.ResourceList {
	list := v1.ResourceList{}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return list // the kernel has none
	}
	for _, e := range entries {
		size, ok := strings.CutPrefix(e.Name(), "hugepages-")
		kib, err := strconv.ParseInt(strings.TrimSuffix(size, "kB"), 10, 64)
		if !ok || err != nil {
			continue
		}
		n, err := strconv.ParseInt(machine.Line(filepath.Join(dir, e.Name(), "nr_hugepages")), 10, 64)
		if err != nil {
			continue
		}
		page := resource.NewQuantity(kib<<10, resource.BinarySI)
		list[v1.ResourceName(v1.ResourceHugePagesPrefix+page.String())] = *resource.NewQuantity(n*kib<<10, resource.BinarySI)
	}
	return list
}

// systemInfo reads the machine's identity. What cannot be read stays empty.
func systemInfo() v1.NodeSystemInfo {
	id := machine.ReadIdentity()
	return v1.NodeSystemInfo{
		MachineID:       id.MachineID,
		SystemUUID:      id.SystemUUID,
		BootID:          id.BootID,
		KernelVersion:   id.KernelVersion,
		OSImage:         osImage(machine.OSRelease),
		OperatingSystem: goruntime.GOOS,
		Architecture:    goruntime.GOARCH,
	}
}

func osImage(path string) string { return cmp.Or(machine.OSName(path), goruntime.GOOS) }
