package kuberuntime

import (
	v1 "k8s.io/api/core/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/pods/actual"
)

// Decision is what computeActions decides for a pod without probes: IDs of containers
// to stop, names of containers to start.
type Decision struct {
	KillPod, CreateSandbox bool
	Attempt                uint32
	SandboxID              string
	Remove, Kill           []string
	Start                  []string
}

// Decide is computeActions for tests outside the package, which may import those that
// import it.
func Decide(pod *v1.Pod, observed *actual.PodStatus) Decision {
	a := computeActions(pod, observed, verdicts{})
	d := Decision{KillPod: a.killPod, CreateSandbox: a.createSandbox, Attempt: a.attempt, SandboxID: a.sandboxID}
	for _, s := range a.reset {
		d.Remove = append(d.Remove, s.ID.ID)
	}
	for _, k := range a.kill {
		d.Kill = append(d.Kill, k.status.ID.ID)
	}
	for _, list := range [][]*v1.Container{a.ephemeral, a.init, a.start} {
		for _, c := range list {
			d.Start = append(d.Start, c.Name)
		}
	}
	return d
}
