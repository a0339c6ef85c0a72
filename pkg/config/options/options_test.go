package options

import (
	"strings"
	"testing"

	kubeletconfig "k8s.io/kubelet/config/v1beta1"
)

func TestParseCPUManager(t *testing.T) {
	for name, tt := range map[string]struct {
		options map[string]string
		want    CPUManager
		err     string
	}{
		"none":            {nil, CPUManager{}, ""},
		"both":            {map[string]string{"full-pcpus-only": "true", "strict-cpu-reservation": "true"}, CPUManager{FullCores: true, StrictReservation: true}, ""},
		"distributed":     {map[string]string{"distribute-cpus-across-numa": "true"}, CPUManager{Distribute: true}, ""},
		"switched off":    {map[string]string{"full-pcpus-only": "false", "distribute-cpus-across-numa": "false"}, CPUManager{}, ""},
		"alpha":           {map[string]string{"align-by-socket": "true"}, CPUManager{}, `CPU Manager Policy Alpha-level Options not enabled, but option "align-by-socket" provided`},
		"alpha and off":   {map[string]string{"distribute-cpus-across-cores": "false"}, CPUManager{}, `CPU Manager Policy Alpha-level Options not enabled, but option "distribute-cpus-across-cores" provided`},
		"not implemented": {map[string]string{"prefer-align-cpus-by-uncorecache": "true"}, CPUManager{}, `option "prefer-align-cpus-by-uncorecache" of the CPU manager is not implemented here`},
		"unknown":         {map[string]string{"fast": "true"}, CPUManager{}, `unknown CPU Manager Policy option: "fast"`},
		"no boolean":      {map[string]string{"full-pcpus-only": "yes please"}, CPUManager{}, `bad value for option "full-pcpus-only"`},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := ParseCPUManager(tt.options)
			if tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) || tt.err == "" && (err != nil || got != tt.want) {
				t.Errorf("ParseCPUManager = %+v, %v; want %+v, %q", got, err, tt.want, tt.err)
			}
		})
	}
}

func TestNewImageVerificationRefusesWhatCannotMatch(t *testing.T) {
	for _, tt := range []struct {
		mode    kubeletconfig.ImagePullCredentialsVerificationPolicy
		pattern string
		want    string
	}{
		{"Sometimes", "", "unknown policy"},
		{kubeletconfig.AlwaysVerify, "reg/app", "allowlist is for"},
		{kubeletconfig.NeverVerifyAllowlistedImages, "reg/app:1", "neither tag nor digest"},
		{kubeletconfig.NeverVerifyAllowlistedImages, "reg/app@sha256:" + strings.Repeat("0", 64), "neither tag nor digest"},
		{kubeletconfig.NeverVerifyAllowlistedImages, "reg/*/app", "may only stand at the end"},
		{kubeletconfig.NeverVerifyAllowlistedImages, "reg/a*", "may only stand at the end"},
		{kubeletconfig.NeverVerifyAllowlistedImages, "*.reg/*", "may only stand at the end"},
		{kubeletconfig.NeverVerifyAllowlistedImages, "/*", "registry's name"},
		{kubeletconfig.NeverVerifyAllowlistedImages, " reg/app", "spaces"},
		{kubeletconfig.NeverVerifyAllowlistedImages, "", "couldn't parse"},
	} {
		list := []string{tt.pattern}
		if tt.mode == "Sometimes" {
			list = nil
		}
		if _, err := NewImageVerification(tt.mode, list); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s %q: %v, want %q", tt.mode, tt.pattern, err, tt.want)
		}
	}
}

func TestParseLogSize(t *testing.T) {
	for text, want := range map[string]int64{"10Mi": 10 << 20, "0": 0, "-1": -1, "1e3": 1000, "2G": 2e9} {
		if got, err := ParseLogSize(text); err != nil || got != want {
			t.Errorf("%q: %d, %v, want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "10MB", "1.5", "500m", "1e30", "9Ei9"} {
		if got, err := ParseLogSize(text); err == nil {
			t.Errorf("%q is %d", text, got)
		}
	}
}
