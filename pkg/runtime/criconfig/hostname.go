package criconfig

import (
	"fmt"
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
)

const (
	maxHostname = 63 // a DNS label
	maxKernel   = 64 // what sethostname(2) accepts
)

// Hostname returns the pod's host name and, with a subdomain, the domain it is
// in ("sub.namespace.svc.cluster.local"), or an Error when a field of the spec
// is no DNS name. A name that is too long for a DNS label is cut to 63
// characters, without a '-' or '.' at its end.
func Hostname(pod *v1.Pod, clusterDomain string) (name, domain string, err error) {
	if o := pod.Spec.HostnameOverride; o != nil && *o != "" {
		if msgs := validation.IsDNS1123Subdomain(*o); len(msgs) > 0 {
			return "", "", sandboxErrorf("pod HostnameOverride %q is not a valid DNS subdomain: %s", *o, strings.Join(msgs, "; "))
		}
		if len(*o) > maxKernel {
			return "", "", sandboxErrorf("pod HostnameOverride %q is too long: %d characters is the max, %d characters requested", *o, maxKernel, len(*o))
		}
		return *o, "", nil
	}
	name = pod.Name
	if h := pod.Spec.Hostname; h != "" {
		if msgs := validation.IsDNS1123Label(h); len(msgs) > 0 {
			return "", "", sandboxErrorf("pod Hostname %q is not a valid DNS label: %s", h, strings.Join(msgs, "; "))
		}
		name = h
	}
	if len(name) > maxHostname {
		name = strings.TrimRight(name[:maxHostname], "-.")
	}
	if name == "" {
		return "", "", sandboxErrorf("hostname for pod %q was invalid: %q", pod.Name, pod.Spec.Hostname)
	}
	if s := pod.Spec.Subdomain; s != "" {
		if msgs := validation.IsDNS1123Label(s); len(msgs) > 0 {
			return "", "", sandboxErrorf("pod Subdomain %q is not a valid DNS label: %s", s, strings.Join(msgs, "; "))
		}
		domain = fmt.Sprintf("%s.%s.svc.%s", s, pod.Namespace, clusterDomain)
	}
	return name, domain, nil
}

// kernelHostname returns what uname shows inside the pod: the host name, or with
// setHostnameAsFQDN the full name if there is a domain.
func kernelHostname(pod *v1.Pod, clusterDomain string) (string, error) {
	name, domain, err := Hostname(pod, clusterDomain)
	if err != nil {
		return "", err
	}
	if f := pod.Spec.SetHostnameAsFQDN; f == nil || !*f || domain == "" {
		return name, nil
	}
	fqdn := name + "." + domain
	if len(fqdn) > maxKernel {
		return "", sandboxErrorf("failed to construct FQDN from pod hostname and cluster domain, FQDN %s is too long (%d characters is the max, %d characters requested)", fqdn, maxKernel, len(fqdn))
	}
	return fqdn, nil
}
