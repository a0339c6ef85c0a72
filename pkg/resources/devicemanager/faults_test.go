package devicemanager

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	api "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/pluginregistry"
	"github.com/mini-kubelet/mini-kubelet/pkg/resources/devicemanager/checkpoint"
	"github.com/mini-kubelet/mini-kubelet/test/deviceplugin"
	"github.com/mini-kubelet/mini-kubelet/test/testrun"
)

// wokenAgain reports whether a pod has been woken since forget.
func (h *house) wokenAgain(uid types.UID) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Contains(h.woken, uid)
}

func (h *house) forget() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.woken = nil
}

func (h *house) health(uid types.UID) v1.ResourceHealthStatus {
	return h.Health(uid, "c0")[0].Resources[0].Health
}

func TestTheSocketIsMadeAgainWhenSomebodyRemovesIt(t *testing.T) {
	h := newHouse(t)
	h.plugin(deviceplugin.Config{Devices: three(), Socket: "own.sock"})
	h.run(pod("1", nil, []int{2}))
	dir := filepath.Join(h.root, Dir)
	there := func(name string) func() bool {
		return func() bool { _, err := os.Lstat(filepath.Join(dir, name)); return err == nil }
	}
	for range 2 {
		testrun.Eventually(t, "the socket is there", there(socketName))
		if err := os.Remove(filepath.Join(dir, socketName)); err != nil {
			t.Fatal(err)
		}
		testrun.Eventually(t, "the socket is made again", there(socketName))
		if !there("own.sock")() {
			t.Error("the socket of a plug-in that is there was removed")
		}
		h.has(gpu, 3, 3)
		if err := deviceplugin.Register(t.Context(), h.root, gpu, "own.sock"); err != nil {
			t.Error(err)
		}
		h.has(gpu, 3, 3)
	}
	// On a busy machine something may be made again in it before all of it is gone.
	testrun.Eventually(t, "the directory is removed", func() bool { return os.RemoveAll(dir) == nil })
	testrun.Eventually(t, "the directory is made again", there(socketName))
	testrun.Eventually(t, "what is on record, too", there(checkpoint.FileName))
	h.restart()
	if got := h.ids("1", "c0"); got != "a b" {
		t.Errorf("the next agent thinks that the pod has %q", got)
	}
}

func TestAContainerWaitsForThePlugInThatHasToPrepareItsDevices(t *testing.T) {
	h := newHouse(t)
	p := h.plugin(deviceplugin.Config{Devices: three(), Options: &api.DevicePluginOptions{PreStartRequired: true}})
	one := pod("1", nil, []int{1})
	h.run(one)
	p.Stop()
	h.has(gpu, 3, 0)
	if err := h.PreStart(t.Context(), one, &one.Spec.Containers[0]); err == nil || rejected(err, "") || !strings.Contains(err.Error(), "PreStartContainer rpc failed") {
		t.Errorf("without the plug-in: %v", err)
	}
	h.forget()
	p = h.plugin(deviceplugin.Config{Devices: three(), Options: &api.DevicePluginOptions{PreStartRequired: true}})
	testrun.Eventually(t, "the pod is looked at", func() bool { return h.wokenAgain("1") })
	if err := h.PreStart(t.Context(), one, &one.Spec.Containers[0]); err != nil || len(p.Calls("PreStartContainer")) != 1 {
		t.Errorf("with the plug-in: %v, it was called %d times", err, len(p.Calls("PreStartContainer")))
	}
	p.Stop()
	p = h.plugin(deviceplugin.Config{Devices: three()}) // an upgrade: it prepares nothing any more
	p.Stop()
	h.has(gpu, 3, 0)
	if err := h.PreStart(t.Context(), one, &one.Spec.Containers[0]); err != nil {
		t.Errorf("after one that prepares nothing: %v", err)
	}
}

func TestAPodIsNotShortOfAResourceWhosePlugInHasGoneForGood(t *testing.T) {
	h := newHouse(t)
	p := h.plugin(deviceplugin.Config{Devices: three()})
	h.run(pod("1", nil, []int{2}))
	p.Stop()
	h.has(gpu, 3, 0)
	h.Manager.mu.Lock()
	h.offers.expire(h.cfg.Clock.Now().Add(2 * stopGrace))
	h.saveResources()
	h.Manager.mu.Unlock()
	for range 2 {
		if q := h.Allocatable()[gpu]; q.Value() != 2 {
			t.Errorf("pods may request %d, want what they have", q.Value())
		}
		if err := h.admit(pod("1", nil, []int{2})); err != nil {
			t.Errorf("the pod that runs: %v", err)
		}
		h.restart()
	}
}

func TestAPlugInWithANewNameEachTimeDoesNotFillTheNodesStatus(t *testing.T) {
	h := newHouse(t)
	h.plugin(deviceplugin.Config{Devices: three()})
	h.Manager.mu.Lock()
	for i := len(h.offers); i < maxResources; i++ {
		h.offers[fmt.Sprintf("example.com/old-%d", i)] = &offer{removed: true, gone: h.cfg.Clock.Now()}
	}
	h.Manager.mu.Unlock()
	if err := h.join(&plugin{resource: "example.com/new", socket: "/new"}); err == nil {
		t.Error("one more resource may register")
	}
	if got := len(h.Resources().Capacity); got != maxResources {
		t.Errorf("the node has %d resources", got)
	}
	if err := h.join(&plugin{resource: "example.com/old-200", socket: "/old"}); err != nil {
		t.Errorf("one that comes back: %v", err)
	}
}

