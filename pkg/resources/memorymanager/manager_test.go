package memorymanager

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"
	kubeletconfig "k8s.io/kubelet/config/v1beta1"
	"k8s.io/utils/ptr"

	"github.com/mini-kubelet/mini-kubelet/pkg/config/options"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
	"github.com/mini-kubelet/mini-kubelet/pkg/resources/numa"
	"github.com/mini-kubelet/mini-kubelet/pkg/resources/topologymanager"
	"github.com/mini-kubelet/mini-kubelet/test/damage"
)

const gib = 1 << 30

// nodes are n of 10 GiB each, of which two are huge pages of 1 GiB. Of each, 1 GiB is reserved.
func nodes(n int) (all numa.Nodes) {
	for i := range n {
		all = append(all, numa.Node{ID: i, Memory: 10 * gib, HugePages: map[uint64]uint64{gib: 2}})
	}
	return all
}

func reserve(n int) (list []kubeletconfig.MemoryReservation) {
	for i := range n {
		list = append(list, kubeletconfig.MemoryReservation{NumaNode: int32(i), Limits: v1.ResourceList{v1.ResourceMemory: resource.MustParse("1Gi")}})
	}
	return list
}

// newManager makes a manager and what admits pods to it, on a machine of n nodes with 7 GiB each for pods.
func newManager(t *testing.T, root string, n int, policy string, scope topologymanager.Scope) (*Manager, *topologymanager.Manager) {
	t.Helper()
	m, err := New(Config{Nodes: nodes(n), Reserved: reserve(n), Kept: *resource.NewQuantity(int64(n)*gib, resource.BinarySI), Root: root})
	if err != nil {
		t.Fatal(err)
	}
	a, err := topologymanager.New(topologymanager.Config{
		Policy: policy, Scope: scope, Nodes: nodes(n), Options: options.TopologyManager{MaxNodes: 8}, Providers: []topologymanager.Provider{m},
	})
	if err != nil {
		t.Fatal(err)
	}
	return m, a
}

// container requests CPU, memory and perhaps huge pages of 1 GiB, with equal limits.
func container(name, memory string, huge ...string) v1.Container {
	list := v1.ResourceList{v1.ResourceCPU: resource.MustParse("100m"), v1.ResourceMemory: resource.MustParse(memory)}
	for _, q := range huge {
		list["hugepages-1Gi"] = resource.MustParse(q)
	}
	return v1.Container{Name: name, Resources: v1.ResourceRequirements{Requests: list, Limits: list}}
}

func pod(uid types.UID, containers ...v1.Container) *v1.Pod {
	p := &v1.Pod{Spec: v1.PodSpec{Containers: containers}}
	p.UID = uid
	return p
}

func withInit(p *v1.Pod, sidecar bool, c v1.Container) *v1.Pod {
	if sidecar {
		c.RestartPolicy = ptr.To(v1.ContainerRestartPolicyAlways)
	}
	p.Spec.InitContainers = append(p.Spec.InitContainers, c)
	return p
}

// placed shows where the containers of the pod have how many GiB.
func placed(m *Manager, uid types.UID) string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(m.assigned[uid])) {
		for _, b := range m.assigned[uid][name] {
			text := fmt.Sprintf("%s:%d@%s", name, b.Size/gib, b.nodes())
			if b.Type != v1.ResourceMemory {
				text += "h"
			}
			all = append(all, text)
		}
	}
	return strings.Join(all, " ")
}

func rejected(err error) string {
	var r *pods.Rejection
	switch {
	case errors.As(err, &r):
		return r.Reason + ": " + r.Message
	case err != nil:
		return "no rejection: " + err.Error()
	}
	return ""
}

