package admission

import (
	"fmt"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/component-helpers/node/util/sysctl"

	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
)

// safeSysctls are namespaced and cannot harm other pods or the node, as of
// Kubernetes 1.37.
var safeSysctls = []string{
	"kernel.shm_rmid_forced",
	"net.ipv4.ip_local_port_range",
	"net.ipv4.tcp_syncookies",
	"net.ipv4.ping_group_range",
	"net.ipv4.ip_unprivileged_port_start",
	"net.ipv4.ip_local_reserved_ports",
	"net.ipv4.tcp_keepalive_time",
	"net.ipv4.tcp_fin_timeout",
	"net.ipv4.tcp_keepalive_intvl",
	"net.ipv4.tcp_keepalive_probes",
	"net.ipv4.tcp_rmem",
	"net.ipv4.tcp_wmem",
	"net.ipv4.tcp_slow_start_after_idle",
}

// sysctls rejects kernel parameters that are neither safe nor allowed by the
// node, or that would be set in a namespace which the pod shares with the node.
func sysctls(pod *v1.Pod, _ []*v1.Pod, node Node) *pods.Rejection {
	if pod.Spec.SecurityContext == nil {
		return nil
	}
	for _, s := range pod.Spec.SecurityContext.Sysctls {
		if why := forbidden(pod, sysctl.NormalizeName(s.Name), node.AllowedUnsafeSysctls); why != "" {
			return &pods.Rejection{Reason: "SysctlForbidden", Message: "forbidden sysctl: " + why}
		}
	}
	return nil
}

func forbidden(pod *v1.Pod, name string, allowed []string) string {
	permitted := slices.Contains(safeSysctls, name) || slices.ContainsFunc(allowed, func(pattern string) bool {
		pattern = sysctl.NormalizeName(pattern)
		if prefix, ok := strings.CutSuffix(pattern, "*"); ok {
			return strings.HasPrefix(name, prefix)
		}
		return name == pattern
	})
	if !permitted {
		return fmt.Sprintf("%q not allowlisted", name)
	}
	switch ns, _, _ := sysctl.GetNamespace(name); {
	case ns == sysctl.UnknownNamespace:
		// Not namespaced: a pod would set it for the whole node.
		return fmt.Sprintf("%q not allowlisted", name)
	case ns == sysctl.NetNamespace && pod.Spec.HostNetwork, ns == sysctl.IPCNamespace && pod.Spec.HostIPC:
		return fmt.Sprintf("%q not allowed with host %s enabled", name, ns)
	}
	return ""
}
