package cpumanager

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/utils/clock"
	"k8s.io/utils/cpuset"

	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods/actual"
	"github.com/mini-kubelet/mini-kubelet/pkg/resources/topologymanager"
	"github.com/mini-kubelet/mini-kubelet/test/damage"
)

func newManager(t *testing.T, root string) *Manager {
	t.Helper()
	m, err := New(Config{Topology: machine(1, 1, 4, 1), Reserved: resource.MustParse("1"), Root: root})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// admits is what the manager's CPUs are given by, with no regard to NUMA nodes.
func admits(t *testing.T, m *Manager) *topologymanager.Manager {
	t.Helper()
	a, err := topologymanager.New(topologymanager.Config{Policy: topologymanager.None, Providers: []topologymanager.Provider{m}})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func wantCPUs(t *testing.T, m *Manager, uid types.UID, container, want string, exclusive bool) {
	t.Helper()
	if got, own := m.CPUs(uid, container); got != want || own != exclusive {
		t.Errorf("CPUs of %s in %s are %q (exclusive %t), want %q (%t)", container, uid, got, own, want, exclusive)
	}
}

func TestManagerOutlivesTheAgent(t *testing.T) {
	root := t.TempDir()
	m := newManager(t, root)
	wantCPUs(t, m, "p", "c", "0-3", false)
	if err := admits(t, m).Allocate(pod("p", container("c", "2"))); err != nil {
		t.Fatal(err)
	}
	m = newManager(t, root)
	wantCPUs(t, m, "p", "c", "1-2", true)
	wantCPUs(t, m, "q", "c", "0,3", false)
	for what, set := range map[string]cpuset.CPUSet{"1-2": m.ExclusiveCPUs("p", "c"), "": m.ExclusiveCPUs("q", "c"), "1-3": m.AllocatableCPUs()} {
		if set.String() != what {
			t.Errorf("CPUs are %s, want %s", set, what)
		}
	}
	if err := admits(t, m).Allocate(pod("p", container("c", "2"))); err != nil { // judged again
		t.Fatal(err)
	}
	wantCPUs(t, m, "p", "c", "1-2", true)
	if err := m.Release("p"); err != nil {
		t.Fatal(err)
	}
	wantCPUs(t, newManager(t, root), "p", "c", "0-3", false)
}

func TestManagerTakesBackWhatIsGone(t *testing.T) {
	m := newManager(t, t.TempDir())
	if err := admits(t, m).Allocate(pod("old", container("c", "3"))); err != nil {
		t.Fatal(err)
	}
	next := pod("new", container("c", "2"))
	var r *pods.Rejection
	if err := admits(t, m).Check(next); !errors.As(err, &r) || r.Reason != "UnexpectedAdmissionError" {
		t.Errorf("Check = %v", err)
	}
	m.gone = func(uid types.UID) bool { return uid == "old" }
	if err := admits(t, m).Check(next); err != nil {
		t.Error(err)
	}
	wantCPUs(t, m, "old", "c", "1-3", true) // nothing was changed
	if err := admits(t, m).Allocate(next); err != nil {
		t.Fatal(err)
	}
	wantCPUs(t, m, "old", "c", "0,3", false)
	wantCPUs(t, m, "new", "c", "1-2", true)
	if err := m.Orphans(func(uid types.UID) bool { return uid == "new" }); err != nil {
		t.Fatal(err)
	}
	wantCPUs(t, m, "new", "c", "0-3", false)
}

func TestManagerGivesNothingThatIsNotOnDisk(t *testing.T) {
	root := t.TempDir()
	m := newManager(t, root)
	path := filepath.Join(root, FileName)
	if err := errors.Join(os.Remove(path), os.Mkdir(path, 0o700)); err != nil { // in the way
		t.Fatal(err)
	}
	var r *pods.Rejection
	if err := admits(t, m).Allocate(pod("p", container("c", "1"))); err == nil || errors.As(err, &r) || !strings.Contains(err.Error(), "write the state") {
		t.Errorf("Allocate = %v, want an error that is no rejection", err)
	}
	wantCPUs(t, m, "p", "c", "0-3", false)
}

// fourth is from upstream's tests.
const fourth = `{"policyName":"other","defaultCpuSet":"1-9","checksum":1234,` +
	`"data":"{\"policyName\":\"static\",\"defaultCPUSet\":\"7-9\",\"entries\":{\"pod\":{\"container1\":\"4-6\",\"container2\":\"1-3\"}}}","dataChecksum":1420829534}`

func TestStateFileOfTheKubelet(t *testing.T) {
	for name, tt := range map[string]struct {
		text, policy string
		err          string
	}{
		// The first two from kubelets and from upstream's tests.
		"of none":            {`{"policyName":"none","defaultCpuSet":"","checksum":1353318690}`, "none", ""},
		"of none, with CPUs": {`{"policyName":"none","defaultCPUSet":"1-3","entries":{"pod":{"container1":"4-6","container2":"1-3"}},"checksum":3610638499}`, "none", ""},
		"no checksum":        {`{"policyName":"static","defaultCpuSet":"0-3"}`, "static", ""},
		"another policy":     {`{"policyName":"none","defaultCpuSet":"","checksum":1353318690}`, "static", `configured policy "static" differs from state checkpoint policy "none"`},
		"changed by hand":    {`{"policyName":"none","defaultCpuSet":"0","checksum":1353318690}`, "none", "checksum does not match"},
		"cut short":          {`{"policyName":"sta`, "static", "checkpoint is corrupted"},
		"empty":              {"", "static", "checkpoint is corrupted"},
		"no CPUs":            {`{"policyName":"static","defaultCpuSet":"zero"}`, "static", `could not parse default cpu set "zero"`},
		"no container's":     {`{"policyName":"static","defaultCpuSet":"0","entries":{"p":{"c":"1-"}}}`, "static", `could not parse cpuset "1-" for container "c" in pod "p"`},
		"version 1":          {`{"policyName":"static","defaultCpuSet":"0","entries":{"id":"1"}}`, "static", "checkpoint is corrupted"},
		// What stands beside the data of version 4 is for older kubelets.
		"version 4":                  {fourth, "static", ""},
		"version 4, changed by hand": {strings.Replace(fourth, "7-9", "0-9", 1), "static", "checksum does not match"},
		"version 4, without data":    {`{"policyName":"static","defaultCpuSet":"7-9","dataChecksum":1234}`, "static", "checkpoint is corrupted"},
		"version 4, without its sum": {strings.Replace(fourth, "1420829534", "0", 1), "static", "checksum does not match"},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := decode([]byte(tt.text), tt.policy)
			if tt.text == fourth && (s.shared.String() != "7-9" || s.assigned["pod"]["container1"].String() != "4-6") {
				t.Errorf("decoded as %+v", s)
			}
			if tt.err == "" && err != nil || tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) {
				t.Errorf("decode: %v, want %q", err, tt.err)
			}
		})
	}
}

