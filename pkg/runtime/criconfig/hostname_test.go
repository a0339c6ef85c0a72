package criconfig

import (
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
)

func TestHostname(t *testing.T) {
	yes, no := true, false
	long63 := strings.Repeat("a", 63)
	str := func(s string) *string { return &s }
	for name, tt := range map[string]struct {
		pod          string
		spec         v1.PodSpec
		name, domain string
		kernel       string // what the sandbox is given
		err          string
	}{
		"pod's name":                       {pod: "web", name: "web", kernel: "web"},
		"cut to a DNS label":               {pod: long63 + "b", name: long63, kernel: long63},
		"cut without a dash at its end":    {pod: strings.Repeat("a", 61) + "-.-b", name: strings.Repeat("a", 61), kernel: strings.Repeat("a", 61)},
		"hostname field":                   {pod: "web", spec: v1.PodSpec{Hostname: "front"}, name: "front", kernel: "front"},
		"subdomain":                        {pod: "web", spec: v1.PodSpec{Subdomain: "pool"}, name: "web", domain: "pool.ns.svc.cluster.local", kernel: "web"},
		"FQDN":                             {pod: "web", spec: v1.PodSpec{Subdomain: "pool", SetHostnameAsFQDN: &yes}, name: "web", domain: "pool.ns.svc.cluster.local", kernel: "web.pool.ns.svc.cluster.local"},
		"FQDN said to be unwanted":         {pod: "web", spec: v1.PodSpec{Subdomain: "pool", SetHostnameAsFQDN: &no}, name: "web", domain: "pool.ns.svc.cluster.local", kernel: "web"},
		"FQDN without a domain":            {pod: "web", spec: v1.PodSpec{SetHostnameAsFQDN: &yes}, name: "web", kernel: "web"},
		"FQDN too long for the kernel":     {pod: long63, spec: v1.PodSpec{Subdomain: "pool", SetHostnameAsFQDN: &yes}, err: "is too long (64 characters is the max, 89 characters requested)"},
		"override wins over all":           {pod: "web", spec: v1.PodSpec{Hostname: "front", Subdomain: "pool", HostnameOverride: str("own.name")}, name: "own.name", kernel: "own.name"},
		"empty override is none":           {pod: "web", spec: v1.PodSpec{HostnameOverride: str("")}, name: "web", kernel: "web"},
		"override too long for the kernel": {pod: "web", spec: v1.PodSpec{HostnameOverride: str(long63 + ".b")}, err: "is too long: 64 characters is the max, 65 characters requested"},
		"override is no name":              {pod: "web", spec: v1.PodSpec{HostnameOverride: str("a_b")}, err: `pod HostnameOverride "a_b" is not a valid DNS subdomain`},
		"hostname is no label":             {pod: "web", spec: v1.PodSpec{Hostname: "a.b"}, err: `pod Hostname "a.b" is not a valid DNS label`},
		"subdomain is no label":            {pod: "web", spec: v1.PodSpec{Subdomain: "a.b"}, err: `pod Subdomain "a.b" is not a valid DNS label`},
		"nothing is left of the name":      {pod: strings.Repeat("-", 64), err: "was invalid"},
	} {
		t.Run(name, func(t *testing.T) {
			pod := &v1.Pod{Spec: tt.spec}
			pod.Name, pod.Namespace, pod.UID = tt.pod, "ns", "u"
			sandbox, err := Sandbox(pod, 0, NodeConfig{ClusterDomain: "cluster.local"})
			if tt.err != "" {
				checkError(t, err, ReasonSandboxConfig, tt.err)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			host, domain, err := Hostname(pod, "cluster.local")
			if err != nil || host != tt.name || domain != tt.domain {
				t.Errorf("Hostname = %q, %q, %v; want %q, %q", host, domain, err, tt.name, tt.domain)
			}
			if sandbox.Hostname != tt.kernel {
				t.Errorf("sandbox's host name = %q, want %q", sandbox.Hostname, tt.kernel)
			}
		})
	}
}

func checkError(t *testing.T, err error, reason, contains string) {
	t.Helper()
	r, ok := err.(interface {
		error
		Reason() string
	})
	if !ok {
		t.Fatalf("error = %v (%T), want one with a reason", err, err)
	}
	if r.Reason() != reason || !strings.Contains(r.Error(), contains) {
		t.Errorf("error = %s: %s\nwant %s: …%s…", r.Reason(), r.Error(), reason, contains)
	}
}
