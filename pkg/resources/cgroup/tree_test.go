package cgroup

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"

	"github.com/mini-kubelet/mini-kubelet/test/testrun"
)

// fakeKernel remembers the last values of each cgroup and counts the writes.
type fakeKernel struct {
	mu     sync.Mutex
	groups map[string]Values
	writes int
	fail   error
}

func newFake() *fakeKernel { return &fakeKernel{groups: map[string]Values{}} }

func (k *fakeKernel) write(n name, v Values) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.writes++
	if k.fail != nil {
		return k.fail
	}
	k.groups[strings.Join(n, "/")] = v
	return nil
}

func (k *fakeKernel) remove(n name, kill bool) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.fail != nil {
		return k.fail
	}
	delete(k.groups, strings.Join(n, "/"))
	return nil
}

func (k *fakeKernel) pods() (map[types.UID]name, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	found := map[types.UID]name{}
	for g := range k.groups {
		n := name(strings.Split(g, "/"))
		if uid, ok := strings.CutPrefix(n[len(n)-1], podPrefix); ok {
			found[types.UID(uid)] = n
		}
	}
	return found, k.fail
}

func (k *fakeKernel) exists(n name) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	_, ok := k.groups[strings.Join(n, "/")]
	return ok
}

func (k *fakeKernel) hugePageSizes() []int64 { return nil }

func (k *fakeKernel) shares(t *testing.T, group string) int64 {
	t.Helper()
	k.mu.Lock()
	defer k.mu.Unlock()
	v, ok := k.groups[group]
	if !ok || v.CPUShares == nil {
		t.Fatalf("cgroup %s has no shares: %+v", group, k.groups)
	}
	return *v.CPUShares
}

func testTree(t *testing.T, k driver) *Tree {
	t.Helper()
	layout, err := NewLayout("", false)
	if err != nil {
		t.Fatal(err)
	}
	tree, err := newTree(Config{Layout: layout, Capacity: func() v1.ResourceList { return list("cpu", "2", "memory", "1Gi") }, Clock: clock.RealClock{}}, k)
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

func TestTheTreeIsMadeAtStartAndWrittenEveryMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newFake()
		tree := testTree(t, k)
		for _, g := range []string{"kubepods", "kubepods/burstable", "kubepods/besteffort"} {
			if _, ok := k.groups[g]; !ok {
				t.Errorf("%s was not made", g)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- tree.Run(ctx) }()
		synctest.Wait()
		if got := k.shares(t, "kubepods"); got != 2048 {
			t.Errorf("all pods: %d shares, want 2048", got)
		}
		_ = k.write(name{"kubepods"}, Values{CPUShares: ref[int64](7)}) // somebody meddles
		time.Sleep(updatePeriod)
		synctest.Wait()
		if got := k.shares(t, "kubepods"); got != 2048 {
			t.Errorf("a minute later: %d shares, want 2048", got)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestTheTreeFollowsAMachineThatGrows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, cpus, resized := newFake(), "2", make(chan struct{}, 1)
		layout, err := NewLayout("", false)
		if err != nil {
			t.Fatal(err)
		}
		tree, err := newTree(Config{
			Layout: layout, Capacity: func() v1.ResourceList { return list("cpu", cpus, "memory", "1Gi") }, Resized: resized, Clock: clock.RealClock{},
		}, k)
		if err != nil {
			t.Fatal(err)
		}
		testrun.Start(t, tree.Run)
		synctest.Wait()
		cpus = "3"
		resized <- struct{}{}
		synctest.Wait()
		if got := k.shares(t, "kubepods"); got != 3072 {
			t.Errorf("all pods: %d shares, want 3072", got)
		}
	})
}

