package criconfig

import (
	v1 "k8s.io/api/core/v1"
	"k8s.io/component-helpers/node/util/sysctl"
	"k8s.io/component-helpers/resource"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/utils/ptr"

	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
)

// Sandbox returns the configuration of the pod's sandbox number attempt, or an
// Error with reason ReasonSandboxConfig.
func Sandbox(pod *v1.Pod, attempt uint32, node NodeConfig) (*cri.PodSandboxConfig, error) {
	c := &cri.PodSandboxConfig{
		Metadata: &cri.PodSandboxMetadata{
			Name:      pod.Name,
			Namespace: pod.Namespace,
			Uid:       string(pod.UID),
			Attempt:   attempt,
		},
		LogDirectory: pods.PodLogDirectory(node.PodLogsRoot, pod.Namespace, pod.Name, pod.UID),
		Labels:       sandboxLabels(pod),
		Annotations:  sandboxAnnotations(pod),
	}
	dns, err := PodDNS(pod, node)
	if err != nil {
		return nil, err
	}
	c.DnsConfig = dns
	if !pod.Spec.HostNetwork {
		if c.Hostname, err = kernelHostname(pod, node.ClusterDomain); err != nil {
			return nil, err
		}
		c.PortMappings = portMappings(pod)
	}
	c.Linux = linuxSandbox(pod, node)
	return c, nil
}

func linuxSandbox(pod *v1.Pod, node NodeConfig) *cri.LinuxPodSandboxConfig {
	sec := &cri.LinuxSandboxSecurityContext{
		NamespaceOptions: podNamespaces(pod),
		Privileged:       hasPrivilegedContainer(pod),
		// The pause process needs nothing that the default profile forbids,
		// whatever the pod's containers ask for.
		Seccomp: &cri.SecurityProfile{ProfileType: cri.SecurityProfile_RuntimeDefault},
	}
	c := &cri.LinuxPodSandboxConfig{SecurityContext: sec, Sysctls: defaultSysctls(pod, node.Sysctls)}
	if node.CgroupParent != nil {
		c.CgroupParent = node.CgroupParent(pod)
	}
	if sc := pod.Spec.SecurityContext; sc != nil {
		for _, s := range sc.Sysctls {
			c.Sysctls[sysctl.NormalizeName(s.Name)] = s.Value
		}
		sec.RunAsUser = int64Value(sc.RunAsUser)
		sec.RunAsGroup = int64Value(sc.RunAsGroup)
		sec.SupplementalGroups, sec.SupplementalGroupsPolicy = podGroups(sc)
		sec.SelinuxOptions = seLinux(sc.SELinuxOptions)
	}
	c.Resources = sandboxResources(
		resource.PodRequests(pod, resource.PodResourcesOptions{ExcludeOverhead: true}),
		resource.PodLimits(pod, resource.PodResourcesOptions{ExcludeOverhead: true}), node)
	if node.ExclusiveCPUs(pod) {
		dropQuota(c.Resources)
	}
	c.Overhead = sandboxResources(pod.Spec.Overhead, pod.Spec.Overhead, node)
	return c
}

// portMappings lists the ports of all containers that run as long as the pod
// does. Within a container a port that repeats an earlier one (by name, or by
// address, protocol and numbers) is dropped.
func portMappings(pod *v1.Pod) []*cri.PortMapping {
	type key struct {
		protocol        v1.Protocol
		hostIP          string
		container, host int32
	}
	var all []*cri.PortMapping
	add := func(c *v1.Container) {
		byAddress, byName := map[key]bool{}, map[string]bool{}
		for _, p := range c.Ports {
			protocol := p.Protocol
			if protocol == "" {
				protocol = v1.ProtocolTCP
			}
			k := key{protocol, p.HostIP, p.ContainerPort, p.HostPort}
			if byAddress[k] || (p.Name != "" && byName[p.Name]) {
				continue
			}
			byAddress[k], byName[p.Name] = true, true
			all = append(all, &cri.PortMapping{
				Protocol:      criProtocol(protocol),
				ContainerPort: p.ContainerPort,
				HostPort:      p.HostPort,
				HostIp:        p.HostIP,
			})
		}
	}
	for kind, c := range pods.Containers(pod) {
		if kind != pods.InitContainer {
			add(c)
		}
	}
	return all
}

func criProtocol(p v1.Protocol) cri.Protocol {
	switch p {
	case v1.ProtocolUDP:
		return cri.Protocol_UDP
	case v1.ProtocolSCTP:
		return cri.Protocol_SCTP
	}
	return cri.Protocol_TCP
}

func int64Value(n *int64) *cri.Int64Value {
	if n == nil {
		return nil
	}
	return &cri.Int64Value{Value: *n}
}

// defaultSysctls returns those of the node's sysctls that concern only the pod: none of a namespace that
// it shares with the host.
func defaultSysctls(pod *v1.Pod, all map[string]string) map[string]string {
	own := map[string]string{}
	for key, value := range all {
		name := sysctl.NormalizeName(key)
		namespace, _, _ := sysctl.GetNamespace(name)
		switch {
		case namespace == sysctl.IPCNamespace && pod.Spec.HostIPC,
			namespace == sysctl.NetNamespace && pod.Spec.HostNetwork,
			namespace == sysctl.UTSNamespace && pod.Spec.HostNetwork,
			namespace == sysctl.UserNamespace && ptr.Deref(pod.Spec.HostUsers, true),
			namespace == sysctl.UnknownNamespace:
		default:
			own[name] = value
		}
	}
	return own
}
