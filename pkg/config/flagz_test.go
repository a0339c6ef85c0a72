package config

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestFlagValuesTellNoSecret(t *testing.T) {
	cfg, _, err := Load([]string{
		"--node-ip=192.0.2.7", "--manifest-url=http://me:hidden@example.com/", "--manifest-url-header=Authorization:hidden",
		"--storage-driver-password=hidden", "--storage-driver-user=me",
	})
	if err != nil {
		t.Fatal(err)
	}
	values := cfg.FlagValues()
	for name, want := range map[string]string{
		"node-ip": "192.0.2.7", "manifest-url": "CLASSIFIED", "manifest-url-header": "CLASSIFIED", "storage-driver-password": "CLASSIFIED",
		"storage-driver-user": "me", "max-pods": "110", "config": "",
	} {
		if values[name] != want {
			t.Errorf("%s is %q, want %q", name, values[name], want)
		}
	}
	for name, value := range values {
		if strings.Contains(value, "hidden") {
			t.Errorf("--%s tells a secret: %s", name, value)
		}
	}
	if len(values) < len(flags) {
		t.Errorf("%d of %d flags", len(values), len(flags))
	}
}

func TestTheConfigurationIsShownWithoutSecrets(t *testing.T) {
	cfg, _, err := Load([]string{"--manifest-url=http://me:hidden@example.com/pods", "--manifest-url-header=Authorization:hidden", "--max-pods=42"})
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(cfg.Shown())
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text), "hidden") || !strings.Contains(string(text), "example.com/pods") || !strings.Contains(string(text), `"maxPods":42`) {
		t.Errorf("shown: %s", text)
	}
	if cfg.StaticPodURLHeader["Authorization"][0] != "hidden" || cfg.StaticPodURL != "http://me:hidden@example.com/pods" {
		t.Errorf("what is in use has changed: %q, %q", cfg.StaticPodURLHeader, cfg.StaticPodURL)
	}
}
