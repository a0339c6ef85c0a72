package agent

import (
	"bytes"
	"maps"
	"os"
	"path/filepath"
	goruntime "runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"

	"github.com/mini-kubelet/mini-kubelet/pkg/admission"
	"github.com/mini-kubelet/mini-kubelet/pkg/admission/podfields"
	"github.com/mini-kubelet/mini-kubelet/pkg/cluster/nodeobject"
	"github.com/mini-kubelet/mini-kubelet/pkg/config"
	"github.com/mini-kubelet/mini-kubelet/pkg/lifecycle/loop"
	"github.com/mini-kubelet/mini-kubelet/pkg/resources/cpumanager"
	"github.com/mini-kubelet/mini-kubelet/pkg/runtime/criconfig"
)

// node is what this machine offers to pods.
type node struct {
	criconfig.Node
	machine nodeobject.Machine
	kept    nodeobject.Reserved // from pods
	cpus    *cpumanager.Manager // nil: containers share all
	// given returns a pod with the resources that it has, nil: those that it asks for.
	given func(*v1.Pod) *v1.Pod
	offer admission.Node // what pods are held against, but for what the API server says
	// gone tells whether nobody wants a pod any more.
	gone func(types.UID) bool
	// object returns the node as the API server has it, nil when that is not known.
	object func() *v1.Node
}

// newNode is what the pods' configurations take from this node.
func newNode(cfg *config.Config) (*node, error) {
	n := &node{
		Node: criconfig.Node{
			Name: cfg.NodeName, HostIPs: cfg.NodeIPs, PodLogsRoot: cfg.PodLogsDir,
			SeccompRoot:   filepath.Join(cfg.RootDir, "seccomp"),
			ClusterDomain: cfg.ClusterDomain, ClusterDNS: cfg.ClusterDNS,
			DisableCFSQuota: !deref(cfg.CPUCFSQuota, true), CFSQuotaPeriod: cfg.CPUCFSQuotaPeriod.Duration,
		},
	}
	if len(n.HostIPs) == 0 {
		n.HostIPs = hostIPs()
	} else if !cfg.Standalone() {
		var err error
		if n.HostIPs, err = nodeIPs(cfg.NodeIPs, interfaceIPs()); err != nil {
			return nil, err
		}
	}
	if path := deref(cfg.ResolverConfig, ""); path != "" {
		n.ResolvConf = criconfig.ResolvConfFile(path)
	}
	if err := n.measure(cfg); err != nil {
		return nil, err
	}
	return n, nil
}

// measure finds out what the machine has.
func (n *node) measure(cfg *config.Config) error {
	eviction, err := nodeobject.ParseThresholds(cfg.EvictionHard)
	if err != nil {
		return err
	}
	kept := nodeobject.Reserved{Eviction: eviction}
	if kept.System, err = nodeobject.Resources("systemReserved", cfg.SystemReserved); err != nil {
		return err
	}
	if kept.Kube, err = nodeobject.Resources("kubeReserved", cfg.KubeReserved); err != nil {
		return err
	}
	pods := int64(cfg.MaxPods)
	if per := int64(cfg.PodsPerCore); per > 0 {
		pods = min(pods, per*int64(goruntime.NumCPU()))
	}
	if err := reserveNamed(cfg.ReservedSystemCPUs, &kept); err != nil {
		return err
	}
	n.kept = kept
	if n.machine, err = nodeobject.Measure(cfg.RootDir, pods, kept); err != nil {
		return err
	}
	if !deref(cfg.LocalStorageCapacityIsolation, true) {
		delete(n.machine.Capacity, v1.ResourceEphemeralStorage)
		delete(n.machine.Allocatable, v1.ResourceEphemeralStorage)
	}
	n.MemoryCapacity = n.machine.Capacity.Memory().Value()
	n.Allocatable = n.machine.Allocatable
	labels := map[string]string{
		v1.LabelHostname: strings.ToLower(cfg.NodeName), v1.LabelOSStable: goruntime.GOOS, v1.LabelArchStable: goruntime.GOARCH,
	}
	maps.Copy(labels, cfg.NodeLabels)
	n.offer = admission.Node{
		Name: cfg.NodeName, Labels: labels,
		Allocatable: n.Allocatable, AllowedUnsafeSysctls: cfg.AllowedUnsafeSysctls, AppArmor: appArmorEnabled(),
	}
	return nil
}

// now is what pods are held against: labels, taints and foreign resources are the
// API server's to say, where it has.
func (n *node) now() admission.Node {
	offer := n.offer
	if n.object == nil {
		return offer
	}
	if o := n.object(); o != nil {
		offer.Labels, offer.Taints = o.Labels, o.Spec.Taints
		offer.Allocatable = maps.Clone(offer.Allocatable)
		for name, q := range o.Status.Allocatable {
			if _, own := offer.Allocatable[name]; !own {
				offer.Allocatable[name] = q
			}
		}
	}
	return offer
}

// admit says whether a pod that does not run yet may start beside the others. One
// that may not gives back the CPUs that it had before the node was restarted.
func (n *node) admit(pod *v1.Pod, others []*v1.Pod) *loop.Rejection {
	r := n.judge(pod, others)
	if r != nil && n.cpus != nil {
		if err := n.cpus.Release(pod.UID); err != nil {
			klog.ErrorS(err, "Could not release the CPUs of a pod that was rejected", "pod", klog.KObj(pod), "podUID", pod.UID)
		}
	}
	return r
}

func (n *node) judge(pod *v1.Pod, others []*v1.Pod) *loop.Rejection {
	if n.given != nil {
		pod = n.given(pod)
		others = slices.Clone(others)
		for i, o := range others {
			others[i] = n.given(o)
		}
	}
	if refused := podfields.Refused(pod, n.offer.FieldsFor(pod)); len(refused) > 0 {
		all := make([]string, len(refused))
		for i, r := range refused {
			all[i] = r.String()
		}
		return &loop.Rejection{Reason: reasonUnsupported, Message: "this node cannot do what the pod asks for: " + strings.Join(all, "; ")}
	}
	if r := admission.Admit(pod, others, n.now()); r != nil {
		return &loop.Rejection{Reason: r.Reason, Message: r.Message}
	}
	if n.cpus != nil {
		if r := refusal(n.cpus.Allocate(pod, n.gone)); r != nil {
			return &loop.Rejection{Reason: r.Reason, Message: r.Message}
		}
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

// bootTime is when the machine was started.
func bootTime() time.Time {
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) != nil {
		return time.Time{}
	}
	return time.Now().Add(-time.Duration(info.Uptime) * time.Second).Truncate(time.Second)
}
