package criconfig

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"
)

func TestPolicies(t *testing.T) {
	const file = "nameserver 192.0.2.53\nnameserver 192.0.2.54\nsearch example.org\noptions timeout:2 ndots:1\n"
	cluster := []string{"10.96.0.10"}
	clusterSearch := []string{"ns.svc.cluster.local", "svc.cluster.local", "cluster.local", "example.org"}
	hostServers, hostSearch, hostOptions := []string{"192.0.2.53", "192.0.2.54"}, []string{"example.org"}, []string{"timeout:2", "ndots:1"}
	two := "2"
	for name, tt := range map[string]struct {
		spec       v1.PodSpec
		clusterDNS []string
		noFile     bool
		hostIPs    []string
		servers    []string
		searches   []string
		options    []string
		warn       string
	}{
		"ClusterFirst":                        {spec: v1.PodSpec{DNSPolicy: v1.DNSClusterFirst}, clusterDNS: cluster, servers: cluster, searches: clusterSearch, options: []string{"ndots:5"}},
		"no policy is ClusterFirst":           {clusterDNS: cluster, servers: cluster, searches: clusterSearch, options: []string{"ndots:5"}},
		"ClusterFirst with host network":      {spec: v1.PodSpec{DNSPolicy: v1.DNSClusterFirst, HostNetwork: true}, clusterDNS: cluster, servers: hostServers, searches: hostSearch, options: hostOptions},
		"ClusterFirstWithHostNet":             {spec: v1.PodSpec{DNSPolicy: v1.DNSClusterFirstWithHostNet, HostNetwork: true}, clusterDNS: cluster, servers: cluster, searches: clusterSearch, options: []string{"ndots:5"}},
		"Default":                             {spec: v1.PodSpec{DNSPolicy: v1.DNSDefault}, clusterDNS: cluster, servers: hostServers, searches: hostSearch, options: hostOptions},
		"None":                                {spec: v1.PodSpec{DNSPolicy: v1.DNSNone, DNSConfig: &v1.PodDNSConfig{Nameservers: []string{"1.1.1.1"}}}, clusterDNS: cluster, servers: []string{"1.1.1.1"}},
		"ClusterFirst without a cluster DNS":  {spec: v1.PodSpec{DNSPolicy: v1.DNSClusterFirst}, servers: hostServers, searches: hostSearch, options: hostOptions, warn: "MissingClusterDNS"},
		"Default without a file":              {spec: v1.PodSpec{DNSPolicy: v1.DNSDefault}, noFile: true, servers: []string{"127.0.0.1"}, searches: []string{"."}},
		"Default without a file on IPv6":      {spec: v1.PodSpec{DNSPolicy: v1.DNSDefault}, noFile: true, hostIPs: []string{"2001:db8::1"}, servers: []string{"::1"}, searches: []string{"."}},
		"ClusterFirst without a file":         {clusterDNS: cluster, noFile: true, servers: cluster, searches: clusterSearch[:3], options: []string{"ndots:5"}},
		"dnsConfig adds without repeating":    {spec: v1.PodSpec{DNSConfig: &v1.PodDNSConfig{Nameservers: []string{"10.96.0.10", "9.9.9.9"}, Searches: []string{"cluster.local", "corp"}}}, clusterDNS: cluster, servers: []string{"10.96.0.10", "9.9.9.9"}, searches: append(slices.Clone(clusterSearch), "corp"), options: []string{"ndots:5"}},
		"dnsConfig's options replace by name": {spec: v1.PodSpec{DNSConfig: &v1.PodDNSConfig{Options: []v1.PodDNSConfigOption{{Name: "edns0"}, {Name: "ndots", Value: &two}}}}, clusterDNS: cluster, servers: cluster, searches: clusterSearch, options: []string{"ndots:2", "edns0"}},
		"more servers than a resolver takes":  {spec: v1.PodSpec{DNSPolicy: v1.DNSNone, DNSConfig: &v1.PodDNSConfig{Nameservers: []string{"1.1.1.1", "2.2.2.2", "3.3.3.3", "4.4.4.4"}}}, servers: []string{"1.1.1.1", "2.2.2.2", "3.3.3.3"}, warn: "DNSConfigForming"},
	} {
		t.Run(name, func(t *testing.T) {
			var warned []string
			node := NodeConfig{ClusterDNS: tt.clusterDNS, ClusterDomain: "cluster.local", HostIPs: func() []string { return tt.hostIPs },
				ResolvConf: func() ([]byte, error) { return []byte(file), nil },
				Warn:       func(_ *v1.Pod, reason, _ string) { warned = append(warned, reason) }}
			if tt.noFile {
				node.ResolvConf = nil
			}
			pod := &v1.Pod{Spec: tt.spec}
			pod.Namespace = "ns"
			got, err := PodDNS(pod, node)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(got.Servers, tt.servers) || !slices.Equal(got.Searches, tt.searches) || !slices.Equal(got.Options, tt.options) {
				t.Errorf("got  %q %q %q\nwant %q %q %q", got.Servers, got.Searches, got.Options, tt.servers, tt.searches, tt.options)
			}
			if strings.Join(warned, " ") != tt.warn {
				t.Errorf("warned of %q, want %q", warned, tt.warn)
			}
		})
	}
}

