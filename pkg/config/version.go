package config

import (
	"runtime/debug"
	"strings"
)

// KubernetesVersion is the release whose kubelet this agent replaces, and whose
// libraries it is built with: --version prints it and the node reports it. A test
// compares it with go.mod.
const KubernetesVersion = "v1.37.2"

// AgentVersion is the version of this program: the module's version if it was built
// as a module, else the commit it was built from, else "devel".
func AgentVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "devel"
	}
	return agentVersion(info)
}

func agentVersion(info *debug.BuildInfo) string {
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	commit, dirty := "", ""
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			commit = s.Value
		case "vcs.modified":
			if strings.EqualFold(s.Value, "true") {
				dirty = "+dirty"
			}
		}
	}
	if len(commit) < 12 {
		return "devel"
	}
	return "devel-" + commit[:12] + dirty
}