func TestMemoryOfAsFewNUMANodesAsHoldIt(t *testing.T) {
	const (
		misplaced = "TopologyAffinityError: Resources cannot be allocated with Topology locality"
		none      = "UnexpectedAdmissionError: Allocate failed due to [memorymanager] failed to get the default NUMA affinity, no NUMA nodes with enough memory is available, which is unexpected"
	)
	big := func(uid types.UID) *v1.Pod { return pod(uid, container("c", "5Gi")) } // no second one fits beside it
	burstable := container("c", "1Gi")
	burstable.Resources.Limits = nil
	podLevel := pod("p", container("c", "1Gi"))
	podLevel.Spec.Resources = ptr.To(podLevel.Spec.Containers[0].Resources)
	for name, tt := range map[string]struct {
		nodes  int
		scope  topologymanager.Scope
		before []*v1.Pod
		pod    *v1.Pod
		want   map[string]string // by policy: containers and their memory, or the rejection
	}{
		"on one node": {2, "", nil, pod("p", container("c", "7Gi")), map[string]string{
			"none": "c:7@0", "best-effort": "c:7@0", "restricted": "c:7@0", "single-numa-node": "c:7@0"}},
		"on the next": {2, "", []*v1.Pod{big("x")}, big("p"), map[string]string{
			"none": "c:5@1", "best-effort": "c:5@1", "restricted": "c:5@1", "single-numa-node": "c:5@1"}},
		"beside another": {2, "", []*v1.Pod{big("x")}, pod("p", container("c", "2Gi")), map[string]string{"none": "c:2@0"}},
		"what no node has": {2, "", nil, pod("p", container("c", "8Gi")), map[string]string{
			"none": "c:8@0-1", "best-effort": "c:8@0-1", "restricted": "c:8@0-1", "single-numa-node": misplaced}},
		// A node on which containers are alone is in no group.
		"what no node has, while one is in use": {2, "", []*v1.Pod{pod("x", container("c", "1Gi"))}, pod("p", container("c", "8Gi")), map[string]string{
			"none": none, "restricted": misplaced, "single-numa-node": misplaced}},
		"a node that a group uses is not for one alone": {2, "", []*v1.Pod{pod("x", container("c", "8Gi"))}, pod("p", container("c", "1Gi")), map[string]string{
			"none": "c:1@0-1", "best-effort": "c:1@0-1", "restricted": misplaced}},
		"the other two of four": {4, "", []*v1.Pod{pod("x", container("c", "8Gi"))}, pod("p", container("c", "9Gi")), map[string]string{
			"none": "c:9@2-3", "restricted": "c:9@2-3"}},
		"more than the machine has": {2, "", nil, pod("p", container("c", "15Gi")), map[string]string{
			"none": none, "restricted": misplaced}},
		"huge pages with it": {2, "", nil, pod("p", container("c", "5Gi", "2Gi")), map[string]string{
			"none": "c:2@0h c:5@0", "single-numa-node": "c:2@0h c:5@0"}},
		"where huge pages are left": {2, "", []*v1.Pod{pod("x", container("c", "1Gi", "1Gi"))}, pod("p", container("c", "1Gi", "2Gi")), map[string]string{
			"none": "c:2@1h c:1@1", "single-numa-node": "c:2@1h c:1@1"}},
		"not Guaranteed":      {2, "", nil, pod("p", burstable), map[string]string{"none": "", "single-numa-node": ""}},
		"pod-level resources": {2, "", nil, podLevel, map[string]string{"none": "", "single-numa-node": ""}},
		"each container for itself": {2, "container", nil, pod("p", container("a", "5Gi"), container("b", "5Gi")), map[string]string{
			"none": "a:5@0 b:5@1", "single-numa-node": "a:5@0 b:5@1"}},
		"the pod as a whole": {2, "pod", []*v1.Pod{pod("x", container("c", "4Gi"))}, pod("p", container("a", "2Gi"), container("b", "2Gi")), map[string]string{
			"none": "a:2@0 b:2@1", "single-numa-node": "a:2@1 b:2@1", "restricted": "a:2@1 b:2@1"}},
		"the pod on a group": {2, "pod", nil, pod("p", container("a", "5Gi"), container("b", "5Gi")), map[string]string{
			"restricted": "a:5@0-1 b:5@0-1", "single-numa-node": misplaced}},
		"an init container's memory serves again": {2, "", nil, withInit(pod("p", container("a", "3Gi"), container("b", "3Gi")), false, container("i", "5Gi")), map[string]string{
			"none": "a:3@0 b:3@0 i:0@0", "single-numa-node": "a:3@0 b:3@0 i:0@0"}},
		"and what is left of it is kept": {2, "", nil, withInit(pod("p", container("a", "2Gi")), false, container("i", "5Gi")), map[string]string{
			"none": "a:2@0 i:3@0"}},
		"that of a sidecar does not": {2, "", nil, withInit(pod("p", container("a", "3Gi")), true, container("s", "5Gi")), map[string]string{
			"none": "a:3@1 s:5@0"}},
	} {
		for policy, want := range tt.want {
			t.Run(name+", "+policy, func(t *testing.T) {
				root := t.TempDir()
				m, a := newManager(t, root, tt.nodes, policy, tt.scope)
				for _, p := range tt.before {
					if err := a.Allocate(p); err != nil {
						t.Fatal(err)
					}
				}
				before, err := m.machine.use(m.assigned)
				if err != nil {
					t.Fatal(err)
				}
				checked, got := rejected(a.Check(tt.pod)), rejected(a.Allocate(tt.pod))
				if checked != got {
					t.Errorf("checked %q, but allocated %q", checked, got)
				}
				if got == "" {
					got = placed(m, "p")
				}
				if got != want {
					t.Errorf("got %q, want %q", got, want)
				}
				// Again, as after a restart of the agent: nothing else.
				m, a = newManager(t, root, tt.nodes, policy, tt.scope)
				if again := rejected(a.Allocate(tt.pod)); again == "" && placed(m, "p") != want || again != "" && again != want {
					t.Errorf("again: %q, %q", placed(m, "p"), again)
				}
				if err := a.Release("p"); err != nil {
					t.Fatal(err)
				}
				after, err := m.machine.use(m.assigned)
				if err != nil || fmt.Sprint(text(t, after)) != text(t, before) {
					t.Errorf("after the release %s, %v, before %s", text(t, after), err, text(t, before))
				}
			})
		}
	}
}