func TestSearchLimits(t *testing.T) {
	many := make([]string, 40)
	for i := range many {
		many[i] = fmt.Sprintf("d%d.example", i)
	}
	long := strings.Repeat("a", 60) + "." + strings.Repeat("b", 60) + "." + strings.Repeat("c", 60) + "." + strings.Repeat("d", 60)
	for name, tt := range map[string]struct {
		in   []string
		want int
		warn bool
	}{
		"at the limit of paths":      {many[:32], 32, false},
		"beyond the limit of paths":  {many, 32, true},
		"a path too long is skipped": {[]string{"a", strings.Repeat("x", 254), "b"}, 2, true},
		"a line too long is cut":     {slices.Repeat([]string{long}, 9), 8, true},
	} {
		t.Run(name, func(t *testing.T) {
			var message string
			got := limit(Resolver{Searches: tt.in}, func(_, m string) { message = m })
			if len(got.Searches) != tt.want || (message != "") != tt.warn {
				t.Errorf("%d paths left, warned %q; want %d, %v", len(got.Searches), message, tt.want, tt.warn)
			}
			if tt.warn && !strings.HasSuffix(message, strings.Join(got.Searches, " ")) {
				t.Errorf("the warning does not end in the applied line: %q", message)
			}
		})
	}
}

func TestMergeOptions(t *testing.T) {
	got := mergeOptions([]string{"ndots:5", "edns0", "ndots:2"}, []string{"timeout:1", "edns0", "ndots:1", ""})
	if want := []string{"ndots:1", "edns0", "timeout:1", ""}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	got = distinct([]string{"b", "a", "b"}, []string{"c", "a"})
	if want := []string{"b", "a", "c"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// Comparing each with each takes minutes.
func TestVeryManyOptionsAndNames(t *testing.T) {
	many := make([]string, 300_000)
	for i := range many {
		many[i] = fmt.Sprintf("option-%d:%d", i, i)
	}
	if got := mergeOptions(many, many); !slices.Equal(got, many) {
		t.Errorf("%d options", len(got))
	}
	if got := distinct(many, many); !slices.Equal(got, many) {
		t.Errorf("%d names", len(got))
	}
}

func TestParseResolvConf(t *testing.T) {
	got, err := ParseResolvConf([]byte("# comment\n;comment\nnameserver 1.1.1.1 ignored\nsearch a b\nsearch c. .\n\nnameserver fe80::1%eth0\noptions a:1 b\noptions a:2\ndomain x\nnonsense\n"))
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got.Servers, []string{"1.1.1.1", "fe80::1%eth0"}) || !slices.Equal(got.Searches, []string{"c", "."}) || !slices.Equal(got.Options, []string{"a:2", "b"}) {
		t.Errorf("got %q", got)
	}
	if _, err := ParseResolvConf([]byte("\nnameserver\n")); err == nil || !strings.Contains(err.Error(), "line 2") {
		t.Errorf("error = %v, want one that names the line", err)
	}
}

func TestDNSErrorsStopTheSandbox(t *testing.T) {
	_, err := Sandbox(&v1.Pod{Spec: v1.PodSpec{DNSPolicy: "Sometimes"}}, 0, NodeConfig{})
	checkError(t, err, ReasonSandboxConfig, "invalid DNSPolicy=Sometimes")
	_, err = Sandbox(&v1.Pod{}, 0, NodeConfig{ResolvConf: func() ([]byte, error) { return nil, errors.New("no such file") }})
	checkError(t, err, ReasonSandboxConfig, "no such file")
}

func TestWhatWouldBeLinesOfItsOwnIsLeftOut(t *testing.T) {
	value := "1\nnameserver 192.0.2.66"
	pod := &v1.Pod{Spec: v1.PodSpec{DNSPolicy: v1.DNSNone, DNSConfig: &v1.PodDNSConfig{
		Nameservers: []string{"192.0.2.1", "192.0.2.2\nsearch evil.example"},
		Searches:    []string{"a.example b.example", "good.example"},
		Options:     []v1.PodDNSConfigOption{{Name: "ndots", Value: &value}, {Name: "x\ry"}, {Name: "rotate"}, {Name: "nul\x00"}, {Name: "ndots:2  edns0\trotate"}},
	}}}
	warned := 0
	got, err := PodDNS(pod, NodeConfig{Warn: func(*v1.Pod, string, string) { warned++ }})
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct{ got, want []string }{
		"servers": {got.Servers, []string{"192.0.2.1"}}, "searches": {got.Searches, []string{"good.example"}}, "options": {got.Options, []string{"rotate", "ndots:2", "edns0"}},
	} {
		if !slices.Equal(tt.got, tt.want) {
			t.Errorf("%s %q, want %q", name, tt.got, tt.want)
		}
	}
	if warned != 5 {
		t.Errorf("warned %d times", warned)
	}
}

func TestAResolvConfIsReadThroughLinksAndNoPipe(t *testing.T) {
	dir := t.TempDir()
	if err := errors.Join(os.WriteFile(dir+"/real", []byte("nameserver 1.1.1.1\n"), 0o600), os.Symlink(dir+"/real", dir+"/link"), unix.Mkfifo(dir+"/pipe", 0o600)); err != nil {
		t.Fatal(err)
	}
	if text, err := ReadResolvConf(dir + "/link"); err != nil || string(text) != "nameserver 1.1.1.1\n" {
		t.Errorf("by a link: %q, %v", text, err)
	}
	if text, err := ReadResolvConf("/dev/../dev/null"); err != nil || len(text) > 0 {
		t.Errorf("/dev/null: %q, %v", text, err)
	}
	for _, name := range []string{"/pipe", "", "/missing"} {
		if text, err := ReadResolvConf(dir + name); err == nil {
			t.Errorf("%q is read: %q", name, text)
		}
	}
}
