package cri

import (
	"maps"
	"net"
	"os"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc/codes"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

var statusCases = []testCase{
	{name: "version", run: func(t *testing.T, r *runtime) {
		v, err := r.Version(t.Context(), &cri.VersionRequest{Version: "v1"})
		if err != nil {
			t.Fatal(err)
		}
		if v.RuntimeApiVersion != "v1" || v.RuntimeName == "" || v.RuntimeVersion == "" || v.Version == "" {
			t.Errorf("version %v", v)
		}
	}},
	{name: "status", run: func(t *testing.T, r *runtime) {
		s, err := r.Status(t.Context(), &cri.StatusRequest{Verbose: true})
		if err != nil {
			t.Fatal(err)
		}
		ready := map[string]bool{}
		for _, c := range s.Status.Conditions {
			ready[c.Type] = c.Status
		}
		if !ready[cri.RuntimeReady] || !ready[cri.NetworkReady] {
			t.Errorf("conditions %v", s.Status.Conditions)
		}
		if len(s.Info) == 0 {
			t.Error("no verbose information")
		}
	}},
	{name: "runtime config tells the cgroup driver", only: "dockershim", why: "containerd 1.6 does not have it", run: func(t *testing.T, r *runtime) {
		c, err := r.RuntimeConfig(t.Context(), &cri.RuntimeConfigRequest{})
		if err != nil {
			t.Fatal(err)
		}
		info, err := r.Docker.Client.Info(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if want := map[string]cri.CgroupDriver{"cgroupfs": cri.CgroupDriver_CGROUPFS, "systemd": cri.CgroupDriver_SYSTEMD}[info.CgroupDriver]; c.Linux.CgroupDriver != want {
			t.Errorf("driver %v, want %v", c.Linux.CgroupDriver, want)
		}
	}},
	{name: "what is impossible is Unimplemented, with a sentence", only: "dockershim", why: "containerd can do other things", run: func(t *testing.T, r *runtime) {
		for what, call := range map[string]func() error{
			"CheckpointContainer": func() error {
				_, err := r.CheckpointContainer(t.Context(), &cri.CheckpointContainerRequest{ContainerId: "x"})
				return err
			},
			"UpdatePodSandboxResources": func() error {
				_, err := r.UpdatePodSandboxResources(t.Context(), &cri.UpdatePodSandboxResourcesRequest{PodSandboxId: "x"})
				return err
			},
		} {
			err := call()
			wantCode(t, what, err, codes.Unimplemented)
			if err != nil && !strings.Contains(err.Error(), "docker") {
				t.Errorf("%s: %v says nothing of the reason", what, err)
			}
		}
	}},
}

var sandboxCases = []testCase{
	{name: "sandbox from its start to its end", run: func(t *testing.T, r *runtime) {
		config := r.sandboxConfig()
		id := r.sandbox(config)
		get := func() *cri.PodSandboxStatus {
			resp, err := r.PodSandboxStatus(t.Context(), &cri.PodSandboxStatusRequest{PodSandboxId: id, Verbose: true})
			if err != nil {
				t.Fatal(err)
			}
			if len(resp.Info) == 0 {
				t.Error("no verbose information")
			}
			return resp.Status
		}
		st := get()
		m := st.Metadata
		if st.Id != id || st.State != cri.PodSandboxState_SANDBOX_READY || m.Name != config.Metadata.Name || m.Namespace != "test" || m.Uid != config.Metadata.Uid || st.CreatedAt <= 0 {
			t.Errorf("status %v", st)
		}
		if !maps.Equal(st.Labels, config.Labels) || !maps.Equal(st.Annotations, config.Annotations) {
			t.Errorf("labels %v, annotations %v", st.Labels, st.Annotations)
		}
		if net.ParseIP(st.Network.GetIp()) == nil {
			t.Errorf("IP %q", st.Network.GetIp())
		}
		if n := st.Linux.GetNamespaces().GetOptions(); n.GetPid() != cri.NamespaceMode_CONTAINER || n.GetNetwork() != cri.NamespaceMode_POD || n.GetIpc() != cri.NamespaceMode_POD {
			t.Errorf("namespaces %v", n)
		}
		list, err := r.ListPodSandbox(t.Context(), &cri.ListPodSandboxRequest{Filter: &cri.PodSandboxFilter{Id: id}})
		if err != nil || len(list.Items) != 1 || list.Items[0].State != cri.PodSandboxState_SANDBOX_READY || list.Items[0].CreatedAt != st.CreatedAt || !maps.Equal(list.Items[0].Labels, config.Labels) {
			t.Errorf("list %v, %v", list, err)
		}
		for range 2 {
			if _, err := r.StopPodSandbox(t.Context(), &cri.StopPodSandboxRequest{PodSandboxId: id}); err != nil {
				t.Fatal(err)
			}
			if st := get(); st.State != cri.PodSandboxState_SANDBOX_NOTREADY {
				t.Errorf("stopped, and %v", st.State)
			}
		}
		for range 2 {
			if _, err := r.RemovePodSandbox(t.Context(), &cri.RemovePodSandboxRequest{PodSandboxId: id}); err != nil {
				t.Fatal(err)
			}
		}
		_, err = r.PodSandboxStatus(t.Context(), &cri.PodSandboxStatusRequest{PodSandboxId: id})
		wantCode(t, "status of a removed sandbox", err, codes.NotFound)
		list, err = r.ListPodSandbox(t.Context(), &cri.ListPodSandboxRequest{Filter: &cri.PodSandboxFilter{Id: id}})
		if err != nil || len(list.Items) != 0 {
			t.Errorf("list %v, %v", list, err)
		}
	}},
	{name: "what was never there is stopped and removed", run: func(t *testing.T, r *runtime) {
		const id = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
		if _, err := r.StopPodSandbox(t.Context(), &cri.StopPodSandboxRequest{PodSandboxId: id}); err != nil && !r.knownGap(err) {
			t.Errorf("stop sandbox: %v", err)
		}
		if _, err := r.RemovePodSandbox(t.Context(), &cri.RemovePodSandboxRequest{PodSandboxId: id}); err != nil {
			t.Errorf("remove sandbox: %v", err)
		}
		if _, err := r.RemoveContainer(t.Context(), &cri.RemoveContainerRequest{ContainerId: id}); err != nil {
			t.Errorf("remove container: %v", err)
		}
		if r.isDockershim() { // containerd 1.6 says NotFound, against cri-api
			if _, err := r.StopContainer(t.Context(), &cri.StopContainerRequest{ContainerId: id}); err != nil {
				t.Errorf("stop container: %v", err)
			}
		}
		_, err := r.ContainerStatus(t.Context(), &cri.ContainerStatusRequest{ContainerId: id})
		wantCode(t, "container status", err, codes.NotFound)
		_, err = r.StartContainer(t.Context(), &cri.StartContainerRequest{ContainerId: id})
		wantCode(t, "start container", err, codes.NotFound)
		_, err = r.exec(id, 120, "true")
		wantCode(t, "exec", err, codes.NotFound)
		_, err = r.CreateContainer(t.Context(), &cri.CreateContainerRequest{PodSandboxId: id, Config: containerConfig("c", forever), SandboxConfig: r.sandboxConfig()})
		wantCode(t, "create container", err, codes.NotFound)
	}},
	{name: "stopped and removed by many at once", only: "dockershim", why: "containerd 1.6 fails some of the calls", run: func(t *testing.T, r *runtime) {
		p := r.pod(forever)
		all := func(what string, call func() error) {
			var wg sync.WaitGroup
			for range 5 {
				wg.Go(func() {
					if err := call(); err != nil {
						t.Errorf("%s: %v", what, err)
					}
				})
			}
			wg.Wait()
		}
		all("stop container", func() error {
			_, err := r.StopContainer(t.Context(), &cri.StopContainerRequest{ContainerId: p.ctr, Timeout: 5})
			return err
		})
		all("stop sandbox", func() error {
			_, err := r.StopPodSandbox(t.Context(), &cri.StopPodSandboxRequest{PodSandboxId: p.id})
			return err
		})
		all("remove container", func() error {
			_, err := r.RemoveContainer(t.Context(), &cri.RemoveContainerRequest{ContainerId: p.ctr})
			return err
		})
		all("remove sandbox", func() error {
			_, err := r.RemovePodSandbox(t.Context(), &cri.RemovePodSandboxRequest{PodSandboxId: p.id})
			return err
		})
	}},
	{name: "a sandbox with running containers is stopped with them", run: func(t *testing.T, r *runtime) {
		p := r.pod("trap '' TERM; while :; do sleep 0.1; done")
		if _, err := r.StopPodSandbox(t.Context(), &cri.StopPodSandboxRequest{PodSandboxId: p.id}); err != nil {
			t.Fatal(err)
		}
		if st := r.exited(p.ctr); st.ExitCode != 137 {
			t.Errorf("exit code %d", st.ExitCode)
		}
		if _, err := r.RemovePodSandbox(t.Context(), &cri.RemovePodSandboxRequest{PodSandboxId: p.id}); err != nil {
			t.Fatal(err)
		}
		_, err := r.ContainerStatus(t.Context(), &cri.ContainerStatusRequest{ContainerId: p.ctr})
		wantCode(t, "status of a container of a removed sandbox", err, codes.NotFound)
	}},
	{name: "hostname, DNS and sysctls", run: func(t *testing.T, r *runtime) {
		config := r.sandboxConfig(func(c *cri.PodSandboxConfig) {
			c.DnsConfig = &cri.DNSConfig{Servers: []string{"10.9.8.7", "10.9.8.6"}, Searches: []string{"a.example", "b.example"}, Options: []string{"ndots:5"}}
			c.Linux.Sysctls = map[string]string{"net.ipv4.ip_local_port_range": "20000 21000"}
		})
		id := r.sandbox(config)
		ctr := r.create(id, config, containerConfig("c", forever))
		r.start(ctr)
		if got := r.mustExec(ctr, "hostname"); got != config.Hostname {
			t.Errorf("hostname %q, want %q", got, config.Hostname)
		}
		want := map[string]bool{"nameserver 10.9.8.7": true, "nameserver 10.9.8.6": true, "search a.example b.example": true, "options ndots:5": true}
		for _, l := range strings.Split(r.mustExec(ctr, "cat", "/etc/resolv.conf"), "\n") {
			if l = strings.TrimSpace(l); l != "" && !strings.HasPrefix(l, "#") && !want[l] {
				t.Errorf("resolv.conf has %q", l)
			}
			delete(want, l)
		}
		if len(want) > 0 {
			t.Errorf("resolv.conf lacks %v", want)
		}
		if got := strings.Fields(r.mustExec(ctr, "cat", "/proc/sys/net/ipv4/ip_local_port_range")); strings.Join(got, " ") != "20000 21000" {
			t.Errorf("sysctl %q", got)
		}
	}},
	{name: "DNS with servers only", run: func(t *testing.T, r *runtime) {
		config := r.sandboxConfig(func(c *cri.PodSandboxConfig) { c.DnsConfig = &cri.DNSConfig{Servers: []string{"10.9.8.7"}} })
		id := r.sandbox(config)
		ctr := r.create(id, config, containerConfig("c", forever))
		r.start(ctr)
		text := r.mustExec(ctr, "cat", "/etc/resolv.conf")
		if strings.Contains(text, "search") || strings.Contains(text, "options") || strings.Count(text, "nameserver") != 1 {
			t.Errorf("resolv.conf is %q", text)
		}
	}},
	{name: "host namespaces", run: func(t *testing.T, r *runtime) {
		config := r.sandboxConfig(func(c *cri.PodSandboxConfig) {
			c.Hostname = ""
			c.Linux.SecurityContext.NamespaceOptions = &cri.NamespaceOption{Network: cri.NamespaceMode_NODE, Pid: cri.NamespaceMode_NODE, Ipc: cri.NamespaceMode_NODE}
		})
		id := r.sandbox(config)
		ctr := r.create(id, config, containerConfig("c", forever, func(c *cri.ContainerConfig) {
			c.Linux.SecurityContext.NamespaceOptions = &cri.NamespaceOption{Network: cri.NamespaceMode_NODE, Pid: cri.NamespaceMode_NODE, Ipc: cri.NamespaceMode_NODE}
		}))
		r.start(ctr)
		for _, ns := range []string{"net", "pid", "ipc", "uts"} {
			own, err := os.Readlink("/proc/self/ns/" + ns)
			if err != nil {
				t.Fatal(err)
			}
			if got := r.mustExec(ctr, "readlink", "/proc/self/ns/"+ns); got != own {
				t.Errorf("namespace %s is %s, the host's is %s", ns, got, own)
			}
		}
		st, err := r.PodSandboxStatus(t.Context(), &cri.PodSandboxStatusRequest{PodSandboxId: id})
		if err != nil {
			t.Fatal(err)
		}
		if n := st.Status.Linux.Namespaces.Options; n.Network != cri.NamespaceMode_NODE || n.Pid != cri.NamespaceMode_NODE || n.Ipc != cri.NamespaceMode_NODE {
			t.Errorf("namespaces %v", n)
		}
	}},
	{name: "containers share what the pod shares", run: func(t *testing.T, r *runtime) {
		config := r.sandboxConfig(func(c *cri.PodSandboxConfig) { c.Linux.SecurityContext.NamespaceOptions.Pid = cri.NamespaceMode_POD })
		id := r.sandbox(config)
		shared := func(c *cri.ContainerConfig) { c.Linux.SecurityContext.NamespaceOptions.Pid = cri.NamespaceMode_POD }
		own := func(c *cri.ContainerConfig) {}
		namespaces := func(name string, pid func(*cri.ContainerConfig)) map[string]string {
			ctr := r.create(id, config, containerConfig(name, forever, pid))
			r.start(ctr)
			all := map[string]string{}
			for _, ns := range []string{"net", "pid", "ipc"} {
				all[ns] = r.mustExec(ctr, "readlink", "/proc/self/ns/"+ns)
			}
			return all
		}
		a, b, c := namespaces("a", shared), namespaces("b", shared), namespaces("c", own)
		if !maps.Equal(a, b) {
			t.Errorf("namespaces %v and %v", a, b)
		}
		if c["net"] != a["net"] || c["ipc"] != a["ipc"] || c["pid"] == a["pid"] {
			t.Errorf("namespaces %v and %v, want them to differ in pid alone", a, c)
		}
	}},
	{name: "a container sees the processes of its target", run: func(t *testing.T, r *runtime) {
		p := r.pod(forever)
		ctr := r.create(p.id, p.sandbox, containerConfig("debug", forever, func(c *cri.ContainerConfig) {
			c.Linux.SecurityContext.NamespaceOptions = &cri.NamespaceOption{Pid: cri.NamespaceMode_TARGET, TargetId: p.ctr}
		}))
		r.start(ctr)
		if a, b := r.mustExec(p.ctr, "readlink", "/proc/self/ns/pid"), r.mustExec(ctr, "readlink", "/proc/self/ns/pid"); a != b {
			t.Errorf("pid namespaces %s and %s", a, b)
		}
	}},
	{name: "filters of lists", run: func(t *testing.T, r *runtime) {
		p := r.pod(forever)
		other := r.create(p.id, p.sandbox, containerConfig("other", forever))
		uid := p.sandbox.Labels["io.kubernetes.pod.uid"]
		ids := func(f *cri.ContainerFilter) string {
			list, err := r.ListContainers(t.Context(), &cri.ListContainersRequest{Filter: f})
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, c := range list.Containers {
				names = append(names, c.Metadata.Name)
			}
			return strings.Join(names, " ")
		}
		running, created := &cri.ContainerStateValue{State: cri.ContainerState_CONTAINER_RUNNING}, &cri.ContainerStateValue{State: cri.ContainerState_CONTAINER_CREATED}
		for name, tc := range map[string]struct {
			filter *cri.ContainerFilter
			want   string
		}{
			"running":     {&cri.ContainerFilter{PodSandboxId: p.id, State: running}, "c"},
			"created":     {&cri.ContainerFilter{PodSandboxId: p.id, State: created}, "other"},
			"id":          {&cri.ContainerFilter{Id: other}, "other"},
			"label":       {&cri.ContainerFilter{PodSandboxId: p.id, LabelSelector: map[string]string{"io.kubernetes.container.name": "c"}}, "c"},
			"wrong label": {&cri.ContainerFilter{PodSandboxId: p.id, LabelSelector: map[string]string{"io.kubernetes.container.name": "x"}}, ""},
			"all at once": {&cri.ContainerFilter{Id: other, PodSandboxId: p.id, State: running}, ""},
		} {
			if got := ids(tc.filter); got != tc.want {
				t.Errorf("%s: %q, want %q", name, got, tc.want)
			}
		}
		ready, not := &cri.PodSandboxStateValue{State: cri.PodSandboxState_SANDBOX_READY}, &cri.PodSandboxStateValue{State: cri.PodSandboxState_SANDBOX_NOTREADY}
		for name, tc := range map[string]struct {
			filter *cri.PodSandboxFilter
			want   int
		}{
			"ready":     {&cri.PodSandboxFilter{LabelSelector: map[string]string{"io.kubernetes.pod.uid": uid}, State: ready}, 1},
			"not ready": {&cri.PodSandboxFilter{LabelSelector: map[string]string{"io.kubernetes.pod.uid": uid}, State: not}, 0},
		} {
			list, err := r.ListPodSandbox(t.Context(), &cri.ListPodSandboxRequest{Filter: tc.filter})
			if err != nil || len(list.Items) != tc.want {
				t.Errorf("%s: %v, %v", name, list, err)
			}
		}
	}},
}
