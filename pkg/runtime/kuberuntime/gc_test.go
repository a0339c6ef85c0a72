package kuberuntime

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"k8s.io/apimachinery/pkg/types"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/utils/clock"

	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods/actual"
	"github.com/mini-kubelet/mini-kubelet/pkg/runtime/criconfig"
	"github.com/mini-kubelet/mini-kubelet/test/treetest"
)

func TestGarbage(t *testing.T) {
	now := time.Unix(100000, 0)
	at := func(minutes int) time.Time { return now.Add(-time.Duration(minutes) * time.Minute) }
	dead := func(id, name, sandbox string, minutes int) actual.Container {
		return actual.Container{ID: id, Name: name, SandboxID: sandbox, State: actual.StateExited, CreatedAt: at(minutes)}
	}
	one := Policy{PerContainer: 1, Total: -1}
	for name, tc := range map[string]struct {
		policy Policy
		pods   []*actual.Pod
		wanted bool
		want   string
	}{
		"one dead one is kept": {one, []*actual.Pod{{UID: "u", Containers: []actual.Container{dead("a", "c", "s", 1)}, Sandboxes: []actual.Sandbox{{ID: "s", State: actual.StateRunning}}}}, true, ""},
		"older ones go": {one, []*actual.Pod{{UID: "u", Containers: []actual.Container{{ID: "r", Name: "c", State: actual.StateRunning, CreatedAt: at(0)}, dead("a", "c", "s", 1), dead("b", "c", "s", 2), dead("d", "c", "s", 3)},
			Sandboxes: []actual.Sandbox{{ID: "s", State: actual.StateRunning}}}}, true, "b d"},
		"another container's count by themselves": {one, []*actual.Pod{{UID: "u", Containers: []actual.Container{dead("a", "c1", "s", 1), dead("b", "c2", "s", 2)}, Sandboxes: []actual.Sandbox{{ID: "s", State: actual.StateRunning}}}}, true, ""},
		"young ones stay":                         {Policy{MinAge: 10 * time.Minute, PerContainer: 0, Total: -1}, []*actual.Pod{{UID: "u", Containers: []actual.Container{dead("a", "c", "s", 1), dead("b", "c", "s", 20)}, Sandboxes: []actual.Sandbox{{ID: "s", State: actual.StateRunning}}}}, true, "b"},
		"total, oldest first":                     {Policy{PerContainer: -1, Total: 1}, []*actual.Pod{{UID: "u", Containers: []actual.Container{dead("a", "c", "s", 1), dead("b", "c", "s", 2)}, Sandboxes: []actual.Sandbox{{ID: "s", State: actual.StateRunning}}}}, true, "b"},
		"being started right now":                 {Policy{PerContainer: 0, Total: -1}, []*actual.Pod{{UID: "u", Containers: []actual.Container{{ID: "a", Name: "c", State: actual.StateCreated, CreatedAt: at(1)}}}}, true, ""},
		"left behind before its start":            {Policy{PerContainer: 0, Total: -1}, []*actual.Pod{{UID: "u", Containers: []actual.Container{{ID: "a", Name: "c", State: actual.StateCreated, CreatedAt: at(6)}}}}, true, "a"},
		"old sandbox goes, newest stays":          {one, []*actual.Pod{{UID: "u", Sandboxes: []actual.Sandbox{{ID: "s2", State: actual.StateExited}, {ID: "s1", State: actual.StateExited}}}}, true, "s1"},
		"old sandbox with a dead container stays": {one, []*actual.Pod{{UID: "u", Containers: []actual.Container{dead("a", "c", "s1", 1)}, Sandboxes: []actual.Sandbox{{ID: "s2", State: actual.StateRunning}, {ID: "s1", State: actual.StateExited}}}}, true, ""},
		"pod that is not wanted any more":         {one, []*actual.Pod{{UID: "u", Sandboxes: []actual.Sandbox{{ID: "s", State: actual.StateExited}}}}, false, "s"},
		"of a pod that is over nothing is kept": {Policy{MinAge: time.Hour, PerContainer: 1, Total: -1, Over: func(uid types.UID) bool { return uid == "over" }}, []*actual.Pod{
			{UID: "over", Containers: []actual.Container{dead("a", "c", "s", 1)}, Sandboxes: []actual.Sandbox{{ID: "s", State: actual.StateExited}}},
			{UID: "on", Containers: []actual.Container{dead("b", "c", "s2", 1)}, Sandboxes: []actual.Sandbox{{ID: "s2", State: actual.StateExited}}}}, true, "a s"},
		"running sandbox stays": {one, []*actual.Pod{{UID: "u", Sandboxes: []actual.Sandbox{{ID: "s", State: actual.StateRunning}}}}, false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			g := garbage(tc.pods, tc.policy, func(types.UID) bool { return tc.wanted }, now)
			var ids []string
			for _, c := range g.containers {
				ids = append(ids, c.ID)
			}
			for _, s := range g.sandboxes {
				ids = append(ids, s.ID)
			}
			slices.Sort(ids)
			if got := strings.Join(ids, " "); got != tc.want {
				t.Errorf("removed %q, want %q", got, tc.want)
			}
		})
	}
}

