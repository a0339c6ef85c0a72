// Package criconfig translates the spec of one pod into what CRI is told: the
// configuration of its sandbox and of each container. It decides nothing and does
// nothing: the same pod, input and node give the same configuration, so golden
// files pin every rule.
//
//	v1.Pod ── Sandbox ──▶ cri.PodSandboxConfig ──▶ RunPodSandbox
//	   └───── Container ─▶ cri.ContainerConfig ──▶ CreateContainer
//
// Package kuberuntime is the caller. What a container needs beyond its spec (image,
// volumes, pod IPs, attempt) comes in a ContainerInput. What cannot be translated
// is an Error whose Reason is the kubelet's waiting reason.
package criconfig
