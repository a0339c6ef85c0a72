package criconfig

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode"

	v1 "k8s.io/api/core/v1"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/bounds"
	"github.com/mini-kubelet/mini-kubelet/pkg/base/safefile"
)

// A resolver's limits, as the kubelet applies them. ReasonMissingClusterDNS is the
// reason of the event for a pod that wants the cluster's DNS on a node that knows
// none.
const ReasonMissingClusterDNS = "MissingClusterDNS"

// What a resolver takes of a search line: paths, bytes of all, bytes of one.
const (
	maxNameservers    = 3
	MaxSearchPaths    = 32
	MaxSearchLine     = 2048
	MaxSearchPathSize = 253
)

// Resolver is the content of a resolv.conf.
type Resolver struct {
	Servers, Searches, Options []string
}

// ResolvConfFile returns a reader of that file for Node.ResolvConf: every sandbox
// reads it anew, so a changed resolver reaches the next pod.
func ResolvConfFile(path string) func() ([]byte, error) {
	return func() ([]byte, error) { return ReadResolvConf(path) }
}

// maxResolvConf is how large that file may be, in bytes: one of that size is beyond all limits.
const maxResolvConf = 1 << 20

// ReadResolvConf reads the file, which may be a link. A pipe or a device is an error: whoever opens one may wait for ever.
// /dev/null is an empty file, as it is for a kubelet.
func ReadResolvConf(path string) ([]byte, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	if path == os.DevNull {
		return nil, nil
	}
	f, err := safefile.OpenWithin("/", path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return safefile.Read(f, maxResolvConf)
}

// ParseResolvConf reads the text of a resolv.conf: all nameservers, the last
// search line (a "domain" line is ignored, as the kubelet does), all options.
func ParseResolvConf(text []byte) (Resolver, error) {
	var r Resolver
	for n, line := range strings.Split(string(text), "\n") {
		f := strings.Fields(line)
		if len(f) == 0 || strings.HasPrefix(f[0], "#") || strings.HasPrefix(f[0], ";") {
			continue
		}
		switch f[0] {
		case "nameserver":
			if len(f) < 2 {
				return Resolver{}, fmt.Errorf("line %d: nameserver without an address", n+1)
			}
			r.Servers = append(r.Servers, f[1])
		case "search":
			r.Searches = nil
			for _, s := range f[1:] {
				if s != "." {
					s = strings.TrimSuffix(s, ".")
				}
				r.Searches = append(r.Searches, s)
			}
		case "options":
			r.Options = mergeOptions(r.Options, f[1:])
		}
	}
	return r, nil
}

// PodDNS returns the pod's resolver configuration by its dnsPolicy and
// dnsConfig, within the limits; node.Warn is told what had to be left out.
func PodDNS(pod *v1.Pod, node NodeConfig) (*cri.DNSConfig, error) {
	r, err := policyDNS(pod, node)
	if err != nil {
		return nil, err
	}
	warn := func(reason, message string) {
		if node.Warn != nil {
			node.Warn(pod, reason, message)
		}
	}
	if c := pod.Spec.DNSConfig; c != nil {
		r.Servers = distinct(r.Servers, without(c.Nameservers, " \t", warn))
		r.Searches = distinct(r.Searches, without(c.Searches, " \t", warn))
		var options []string
		for _, o := range c.Options {
			if o.Value != nil && *o.Value != "" {
				options = append(options, o.Name+":"+*o.Value)
			} else {
				options = append(options, o.Name)
			}
		}
		// With the kubelet one "option" can be several, which a resolver takes apart.
		words := strings.Fields(strings.Join(without(options, "", warn), " "))
		r.Options = mergeOptions(r.Options, words)
	}
	r = limit(r, warn)
	return &cri.DNSConfig{Servers: r.Servers, Searches: r.Searches, Options: r.Options}, nil
}

func policyDNS(pod *v1.Pod, node NodeConfig) (Resolver, error) {
	policy := pod.Spec.DNSPolicy
	cluster := false
	switch policy {
	case v1.DNSNone:
		return Resolver{}, nil
	case v1.DNSDefault:
	case v1.DNSClusterFirstWithHostNet:
		cluster = true
	case v1.DNSClusterFirst, "":
		cluster = !pod.Spec.HostNetwork
	default:
		return Resolver{}, sandboxErrorf("invalid DNSPolicy=%v", policy)
	}
	host, err := hostResolver(node)
	if err != nil {
		return Resolver{}, err
	}
	if cluster && len(node.ClusterDNS) > 0 {
		r := Resolver{Servers: slices.Clone(node.ClusterDNS), Searches: host.Searches, Options: []string{"ndots:5"}}
		if d := node.ClusterDomain; d != "" {
			r.Searches = distinct([]string{pod.Namespace + ".svc." + d, "svc." + d, d}, host.Searches)
		}
		return r, nil
	}
	if cluster && node.Warn != nil {
		node.Warn(pod, ReasonMissingClusterDNS, fmt.Sprintf(
			"pod: %q. kubelet does not have ClusterDNS IP configured and cannot create Pod using %q policy. Falling back to %q policy.",
			formatPod(pod), v1.DNSClusterFirst, v1.DNSDefault))
	}
	if node.ResolvConf == nil {
		// Without a configuration the runtime uses the host's file: name a server
		// that answers nothing instead.
		server := "127.0.0.1"
		if ips := node.Addresses(); len(ips) > 0 && strings.Contains(ips[0], ":") {
			server = "::1"
		}
		return Resolver{Servers: []string{server}, Searches: []string{"."}}, nil
	}
	return host, nil
}

func hostResolver(node NodeConfig) (Resolver, error) {
	if node.ResolvConf == nil {
		return Resolver{}, nil
	}
	text, err := node.ResolvConf()
	if err != nil {
		return Resolver{}, sandboxErrorf("read the node's resolver configuration: %w", err)
	}
	r, err := ParseResolvConf(text)
	if err != nil {
		return Resolver{}, sandboxErrorf("read the node's resolver configuration: %w", err)
	}
	return r, nil
}

// without leaves out what has one of the blanks, any other white space or control characters in it,
// and says so: with a line break, the option of a pod would be lines of its own in a resolv.conf.
// The API server lets such options pass.
func without(all []string, blanks string, warn func(reason, message string)) []string {
	return slices.DeleteFunc(slices.Clone(all), func(s string) bool {
		bad := strings.ContainsFunc(s, func(r rune) bool {
			if r == ' ' || r == '\t' {
				return strings.ContainsRune(blanks, r)
			}
			return unicode.IsSpace(r) || unicode.IsControl(r)
		})
		if bad {
			warn("DNSConfigForming", fmt.Sprintf("spec.dnsConfig: %q is left out because of its white space or control characters", bounds.Quote(s)))
		}
		return bad
	})
}

// limit leaves out what goes beyond a resolver's limits and says so.
func limit(r Resolver, warn func(reason, message string)) Resolver {
	const reason = "DNSConfigForming"
	if len(r.Servers) > maxNameservers {
		r.Servers = r.Servers[:maxNameservers]
		warn(reason, "Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is: "+strings.Join(r.Servers, " "))
	}
	all := len(r.Searches)
	if all > MaxSearchPaths {
		r.Searches = r.Searches[:MaxSearchPaths]
	}
	r.Searches = slices.DeleteFunc(slices.Clone(r.Searches), func(s string) bool {
		return len(strings.TrimSuffix(s, ".")) > MaxSearchPathSize
	})
	for len(strings.Join(r.Searches, " ")) > MaxSearchLine {
		r.Searches = r.Searches[:len(r.Searches)-1]
	}
	if len(r.Searches) < all {
		warn(reason, "Search Line limits were exceeded, some search paths have been omitted, the applied search line is: "+strings.Join(r.Searches, " "))
	}
	return r
}

// distinct returns a and b in order without repetition.
func distinct(a, b []string) []string {
	var out []string
	seen := map[string]bool{}
	for _, s := range append(slices.Clone(a), b...) {
		if !seen[s] {
			seen[s] = true
			out = append(out, s)
		}
	}
	return out
}

// mergeOptions returns the resolver options of a and b; a later one takes the place
// of an earlier one with the same name. Nothing bounds how many a pod has.
func mergeOptions(a, b []string) []string {
	var out []string
	at := map[string]int{}
	for _, o := range append(slices.Clone(a), b...) {
		name, _, _ := strings.Cut(o, ":")
		if i, ok := at[name]; ok {
			out[i] = o
		} else {
			at[name] = len(out)
			out = append(out, o)
		}
	}
	return out
}

// formatPod names a pod in messages as the kubelet does.
func formatPod(pod *v1.Pod) string {
	return fmt.Sprintf("%s_%s(%s)", pod.Name, pod.Namespace, pod.UID)
}
