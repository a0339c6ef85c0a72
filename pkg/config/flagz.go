package config

import (
	"net/url"

	kubeletconfig "k8s.io/kubelet/config/v1beta1"
)

// classified are flags whose values may hold secrets: a password, headers with credentials, a URL with a login.
var classified = map[string]bool{"storage-driver-password": true, "manifest-url-header": true, "manifest-url": true}

// FlagValues returns what the command line says of each flag, or what the flag is by default; what files say is not in
// it. No secret is.
func (c *Config) FlagValues() map[string]string {
	given := newConfig()
	setDefaults(given)
	values := map[string]string{"config": "", "config-dir": ""}
	if c.flags != nil {
		values["config"], values["config-dir"] = c.flags.configFile, c.flags.configDir
		for _, a := range c.flags.set {
			_ = a.flag.apply(given, a.value) // was applied before, when the command line was read
			values[a.flag.name] = a.value
		}
	}
	for i := range flags {
		f := &flags[i]
		if v := (&flagValue{flag: f, scratch: given}).String(); v != "" || values[f.name] == "" {
			values[f.name] = v
		}
		if classified[f.name] && values[f.name] != "" {
			values[f.name] = "CLASSIFIED"
		}
	}
	return values
}

// Shown returns a copy of the configuration in use that can be shown: no secret is in it, as with the kubelet.
func (c *Config) Shown() *kubeletconfig.KubeletConfiguration {
	shown := c.KubeletConfiguration.DeepCopy()
	for name := range shown.StaticPodURLHeader {
		shown.StaticPodURLHeader[name] = []string{"<masked>"}
	}
	if shown.StaticPodURL != "" {
		u, _ := url.Parse(shown.StaticPodURL) // nil is shown as something else
		shown.StaticPodURL = redact(u, shown.StaticPodURL)
	}
	return shown
}
