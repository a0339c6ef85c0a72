package integration

import (
	"fmt"
	"io"
	"net/http"
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
