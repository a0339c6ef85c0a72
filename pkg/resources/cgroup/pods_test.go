package cgroup

import (
	"errors"
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

func setUp(t *testing.T, tree *Tree, pod *v1.Pod) {
	t.Helper()
	if err := tree.SetUp(pod); err != nil {
		t.Fatal(err)
	}
}

func TestBurstableSharesFollowThePods(t *testing.T) {
	k := newFake()
	tree := testTree(t, k)
	setUp(t, tree, podOf("a", container(list("cpu", "500m"), nil)))
	setUp(t, tree, podOf("b", container(list("cpu", "1"), nil)))
	setUp(t, tree, podOf("c", container(nil, nil)))
	setUp(t, tree, podOf("d", container(list("cpu", "1", "memory", "1Gi"), list("cpu", "1", "memory", "1Gi"))))
	if got := k.shares(t, "kubepods/burstable"); got != 1536 {
		t.Errorf("burstable: %d shares, want 1536", got)
	}
	for group, want := range map[string]int64{"kubepods/burstable/poda": 512, "kubepods/besteffort/podc": 2, "kubepods/podd": 1024} {
		if got := k.shares(t, group); got != want {
			t.Errorf("%s: %d shares, want %d", group, got, want)
		}
	}
	if err := tree.Remove("b"); err != nil {
		t.Fatal(err)
	}
	if got := k.shares(t, "kubepods/burstable"); got != 512 {
		t.Errorf("after a pod has gone: %d shares, want 512", got)
	}
	if _, left := k.groups["kubepods/burstable/podb"]; left {
		t.Error("the pod's cgroup is left")
	}
}

func TestNothingIsWrittenTwice(t *testing.T) {
	k := newFake()
	tree := testTree(t, k)
	pod := podOf("a", container(list("cpu", "500m"), nil))
	setUp(t, tree, pod)
	before := k.writes
	setUp(t, tree, pod.DeepCopy())
	if k.writes != before {
		t.Errorf("%d writes for a pod that has not changed", k.writes-before)
	}
	setUp(t, tree, podOf("a", container(list("cpu", "600m"), nil)))
	if got := k.shares(t, "kubepods/burstable/poda"); got != 614 {
		t.Errorf("after a resize: %d shares, want 614", got)
	}
}

func TestAWriteThatFailsIsTriedAgain(t *testing.T) {
	k := newFake()
	tree := testTree(t, k)
	k.fail = errors.New("no")
	pod := podOf("a", container(nil, nil))
	if err := tree.SetUp(pod); err == nil {
		t.Error("no error")
	}
	k.fail = nil
	setUp(t, tree, pod)
	k.shares(t, "kubepods/besteffort/poda")
}

func TestCgroupsOfAnAgentBeforeThisOne(t *testing.T) {
	k := newFake()
	tree := testTree(t, k)
	for _, uid := range []string{"ended", "orphan", "used"} {
		_ = k.write(name{"kubepods", "burstable", "pod" + uid}, Values{})
	}
	if err := tree.Remove("ended"); err != nil {
		t.Fatal(err)
	}
	if err := tree.Remove("never-was"); err != nil {
		t.Error(err)
	}
	setUp(t, tree, podOf("live", container(nil, nil)))
	if err := tree.Orphans(t.Context(), func(uid types.UID) bool { return uid != "used" }); err != nil {
		t.Fatal(err)
	}
	found, _ := k.pods()
	if _, used := found["used"]; len(found) != 2 || !used || found["live"] == nil {
		t.Errorf("left: %v", found)
	}
}

func TestAResizeGrowsTheCgroupFirstAndShrinksItLast(t *testing.T) {
	k := newFake()
	tree := testTree(t, k)
	tree.cfg.Pods.CFSQuota = true
	const group = "kubepods/poda"
	limits := func(cpu, memory string) *v1.Pod {
		return podOf("a", container(list("cpu", cpu, "memory", memory), list("cpu", cpu, "memory", memory)))
	}
	want := func(when string, quota, memory int64) {
		t.Helper()
		if v := k.groups[group]; *v.CPUQuota != quota || *v.Memory != memory {
			t.Errorf("%s: quota %d, memory %d; want %d, %d", when, *v.CPUQuota, *v.Memory, quota, memory)
		}
	}
	setUp(t, tree, limits("1", "64Mi"))
	want("at first", 100000, 64<<20)
	more := limits("2", "32Mi") // more CPU, less memory
	setUp(t, tree, more)
	want("before the containers", 200000, 64<<20)
	if err := tree.Settle(more); err != nil {
		t.Fatal(err)
	}
	want("after the containers", 200000, 32<<20)
}
