package config

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
