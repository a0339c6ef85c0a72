package devicemanager

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	api "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
	"k8s.io/utils/ptr"

	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
	"github.com/mini-kubelet/mini-kubelet/pkg/resources/devicemanager/checkpoint"
	"github.com/mini-kubelet/mini-kubelet/test/damage"
	"github.com/mini-kubelet/mini-kubelet/test/deviceplugin"
	"github.com/mini-kubelet/mini-kubelet/test/testrun"
)

const gpu = "example.com/gpu"

// house is a node with a manager.
type house struct {
	*Manager
	t    *testing.T
	root string
	stop func()

	mu      sync.Mutex
	gone    map[types.UID]bool
	begun   map[types.UID]bool
	running map[types.UID]bool
	woken   []types.UID
}

func newHouse(t *testing.T) *house {
	t.Helper()
	root, err := os.MkdirTemp("/tmp", "dev-") // short: sockets are in it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(root) })
	h := &house{t: t, root: root, gone: map[types.UID]bool{}, begun: map[types.UID]bool{}, running: map[types.UID]bool{}}
	h.restart()
	return h
}

// restart makes a new Manager, like a new agent.
func (h *house) restart() {
	h.t.Helper()
	if h.stop != nil {
		h.stop()
	}
	m, err := New(Config{
		Root: h.root, Gone: func(uid types.UID) bool { return h.is(h.gone, uid) },
		State: func(uid types.UID) (bool, bool) { return h.is(h.begun, uid), h.is(h.running, uid) },
		Wake:  func(uids []types.UID) { h.mu.Lock(); defer h.mu.Unlock(); h.woken = append(h.woken, uids...) },
	})
	if err != nil {
		h.t.Fatal(err)
	}
	h.Manager, h.stop = m, testrun.Start(h.t, m.Run)
}

func (h *house) is(set map[types.UID]bool, uid types.UID) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return set[uid]
}

func (h *house) set(set map[types.UID]bool, uid types.UID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	set[uid] = true
}

// plugin starts a plug-in and waits until its devices count.
func (h *house) plugin(cfg deviceplugin.Config) *deviceplugin.Plugin {
	h.t.Helper()
	cfg.Root = h.root
	if cfg.Resource == "" {
		cfg.Resource = gpu
	}
	p, err := deviceplugin.Start(h.t.Context(), cfg)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(p.Stop)
	h.has(v1.ResourceName(cfg.Resource), int64(len(cfg.Devices)), -1)
	return p
}

// has waits until a resource has that capacity and, unless negative, that much allocatable.
func (h *house) has(name v1.ResourceName, capacity, allocatable int64) {
	h.t.Helper()
	testrun.Eventually(h.t, "the node has the devices", func() bool {
		r := h.Resources()
		c, a := r.Capacity[name], r.Allocatable[name]
		return c.Value() == capacity && (allocatable < 0 || a.Value() == allocatable)
	})
}

// pod has containers that want so many devices: init containers, then those that start with "+" are sidecars, then regular
// ones.
func pod(uid string, init, regular []int) *v1.Pod {
	p := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p-" + uid, Namespace: "ns", UID: types.UID(uid)}}
	c := func(name string, n int) v1.Container {
		return v1.Container{Name: name, Resources: v1.ResourceRequirements{Limits: v1.ResourceList{gpu: *resource.NewQuantity(int64(n), resource.DecimalSI)}}}
	}
	for i, n := range init {
		p.Spec.InitContainers = append(p.Spec.InitContainers, c("i"+string(rune('0'+i)), n))
	}
	for i, n := range regular {
		p.Spec.Containers = append(p.Spec.Containers, c("c"+string(rune('0'+i)), n))
	}
	return p
}

// admit plans a pod as admission does.
func (h *house) admit(p *v1.Pod) error {
	plan := h.Plan(p)
	if plan.Complete() {
		return nil
	}
	for kind, c := range pods.Containers(p) {
		if err := plan.Give(kind, c, 0); err != nil {
			return err
		}
	}
	return plan.Commit()
}

// run admits a pod and sets it up.
func (h *house) run(p *v1.Pod) {
	h.t.Helper()
	if err := errors.Join(h.admit(p), h.SetUp(h.t.Context(), p)); err != nil {
		h.t.Fatal(err)
	}
	h.set(h.begun, p.UID)
	h.set(h.running, p.UID)
}

// ids are the devices of a container.
func (h *house) ids(uid, container string) string {
	var ids []string
	for _, d := range h.Devices(types.UID(uid), container) {
		ids = append(ids, d.ID)
	}
	return strings.Join(ids, " ")
}