func TestUselessStateIsRefusedInPlainWords(t *testing.T) {
	for name, text := range map[string]string{
		"another policy": `{"policyName":"none","defaultCpuSet":"","checksum":1353318690}`,
		"other CPUs":     `{"policyName":"static","defaultCpuSet":"0-7"}`,
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			path := filepath.Join(root, FileName)
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := New(Config{Topology: machine(1, 1, 4, 1), Reserved: resource.MustParse("1"), Root: root})
			if err == nil || !strings.Contains(err.Error(), "please drain this node and delete the CPU manager checkpoint file") || !strings.Contains(err.Error(), path) {
				t.Errorf("New: %v", err)
			}
			if now, err := os.ReadFile(path); err != nil || string(now) != text {
				t.Errorf("the file was changed: %q, %v", now, err)
			}
		})
	}
}

// A damaged state is moved aside: the pods that run are given CPUs again, and these are on
// record.
func TestADamagedStateStopsNoAgent(t *testing.T) {
	place := func(t *testing.T) string {
		root := t.TempDir()
		if err := admits(t, newManager(t, root)).Allocate(pod("p", container("c", "1"))); err != nil {
			t.Fatal(err)
		}
		return filepath.Join(root, FileName)
	}
	damage.Each(t, place, func(t *testing.T, path string) {
		root := filepath.Dir(path)
		m := newManager(t, root)
		wantCPUs(t, m, "p", "c", "0-3", false)
		if err := admits(t, m).Allocate(pod("p", container("c", "1"))); err != nil {
			t.Fatal(err)
		}
		wantCPUs(t, newManager(t, root), "p", "c", "1", true)
	})
	damage.Each(t, place, func(t *testing.T, path string) {
		if err := CheckUnused(filepath.Dir(path)); err != nil {
			t.Errorf("without the policy: %v", err)
		}
	})
}

func TestStateOfTheStaticPolicyIsInTheWayOfNone(t *testing.T) {
	root := t.TempDir()
	if err := CheckUnused(root); err != nil {
		t.Error(err)
	}
	newManager(t, root)
	if err := CheckUnused(root); err == nil || !strings.Contains(err.Error(), `configured policy "none" differs from state checkpoint policy "static"`) {
		t.Errorf("CheckUnused: %v", err)
	}
}

