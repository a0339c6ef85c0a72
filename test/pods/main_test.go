// Package pods is one table of manifests, a file a feature, with what must come of
// it in a file beside it. One runner plays all of them on a standalone node and on a
// node of a real control plane, one agent for each:
//
//	NAME.yaml       pods, and the ConfigMaps, Secrets, claims and Services that they use
//	NAME.want.yaml  what is seen of them: see type want
//
// What can be asked of the kernel, or of the process inside, is asked there: in the
// containers by exec and by what they log, on the host by a shell that knows their
// processes. In all texts ${DIR} is a directory of the case on the host, ${NAMESPACE}
// and ${NODE} where it runs, ${PORT} a port of the host that nobody has,
// ${AGENT_LOG} what the agent has written, ${DOCKER_ROOT} Docker's root directory and
// ${ABOVE_DOCKER_ROOT} the one that lies in. ${REGISTRY} has the image table/private:1
// for "user" with the password "open sesame". In a cluster ${CSI} is a CSI driver, and
// ${CSI_DATA} holds its volumes.
package pods

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	storage "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mini-kubelet/mini-kubelet/test/csidriver"
	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m.Run)) }

// seccompProfile is a profile that forbids only mkdir.
const seccompProfile = `{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO"}]}`

// resolvConf is the node's: pods with dnsPolicy Default get it.
const resolvConf = "nameserver 192.0.2.53\nsearch node.example\noptions ndots:2\n"

// config is the configuration of both agents.
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

// prepare puts on a node what pods may refer to.
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

// registry starts a registry with an image for those who may log in.
func registry(t *testing.T) (host string) {
	t.Helper()
	r := harness.StartRegistry(t)
	r.Push(t, "table/private", "1")
	r.SetLogins(map[string]string{"user": "open sesame"})
	return r.Host
}

type driver struct{ name, data string }

// csiDriver starts a driver on a node that provides pods' own volumes.
func csiDriver(t *testing.T, n *harness.Node) driver {
	t.Helper()
	d, yes := driver{n.Node() + ".csi.example", filepath.Join(n.Dir, "csi")}, true
	object := &storage.CSIDriver{ObjectMeta: metav1.ObjectMeta{Name: d.name}, Spec: storage.CSIDriverSpec{
		PodInfoOnMount: &yes, VolumeLifecycleModes: []storage.VolumeLifecycleMode{storage.VolumeLifecycleEphemeral},
	}}
	api := n.Cluster.Client.StorageV1().CSIDrivers()
	if _, err := api.Create(t.Context(), object, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = api.Delete(context.Background(), d.name, metav1.DeleteOptions{}) })
	runs, err := csidriver.Start(csidriver.Config{Name: d.name, Root: filepath.Join(n.Dir, "root"), Data: d.data, NoStaging: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(runs.Stop)
	harness.Eventually(t, "the CSI driver is registered", harness.Patience, func() error {
		if !runs.Registered().GetPluginRegistered() {
			return fmt.Errorf("it was told %v", runs.Registered())
		}
		return nil
	}, n.Explain)
	return d
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
				c.run(t, standalone{a}, map[string]string{"REGISTRY": images})
			})
		}
	}
}

func TestCluster(t *testing.T) {
	t.Parallel()
	n := harness.StartNode(t, harness.SharedCluster(t), config(t))
	prepare(t, n.Agent)
	images := registry(t)
	driver := csiDriver(t, n)
	for _, c := range cases(t) {
		if c.want.Only == "" || c.want.Only == "cluster" {
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				c.run(t, member{n}, map[string]string{"REGISTRY": images, "CSI": driver.name, "CSI_DATA": driver.data})
			})
		}
	}
}
