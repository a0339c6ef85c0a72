package podresources

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/common/expfmt"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	api "k8s.io/kubelet/pkg/apis/podresources/v1"
	"k8s.io/kubelet/pkg/apis/podresources/v1alpha1"
	"k8s.io/utils/cpuset"
	"k8s.io/utils/ptr"

	"github.com/mini-kubelet/mini-kubelet/pkg/resources/devicemanager"
	"github.com/mini-kubelet/mini-kubelet/pkg/resources/memorymanager"
)

// record is what containers have, by pod UID and container.
type record struct {
	devices map[string][]devicemanager.Device
	cpus    map[string]cpuset.CPUSet
	memory  map[string][]memorymanager.Block
}

func (r record) Devices(uid types.UID, c string) []devicemanager.Device {
	return r.devices[string(uid)+"/"+c]
}
func (r record) AllocatableDevices() []devicemanager.Device { return r.devices["all"] }
func (r record) ExclusiveCPUs(uid types.UID, c string) cpuset.CPUSet {
	return r.cpus[string(uid)+"/"+c]
}
func (r record) AllocatableCPUs() cpuset.CPUSet { return r.cpus["all"] }
func (r record) Memory(uid types.UID, c string) []memorymanager.Block {
	return r.memory[string(uid)+"/"+c]
}
func (r record) AllocatableMemory() []memorymanager.Block { return r.memory["all"] }

// node has a pod with everything, one that is over and has a device still, and one with nothing.
func node(t *testing.T) Config {
	pod := func(name string) *v1.Pod {
		p := &v1.Pod{Spec: v1.PodSpec{Containers: []v1.Container{{Name: "c"}}}}
		p.Name, p.Namespace, p.UID = name, "default", types.UID(name)
		return p
	}
	full := pod("full")
	full.Spec.InitContainers = []v1.Container{{Name: "init"}, {Name: "sidecar", RestartPolicy: ptr.To(v1.ContainerRestartPolicyAlways)}}
	r := record{
		devices: map[string][]devicemanager.Device{
			"full/c":       {{Resource: "e.com/gpu", ID: "a", Nodes: []int{0, 1}}, {Resource: "e.com/gpu", ID: "b"}},
			"full/init":    {{Resource: "e.com/gpu", ID: "a"}},
			"full/sidecar": {{Resource: "e.com/nic", ID: "n"}},
			"over/c":       {{Resource: "e.com/gpu", ID: "z"}},
			"all":          {{Resource: "e.com/gpu", ID: "a", Nodes: []int{1}}},
		},
		cpus: map[string]cpuset.CPUSet{"full/c": cpuset.New(5, 3), "all": cpuset.New(1, 2, 3, 5)},
		memory: map[string][]memorymanager.Block{
			"full/c": {{NUMAAffinity: []int{0, 1}, Type: "memory", Size: 1 << 30}},
			"all":    {{NUMAAffinity: []int{0}, Type: "hugepages-2Mi", Size: 4 << 20}},
		},
	}
	return Config{
		Root: t.TempDir(), Devices: r, CPUs: r, Memory: r,
		Pods:   func() []*v1.Pod { return []*v1.Pod{full, pod("over"), pod("plain")} },
		Active: func() func(types.UID) bool { return func(uid types.UID) bool { return uid != "over" } },
	}
}

