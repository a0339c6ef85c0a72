package config

import (
	"fmt"
	"os"
	"strings"
)

// Fingerprint changes when a file that the configuration was read from does, or when one is
// added to the directory of drop-ins. It reads no file.
func (c *Config) Fingerprint() string {
	if c.flags == nil {
		return ""
	}
	files, err := dropInFiles(c.flags.configDir)
	if c.flags.configFile != "" {
		files = append([]string{c.flags.configFile}, files...)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%v", err)
	for _, name := range files {
		fi, err := os.Stat(name)
		if err != nil {
			fmt.Fprintf(&b, "|%s %v", name, err)
			continue
		}
		fmt.Fprintf(&b, "|%s %d %v", name, fi.Size(), fi.ModTime().UnixNano())
	}
	return b.String()
}

// Reload reads the configuration anew, as the next start of the agent would.
func (c *Config) Reload() (*Config, error) {
	now, _, err := c.flags.Load()
	return now, err
}

// Differences names the fields of KubeletConfiguration that differ between two configurations, in
// the order of the type. Their values, which may be secrets, are not in it.
func Differences(a, b *Config) []string {
	var names []string
	for _, f := range fields {
		if jsonOf(&a.KubeletConfiguration, f.path) != jsonOf(&b.KubeletConfiguration, f.path) {
			names = append(names, f.path)
		}
	}
	return names
}