func three() []*api.Device {
	return deviceplugin.Devices(map[string]bool{"a": true, "b": true, "c": true})
}

func rejected(err error, with string) bool {
	var r *pods.Rejection
	return errors.As(err, &r) && r.Reason == "UnexpectedAdmissionError" && strings.Contains(r.Message, with)
}

func TestContainersHaveDevicesToThemselvesAndGiveThemBack(t *testing.T) {
	h := newHouse(t)
	p := h.plugin(deviceplugin.Config{Devices: three(), Options: &api.DevicePluginOptions{PreStartRequired: true}})
	one := pod("1", []int{2}, []int{1, 1})
	one.Spec.InitContainers = append(one.Spec.InitContainers, *one.Spec.Containers[0].DeepCopy())
	one.Spec.InitContainers[1].Name, one.Spec.InitContainers[1].RestartPolicy = "side", ptr.To(v1.ContainerRestartPolicyAlways)
	h.run(one)
	// The init container's are used again, the sidecar's are not.
	for container, want := range map[string]string{"i0": "a b", "side": "a", "c0": "b", "c1": "c"} {
		if got := h.ids("1", container); got != want {
			t.Errorf("%s has %q, want %q", container, got, want)
		}
	}
	if got := h.Content("1", "i0").Envs["DEVICES"]; got != "a,b" {
		t.Errorf("the init container is told of %q", got)
	}
	if err := h.admit(pod("2", nil, []int{1})); err == nil || err.Error() != "requested number of devices unavailable for example.com/gpu. Requested: 1, Available: 0" {
		t.Errorf("another pod: %v", err)
	}
	if err := h.PreStart(t.Context(), one, &one.Spec.Containers[1]); err != nil {
		t.Error(err)
	}
	if got := p.Calls("PreStartContainer"); len(got) != 1 || !slices.Equal(got[0], []string{"c"}) {
		t.Errorf("PreStartContainer was called with %q", got)
	}
	if err := h.Release("1"); err != nil {
		t.Fatal(err)
	}
	h.run(pod("2", nil, []int{3}))
	if got := h.ids("2", "c0"); got != "a b c" {
		t.Errorf("the next has %q", got)
	}
}

func TestThePlugInChoosesIfItWants(t *testing.T) {
	h := newHouse(t)
	p := h.plugin(deviceplugin.Config{
		Devices: three(), Options: &api.DevicePluginOptions{GetPreferredAllocationAvailable: true},
		Prefer: func([]string, []string, int) []string { return []string{"unknown", "c"} },
	})
	h.run(pod("1", []int{1}, []int{2}))
	if i, c := h.ids("1", "i0"), h.ids("1", "c0"); i != "c" || c != "a c" {
		t.Errorf("the init container has %q, the other %q", i, c)
	}
	// What is reserved for the other container is no choice of the first one.
	if got := p.Calls("GetPreferredAllocation"); len(got) != 2 || !slices.Equal(got[0], []string{"a", "c"}) || !slices.Equal(got[1], []string{"a", "b", "c"}) {
		t.Errorf("it was asked %q", got)
	}
}

func TestARestartKeepsWhatContainersHave(t *testing.T) {
	h := newHouse(t)
	p := h.plugin(deviceplugin.Config{Devices: three()})
	if !h.Fresh() {
		t.Error("the first agent of a node does not know it")
	}
	h.run(pod("1", nil, []int{2}))
	waiting := pod("2", nil, []int{1})
	if err := errors.Join(h.admit(waiting), h.SetUp(t.Context(), waiting)); err != nil {
		t.Fatal(err)
	}
	p.Stop()
	h.restart()
	if h.Fresh() || h.ids("1", "c0") != "a b" || h.Content("1", "c0").Envs["DEVICES"] != "a,b" {
		t.Errorf("after the restart: %q, %v", h.ids("1", "c0"), h.Content("1", "c0"))
	}
	h.has(gpu, 0, 0) // until the plug-in is back
	// No pod is turned away meanwhile: one that runs goes on, one that has not begun waits.
	for _, p := range []*v1.Pod{pod("1", nil, []int{2}), waiting} {
		if err := h.admit(p); err != nil {
			t.Errorf("pod %s: %v", p.UID, err)
		}
	}
	if err := h.SetUp(t.Context(), pod("1", nil, []int{2})); err != nil {
		t.Error(err)
	}
	if err := h.SetUp(t.Context(), waiting); err == nil || rejected(err, "") {
		t.Errorf("the pod that has not begun: %v", err)
	}
	if err := h.admit(pod("3", nil, []int{1})); err == nil || !strings.Contains(err.Error(), "no healthy devices present") {
		t.Errorf("a new pod: %v", err)
	}
	if q := h.Allocatable()[gpu]; q.Value() != 3 {
		t.Errorf("pods may request %v, want what they have", q.Value())
	}
	h.plugin(deviceplugin.Config{Devices: three()})
	h.has(gpu, 3, 3)
	if err := h.SetUp(t.Context(), waiting); err != nil || h.ids("2", "c0") != "c" {
		t.Errorf("once the plug-in is back: %v, %q", err, h.ids("2", "c0"))
	}
	testrun.Eventually(t, "the pods are looked at", func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return slices.Contains(h.woken, "1") && slices.Contains(h.woken, "2")
	})
}