// serve runs a server until the test ends, and returns a connection to it that has been used.
func serve(t *testing.T, cfg Config) (*Server, *grpc.ClientConn) {
	t.Helper()
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	conn, err := grpc.NewClient("unix://"+filepath.Join(s.dir, SocketName), grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithAuthority("localhost"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	wait, stop := context.WithTimeout(ctx, time.Minute)
	defer stop()
	if _, err := v1alpha1.NewPodResourcesListerClient(conn).List(wait, &v1alpha1.ListPodResourcesRequest{}, grpc.WaitForReady(true)); err != nil {
		t.Fatal(err)
	}
	return s, conn
}

func on(nodes ...int64) *api.TopologyInfo {
	t := &api.TopologyInfo{}
	for _, n := range nodes {
		t.Nodes = append(t.Nodes, &api.NUMANode{ID: n})
	}
	return t
}

func wantProto(t *testing.T, what string, got, want proto.Message) {
	t.Helper()
	if !proto.Equal(got, want) {
		t.Errorf("%s is\n%v\nwant\n%v", what, got, want)
	}
}

func TestWhatPodsHaveIsTold(t *testing.T) {
	cfg := node(t)
	registry := prometheus.NewPedanticRegistry()
	cfg.Metrics = registry
	_, conn := serve(t, cfg)
	client := api.NewPodResourcesListerClient(conn)
	full := &api.PodResources{Name: "full", Namespace: "default", Containers: []*api.ContainerResources{
		{Name: "sidecar", Devices: []*api.ContainerDevices{{ResourceName: "e.com/nic", DeviceIds: []string{"n"}}}},
		{
			Name: "c", CpuIds: []int64{3, 5}, Memory: []*api.ContainerMemory{{MemoryType: "memory", Size: 1 << 30, Topology: on(0, 1)}},
			Devices: []*api.ContainerDevices{
				{ResourceName: "e.com/gpu", DeviceIds: []string{"a"}, Topology: on(0)},
				{ResourceName: "e.com/gpu", DeviceIds: []string{"a"}, Topology: on(1)},
				{ResourceName: "e.com/gpu", DeviceIds: []string{"b"}},
			},
		},
	}}
	list, err := client.List(t.Context(), &api.ListPodResourcesRequest{})
	if err != nil {
		t.Fatal(err)
	}
	wantProto(t, "List", list, &api.ListPodResourcesResponse{PodResources: []*api.PodResources{
		full, {Name: "plain", Namespace: "default", Containers: []*api.ContainerResources{{Name: "c"}}},
	}})
	one, err := client.Get(t.Context(), &api.GetPodResourcesRequest{PodNamespace: "default", PodName: "full"})
	if err != nil {
		t.Fatal(err)
	}
	wantProto(t, "Get", one, &api.GetPodResourcesResponse{PodResources: full})
	all, err := client.GetAllocatableResources(t.Context(), &api.AllocatableResourcesRequest{})
	if err != nil {
		t.Fatal(err)
	}
	wantProto(t, "GetAllocatableResources", all, &api.AllocatableResourcesResponse{
		CpuIds: []int64{1, 2, 3, 5}, Memory: []*api.ContainerMemory{{MemoryType: "hugepages-2Mi", Size: 4 << 20, Topology: on(0)}},
		Devices: []*api.ContainerDevices{{ResourceName: "e.com/gpu", DeviceIds: []string{"a"}, Topology: on(1)}},
	})
	for _, q := range []*api.GetPodResourcesRequest{{PodNamespace: "other", PodName: "full"}, {PodNamespace: "default", PodName: "over"}, {}} {
		_, err := client.Get(t.Context(), q)
		if want := "pod " + q.PodName + " in namespace " + q.PodNamespace + " not found"; status.Code(err) != codes.Unknown || status.Convert(err).Message() != want {
			t.Errorf("Get of %v: %v, want %s", q, err, want)
		}
	}
	old, err := v1alpha1.NewPodResourcesListerClient(conn).List(t.Context(), &v1alpha1.ListPodResourcesRequest{})
	if err != nil {
		t.Fatal(err)
	}
	gpu := func(id string) *v1alpha1.ContainerDevices {
		return &v1alpha1.ContainerDevices{ResourceName: "e.com/gpu", DeviceIds: []string{id}}
	}
	of := func(name string, devices ...*v1alpha1.ContainerDevices) *v1alpha1.PodResources {
		return &v1alpha1.PodResources{Name: name, Namespace: "default", Containers: []*v1alpha1.ContainerResources{{Name: "c", Devices: devices}}}
	}
	wantProto(t, "List of v1alpha1", old, &v1alpha1.ListPodResourcesResponse{PodResources: []*v1alpha1.PodResources{
		of("full", gpu("a"), gpu("a"), gpu("b")), of("over", gpu("z")), of("plain"),
	}})
	want := ""
	for _, m := range []struct{ name, values string }{
		{"errors_get", `{server_api_version="v1"} 3`}, {"errors_get_allocatable", `{server_api_version="v1"} 0`}, {"errors_list", `{server_api_version="v1"} 0`},
		{"requests_get", `{server_api_version="v1"} 4`}, {"requests_get_allocatable", `{server_api_version="v1"} 1`}, {"requests_list", `{server_api_version="v1"} 1`},
		{"requests_total", `{server_api_version="v1"} 6` + "\nkubelet_pod_resources_endpoint_requests_total" + `{server_api_version="v1alpha1"} 2`},
	} {
		want += "kubelet_pod_resources_endpoint_" + m.name + m.values + "\n"
	}
	got, err := testutil.CollectAndFormat(registry, expfmt.TypeTextPlain, names(t, registry)...)
	if err != nil {
		t.Fatal(err)
	}
	lines := slices.DeleteFunc(strings.SplitAfter(string(got), "\n"), func(l string) bool { return strings.HasPrefix(l, "#") })
	if text := strings.Join(lines, ""); text != want {
		t.Errorf("metrics are\n%swant\n%s", text, want)
	}
}

func names(t *testing.T, r prometheus.Gatherer) (list []string) {
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		list = append(list, f.GetName())
	}
	return list
}

func TestWithoutManagersNobodyHasCPUsOrMemory(t *testing.T) {
	cfg := node(t)
	cfg.CPUs, cfg.Memory = nil, nil
	_, conn := serve(t, cfg)
	client := api.NewPodResourcesListerClient(conn)
	one, err := client.Get(t.Context(), &api.GetPodResourcesRequest{PodNamespace: "default", PodName: "full"})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range one.PodResources.Containers {
		if len(c.CpuIds) > 0 || len(c.Memory) > 0 {
			t.Errorf("%v", c)
		}
	}
	all, err := client.GetAllocatableResources(t.Context(), &api.AllocatableResourcesRequest{})
	if err != nil || len(all.CpuIds) > 0 || len(all.Memory) > 0 || len(all.Devices) != 1 {
		t.Errorf("%v, %v", all, err)
	}
}

func TestRequestsThatComeTooFastAreTurnedAway(t *testing.T) {
	s, conn := serve(t, node(t))
	client := api.NewPodResourcesListerClient(conn)
	s.limit.SetLimit(0) // no time passes for it: what is left of the burst is all there is
	s.limit.SetBurst(0)
	_, err := client.List(t.Context(), &api.ListPodResourcesRequest{})
	if status.Code(err) != codes.ResourceExhausted || status.Convert(err).Message() != "rejected by rate limit" {
		t.Errorf("beyond the limit: %v", err)
	}
	s.limit.SetBurst(burst)
	s.limit.SetLimit(qps)
	if limit, n := s.limit.Limit(), s.limit.Burst(); limit != 100 || n != 10 {
		t.Errorf("the limit is %v with a burst of %d", limit, n)
	}
	deadline, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for { // the burst is empty at first
		if _, err := client.List(deadline, &api.ListPodResourcesRequest{}); err == nil {
			return
		} else if status.Code(err) != codes.ResourceExhausted {
			t.Fatal(err)
		}
	}
}

func TestTheSocketIsMadeWhateverIsInItsPlace(t *testing.T) {
	stale := func(t *testing.T, path string) {
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		l.SetUnlinkOnClose(false)
		l.Close()
	}
	put := func(t *testing.T, path string) {
		if err := os.WriteFile(path, []byte("x"), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	mkdir := func(t *testing.T, path string) {
		if err := os.MkdirAll(path, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	for name, prepare := range map[string]func(t *testing.T, dir string){
		"nothing":            func(*testing.T, string) {},
		"socket of a crash":  func(t *testing.T, dir string) { mkdir(t, dir); stale(t, filepath.Join(dir, SocketName)) },
		"directory for all":  func(t *testing.T, dir string) { mkdir(t, dir); _ = os.Chmod(dir, 0o777) },
		"file for directory": put,
		"file for socket":    func(t *testing.T, dir string) { mkdir(t, dir); put(t, filepath.Join(dir, SocketName)) },
		"directory for socket": func(t *testing.T, dir string) {
			mkdir(t, filepath.Join(dir, SocketName, "full"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := node(t)
			dir := filepath.Join(cfg.Root, Dir)
			prepare(t, dir)
			serve(t, cfg)
			for path, want := range map[string]fs.FileMode{dir: fs.ModeDir | 0o750, filepath.Join(dir, SocketName): fs.ModeSocket | 0o600} {
				if fi, err := os.Lstat(path); err != nil || fi.Mode() != want {
					t.Errorf("%s is %v, %v, want %v", path, fi.Mode(), err, want)
				}
			}
		})
	}
}

func TestTheSocketIsMadeAgainWhenSomebodyRemovesIt(t *testing.T) {
	s, conn := serve(t, node(t))
	for _, lose := range []func() error{
		func() error { return os.Remove(filepath.Join(s.dir, SocketName)) }, func() error { return os.RemoveAll(s.dir) },
	} {
		err := lose()
		for errors.Is(err, unix.ENOTEMPTY) { // on a busy machine, it was made again before all of it was gone
			err = lose()
		}
		if err != nil {
			t.Fatal(err)
		}
		wait, stop := context.WithTimeout(t.Context(), time.Minute)
		for { // the connection to the old socket may still be there
			_, err := v1alpha1.NewPodResourcesListerClient(conn).List(wait, &v1alpha1.ListPodResourcesRequest{}, grpc.WaitForReady(true))
			if _, gone := os.Lstat(filepath.Join(s.dir, SocketName)); err == nil && gone == nil {
				break
			}
			if wait.Err() != nil {
				t.Fatalf("a minute after the socket was removed: %v", err)
			}
		}
		stop()
	}
}

func TestClientsThatDoNothingDoNotHoldUpTheEnd(t *testing.T) {
	s, err := New(node(t))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	l, err := listen(ctx, s.dir)
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	path := filepath.Join(s.dir, SocketName)
	for i := 0; i < maxConnections; { // as many as are served; the first dials may come too early
		c, err := net.Dial("unix", path)
		if err != nil {
			select {
			case <-t.Context().Done():
				t.Fatal(err)
			case <-time.After(time.Millisecond):
			}
			continue
		}
		defer c.Close()
		i++
	}
	cancel()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(time.Minute):
		t.Fatal("the server waits for clients that say nothing")
	}
}

func TestAConfigThatLacksSomethingIsRefused(t *testing.T) {
	for name, spoil := range map[string]func(*Config){
		"root":    func(c *Config) { c.Root = "relative" },
		"pods":    func(c *Config) { c.Pods = nil },
		"active":  func(c *Config) { c.Active = nil },
		"devices": func(c *Config) { c.Devices = nil },
	} {
		cfg := node(t)
		spoil(&cfg)
		if _, err := New(cfg); err == nil {
			t.Errorf("without %s there is no error", name)
		}
	}
}
