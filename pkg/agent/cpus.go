package agent

import (
	"fmt"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"
	"k8s.io/utils/cpuset"

	"github.com/mini-kubelet/mini-kubelet/pkg/cluster/nodeobject"
	"github.com/mini-kubelet/mini-kubelet/pkg/config/options"
	"github.com/mini-kubelet/mini-kubelet/pkg/resources/cpumanager"
	"github.com/mini-kubelet/mini-kubelet/pkg/resources/topologymanager"
)

// systemDevices is where the kernel shows CPUs and NUMA nodes.
const systemDevices = "/sys/devices/system"

// reserveNamed replaces the amounts in systemReserved and kubeReserved with the
// number of CPUs that are reserved by name (reservedSystemCPUs).
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

// newCPUs makes the manager that gives containers CPUs to themselves; nil if the
// configuration does not ask for it. Pods that nobody wants any more lose theirs.
func newCPUs(f *foundation, r nodeobject.Reserved, a *topologymanager.Alignment) (*cpumanager.Manager, error) {
	cfg := f.cfg
	if cfg.CPUManagerPolicy != "static" {
		return nil, cpumanager.CheckUnused(cfg.RootDir)
	}
	t, err := cpumanager.Discover(systemDevices)
	if err != nil {
		return nil, err
	}
	parsed, err := options.ParseCPUManager(cfg.CPUManagerPolicyOptions)
	if err != nil {
		return nil, err
	}
	named, err := cpuset.Parse(cfg.ReservedSystemCPUs)
	if err != nil {
		return nil, fmt.Errorf("reservedSystemCPUs: %w", err)
	}
	reserved := r.System.Cpu().DeepCopy()
	reserved.Add(*r.Kube.Cpu())
	m, err := cpumanager.New(cpumanager.Config{
		Topology: t, Named: named, Reserved: reserved, Options: parsed, Root: cfg.RootDir,
		Gone: func(uid types.UID) bool { return !f.store.MayBeWanted(uid) }, Metrics: f.metrics, Alignment: a,
	})
	if err != nil {
		return nil, fmt.Errorf("cpuManagerPolicy static: %w", err)
	}
	return m, nil
}

// newCPUUpdater makes the part that keeps running containers on the CPUs that they should run on.
func newCPUUpdater(f *foundation, m *cpumanager.Manager, cache cpumanager.Cache) (part, error) {
	u, err := cpumanager.NewUpdater(cpumanager.UpdaterConfig{
		Manager: m, Runtime: f.client, Cache: cache, Desired: f.store.Pods,
		Period: f.cfg.CPUManagerReconcilePeriod.Duration, Clock: clock.RealClock{},
	})
	if err != nil {
		return part{}, err
	}
	return part{"CPU manager", u.Run}, nil
}
