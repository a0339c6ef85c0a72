// Package cadvisor serves what containers, pods and the machine use under the names and labels
// that cAdvisor gave them (container_*, machine_*), which dashboards and rules such as those of
// kube-prometheus query at /metrics/cadvisor.
//
//	pods and their containers ──▶ subjects ─┐
//	kubepods, classes, system, root ────────┤ cgroupstats ──▶ families ──▶ text
//	writable layers (CRI statistics) ───────┘
//	what has no cgroup here: CRI ListPodSandboxMetrics
//
// As in a stock kubelet the values come from the kernel, so that they are the same on every
// runtime. CRI's metrics are integers and lack the pods' and the system's own cgroups: they are
// asked for only the containers whose cgroups this agent does not see (cgroupsPerQOS: false,
// runtimes that keep containers in virtual machines).
package cadvisor
