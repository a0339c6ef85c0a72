package cri

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

// cgroupValue reads a file of a container's cgroup, on either version.
func (r *runtime) cgroupValue(ctr, v1Controller, v1File, v2File string) string {
	r.t.Helper()
	pid := r.pid(ctr)
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		r.t.Fatal(err)
	}
	for l := range strings.SplitSeq(strings.TrimSpace(string(text)), "\n") {
		f := strings.SplitN(l, ":", 3)
		for c := range strings.SplitSeq(f[1], ",") {
			if c == v1Controller {
				return read(r.t, filepath.Join("/sys/fs/cgroup", v1Controller, f[2], v1File))
			}
		}
		if f[0] == "0" && f[2] != "/" {
			if value, err := os.ReadFile(filepath.Join("/sys/fs/cgroup", f[2], v2File)); err == nil {
				return strings.TrimSpace(string(value))
			}
		}
	}
	r.t.Fatalf("no cgroup of %s in %s", v1Controller, text)
	return ""
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(text))
}

// pid finds a container's first process, by its cgroup: others may end at any moment.
func (r *runtime) pid(ctr string) int {
	r.t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cgroup")
	if err != nil {
		r.t.Fatal(err)
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil || !strings.Contains(string(text), ctr) {
			continue
		}
		if state, err := os.ReadFile(filepath.Join(filepath.Dir(f), "status")); err == nil && first.Match(state) {
			var pid int
			fmt.Sscanf(f, "/proc/%d/cgroup", &pid)
			return pid
		}
	}
	r.t.Fatalf("no process of container %s", ctr)
	return 0
}

// first is in the status of the first process of a PID namespace of its own.
var first = regexp.MustCompile(`(?m)^NSpid:.*\t1$`)

func cgroupV1() bool {
	_, err := os.Stat("/sys/fs/cgroup/cgroup.controllers")
	return err != nil
}

var resourceCases = []testCase{
	{name: "limits are set, reported and updated", run: func(t *testing.T, r *runtime) {
		p := r.pod(forever, func(c *cri.ContainerConfig) {
			c.Linux.Resources = &cri.LinuxContainerResources{CpuShares: 512, CpuQuota: 20000, CpuPeriod: 100000, MemoryLimitInBytes: 64 << 20, OomScoreAdj: 500}
		})
		check := func(shares, quota, memory int64) {
			t.Helper()
			if cgroupV1() {
				if got := r.cgroupValue(p.ctr, "cpu", "cpu.shares", ""); got != fmt.Sprint(shares) {
					t.Errorf("cpu.shares %s, want %d", got, shares)
				}
				if got := r.cgroupValue(p.ctr, "cpu", "cpu.cfs_quota_us", ""); got != fmt.Sprint(quota) {
					t.Errorf("quota %s, want %d", got, quota)
				}
			}
			if got := r.cgroupValue(p.ctr, "memory", "memory.limit_in_bytes", "memory.max"); got != fmt.Sprint(memory) {
				t.Errorf("memory limit %s, want %d", got, memory)
			}
			if !r.isDockershim() {
				return // reported since containerd 1.7
			}
			if l := r.status(p.ctr).Resources.GetLinux(); l.GetCpuShares() != shares || l.GetCpuQuota() != quota || l.GetMemoryLimitInBytes() != memory {
				t.Errorf("reported %v", l)
			}
		}
		check(512, 20000, 64<<20)
		if got := read(t, fmt.Sprintf("/proc/%d/oom_score_adj", r.pid(p.ctr))); got != "500" {
			t.Errorf("oom_score_adj %s", got)
		}
		_, err := r.UpdateContainerResources(t.Context(), &cri.UpdateContainerResourcesRequest{ContainerId: p.ctr,
			Linux: &cri.LinuxContainerResources{CpuShares: 1024, CpuQuota: 30000, CpuPeriod: 100000, MemoryLimitInBytes: 96 << 20}})
		if err != nil {
			t.Fatal(err)
		}
		check(1024, 30000, 96<<20)
	}},
	{name: "update of what has ended or is not there", only: "dockershim", why: "containerd 1.6 has other codes", run: func(t *testing.T, r *runtime) {
		p := r.pod("true")
		r.exited(p.ctr)
		_, err := r.UpdateContainerResources(t.Context(), &cri.UpdateContainerResourcesRequest{ContainerId: p.ctr, Linux: &cri.LinuxContainerResources{CpuShares: 2}})
		wantCode(t, "ended", err, codes.FailedPrecondition)
		_, err = r.UpdateContainerResources(t.Context(), &cri.UpdateContainerResourcesRequest{ContainerId: "none", Linux: &cri.LinuxContainerResources{CpuShares: 2}})
		wantCode(t, "not there", err, codes.NotFound)
		_, err = r.UpdateContainerResources(t.Context(), &cri.UpdateContainerResourcesRequest{ContainerId: p.ctr})
		wantCode(t, "nothing to update", err, codes.InvalidArgument)
	}},
	{name: "out of memory is OOMKilled, 137", run: func(t *testing.T, r *runtime) {
		// A shell variable that doubles: tmpfs and page cache do not count alike everywhere.
		// containerd, also under Docker, listens for it only once the start is answered.
		p := r.pod("until [ -e /tmp/go ]; do sleep 0.1; done; sleep 1; x=aaaaaaaaaaaaaaaa; while :; do x=$x$x; done", func(c *cri.ContainerConfig) {
			c.Linux.Resources = &cri.LinuxContainerResources{MemoryLimitInBytes: 16 << 20, MemorySwapLimitInBytes: 16 << 20}
		})
		r.mustExec(p.ctr, "mkdir", "-p", "/tmp/go")
		r.exited(p.ctr)
		// The report that the kernel killed it may come a moment after the report
		// of its end.
		harness.Eventually(t, "the reason is known", harness.Patience, func() error {
			if st := r.status(p.ctr); st.Reason != "OOMKilled" || st.ExitCode != 137 {
				return fmt.Errorf("status %v", st)
			}
			return nil
		})
	}},
	{name: "the cgroup is below the pod's", run: func(t *testing.T, r *runtime) {
		if !r.isDockershim() || !cgroupV1() {
			t.Skip("the test makes a cgroup of version 1, and Docker's driver is cgroupfs")
		}
		parent := fmt.Sprintf("/mkt-%d-%d", os.Getpid(), counter.Add(1))
		config := r.sandboxConfig(func(c *cri.PodSandboxConfig) { c.Linux.CgroupParent = parent })
		t.Cleanup(func() {
			all, _ := filepath.Glob("/sys/fs/cgroup/*" + parent)
			for _, dir := range all {
				harness.Eventually(t, "the pod's cgroup can be removed", harness.Patience, func() error {
					if err := os.Remove(dir); err != nil && !os.IsNotExist(err) {
						return err
					}
					return nil
				})
			}
		})
		id := r.sandbox(config)
		ctr := r.create(id, config, containerConfig("c", forever))
		r.start(ctr)
		text := read(t, fmt.Sprintf("/proc/%d/cgroup", r.pid(ctr)))
		if !strings.Contains(text, ":memory:"+parent+"/"+ctr) {
			t.Errorf("cgroups %s", text)
		}
	}},
}
