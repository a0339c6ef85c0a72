package integration

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"

	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

func fetch(url string) (string, error) {
	resp, err := http.Get(url)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return string(b), err
}

func TestContainersOfAPodShareNetworkAndIPC(t *testing.T) {
	a := start(t)
	a.Write("net.yaml", harness.Pod("net", "mkdir -p /tmp/www; echo hello >/tmp/www/index.html; exec httpd -f -p 8080 -h /tmp/www", func(p *v1.Pod) {
		p.Spec.Containers = append(p.Spec.Containers, harness.Container("client",
			"until wget -q -O - http://127.0.0.1:8080/ | grep hello; do sleep 0.1; done; touch /tmp/got; while :; do sleep 1; done"))
	}))
	p := a.WaitRunning("net")
	if p.Status.PodIP == "" {
		t.Fatalf("no pod IP\n%s", a.Explain())
	}
	harness.Eventually(t, "the pod answers on its IP", harness.Patience, func() error {
		body, err := fetch("http://" + p.Status.PodIP + ":8080/")
		if err == nil && !strings.Contains(body, "hello") {
			err = fmt.Errorf("answer %q", body)
		}
		return err
	}, a.Explain)
	running, err := a.Running("net")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"c", "client"} {
		info, err := a.Docker.Client.ContainerInspect(t.Context(), running[name].ID)
		if err != nil {
			t.Fatal(err)
		}
		want := "container:" + running[harness.Sandbox].ID
		if string(info.HostConfig.NetworkMode) != want || string(info.HostConfig.IpcMode) != want {
			t.Errorf("%s: network %s, IPC %s, want %s", name, info.HostConfig.NetworkMode, info.HostConfig.IpcMode, want)
		}
	}
	harness.Eventually(t, "the other container reaches it on localhost", harness.Patience, func() error {
		_, err := a.Docker.Client.ContainerStatPath(t.Context(), running["client"].ID, "/tmp/got")
		return err
	}, a.Explain)
}

func TestHostNetworkPodHasTheHostsAddress(t *testing.T) {
	a := start(t)
	a.Write("host.yaml", harness.Pod("host", "", func(p *v1.Pod) { p.Spec.HostNetwork = true }))
	p := a.WaitRunning("host")
	if p.Status.PodIP == "" || p.Status.PodIP != p.Status.HostIP {
		t.Errorf("pod IP %q, host IP %q: want the same", p.Status.PodIP, p.Status.HostIP)
	}
	running, err := a.Running("host")
	if err != nil {
		t.Fatal(err)
	}
	info, err := a.Docker.Client.ContainerInspect(t.Context(), running[harness.Sandbox].ID)
	if err != nil {
		t.Fatal(err)
	}
	if info.HostConfig.NetworkMode != "host" {
		t.Errorf("sandbox network %s, want host", info.HostConfig.NetworkMode)
	}
}

func TestPodHasItsHostname(t *testing.T) {
	a := start(t)
	a.Write("named.yaml", harness.Pod("named", "hostname >/tmp/name; while :; do sleep 1; done", func(p *v1.Pod) { p.Spec.Hostname = "chosen" }))
	a.WaitRunning("named")
	running, err := a.Running("named")
	if err != nil {
		t.Fatal(err)
	}
	info, err := a.Docker.Client.ContainerInspect(t.Context(), running[harness.Sandbox].ID)
	if err != nil {
		t.Fatal(err)
	}
	if info.Config.Hostname != "chosen" {
		t.Errorf("hostname %q, want chosen", info.Config.Hostname)
	}
}

// manyAddresses is a CNI plug-in that answers with addresses as one for several interfaces does.
const manyAddresses = `#!/bin/sh
cat >/dev/null
case $CNI_COMMAND in
VERSION) echo '{"cniVersion":"1.0.0","supportedVersions":["0.4.0","1.0.0"]}' ;;
ADD) echo '{"cniVersion":"1.0.0","interfaces":[{"name":"'$CNI_IFNAME'","sandbox":"'$CNI_NETNS'"}],"ips":[$ADDRESSES]}' ;;
esac
`

func TestPodHasOneAddressOfEachFamily(t *testing.T) {
	t.Parallel()
	bin := t.TempDir()
	for name, ips := range map[string]string{
		"loopback": `{"address":"127.0.0.1/8","interface":0}`,
		"many":     `{"address":"fd00::5/64","interface":0},{"address":"10.9.0.5/24","interface":0},{"address":"10.8.0.5/24","interface":0},{"address":"fd01::5/64","interface":0}`,
	} {
		if err := os.WriteFile(filepath.Join(bin, name), []byte(strings.Replace(manyAddresses, "$ADDRESSES", ips, 1)), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	a := harness.NewAgent(t, harness.AgentConfig{Args: []string{"--network-plugin", "cni", "--cni-bin-dir", bin}})
	conf := filepath.Join(a.Dir, "cni")
	if err := errors.Join(os.MkdirAll(conf, 0o755),
		os.WriteFile(filepath.Join(conf, "10-many.conflist"), []byte(`{"cniVersion":"1.0.0","name":"many","plugins":[{"type":"many"}]}`), 0o644)); err != nil {
		t.Fatal(err)
	}
	a.Start()
	a.Write("p.yaml", harness.Pod("p", `echo "$IP|$IPS|$(grep -w p /etc/hosts | cut -f1 | tr '\n' ,)" >/dev/termination-log`, func(p *v1.Pod) {
		p.Spec.RestartPolicy, p.Spec.Hostname = v1.RestartPolicyNever, "p"
		for name, path := range map[string]string{"IP": "status.podIP", "IPS": "status.podIPs"} {
			p.Spec.Containers[0].Env = append(p.Spec.Containers[0].Env, v1.EnvVar{Name: name, ValueFrom: &v1.EnvVarSource{FieldRef: &v1.ObjectFieldSelector{FieldPath: path}}})
		}
	}))
	p := a.WaitPhase("p", v1.PodSucceeded)
	if got := p.Status.PodIPs; p.Status.PodIP != "10.9.0.5" || len(got) != 2 || got[0].IP != "10.9.0.5" || got[1].IP != "fd00::5" {
		t.Errorf("status: %s, %v", p.Status.PodIP, got)
	}
	end := harness.Status(p, "c").State.Terminated
	if got, want := strings.TrimSpace(end.Message), "10.9.0.5|10.9.0.5,fd00::5|10.9.0.5,fd00::5,"; got != want {
		t.Errorf("the container saw %q, want %q", got, want)
	}
}