func TestAPlugInThatRegistersAnewWhileItIsAskedIsAskedAgain(t *testing.T) {
	h := newHouse(t)
	var asked atomic.Int32
	p := h.plugin(deviceplugin.Config{Devices: three(), Socket: "own.sock", Before: func(ctx context.Context, call string) error {
		if call == "Allocate" && asked.Add(1) == 1 {
			<-ctx.Done()
		}
		return nil
	}})
	one := pod("1", nil, []int{1})
	if err := h.admit(one); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- h.SetUp(t.Context(), one) }()
	testrun.Eventually(t, "it is asked", func() bool { return len(p.Calls("Allocate")) == 1 })
	if err := deviceplugin.Register(t.Context(), h.root, gpu, "own.sock"); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err == nil || rejected(err, "") {
		t.Errorf("meanwhile: %v", err)
	}
	testrun.Eventually(t, "the pod has its device", func() bool {
		err := h.SetUp(t.Context(), one)
		if rejected(err, "") {
			t.Fatal(err)
		}
		return err == nil
	})
	if h.ids("1", "c0") != "a" {
		t.Errorf("it has %q", h.ids("1", "c0"))
	}
}

func TestAPlugInThatRegistersAnewAndListsNothingIsKnownToBeSilent(t *testing.T) {
	h := newHouse(t)
	var lists atomic.Int32
	h.plugin(deviceplugin.Config{Devices: three(), Socket: "own.sock", Before: func(ctx context.Context, call string) error {
		if call == "ListAndWatch" && lists.Add(1) > 1 {
			<-ctx.Done()
		}
		return nil
	}})
	h.run(pod("1", nil, []int{1}))
	waiting := pod("2", nil, []int{1})
	if err := h.admit(waiting); err != nil {
		t.Fatal(err)
	}
	h.forget()
	if err := deviceplugin.Register(t.Context(), h.root, gpu, "own.sock"); err != nil {
		t.Fatal(err)
	}
	if !h.wokenAgain("1") || h.health("1") != v1.ResourceHealthStatusUnknown {
		t.Errorf("pods woken: %v, health: %v", h.wokenAgain("1"), h.health("1"))
	}
	if err := h.SetUp(t.Context(), waiting); err == nil || rejected(err, "") {
		t.Errorf("a pod between admission and its devices: %v", err)
	}
}

func TestAPlugInsSocketIsAnAbsolutePath(t *testing.T) {
	h := newHouse(t)
	for _, bad := range []string{"", "x.sock", "@abstract", "unix:///x.sock", "dns:///example.com"} {
		if _, err := h.Register(t.Context(), pluginregistry.Plugin{Name: gpu, Endpoint: bad, Versions: []string{api.Version}}); err == nil || !strings.Contains(err.Error(), "absolute") {
			t.Errorf("endpoint %q: %v", bad, err)
		}
	}
}

// Every pod wants its devices at once, and the plug-in and the agent end meanwhile, twice.
func TestFiftyPodsAndAPlugInThatEnds(t *testing.T) {
	const n = 50
	h := newHouse(t)
	healthy := map[string]bool{}
	for i := range n {
		healthy[fmt.Sprintf("d%02d", i)] = true
	}
	cfg := deviceplugin.Config{Devices: deviceplugin.Devices(healthy), Socket: "own.sock"}
	var list []*v1.Pod
	for i := range n {
		list = append(list, pod(fmt.Sprint(i), nil, []int{1}))
	}
	for round := range 3 {
		var p *deviceplugin.Plugin
		calls := make(chan struct{}, 10*n)
		cfg.Before = func(_ context.Context, call string) error {
			if call == "Allocate" {
				calls <- struct{}{}
			}
			return nil
		}
		p = h.plugin(cfg)
		h.has(gpu, n, n)
		var left []*v1.Pod
		for _, pod := range list {
			if err := h.admit(pod); err != nil {
				t.Fatal(err)
			}
			if h.ids(string(pod.UID), "c0") == "" {
				left = append(left, pod)
			}
		}
		done := make(chan error, len(left))
		for _, pod := range left {
			go func() { done <- h.SetUp(t.Context(), pod) }()
		}
		if round < 2 {
			for range min(10, len(left)) { // all may have got theirs before the plug-in ended
				<-calls
			}
			p.Stop()
		}
		for range left {
			if err := <-done; err != nil && (round == 2 || !rejected(err, "")) {
				t.Errorf("round %d: %v", round, err)
			}
		}
		if round < 2 {
			h.restart()
		}
	}
	has := map[string]types.UID{}
	for _, pod := range list {
		id := h.ids(string(pod.UID), "c0")
		if other, twice := has[id]; twice || id == "" {
			t.Errorf("pod %s has %q, which pod %s has, too", pod.UID, id, other)
		}
		has[id] = pod.UID
	}
}
