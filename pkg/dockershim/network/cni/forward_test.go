package cni

import (
	"strings"
	"testing"

	"github.com/containernetworking/cni/libcni"
)

func TestForwardProblem(t *testing.T) {
	docker := []string{"-P FORWARD DROP", "-A FORWARD -j DOCKER-USER", "-A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT", "-A FORWARD -i docker0 ! -o docker0 -j ACCEPT"}
	tests := []struct {
		name   string
		rules  []string
		within bool
		want   string
	}{
		{"an open policy is no problem", []string{"-P FORWARD ACCEPT"}, true, ""},
		{"Docker's rules cut a foreign bridge off", docker, true, "neither each other"},
		{"without bridge filtering only the way out is cut", docker, false, "cannot reach other networks"},
		{"an accept of the bridge opens it", append(docker, "-A FORWARD -i cni9 -j ACCEPT"), true, ""},
		{"an accept of everything opens it", append(docker, "-A FORWARD -j ACCEPT"), true, ""},
		{"an accept of all but the bridge does not", append(docker, "-A FORWARD ! -i cni9 -j ACCEPT"), true, "bridge cni9"},
		{"an accept of established traffic alone does not", append(docker, "-A FORWARD -m conntrack --ctstate ESTABLISHED -j ACCEPT"), true, "bridge cni9"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := forwardProblem("cni9", tt.rules, tt.within)
			if (got == "") != (tt.want == "") || !strings.Contains(got, tt.want) {
				t.Errorf("forwardProblem() = %q, want it to say %q", got, tt.want)
			}
		})
	}
}

func TestBridgeOf(t *testing.T) {
	tests := map[string]struct{ conf, want string }{
		"the bridge that is named":            {`{"cniVersion":"1.0.0","name":"n","plugins":[{"type":"bridge","bridge":"b0"},{"type":"portmap"}]}`, "b0"},
		"the plug-in's default":               {`{"cniVersion":"1.0.0","name":"n","plugins":[{"type":"bridge"}]}`, "cni0"},
		"none with a firewall plug-in":        {`{"cniVersion":"1.0.0","name":"n","plugins":[{"type":"bridge"},{"type":"firewall"}]}`, ""},
		"none for a plug-in without a bridge": {`{"cniVersion":"1.0.0","name":"n","plugins":[{"type":"calico"}]}`, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			list, err := libcni.ConfListFromBytes([]byte(tt.conf))
			if err != nil {
				t.Fatal(err)
			}
			if got := bridgeOf(list); got != tt.want {
				t.Errorf("bridgeOf() = %q, want %q", got, tt.want)
			}
		})
	}
}