func TestWhatContainersHaveAndCanHaveIsTold(t *testing.T) {
	m, admits := newManager(t, t.TempDir(), 2, "single-numa-node", topologymanager.ContainerScope)
	all := text(t, m.AllocatableMemory())
	const want = `[{"numaAffinity":[0],"type":"hugepages-1Gi","size":2147483648},{"numaAffinity":[0],"type":"memory","size":7516192768},` +
		`{"numaAffinity":[1],"type":"hugepages-1Gi","size":2147483648},{"numaAffinity":[1],"type":"memory","size":7516192768}]`
	if all != want {
		t.Errorf("allocatable is %s, want %s", all, want)
	}
	if err := admits.Allocate(pod("p", container("c", "4Gi"))); err != nil {
		t.Fatal(err)
	}
	if got := text(t, m.Memory("p", "c")); got != `[{"numaAffinity":[0],"type":"memory","size":4294967296}]` {
		t.Errorf("the container has %s", got)
	}
	if got := m.Memory("q", "c"); len(got) > 0 {
		t.Errorf("one that has none has %v", got)
	}
	if got := text(t, m.AllocatableMemory()); got != all {
		t.Errorf("with a pod allocatable is %s, want %s", got, all)
	}
}

func text(t *testing.T, v any) string {
	t.Helper()
	out, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func TestMemoryOfPodsThatAreGoneIsFree(t *testing.T) {
	m, a := newManager(t, t.TempDir(), 2, topologymanager.Restricted, "")
	if err := errors.Join(a.Allocate(pod("x", container("c", "7Gi"))), a.Allocate(pod("y", container("c", "7Gi")))); err != nil {
		t.Fatal(err)
	}
	next := pod("p", container("c", "7Gi"))
	if a.Check(next) == nil {
		t.Error("no memory is left, but the pod is taken")
	}
	m.gone = func(uid types.UID) bool { return uid == "y" }
	if err := errors.Join(a.Check(next), a.Allocate(next)); err != nil {
		t.Fatal(err)
	}
	if got := placed(m, "p") + placed(m, "y"); got != "c:7@1" {
		t.Errorf("placed %q", got)
	}
	if m.Nodes("p", "c") != "1" || m.Nodes("y", "c") != "" {
		t.Errorf("cpuset.mems %q and %q", m.Nodes("p", "c"), m.Nodes("y", "c"))
	}
	if err := m.Orphans(func(uid types.UID) bool { return uid == "p" }); err != nil || placed(m, "p") != "" {
		t.Errorf("orphans: %v, %q", err, placed(m, "p"))
	}
}

func TestTheReservationIsWhatTheNodeKeeps(t *testing.T) {
	of := func(node int32, pairs ...string) kubeletconfig.MemoryReservation {
		r := kubeletconfig.MemoryReservation{NumaNode: node, Limits: v1.ResourceList{}}
		for i := 0; i < len(pairs); i += 2 {
			r.Limits[v1.ResourceName(pairs[i])] = resource.MustParse(pairs[i+1])
		}
		return r
	}
	for name, tt := range map[string]struct {
		list []kubeletconfig.MemoryReservation
		kept string
		want string
	}{
		"equal":             {reserve(2), "2Gi", ""},
		"on one node":       {[]kubeletconfig.MemoryReservation{of(1, "memory", "2Gi")}, "2048Mi", ""},
		"less":              {reserve(1), "2Gi", `the total amount "1Gi" of type "memory" is not equal to the value "2Gi" determined by Node Allocatable feature`},
		"none":              {nil, "2Gi", `the total amount "0" of type "memory" is not equal to the value "2Gi" determined by Node Allocatable feature`},
		"nothing is kept":   {nil, "0", "you should specify the system reserved memory"},
		"huge pages":        {[]kubeletconfig.MemoryReservation{of(0, "memory", "2Gi", "hugepages-1Gi", "1Gi")}, "2Gi", `the total amount "1Gi" of type "hugepages-1Gi" is not equal to the value "0" determined by Node Allocatable feature`},
		"no such node":      {[]kubeletconfig.MemoryReservation{of(2, "memory", "2Gi")}, "2Gi", "references a NUMA node 2 that does not exist"},
		"a negative node":   {[]kubeletconfig.MemoryReservation{of(-1, "memory", "2Gi")}, "2Gi", "references a NUMA node -1 that does not exist"},
		"something else":    {[]kubeletconfig.MemoryReservation{of(0, "cpu", "1")}, "2Gi", `1 of "cpu" cannot be reserved on NUMA node 0`},
		"less than nothing": {[]kubeletconfig.MemoryReservation{of(0, "memory", "-1Gi")}, "2Gi", `-1Gi of "memory" cannot be reserved`},
	} {
		_, err := reservation(nodes(2), tt.list, resource.MustParse(tt.kept))
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
	if _, err := reservation(numa.Nodes{{}}, nil, resource.MustParse("0")); err == nil {
		t.Error("a machine of which nothing is known is taken")
	}
}

// The kernel shows no huge pages of a node without memory.
func TestANodeWithoutMemoryIsInNobodysWay(t *testing.T) {
	bare := append(nodes(1), numa.Node{ID: 1, HugePages: map[uint64]uint64{}})
	m, err := New(Config{Nodes: bare, Reserved: reserve(1), Kept: resource.MustParse("1Gi"), Root: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	of := pod("p", container("c", "1Gi", "1Gi"))
	p := m.Plan(of)
	err = p.Give(pods.RegularContainer, &of.Spec.Containers[0], numa.Of(0, 1)) // where its CPUs are
	if err == nil {
		err = p.Commit()
	}
	if got := placed(m, "p"); err != nil || got != "c:1@0-1h c:1@0-1" {
		t.Errorf("with CPUs of both: %q, %v", got, err)
	}
}

// The files are from upstream's tests, with their checksums.
func TestStateFileOfTheKubelet(t *testing.T) {
	const (
		state = `"machineState":{"0":{"numberOfAssignments":0,"memoryMap":{"memory":{"total":2048,"systemReserved":512,"allocatable":1536,"reserved":512,"free":1024}},"cells":[]}},"entries":{"pod":{"container1":[{"numaAffinity":[0],"type":"memory","size":512}]}}`
		first = `{"policyName":"static",` + state + `,"checksum":4215593881}`
	)
	data := `{"policyName":"static",` + state + `}`
	quoted, err := json.Marshal(data)
	if err != nil {
		t.Fatal(err)
	}
	third := `{"policyName":"other",` + state + `,"checksum":1234,"data":` + string(quoted) + `,"dataChecksum":1849615440}`
	for name, tt := range map[string]struct{ text, policy, err string }{
		"version 1":                     {first, "static", ""},
		"version 3":                     {third, "static", ""},
		"version 1, changed by hand":    {strings.ReplaceAll(first, "512}]", "511}]"), "static", "checksum does not match"},
		"version 3, changed by hand":    {strings.Replace(third, `\"size\":512`, `\"size\":511`, 1), "static", "checksum does not match"},
		"a node that is none":           {`{"policyName":"Static","entries":{"p":{"c":[{"numaAffinity":[64],"type":"memory","size":1}]}}}`, "Static", `container "c" of pod "p"`},
		"of no node":                    {`{"policyName":"Static","entries":{"p":{"c":[{"type":"memory","size":1}]}}}`, "Static", `container "c" of pod "p"`},
		"of None":                       {`{"policyName":"None","machineState":{}}`, "Static", `configured policy "Static" differs from state checkpoint policy "None"`},
		"of Static":                     {`{"policyName":"Static","machineState":{}}`, "None", `configured policy "None" differs from state checkpoint policy "Static"`},
		"cut short":                     {first[:40], "static", "checkpoint is corrupted"},
		"of a policy that nobody knows": {`{"policyName":"Best"}`, "Static", `a policy "Best"`},
	} {
		a, err := decode([]byte(tt.text), tt.policy)
		if tt.err == "" && (err != nil || len(a["pod"]["container1"]) != 1) || tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) {
			t.Errorf("%s: %v, %v; want %q", name, a, err, tt.err)
		}
	}
}

func TestTheFileSaysTheSameTwice(t *testing.T) {
	root := t.TempDir()
	m, a := newManager(t, root, 2, topologymanager.None, "")
	if err := a.Allocate(pod("p", container("c", "8Gi"))); err != nil {
		t.Fatal(err)
	}
	file, err := os.ReadFile(filepath.Join(root, FileName))
	if err != nil {
		t.Fatal(err)
	}
	var old map[string]any
	if err := json.Unmarshal(file, &old); err != nil {
		t.Fatal(err)
	}
	delete(old, "data")
	delete(old, "dataChecksum")
	for name, content := range map[string][]byte{"as 1.37 reads it": file, "as 1.36 reads it": []byte(text(t, old))} {
		got, err := decode(content, policyStatic)
		if err != nil || text(t, got) != text(t, m.assigned) {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}

func TestAnotherPolicyOrAnotherMachineIsRefused(t *testing.T) {
	root := t.TempDir()
	_, a := newManager(t, root, 2, topologymanager.None, "")
	if err := a.Allocate(pod("p", container("c", "8Gi"))); err != nil {
		t.Fatal(err)
	}
	const drain = "please drain this node and delete the memory manager checkpoint file"
	if err := CheckUnused(root); err == nil || !strings.Contains(err.Error(), drain) {
		t.Errorf("the policy None beside what Static left: %v", err)
	}
	with := func(n numa.Nodes) error {
		_, err := New(Config{Nodes: n, Reserved: reserve(len(n)), Kept: *resource.NewQuantity(int64(len(n))*gib, resource.BinarySI), Root: root})
		return err
	}
	if err := with(nodes(1)); err == nil || !strings.Contains(err.Error(), "NUMA node 1, which does not exist") || !strings.Contains(err.Error(), drain) {
		t.Errorf("a node is gone: %v", err)
	}
	smaller := nodes(2)
	smaller[1].Memory -= 4096 // as another kernel counts it
	if err := with(smaller); err != nil {
		t.Errorf("a page is gone: %v", err)
	}
	smaller[1].Memory = 5 * gib
	smaller[0].Memory = 5 * gib
	if err := with(smaller); err == nil || !strings.Contains(err.Error(), "lack") {
		t.Errorf("half the memory is gone: %v", err)
	}
	if err := CheckUnused(t.TempDir()); err != nil {
		t.Errorf("no file: %v", err)
	}
}

// A damaged state is moved aside: what pods that run have is put on record anew.
func TestADamagedStateStopsNoAgent(t *testing.T) {
	place := func(t *testing.T) string {
		root := t.TempDir()
		_, a := newManager(t, root, 2, topologymanager.None, "")
		if err := a.Allocate(pod("p", container("c", "1Gi"))); err != nil {
			t.Fatal(err)
		}
		return filepath.Join(root, FileName)
	}
	damage.Each(t, place, func(t *testing.T, path string) {
		m, a := newManager(t, filepath.Dir(path), 2, topologymanager.None, "")
		if err := a.Restore(pod("p", container("c", "1Gi"))); err != nil || placed(m, "p") != "c:1@0" {
			t.Errorf("afterwards %q, %v", placed(m, "p"), err)
		}
	})
}
