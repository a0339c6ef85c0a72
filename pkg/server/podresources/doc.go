// Package podresources tells monitoring agents and device plug-ins which pods have which devices, CPUs and memory
// to themselves: the kubelet's PodResources API (k8s.io/kubelet/pkg/apis/podresources) on pod-resources/kubelet.sock.
// Version v1 has List, Get and GetAllocatableResources; v1alpha1, which old exporters ask for, has List with
// devices alone.
//
//	pods: the store's, those that are active by the workers ─┐
//	devicemanager, cpumanager, memorymanager ────────────────┴▶ v1.go, v1alpha1.go ──▶ server.go: socket, limits
//
// It only reads, and nothing that it reads waits for anybody.
package podresources