func TestADamagedCheckpointStopsNoNode(t *testing.T) {
	h := newHouse(t)
	h.plugin(deviceplugin.Config{Devices: three()})
	h.run(pod("1", nil, []int{1}))
	file := filepath.Join(h.root, Dir, checkpoint.FileName)
	if err := os.WriteFile(file, []byte("garbage"), 0o600); err != nil {
		t.Fatal(err)
	}
	h.restart()
	damage.MovedAside(t, file)
	// The pod runs: it is neither turned away nor stopped, and when its container starts again it is given devices anew.
	p := pod("1", nil, []int{1})
	if err := errors.Join(h.admit(p), h.SetUp(t.Context(), p)); err != nil {
		t.Error(err)
	}
	h.plugin(deviceplugin.Config{Devices: three()})
	if err := h.PreStart(t.Context(), p, &p.Spec.Containers[0]); err != nil || h.ids("1", "c0") != "a" {
		t.Errorf("%v, it has %q", err, h.ids("1", "c0"))
	}
}

func TestHealthIsTold(t *testing.T) {
	h := newHouse(t)
	p := h.plugin(deviceplugin.Config{Devices: three()})
	h.run(pod("1", nil, []int{1}))
	health := func() v1.ResourceHealthStatus { return h.Health("1", "c0")[0].Resources[0].Health }
	if got := health(); got != v1.ResourceHealthStatusHealthy {
		t.Error(got)
	}
	p.Set(deviceplugin.Devices(map[string]bool{"a": false, "b": true, "c": true})...)
	h.has(gpu, 3, 2)
	if got := health(); got != v1.ResourceHealthStatusUnhealthy {
		t.Error(got)
	}
	p.Set(deviceplugin.Devices(map[string]bool{"c": true})...) // it vanishes
	h.has(gpu, 1, 1)
	if got := health(); got != v1.ResourceHealthStatusUnhealthy {
		t.Error(got)
	}
	p.Stop()
	h.has(gpu, 1, 0) // the capacity stays for a while
	if got := health(); got != v1.ResourceHealthStatusUnknown {
		t.Error(got)
	}
	if h.ids("1", "c0") != "a" {
		t.Errorf("the container has %q", h.ids("1", "c0"))
	}
}

func TestAResourceIsRemovedAfterItsGrace(t *testing.T) {
	all := offers{gpu: {plugins: []*plugin{{devices: devs("a")}}}}
	now := metav1.Now().Time
	all[gpu].serve(now)
	if removed, next := all.expire(now.Add(2 * stopGrace)); len(removed) > 0 || !next.IsZero() {
		t.Errorf("while a plug-in is there: %q, %v", removed, next)
	}
	all[gpu].plugins = nil
	all[gpu].serve(now)
	all[gpu].serve(now.Add(stopGrace / 2))
	if removed, next := all.expire(now.Add(stopGrace - 1)); len(removed) > 0 || !next.Equal(now.Add(stopGrace)) {
		t.Errorf("within the grace: %q, %v", removed, next)
	}
	if c := all.resources().Capacity[gpu]; c.Value() != 1 {
		t.Errorf("capacity %v", c.Value())
	}
	if removed, _ := all.expire(now.Add(stopGrace)); !slices.Equal(removed, []string{gpu}) {
		t.Errorf("after the grace: %q", removed)
	}
	c, listed := all.resources().Capacity[gpu]
	if !listed || c.Value() != 0 || len(all.registered()) != 0 {
		t.Errorf("capacity %v, listed %v, on record %v", c.Value(), listed, all.registered())
	}
}

