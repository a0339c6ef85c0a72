package numa

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Node is one NUMA node as the kernel shows it.
type Node struct {
	ID int
	// Distances are those to all nodes of the machine, itself included, by their numbers, as the
	// firmware rates them: 10 is the node's own memory. nil: the kernel does not say.
	Distances map[int]int
	Memory    uint64            // bytes, with what huge pages occupy; 0: the kernel does not say
	HugePages map[uint64]uint64 // how many there are of each size in bytes
}

// Nodes are those of one machine, by number.
type Nodes []Node

// All returns the set of all nodes.
func (n Nodes) All() (s Set) {
	for _, node := range n {
		s |= Of(node.ID)
	}
	return s
}

// Discover reads the nodes from a /sys/devices/system. A kernel that does not know of NUMA has one
// node, number 0, of which nothing is known.
func Discover(system string) (Nodes, error) {
	dirs, err := filepath.Glob(filepath.Join(system, "node", "node[0-9]*"))
	if err != nil {
		return nil, err
	}
	var nodes Nodes
	for _, dir := range dirs {
		id, err := strconv.Atoi(strings.TrimPrefix(filepath.Base(dir), "node"))
		if err != nil {
			continue
		}
		if id >= MaxNodes {
			return nil, fmt.Errorf("NUMA node %d: only nodes with numbers below %d can be told apart", id, MaxNodes)
		}
		n := Node{ID: id}
		if n.Memory, err = memory(filepath.Join(dir, "meminfo")); err != nil {
			return nil, fmt.Errorf("find out the memory of NUMA node %d: %w", id, err)
		}
		if n.HugePages, err = hugePages(filepath.Join(dir, "hugepages")); err != nil {
			return nil, fmt.Errorf("find out the huge pages of NUMA node %d: %w", id, err)
		}
		nodes = append(nodes, n)
	}
	if len(nodes) == 0 {
		return Nodes{{}}, nil
	}
	slices.SortFunc(nodes, func(a, b Node) int { return cmp.Compare(a.ID, b.ID) })
	for i := range nodes {
		path := filepath.Join(system, "node", "node"+strconv.Itoa(nodes[i].ID), "distance")
		if nodes[i].Distances, err = distances(path, nodes); err != nil {
			return nil, fmt.Errorf("find out how far NUMA node %d is from the others: %w", nodes[i].ID, err)
		}
	}
	return nodes, nil
}

// distances reads a list with one number for each node that is online, in their order.
func distances(path string, nodes Nodes) (map[int]int, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	fields := strings.Fields(string(text))
	if len(fields) != len(nodes) {
		return nil, fmt.Errorf("%s has %d numbers for %d nodes", path, len(fields), len(nodes))
	}
	to := map[int]int{}
	for i, f := range fields {
		if to[nodes[i].ID], err = strconv.Atoi(f); err != nil {
			return nil, err
		}
	}
	return to, nil
}

// memory reads MemTotal of a node's meminfo, in bytes.
func memory(path string) (uint64, error) {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		// Node 0 MemTotal:       15296724 kB
		f := strings.Fields(lines.Text())
		if len(f) < 4 || f[2] != "MemTotal:" {
			continue
		}
		kib, err := strconv.ParseUint(f[3], 10, 54)
		return kib << 10, err
	}
	return 0, errors.New("no MemTotal in " + path)
}

// hugePages reads how many pages of each size a node has.
func hugePages(dir string) (map[uint64]uint64, error) {
	paths, err := filepath.Glob(filepath.Join(dir, "hugepages-*kB", "nr_hugepages"))
	if err != nil {
		return nil, err
	}
	pages := map[uint64]uint64{}
	for _, path := range paths {
		name := filepath.Base(filepath.Dir(path))
		kib, err := strconv.ParseUint(strings.TrimSuffix(strings.TrimPrefix(name, "hugepages-"), "kB"), 10, 54)
		if err != nil {
			return nil, err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		if pages[kib<<10], err = strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64); err != nil {
			return nil, err
		}
	}
	return pages, nil
}
