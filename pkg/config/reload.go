package config

import (
	"fmt"
	"os"
	"strings"
	"syscall"
)

// files returns the files that the configuration is read from, in their order.
func (f *Flags) files() ([]string, error) {
	dropIns, err := dropInFiles(f.configDir)
	if f.configFile != "" {
		return append([]string{f.configFile}, dropIns...), err
	}
	return dropIns, err
}

// Fingerprint changes when a file that the configuration was read from does or is replaced, or when one
// is added to the directory of drop-ins. It reads no file.
func (c *Config) Fingerprint() string {
	if c.flags == nil {
		return ""
	}
	files, err := c.flags.files()
	var b strings.Builder
	fmt.Fprintf(&b, "%v", err)
	for _, name := range files {
		fi, err := os.Stat(name)
		if err != nil {
			fmt.Fprintf(&b, "|%s %v", name, err)
			continue
		}
		fmt.Fprintf(&b, "|%s %d %v", name, fi.Size(), fi.ModTime().UnixNano())
		if inode, ok := fi.Sys().(*syscall.Stat_t); ok { // another file may have the time of the one before it
			fmt.Fprintf(&b, " %d %v", inode.Ino, inode.Ctim)
		}
	}
	return b.String()
}

// Reload reads the configuration anew, as the next start of the agent would; only from regular files,
// since whoever has a pipe open could keep the agent waiting for more.
func (c *Config) Reload() (fresh *Config, warnings []string, err error) {
	files, err := c.flags.files()
	if err != nil {
		return nil, nil, err
	}
	for _, name := range files {
		if fi, err := os.Stat(name); err == nil && !fi.Mode().IsRegular() {
			return nil, nil, fmt.Errorf("%s is no regular file", name)
		}
	}
	return c.flags.Load()
}

// Differences names the fields of KubeletConfiguration that differ between two configurations, in
// the order of the type. Those that are not honoured make no difference. Their values, which may be secrets, are not in it.
func Differences(a, b *Config) []string {
	var names []string
	for _, f := range fields {
		if f.verdict == honoured && jsonOf(&a.KubeletConfiguration, f.path) != jsonOf(&b.KubeletConfiguration, f.path) {
			names = append(names, f.path)
		}
	}
	return names
}
