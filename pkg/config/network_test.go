package config

import (
	"slices"
	"strings"
	"testing"
)

func TestNetworkPlugin(t *testing.T) {
	for _, tc := range []struct {
		named      string
		standalone bool
		want       string
	}{
		{"", true, ""}, // the dockershim looks
		{"", false, "cni"},
		{"docker", true, "docker"}, {"docker", false, "docker"},
		{"cni", true, "cni"}, {"kubenet", false, "kubenet"},
	} {
		if got := networkPlugin(tc.named, tc.standalone); got != tc.want {
			t.Errorf("%+v: %q", tc, got)
		}
	}
}

func TestTheNetworkPluginThatIsUsed(t *testing.T) {
	for _, tc := range []struct {
		args     []string
		plugin   string
		warnings []string
	}{
		{nil, "", nil},
		{[]string{"--kubeconfig=/k"}, "cni", nil},
		{[]string{"--kubeconfig=/k", "--network-plugin="}, "cni", nil},
		{[]string{"--kubeconfig=/k", "--network-plugin=docker"}, "docker", nil},
		{[]string{"--kubeconfig=/k", "--network-plugin=kubenet", "--network-plugin-mtu=1400"}, "kubenet", nil},
		{[]string{"--kubeconfig=/k", "--pod-cidr=10.1.2.0/24"}, "cni", []string{"is not used in a cluster"}},
		{[]string{"--network-plugin=kubenet", "--pod-cidr=10.1.2.0/24"}, "kubenet", nil},
		{[]string{"--network-plugin=docker", "--pod-cidr=10.1.2.0/24"}, "docker", []string{"is not used with --network-plugin=docker"}},
		{[]string{"--network-plugin=docker", "--pod-cidr=10.1.2.0/24", "--container-runtime-endpoint=unix:///run/containerd.sock"}, "docker", nil},
		{[]string{"--network-plugin-mtu=1400"}, "", []string{"only used by kubenet"}},
	} {
		c, warnings, err := Load(append(tc.args, "--hostname-override=n1"))
		if err != nil {
			t.Errorf("%v: %v", tc.args, err)
			continue
		}
		same := slices.EqualFunc(warnings, tc.warnings, func(got, want string) bool { return strings.Contains(got, want) })
		if c.NetworkPlugin != tc.plugin || !same {
			t.Errorf("%v: plug-in %q, warnings %q", tc.args, c.NetworkPlugin, warnings)
		}
	}
}
