// Package resources is the wing that divides the machine among pods. It has no code of its
// own; its rooms are:
//
//	machine          what the kernel says about the machine as a whole
//	cgroup           the control groups of pods and QoS classes
//	topologymanager  the same NUMA nodes for all that a container has to itself
//	cpumanager       CPUs that a container has to itself
//	memorymanager    the NUMA nodes that a container's memory is of
//	numa             the machine's NUMA nodes
//	kernelparams     the kernel parameters that the kubelet wants
//	utilchains       the iptables chains that the kubelet makes for others
//	oom              what the kernel kills because the machine is out of memory
//
// Devices of device plug-ins will be here too.
package resources