// bare is a runtime that has nothing.
type bare struct{ CRI }

func (bare) ListPodSandbox(context.Context, *cri.ListPodSandboxRequest, ...grpc.CallOption) (*cri.ListPodSandboxResponse, error) {
	return &cri.ListPodSandboxResponse{}, nil
}

func (bare) ListContainers(context.Context, *cri.ListContainersRequest, ...grpc.CallOption) (*cri.ListContainersResponse, error) {
	return &cri.ListContainersResponse{}, nil
}

func TestRemovedPodThatNeverHadASandboxLeavesNoLogs(t *testing.T) {
	root := t.TempDir()
	m, err := New(Config{CRI: bare{}, Clock: clock.RealClock{}, Name: "test", Node: criconfig.NodeConfig{PodLogsRoot: root}})
	if err != nil {
		t.Fatal(err)
	}
	dir := pods.PodLogDirectory(root, "n", "p", "u")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := m.RemovePod(t.Context(), "u", types.NamespacedName{Namespace: "n", Name: "p"}); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the directory is left: %v", err)
	}
}

func TestLogsOfARemovedPodAreNotRemovedThroughMounts(t *testing.T) {
	root, precious := t.TempDir(), t.TempDir()
	m, err := New(Config{CRI: bare{}, Clock: clock.RealClock{}, Name: "test", Node: criconfig.NodeConfig{PodLogsRoot: root}})
	if err != nil {
		t.Fatal(err)
	}
	at := filepath.Join(pods.PodLogDirectory(root, "n", "p", "u"), "c", "mounted")
	if err := errors.Join(os.MkdirAll(at, 0o755), os.WriteFile(filepath.Join(precious, "f"), nil, 0o644)); err != nil {
		t.Fatal(err)
	}
	treetest.Bind(t, precious, at)
	err = m.RemovePod(t.Context(), "u", types.NamespacedName{Namespace: "n", Name: "p"})
	if err == nil || !strings.Contains(err.Error(), at+": something is mounted there") {
		t.Errorf("error = %v", err)
	}
	if _, err := os.Stat(filepath.Join(precious, "f")); err != nil {
		t.Errorf("what is mounted was removed: %v", err)
	}
}

// A log that is being rotated is away for a moment; its link has to stay.
func TestLinksToLogsInUseStay(t *testing.T) {
	root, links := t.TempDir(), t.TempDir()
	m := &Manager{cfg: Config{LinksDir: links, Node: criconfig.NodeConfig{PodLogsRoot: root}}}
	used := m.logsOf([]*actual.Pod{{UID: "u", Name: "p", Namespace: "ns", Containers: []actual.Container{{Name: "c", Attempt: 2}}}})
	for name, target := range map[string]string{
		"used": root + "/ns_p_u/c/2.log", "dead": root + "/ns_p_u/c/1.log", "others": "/nonexistent/0.log",
	} {
		if err := os.Symlink(target, filepath.Join(links, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.unlinkDead(used); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{"used": true, "dead": false, "others": true} {
		if _, err := os.Lstat(filepath.Join(links, name)); (err == nil) != want {
			t.Errorf("%s: %v", name, err)
		}
	}
}
