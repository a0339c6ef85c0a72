package criconfig

import (
	"bytes"
	"strings"

	v1 "k8s.io/api/core/v1"
)

// HostsFile returns the /etc/hosts that the pod's containers share: loopback
// names, the pod's own name at each of its IPs, and its hostAliases. With host
// network it is the node's file (nodeHosts) and the aliases. It returns an Error
// when the pod's host name is invalid.
func HostsFile(pod *v1.Pod, podIPs []string, clusterDomain string, nodeHosts []byte) ([]byte, error) {
	var b bytes.Buffer
	if pod.Spec.HostNetwork {
		b.WriteString("# Kubernetes-managed hosts file (host network).\n")
		b.Write(nodeHosts)
		writeAliases(&b, pod.Spec.HostAliases)
		return b.Bytes(), nil
	}
	name, domain, err := Hostname(pod, clusterDomain)
	if err != nil {
		return nil, err
	}
	b.WriteString("# Kubernetes-managed hosts file.\n")
	b.WriteString("127.0.0.1\tlocalhost\n")
	b.WriteString("::1\tlocalhost ip6-localhost ip6-loopback\n")
	b.WriteString("fe00::0\tip6-localnet\n")
	b.WriteString("fe00::0\tip6-mcastprefix\n")
	b.WriteString("fe00::1\tip6-allnodes\n")
	b.WriteString("fe00::2\tip6-allrouters\n")
	for _, ip := range podIPs {
		b.WriteString(ip + "\t")
		if domain != "" {
			b.WriteString(name + "." + domain + "\t")
		}
		b.WriteString(name + "\n")
	}
	writeAliases(&b, pod.Spec.HostAliases)
	return b.Bytes(), nil
}

func writeAliases(b *bytes.Buffer, aliases []v1.HostAlias) {
	if len(aliases) == 0 {
		return
	}
	b.WriteString("\n# Entries added by HostAliases.\n")
	for _, a := range aliases {
		b.WriteString(a.IP + "\t" + strings.Join(a.Hostnames, "\t") + "\n")
	}
}
