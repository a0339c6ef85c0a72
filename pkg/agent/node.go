package agent

import (
	"bytes"
	"fmt"
	"os"
	goruntime "runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/mini-kubelet/mini-kubelet/pkg/admission"
	"github.com/mini-kubelet/mini-kubelet/pkg/config"
	"github.com/mini-kubelet/mini-kubelet/pkg/criconfig"
	"github.com/mini-kubelet/mini-kubelet/pkg/loop"
	"github.com/mini-kubelet/mini-kubelet/pkg/podfields"
)

// node is what this machine offers to pods.
type node struct {
	criconfig.Node
	offer admission.Node // what pods are held against
}

// measure finds out what the machine has.
func (n *node) measure(cfg *config.Config) error {
	memory, err := memoryBytes()
	if err != nil {
		return err
	}
	disk, err := diskBytes(cfg.RootDir)
	if err != nil {
		return err
	}
	cpus := goruntime.NumCPU()
	n.MemoryCapacity = memory
	pods := int64(cfg.MaxPods)
	if per := int64(cfg.PodsPerCore); per > 0 {
		pods = min(pods, per*int64(cpus))
	}
	n.Allocatable = v1.ResourceList{
		v1.ResourceCPU:              *resource.NewQuantity(int64(cpus), resource.DecimalSI),
		v1.ResourceMemory:           *resource.NewQuantity(memory, resource.BinarySI),
		v1.ResourceEphemeralStorage: *resource.NewQuantity(disk, resource.BinarySI),
		v1.ResourcePods:             *resource.NewQuantity(pods, resource.DecimalSI),
	}
	n.offer = admission.Node{
		Name: cfg.NodeName,
		Labels: map[string]string{
			v1.LabelHostname: strings.ToLower(cfg.NodeName), v1.LabelOSStable: goruntime.GOOS, v1.LabelArchStable: goruntime.GOARCH,
		},
		Allocatable: n.Allocatable, AllowedUnsafeSysctls: cfg.AllowedUnsafeSysctls, AppArmor: appArmorEnabled(),
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

// diskBytes is the size of the file system that the pods' directories are on.
func diskBytes(root string) (int64, error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(root, &fs); err != nil {
		return 0, fmt.Errorf("find out the size of the file system of %s: %w", root, err)
	}
	return int64(fs.Blocks) * fs.Frsize, nil
}

// admit says whether a pod that does not run yet may start beside the others.
func (n *node) admit(pod *v1.Pod, others []*v1.Pod) *loop.Rejection {
	if refused := podfields.Refused(pod); len(refused) > 0 {
		all := make([]string, len(refused))
		for i, r := range refused {
			all[i] = r.String()
		}
		return &loop.Rejection{Reason: reasonUnsupported, Message: "this node cannot do what the pod asks for: " + strings.Join(all, "; ")}
	}
	if r := admission.Admit(pod, others, n.offer); r != nil {
		return &loop.Rejection{Reason: r.Reason, Message: r.Message}
	}
	return nil
}

// reasonUnsupported is of a pod with fields that this node does not honour. The
// kubelet has no word for it: it honours them.
const reasonUnsupported = "UnsupportedPodFields"

// appArmorEnabled tells whether the kernel enforces AppArmor profiles.
func appArmorEnabled() bool {
	text, err := os.ReadFile("/sys/module/apparmor/parameters/enabled")
	return err == nil && bytes.HasPrefix(text, []byte("Y"))
}
