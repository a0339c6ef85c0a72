// Package pods is one table of manifests, a file a feature, with what has to come of
// it in a file beside it. One runner plays all of them on a standalone node and on a
// node of a real control plane, one agent for each:
//
//	NAME.yaml       pods, and the ConfigMaps, Secrets, claims and Services that they use
//	NAME.want.yaml  what is seen of them: see type want
//
// What can be asked of the kernel, or of the process inside, is asked there: in the
// containers by exec and by what they log, on the host by a shell that knows their
// processes. In all texts ${DIR} is a directory of the case on the host, ${NAMESPACE}
// and ${NODE} where it runs, ${PORT} a port of the host that nobody has, and
// ${AGENT_LOG} what the agent has written. ${REGISTRY} has the image table/private:1
// for "user" with the password "open sesame".
package pods

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m.Run)) }

// seccompProfile is one that forbids mkdir alone.
const seccompProfile = `{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO"}]}`

// resolvConf is the node's: pods with dnsPolicy Default get it.
const resolvConf = "nameserver 192.0.2.53\nsearch node.example\noptions ndots:2\n"

// config is of both agents.
func config(t *testing.T) harness.AgentConfig {
	t.Helper()
	file := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(file, []byte(resolvConf), 0o644); err != nil {
		t.Fatal(err)
	}
	return harness.AgentConfig{
		Config: map[string]any{
			"clusterDNS": []string{"10.96.0.10"}, "clusterDomain": "cluster.local", "resolvConf": file,
			"allowedUnsafeSysctls": []string{"net.core.somaxconn"},
			"containerLogMaxSize":  "1Mi",
		},
		Args: []string{"--node-labels", "table=yes"},
	}
}

// prepare puts onto a node what pods may refer to.
func prepare(t *testing.T, a *harness.Agent) {
	t.Helper()
	dir := filepath.Join(a.Dir, "root", "seccomp")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "no-mkdir.json"), []byte(seccompProfile), 0o644); err != nil {
		t.Fatal(err)
	}
}

// registry starts one that has an image for those who may log in.
func registry(t *testing.T) (host string) {
	t.Helper()
	r := harness.StartRegistry(t)
	r.Push(t, "table/private", "1")
	r.SetLogins(map[string]string{"user": "open sesame"})
	return r.Host
}

func TestStandalone(t *testing.T) {
	t.Parallel()
	a := harness.StartAgent(t, config(t))
	prepare(t, a)
	images := registry(t)
	for _, c := range cases(t) {
		if c.want.Only == "" || c.want.Only == "standalone" {
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				c.run(t, standalone{a}, images)
			})
		}
	}
}

func TestCluster(t *testing.T) {
	t.Parallel()
	n := harness.StartNode(t, harness.SharedCluster(t), config(t))
	prepare(t, n.Agent)
	images := registry(t)
	for _, c := range cases(t) {
		if c.want.Only == "" || c.want.Only == "cluster" {
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				c.run(t, member{n}, images)
			})
		}
	}
}
