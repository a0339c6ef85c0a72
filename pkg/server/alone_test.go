package server

import (
	"strings"
	"testing"

	kubeletconfig "k8s.io/kubelet/config/v1beta1"
)

func TestWhatBecomesOfThePortWithoutAnAPIServer(t *testing.T) {
	const webhook, all = kubeletconfig.KubeletAuthorizationModeWebhook, kubeletconfig.KubeletAuthorizationModeAlwaysAllow
	for _, tt := range []struct {
		name         string
		cfg          AuthConfig
		serve, alarm bool
		say          string // a part of it
	}{
		{"the defaults", configured(webhook, false, true, ""), false, false, "root of this machine uses the socket"},
		{"everything to nobody", configured(all, false, true, ""), false, false, "clientCAFile"},
		{"certificates, and nobody to ask", configured(webhook, false, true, "ca"), true, false, "allows nothing"},
		{"anonymous, and nobody to ask", configured(webhook, true, true, ""), true, false, "allows nothing"},
		{"certificates", configured(all, false, true, "ca"), true, false, ""},
		{"everything to everybody", configured(all, true, true, "ca"), true, true, "ANYBODY"},
		{"everything to everybody, and no certificates", configured(all, true, false, ""), true, true, "ANYBODY"},
	} {
		got := StandAlone(tt.cfg)
		if got.Serve != tt.serve || got.Alarm != tt.alarm || !strings.Contains(got.Say, tt.say) || (got.Say == "") != (tt.say == "") {
			t.Errorf("%s: %+v", tt.name, got)
		}
	}
}

func TestWhoIsAllowedNothingReadsWhatToSet(t *testing.T) {
	a := newAuthority(t, "ca")
	file := t.TempDir() + "/ca.crt"
	a.write(t, file)
	for mode, advised := range map[kubeletconfig.KubeletAuthorizationMode]bool{
		kubeletconfig.KubeletAuthorizationModeWebhook: true, kubeletconfig.KubeletAuthorizationModeAlwaysAllow: false,
	} {
		auth, err := NewAuth(nil, configured(mode, false, true, file))
		if err != nil {
			t.Fatal(err)
		}
		if (auth.Advice != "") != advised {
			t.Errorf("%s: advice %q", mode, auth.Advice)
		}
	}
	base, client := startAPI(t, &host{}, func(c *APIConfig) { c.Authorizer, c.Advice = never, adviceAlone })
	if code, body := ask(t, client, "GET", base+"/pods"); code != 403 || !strings.Contains(body, "authorization.mode: AlwaysAllow") {
		t.Errorf("%d %q", code, body)
	}
}
