// Package kuberuntime makes one pod's containers what its spec wants, in CRI calls.
//
//	spec, observed status ─▶ computeActions (pure) ─▶ SyncPod: kill · sandbox · init · start
//
// The worker of the pod calls SyncPod, KillPod and RemovePod, one at a time; PLEG
// calls GetPods, GetPod, GetPodStatus and Follow. Everything that must survive
// the agent is in the labels and annotations of containers, and every call may be
// repeated after a crash between any two steps.
package kuberuntime