// engine is a runtime with known containers and CPUs.
type engine struct {
	mu      sync.Mutex
	pods    map[types.UID][]*actual.ContainerStatus
	silent  bool  // does not report resources
	err     error // of updates
	updates []string
	looks   int
}

func (e *engine) Pods() []*actual.Pod {
	e.mu.Lock()
	defer e.mu.Unlock()
	var list []*actual.Pod
	for uid := range e.pods {
		list = append(list, &actual.Pod{UID: uid})
	}
	return list
}

func (e *engine) Look(ctx context.Context, uid types.UID) (*actual.PodStatus, error) {
	return e.GetNewerThan(ctx, uid, time.Now())
}

func (e *engine) GetNewerThan(_ context.Context, uid types.UID, t time.Time) (*actual.PodStatus, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !t.IsZero() {
		e.looks++
	}
	s := &actual.PodStatus{UID: uid}
	for _, c := range e.pods[uid] {
		seen := *c
		if e.silent {
			seen.Resources = nil
		}
		s.Containers = append(s.Containers, &seen)
	}
	return s, nil
}

func (e *engine) UpdateContainerResources(_ context.Context, r *cri.UpdateContainerResourcesRequest, _ ...grpc.CallOption) (*cri.UpdateContainerResourcesResponse, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.updates = append(e.updates, r.ContainerId+"="+r.Linux.CpusetCpus)
	if e.err != nil {
		return nil, e.err
	}
	for _, containers := range e.pods {
		for _, c := range containers {
			if c.ID.ID == r.ContainerId {
				c.Resources = &cri.ContainerResources{Linux: &cri.LinuxContainerResources{CpusetCpus: r.Linux.CpusetCpus}}
			}
		}
	}
	return &cri.UpdateContainerResourcesResponse{}, nil
}

// since returns the updates since the last call.
func (e *engine) since() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	all := strings.Join(e.updates, " ")
	e.updates = nil
	return all
}

func running(id, cpus string) *actual.ContainerStatus {
	return &actual.ContainerStatus{
		ID: actual.ContainerID{Runtime: "docker", ID: id}, Name: "c", State: actual.StateRunning,
		Resources: &cri.ContainerResources{Linux: &cri.LinuxContainerResources{CpusetCpus: cpus}},
	}
}

func startUpdater(t *testing.T, e *engine, m *Manager) {
	t.Helper()
	u, err := NewUpdater(UpdaterConfig{Manager: m, Runtime: e, Cache: e, Desired: func() []*v1.Pod { return nil }, Period: 10 * time.Second, Clock: clock.RealClock{}})
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = u.Run(t.Context()) }()
	synctest.Wait()
}

func TestRunningContainersFollowTheSharedCPUs(t *testing.T) {
	for name, silent := range map[string]bool{"a runtime that tells": false, "one that does not": true} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				m := newManager(t, root)
				ended := running("dead", "0-3")
				ended.State = actual.StateExited
				e := &engine{silent: silent, pods: map[types.UID][]*actual.ContainerStatus{"shared": {running("s", ""), ended}}}
				startUpdater(t, e, m)
				if got := e.since(); got != "s=0-3" { // made before there was a CPU manager
					t.Errorf("at the start: %q", got)
				}
				begun := time.Now()
				if err := admits(t, m).Allocate(pod("own", container("c", "2"))); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				if got := e.since(); got != "s=0,3" || time.Since(begun) > 0 {
					t.Errorf("after another got CPUs: %q, %v later", got, time.Since(begun))
				}
				time.Sleep(time.Minute)
				if got := e.since(); got != "" {
					t.Errorf("while nothing changes: %q", got)
				}
				if err := m.Release("own"); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				if got := e.since(); got != "s=0-3" {
					t.Errorf("after the other went: %q", got)
				}
			})
		})
	}
}

func TestUpdateThatFailedIsTriedAgain(t *testing.T) {
	root := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, root)
		e := &engine{err: errors.New("not now"), pods: map[types.UID][]*actual.ContainerStatus{"shared": {running("s", "0")}}}
		startUpdater(t, e, m)
		e.mu.Lock()
		e.err, e.looks = nil, 0
		e.mu.Unlock()
		time.Sleep(11 * time.Second)
		if got := e.since(); got != "s=0-3 s=0-3" {
			t.Errorf("updates %q", got)
		}
		time.Sleep(time.Minute)
		if got := e.since(); got != "" || e.looks > 1 {
			t.Errorf("then %q with %d looks", got, e.looks)
		}
	})
}
