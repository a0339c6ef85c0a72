package agent

import (
	"errors"
	"fmt"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"
	"k8s.io/utils/cpuset"

	"github.com/mini-kubelet/mini-kubelet/pkg/admission"
	"github.com/mini-kubelet/mini-kubelet/pkg/cluster/nodeobject"
	"github.com/mini-kubelet/mini-kubelet/pkg/config"
	"github.com/mini-kubelet/mini-kubelet/pkg/lifecycle/pleg"
	"github.com/mini-kubelet/mini-kubelet/pkg/lifecycle/podstore"
	"github.com/mini-kubelet/mini-kubelet/pkg/resources/cpumanager"
	"github.com/mini-kubelet/mini-kubelet/pkg/runtime/criclient"
)

// systemDevices is where the kernel shows CPUs and NUMA nodes.
const systemDevices = "/sys/devices/system"

// reserveNamed puts the number of CPUs that are reserved by name (reservedSystemCPUs)
// in the place of the amounts that systemReserved and kubeReserved say.
func reserveNamed(named string, kept *nodeobject.Reserved) error {
	if named == "" {
		return nil
	}
	cpus, err := cpuset.Parse(named)
	if err != nil {
		return fmt.Errorf("reservedSystemCPUs: %w", err)
	}
	t, err := cpumanager.Discover(systemDevices)
	if err != nil {
		return err
	}
	if !cpus.IsSubsetOf(t.CPUs()) {
		return fmt.Errorf("reservedSystemCPUs: %s is not a subset of online-cpus: %s", cpus, t.CPUs())
	}
	klog.InfoS("reservedSystemCPUs takes the place of the CPU in systemReserved and kubeReserved", "reservedSystemCPUs", cpus)
	delete(kept.Kube, v1.ResourceCPU)
	if kept.System == nil {
		kept.System = v1.ResourceList{}
	}
	kept.System[v1.ResourceCPU] = *resource.NewQuantity(int64(cpus.Size()), resource.DecimalSI)
	return nil
}

// newCPUs makes what gives containers CPUs to themselves; nil where the
// configuration does not ask for it. What nobody wants any more has none.
func newCPUs(cfg *config.Config, n *node, gone func(types.UID) bool) error {
	if cfg.CPUManagerPolicy != "static" {
		return cpumanager.CheckUnused(cfg.RootDir)
	}
	t, err := cpumanager.Discover(systemDevices)
	if err != nil {
		return err
	}
	options, err := cpumanager.ParseOptions(cfg.CPUManagerPolicyOptions)
	if err != nil {
		return err
	}
	named, err := cpuset.Parse(cfg.ReservedSystemCPUs)
	if err != nil {
		return fmt.Errorf("reservedSystemCPUs: %w", err)
	}
	reserved := n.kept.System.Cpu().DeepCopy()
	reserved.Add(*n.kept.Kube.Cpu())
	m, err := cpumanager.New(cpumanager.Config{Topology: t, Named: named, Reserved: reserved, Options: options, Root: cfg.RootDir})
	if err != nil {
		return fmt.Errorf("cpuManagerPolicy static: %w", err)
	}
	n.cpus, n.CPUs, n.gone = m, m.CPUs, gone
	if !cfg.Enabled(config.DisableCPUQuotaWithExclusiveCPUs) {
		n.CPUs = func(pod types.UID, container string) (string, bool) {
			cpus, _ := m.CPUs(pod, container)
			return cpus, false // they are held to their limits like all others
		}
	}
	n.offer.CPUs = func(pod *v1.Pod) *admission.Rejection { return refusal(m.Check(pod, gone)) }
	return nil
}

// podCPUs are the CPUs of pods, as their workers ask for them.
type podCPUs struct {
	*cpumanager.Manager
	gone func(types.UID) bool
}

// Allocate implements worker.CPUs.
func (c podCPUs) Allocate(pod *v1.Pod) error { return c.Manager.Allocate(pod, c.gone) }

// refusal is why the CPU manager refuses a pod, nil where it does not.
func refusal(err error) *admission.Rejection {
	var r *cpumanager.Refusal
	if !errors.As(err, &r) {
		return nil
	}
	return &admission.Rejection{Reason: r.Reason, Message: r.Message}
}

// updateCPUs keeps running containers on the CPUs that they should run on.
func updateCPUs(cfg *config.Config, m *cpumanager.Manager, client *criclient.Client, eyes *pleg.PLEG, store *podstore.Store) (part, error) {
	u, err := cpumanager.NewUpdater(cpumanager.UpdaterConfig{
		Manager: m, Runtime: client, Cache: eyes, Period: cfg.CPUManagerReconcilePeriod.Duration, Clock: clock.RealClock{},
		Pods: func() []types.UID {
			seen := map[types.UID]bool{}
			var uids []types.UID
			add := func(uid types.UID) {
				if !seen[uid] {
					seen[uid] = true
					uids = append(uids, uid)
				}
			}
			for _, p := range store.Pods() {
				add(p.UID)
			}
			for _, p := range eyes.Pods() { // also what is on its way out
				add(p.UID)
			}
			return uids
		},
	})
	if err != nil {
		return part{}, err
	}
	return part{"CPU manager", u.Run}, nil
}
