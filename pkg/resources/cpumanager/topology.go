package cpumanager

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"k8s.io/utils/cpuset"

	"github.com/mini-kubelet/mini-kubelet/pkg/resources/numa"
)

// Topology is the place of each online CPU (a hardware thread).
type Topology map[int]Place

// Place is what a CPU is part of. A core is numbered by its first CPU, which is
// unique on the machine; the kernel's core_id is unique only within a socket.
type Place struct{ Core, Socket, NUMA int }

// Discover reads the topology from a /sys/devices/system. If the kernel does not
// say, the simplest is assumed: a CPU is a core of its own, and socket and NUMA
// node are number 0.
func Discover(system string) (Topology, error) {
	online, err := readSet(filepath.Join(system, "cpu", "online"))
	if err != nil {
		return nil, fmt.Errorf("find out which CPUs are online: %w", err)
	}
	t := Topology{}
	for _, cpu := range online.List() {
		dir := filepath.Join(system, "cpu", "cpu"+strconv.Itoa(cpu), "topology")
		threads, err := readSet(filepath.Join(dir, "thread_siblings_list"))
		if errors.Is(err, fs.ErrNotExist) {
			threads, err = cpuset.New(cpu), nil
		}
		if err != nil {
			return nil, fmt.Errorf("find out the core of CPU %d: %w", cpu, err)
		}
		threads = threads.Intersection(online).Union(cpuset.New(cpu))
		socket, err := readNumber(filepath.Join(dir, "physical_package_id"))
		if err != nil {
			return nil, fmt.Errorf("find out the socket of CPU %d: %w", cpu, err)
		}
		t[cpu] = Place{Core: threads.List()[0], Socket: max(socket, 0)}
	}
	if len(t) == 0 {
		return nil, errors.New("find out which CPUs are online: none is")
	}
	nodes, err := filepath.Glob(filepath.Join(system, "node", "node[0-9]*"))
	if err != nil {
		return nil, err
	}
	for _, dir := range nodes {
		number, err := strconv.Atoi(strings.TrimPrefix(filepath.Base(dir), "node"))
		if err != nil {
			continue
		}
		cpus, err := readSet(filepath.Join(dir, "cpulist"))
		if err != nil {
			return nil, fmt.Errorf("find out the CPUs of NUMA node %d: %w", number, err)
		}
		for _, cpu := range cpus.Intersection(online).UnsortedList() {
			place := t[cpu]
			place.NUMA = number
			t[cpu] = place
		}
	}
	return t, nil
}

func readSet(path string) (cpuset.CPUSet, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return cpuset.New(), err
	}
	return cpuset.Parse(strings.TrimSpace(string(text)))
}

// readNumber reads a file that holds a number; 0 if there is none.
func readNumber(path string) (int, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(text)))
}

// CPUs returns all online CPUs.
func (t Topology) CPUs() cpuset.CPUSet { return cpuset.New(slices.Collect(maps.Keys(t))...) }

// of returns the CPUs of these NUMA nodes.
func (t Topology) of(nodes numa.Set) cpuset.CPUSet {
	var cpus []int
	for cpu, p := range t {
		if nodes.Has(p.NUMA) {
			cpus = append(cpus, cpu)
		}
	}
	return cpuset.New(cpus...)
}

// perNode counts CPUs by NUMA node.
func (t Topology) perNode(cpus cpuset.CPUSet) map[int]int {
	n := map[int]int{}
	for _, cpu := range cpus.UnsortedList() {
		n[t[cpu].NUMA]++
	}
	return n
}

// level returns the part of the machine, of one kind, that a CPU is in.
type level func(Place) int

func core(p Place) int     { return p.Core }
func socket(p Place) int   { return p.Socket }
func numaNode(p Place) int { return p.NUMA }

// levels returns the kinds of parts, largest first: a NUMA node has several
// sockets, or a socket several NUMA nodes.
func (t Topology) levels() []level {
	if len(t.sizes(socket)) >= len(t.sizes(numaNode)) {
		return []level{numaNode, socket, core}
	}
	return []level{socket, numaNode, core}
}

// sizes returns how many CPUs each part of that kind has.
func (t Topology) sizes(of level) map[int]int {
	sizes := map[int]int{}
	for _, p := range t {
		sizes[of(p)]++
	}
	return sizes
}

// threadsPerCore is how many CPUs a core has, on average, as the kubelet counts.
func (t Topology) threadsPerCore() int { return len(t) / len(t.sizes(core)) }

// wholeCores returns all CPUs of the cores that these CPUs belong to.
func (t Topology) wholeCores(of cpuset.CPUSet) cpuset.CPUSet {
	cores := map[int]bool{}
	for _, cpu := range of.UnsortedList() {
		cores[t[cpu].Core] = true
	}
	var all []int
	for cpu, p := range t {
		if cores[p.Core] {
			all = append(all, cpu)
		}
	}
	return cpuset.New(all...)
}