func TestAHostThatRefusesCgroups(t *testing.T) {
	layout, _ := NewLayout("", false)
	for errno, refused := range map[syscall.Errno]bool{unix.EPERM: true, unix.EACCES: true, unix.EROFS: true, unix.ENOSPC: false} {
		k := newFake()
		k.fail = fmt.Errorf("mkdir: %w", errno)
		_, err := newTree(Config{Layout: layout, Clock: clock.RealClock{}}, k)
		if err == nil || errors.Is(err, ErrRefused) != refused {
			t.Errorf("%v: %v", errno, err)
		}
	}
}

// The machine on which this test was written has no cgroup v2: the values are
// checked, not what the kernel does with them.
func TestClassesProtectWhatTheirPodsRequest(t *testing.T) {
	guaranteed := podOf("g", container(list("cpu", "1", "memory", "4Mi"), list("cpu", "1", "memory", "4Mi")))
	burstable := podOf("b", container(list("memory", "1Mi"), nil))
	for name, tt := range map[string]struct {
		qos, reserve bool
		root, class  map[string]string // with both pods
		left         map[string]string // of the root, after the burstable one is gone
		pod          map[string]string // of the Guaranteed one
	}{
		"tiered":    {true, true, map[string]string{"memory.min": "5242880", "memory.low": "1048576"}, map[string]string{"memory.low": "1048576"}, map[string]string{"memory.min": "4194304", "memory.low": "0"}, map[string]string{"memory.min": "4194304"}},
		"none":      {true, false, map[string]string{"memory.min": "0", "memory.low": "0"}, map[string]string{"memory.low": "0"}, map[string]string{"memory.min": "0", "memory.low": "0"}, nil},
		"not asked": {false, false, nil, nil, nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			layout, err := NewLayout("", false)
			if err != nil {
				t.Fatal(err)
			}
			k := newFake()
			tree, err := newTree(Config{Layout: layout, Clock: clock.RealClock{}, MemoryQoS: tt.qos, Pods: PodSettings{ReserveMemory: tt.reserve}}, k)
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range []*v1.Pod{guaranteed, burstable} {
				if err := tree.SetUp(p); err != nil {
					t.Fatal(err)
				}
			}
			for group, want := range map[string]map[string]string{"kubepods": tt.root, "kubepods/burstable": tt.class, "kubepods/besteffort": nil, "kubepods/podg": tt.pod} {
				if got := k.groups[group].Unified; !maps.Equal(got, want) {
					t.Errorf("%s: %v, want %v", group, got, want)
				}
			}
			if err := tree.Remove("b"); err != nil {
				t.Fatal(err)
			}
			if got := k.groups["kubepods"].Unified; !maps.Equal(got, tt.left) {
				t.Errorf("with one pod left: %v, want %v", got, tt.left)
			}
		})
	}
}

func TestTheNodeTellsOnceThatItHoldsPodsToTheirShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newFake()
		layout, err := NewLayout("/", false)
		if err != nil {
			t.Fatal(err)
		}
		told := make(chan string, 10)
		tree, err := newTree(Config{Layout: layout, Clock: clock.RealClock{}, Event: func(kind, reason, message string) {
			told <- kind + " " + reason + ": " + message
		}}, k)
		if err != nil {
			t.Fatal(err)
		}
		k.fail = errors.New("busy")
		ctx, cancel := context.WithTimeout(t.Context(), 5*updatePeriod-time.Second)
		defer cancel()
		go func() {
			time.Sleep(updatePeriod + time.Second)
			k.mu.Lock()
			defer k.mu.Unlock()
			k.fail = nil
		}()
		if err := tree.Run(ctx); err != nil {
			t.Fatal(err)
		}
		close(told)
		failed := `Warning FailedNodeAllocatableEnforcement: Failed to update Node Allocatable Limits ["kubepods"]: busy`
		want := []string{failed, failed, "Normal NodeAllocatableEnforced: Updated Node Allocatable limit across pods"}
		var got []string
		for s := range told {
			got = append(got, s)
		}
		if !slices.Equal(got, want) {
			t.Errorf("told %q, want %q", got, want)
		}
	})
}
