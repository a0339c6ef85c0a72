package oom

import (
	"reflect"
	"strings"
	"testing"
)

const (
	podCgroup = "/kubepods/burstable/pod1f3c8a52-9b1e-4c7d-8f63-0a6d1f2b3c4d/9f0d"
	invoked   = "3,10,1,-;stress invoked oom-killer: gfp_mask=0x140cca(GFP_HIGHUSER_MOVABLE|__GFP_COMP), order=0, oom_score_adj=1000\n SUBSYSTEM=x\n"
	global    = "6,11,1,-;oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),cpuset=" + "9f0d" + ",mems_allowed=0,global_oom,task_memcg=" + podCgroup + ",task=stress,pid=4242,uid=0\n"
	ofCgroup  = "6,11,1,-;oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=9f0d,mems_allowed=0,oom_memcg=/kubepods/burstable,task_memcg=" + podCgroup + ",task=stress,pid=4242,uid=0\n"
)

func TestKillsAreReadFromRecordsOfAllKernels(t *testing.T) {
	for _, test := range []struct {
		name    string
		records []string
		want    []Kill
	}{
		{"the machine is out of memory", []string{
			invoked, "4,10,1,-;CPU: 1 PID: 4242 Comm: stress Not tainted 6.1.0-18-amd64 #1", global,
			"3,12,1,-;Out of memory: Killed process 4242 (stress) total-vm:8126464kB, anon-rss:7654321kB, file-rss:0kB, shmem-rss:0kB, UID:0 pgtables:15000kB oom_score_adj:1000",
			"6,13,1,-;oom_reaper: reaped process 4242 (stress), now anon-rss:0kB, file-rss:0kB, shmem-rss:0kB",
		}, []Kill{{PID: 4242, Process: "stress", Limit: "/", Victim: podCgroup}}},
		{"a cgroup is, and takes a second process along", []string{
			invoked, ofCgroup,
			"3,12,1,-;Memory cgroup out of memory: Killed process 4242 (stress) total-vm:8126464kB, anon-rss:65kB, UID:0 pgtables:15000kB oom_score_adj:1000",
			"6,13,1,-;Tasks in " + podCgroup + " are going to be killed due to memory.oom.group set",
			"3,14,1,-;Memory cgroup out of memory: Killed process 4243 (sh) total-vm:8126kB, anon-rss:65kB, UID:0 pgtables:15000kB oom_score_adj:1000",
		}, []Kill{{PID: 4242, Process: "stress", Limit: "/kubepods/burstable", Victim: podCgroup}}},
		{"kills so fast that the kernel leaves out the rest", []string{
			invoked, global,
			"3,12,1,-;Out of memory: Killed process 4242 (stress) total-vm:8126464kB, anon-rss:65kB, UID:0",
			"3,13,1,-;Out of memory: Killed process 4250 (stress) total-vm:8126464kB, anon-rss:65kB, UID:0",
			"3,14,1,-;Memory cgroup out of memory: Killed process 4251 (stress) total-vm:8126464kB, anon-rss:65kB, UID:0",
		}, []Kill{{PID: 4242, Process: "stress", Limit: "/", Victim: podCgroup}, {PID: 4250, Process: "stress", Limit: "/"}}},
		{"the structured line is in pieces", []string{
			invoked, "6,11,1,-;oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null)", "6,12,1,c;,cpuset=/,mems_allowed=0,global_oom,task_memcg=/a,task=stress,pid=4242,uid=0",
			"3,12,1,-;Out of memory: Killed process 4242 (stress) total-vm:8126464kB, anon-rss:65kB, UID:0",
		}, []Kill{{PID: 4242, Process: "stress", Limit: "/"}}},
		{"Linux 4.19, the machine", []string{
			invoked, "3,11,1,-;Out of memory: Kill process 4242 (stress) score 1903 or sacrifice child",
			"3,12,1,-;Killed process 4242 (stress) total-vm:8126464kB, anon-rss:7654321kB, file-rss:0kB, shmem-rss:0kB",
		}, []Kill{{PID: 4242, Process: "stress", Limit: "/"}}},
		{"Linux 3.10 and 4.19, a cgroup", []string{
			invoked, "6,11,1,-;Task in " + podCgroup + " killed as a result of limit of /kubepods/burstable",
			"3,11,1,-;Memory cgroup out of memory: Kill process 4242 (a (b) c) score 1903 or sacrifice child",
			"3,12,1,-;Killed process 4242 (a (b) c), UID 0, total-vm:8126464kB, anon-rss:7654321kB, file-rss:0kB",
		}, []Kill{{PID: 4242, Process: "a (b) c", Limit: "/kubepods/burstable", Victim: podCgroup}}},
		{"Linux 5.0 before the line was structured for a cgroup", []string{
			invoked, "3,12,1,-;Memory cgroup out of memory: Killed process 4242 (stress) total-vm:8126464kB",
		}, []Kill{{PID: 4242, Process: "stress"}}},
		{"by request of an operator, of whoever asked for memory", []string{
			"6,9,1,-;sysrq: Manual OOM execution", invoked,
			"3,12,1,-;Out of memory (oom_kill_allocating_task): Killed process 4242 (stress) total-vm:8126464kB",
		}, []Kill{{PID: 4242, Process: "stress", Limit: "/"}}},
		{"names that look like more", []string{
			"6,11,1,-;oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),cpuset=/,mems_allowed=0,global_oom,task_memcg=/a,task=x,pid=1,uid=2/b,task=,task=q,pid=7,pid=4242,uid=0",
			`6,11,1,-;oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),cpuset=/,mems_allowed=0,global_oom,task_memcg=/a\x2c,task=\x1b[2J\xc3\xa4\x5cx,pid=4243,uid=4294967295`,
			"3,12,1,-;Out of memory: Killed process 4244 () total-vm:1) total-vm:8126464kB",
		}, []Kill{
			{PID: 4242, Process: ",task=q,pid=7", Limit: "/", Victim: "/a,task=x,pid=1,uid=2/b"},
			{PID: 4243, Process: "\x1b[2Jä\\x", Limit: "/", Victim: `/a\x2c`},
			{PID: 4244, Process: ") total-vm:1", Limit: "/"},
		}},
		{"what others wrote to /dev/kmsg", []string{
			strings.Replace(invoked, "3,", "11,", 1), strings.Replace(global, "6,", "14,", 1), "12,12,1,-;Out of memory: Killed process 1 (init) total-vm:1kB",
		}, nil},
		{"lines that hold the words elsewhere, or are broken", []string{
			"4,1,1,-;x: Out of memory: Killed process 1 (init) total-vm:1kB", "4,1,1,-;Killed process 1 (init)", "4,1,1,-;Killed process", "4,1,1,-",
			"4,1,1,-;oom-kill:constraint=", "4,1,1,-;oom-kill:constraint=,task_memcg=,task=,pid=99999999999999999999,uid=1",
			"4,1,1,-;oom-kill:constraint=,task=a,task_memcg=/,pid=1,uid=1", "4,1,1,-;oom-kill:constraint=,task_memcg=/,task=0123456789abcdef,pid=1,uid=1",
			"4,1,1,-;Out of memory: Killed process -1 (a)", "4,1,1,-;Out of memory: Killed process 1 (a", "4,1,1,-;Task in /", "x;y", "", ";",
		}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := kills(test.records...); !reflect.DeepEqual(got, test.want) {
				t.Errorf("got  %+v\nwant %+v", got, test.want)
			}
		})
	}
}

func kills(records ...string) (all []Kill) {
	var p parser
	for _, r := range records {
		if text, ok := record([]byte(r)); ok {
			if k, ok := p.line(text); ok {
				all = append(all, k)
			}
		}
	}
	return all
}

func TestASystemOOMIsOneWithoutALimitThatWasReached(t *testing.T) {
	for record, want := range map[string]bool{global: true, ofCgroup: false} {
		if k := kills(record); len(k) != 1 || k[0].System() != want {
			t.Errorf("%s: %+v", record, k)
		}
	}
}

func FuzzRecords(f *testing.F) {
	for _, seed := range []string{invoked, global, ofCgroup, "3,1,1,-;Killed process 1 (a\\x", "3,1,1,-;Out of memory: Killed process 1 (a) total-vm:"} {
		f.Add(seed, global)
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		for _, k := range kills(a, b) {
			if k.PID <= 0 || len(k.Process) > maxName {
				t.Errorf("%+v", k)
			}
		}
	})
}