func TestPlugInsThatMisbehaveHarmNobodyElse(t *testing.T) {
	h := newHouse(t)
	h.plugin(deviceplugin.Config{Resource: "example.com/good", Devices: three()})
	hang := make(chan struct{})
	t.Cleanup(func() { close(hang) })
	p := h.plugin(deviceplugin.Config{Devices: three(), Before: func(ctx context.Context, call string) error {
		if call == "Allocate" {
			select {
			case <-ctx.Done():
			case <-hang:
			}
		}
		return nil
	}})
	ctx, cancel := context.WithCancel(t.Context())
	stuck := pod("1", nil, []int{1})
	if err := h.admit(stuck); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- h.SetUp(ctx, stuck) }()
	testrun.Eventually(t, "the plug-in hangs", func() bool { return len(p.Calls("Allocate")) == 1 })
	if err := h.admit(pod("2", nil, []int{2})); err != nil { // asks nobody
		t.Error(err)
	}
	cancel()
	if err := <-done; err == nil || rejected(err, "") {
		t.Errorf("a pod that was not wanted any more: %v", err)
	}
	for what, give := range map[string]func([]string) *api.ContainerAllocateResponse{
		"huge": func([]string) *api.ContainerAllocateResponse {
			return &api.ContainerAllocateResponse{Envs: map[string]string{"A": strings.Repeat("x", 5<<20)}}
		},
		"dangerous": func([]string) *api.ContainerAllocateResponse {
			return &api.ContainerAllocateResponse{Mounts: []*api.Mount{{HostPath: "relative", ContainerPath: "/x"}}}
		},
	} {
		name := "example.com/" + what
		h.plugin(deviceplugin.Config{Resource: name, Devices: three(), Give: give})
		liar := pod(what, nil, []int{1})
		liar.Spec.Containers[0].Resources.Limits = v1.ResourceList{v1.ResourceName(name): resource.MustParse("1")}
		if err := errors.Join(h.admit(liar), h.SetUp(t.Context(), liar)); !rejected(err, "Allocate failed due to") || len(err.Error()) > 1000 {
			t.Errorf("%s: %.300v", what, err)
		}
		if h.ids(what, "c0") != "" {
			t.Errorf("%s: it has %q", what, h.ids(what, "c0"))
		}
	}
	h.has("example.com/good", 3, 3)
}

func TestAListThatIsWrongEndsThePlugIn(t *testing.T) {
	h := newHouse(t)
	p := h.plugin(deviceplugin.Config{Devices: three()})
	p.Set(&api.Device{ID: "a"}, &api.Device{ID: "a"})
	h.has(gpu, 3, 0)
}

func TestOneResourceOfTwoPlugIns(t *testing.T) {
	h := newHouse(t)
	h.plugin(deviceplugin.Config{Devices: three(), Socket: "old.sock"})
	young := h.plugin(deviceplugin.Config{Devices: three()[:1], Socket: "new.sock"}) // an upgrade
	h.has(gpu, 1, 1)
	young.Stop()
	h.has(gpu, 3, 3)
	// It registers again by the same socket, without having gone.
	if err := deviceplugin.Register(t.Context(), h.root, gpu, "old.sock"); err != nil {
		t.Error(err)
	}
	h.has(gpu, 3, 3)
}

func TestWhoIsRefused(t *testing.T) {
	h := newHouse(t)
	h.plugin(deviceplugin.Config{Devices: three()})
	for _, bad := range []struct{ resource, socket string }{{"gpu", "x.sock"}, {"kubernetes.io/gpu", "x.sock"}, {gpu, "../../x.sock"}, {gpu, "/run/x.sock"}} {
		if err := deviceplugin.Register(t.Context(), h.root, bad.resource, bad.socket); err == nil {
			t.Errorf("%v may register", bad)
		}
	}
	if got := len(h.Resources().Capacity); got != 1 {
		t.Errorf("the node has %d resources", got)
	}
}

func TestDevicesOfAPodThatIsAboutToEndArePromised(t *testing.T) {
	h := newHouse(t)
	h.plugin(deviceplugin.Config{Devices: three()})
	h.run(pod("1", nil, []int{3}))
	h.set(h.gone, "1")
	next := pod("2", nil, []int{1})
	if err := h.admit(next); err != nil {
		t.Fatal(err)
	}
	if err := h.SetUp(t.Context(), next); err == nil || rejected(err, "") {
		t.Errorf("while the other still has them: %v", err)
	}
	if err := h.Release("1"); err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(h.woken, "2") {
		t.Error("the pod that waits is not told")
	}
	if err := h.SetUp(t.Context(), next); err != nil || h.ids("2", "c0") != "a" {
		t.Errorf("%v, it has %q", err, h.ids("2", "c0"))
	}
}
