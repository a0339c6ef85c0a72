package agent

import (
	"bytes"
	"fmt"
	"os"
	goruntime "runtime"
	"strconv"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/mini-kubelet/mini-kubelet/pkg/config"
	"github.com/mini-kubelet/mini-kubelet/pkg/criconfig"
	"github.com/mini-kubelet/mini-kubelet/pkg/loop"
)

// node is what this machine offers to pods.
type node struct {
	criconfig.Node
	maxPods int
}

// measure finds out what the machine has.
func (n *node) measure(cfg *config.Config) error {
	memory, err := memoryBytes()
	if err != nil {
		return err
	}
	cpus := goruntime.NumCPU()
	n.MemoryCapacity = memory
	n.maxPods = int(cfg.MaxPods)
	if per := int(cfg.PodsPerCore); per > 0 {
		n.maxPods = min(n.maxPods, per*cpus)
	}
	n.Allocatable = v1.ResourceList{
		v1.ResourceCPU:    *resource.NewQuantity(int64(cpus), resource.DecimalSI),
		v1.ResourceMemory: *resource.NewQuantity(memory, resource.BinarySI),
		v1.ResourcePods:   *resource.NewQuantity(int64(n.maxPods), resource.DecimalSI),
	}
	return nil
}

// memoryBytes is the machine's memory.
func memoryBytes() (int64, error) {
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, fmt.Errorf("find out the node's memory: %w", err)
	}
	for line := range bytes.Lines(text) {
		if fields := bytes.Fields(line); len(fields) >= 2 && string(fields[0]) == "MemTotal:" {
			kib, err := strconv.ParseInt(string(fields[1]), 10, 64)
			if err != nil {
				return 0, fmt.Errorf("find out the node's memory: %w", err)
			}
			return kib << 10, nil
		}
	}
	return 0, fmt.Errorf("find out the node's memory: /proc/meminfo has no MemTotal")
}

func (n *node) admit(pod *v1.Pod, others []*v1.Pod) *loop.Rejection {
	if len(others) >= n.maxPods {
		return &loop.Rejection{Reason: "OutOfpods", Message: fmt.Sprintf("Node didn't have enough resource: pods, requested: 1, used: %d, capacity: %d", len(others), n.maxPods)}
	}
	return nil
}
