package main

import (
	"fmt"
	"regexp"
	"slices"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/mini-kubelet/mini-kubelet/pkg/resources/machine"
	"github.com/mini-kubelet/mini-kubelet/pkg/resources/memcg"
	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

const aimEviction = time.Second

// evictionResults is how fast the node reacts to a pod that takes memory, at 200 MB a second.
type evictionResults struct {
	Times int
	// Orderly is how often the hog ended by eviction, not by the kernel, and a Guaranteed pod beside it ran on.
	Orderly int
	// From the moment that the threshold was crossed: until the agent has decided, and until the pod is over.
	Decided, DecidedMost, Over, OverMost time.Duration
}

const limitMiB, thresholdMiB = 256, 100 // of all pods, and what has to be left of that

// measureEviction has one hog after the other evicted beside a Guaranteed pod.
func measureEviction(b *bench, d *harness.Dockerd, times int) *evictionResults {
	m, err := machine.ReadMemory()
	if err != nil {
		b.Fatalf("%v", err)
	}
	a := harness.StartAgent(b, harness.AgentConfig{Docker: d, Config: map[string]any{
		"kubeReserved":                     map[string]string{"memory": fmt.Sprint(m.Total - limitMiB<<20)},
		"evictionHard":                     map[string]string{"memory.available": fmt.Sprintf("%dMi", thresholdMiB)},
		"evictionPressureTransitionPeriod": "1h",
	}})
	a.Write("steady.yaml", harness.Pod("steady", "", func(p *v1.Pod) {
		p.Spec.Containers[0].Resources.Limits = v1.ResourceList{v1.ResourceCPU: resource.MustParse("10m"), v1.ResourceMemory: resource.MustParse("32Mi")}
	}))
	steady := a.WaitRunning("steady").Status.ContainerStatuses[0].ContainerID
	group := memcg.Of(a.CgroupRoot() + "/kubepods")
	r := &evictionResults{Times: times}
	var decided, over []time.Duration
	for i := range times {
		name := fmt.Sprintf("hog%d", i)
		crossed := make(chan time.Time, 1)
		go func() {
			for b.ctx.Err() == nil {
				if u, err := group.Read(); err == nil && u.WorkingSet() > (limitMiB-thresholdMiB)<<20 {
					break
				}
				time.Sleep(2 * time.Millisecond)
			}
			crossed <- time.Now()
		}()
		// With a request, it is admitted while the node has MemoryPressure from the one before.
		a.Write("hog.yaml", harness.Pod(name, "(for i in 1 2 3 4 5 6 7 8 9 10; do head -c 20971520 /dev/zero; sleep 0.1; done; sleep 3600) | tail -c 209715200 >/dev/null", func(p *v1.Pod) {
			p.Spec.Containers[0].Resources.Requests = v1.ResourceList{v1.ResourceMemory: resource.MustParse("1Mi")}
		}))
		p := a.WaitPod(name, "is over", func(p *v1.Pod) bool {
			return p.Status.Reason == "Evicted" && len(p.Status.ContainerStatuses) > 0 && p.Status.ContainerStatuses[0].State.Terminated != nil
		})
		end, at := p.Status.ContainerStatuses[0].State.Terminated, <-crossed
		if end.Reason != "OOMKilled" && a.WaitRunning("steady").Status.ContainerStatuses[0].ContainerID == steady {
			r.Orderly++
		}
		if t, ok := evictedAt(a.Log(), name, at); ok {
			decided = append(decided, max(t.Sub(at), 0))
		}
		if info, err := d.Client.ContainerInspect(b.ctx, harness.ID(p.Status.ContainerStatuses[0].ContainerID)); err == nil {
			if t, err := time.Parse(time.RFC3339Nano, info.State.FinishedAt); err == nil {
				over = append(over, t.Sub(at))
			}
		}
		a.Remove("hog.yaml")
		a.WaitGone(name)
	}
	if len(decided) == 0 || len(over) == 0 {
		b.Fatalf("nothing was measured of evictions")
	}
	r.Decided, r.DecidedMost, r.Over, r.OverMost = median(decided), slices.Max(decided), median(over), slices.Max(over)
	return r
}

// evictedAt finds in the agent's log when a pod was evicted, on the day of near.
func evictedAt(log, pod string, near time.Time) (time.Time, bool) {
	m := regexp.MustCompile(`I\d{4} (\d\d:\d\d:\d\d\.\d+) .*"Evicting pod" pod="default/` + pod + `-`).FindStringSubmatch(log)
	if m == nil {
		return time.Time{}, false
	}
	t, err := time.ParseInLocation("2006-01-02 15:04:05.999999", near.Format("2006-01-02 ")+m[1], time.Local)
	return t, err == nil
}

func (r *evictionResults) print(line func(string, ...any)) {
	line("\nA hog of memory, %d times: evicted before the kernel kills, and a Guaranteed pod runs on: %d times.", r.Times, r.Orderly)
	line("From the threshold: decided after %s (median), %s (most; aim %s)%s; over after %s, %s.", ms(r.Decided), ms(r.DecidedMost), ms(aimEviction),
		verdict(float64(r.DecidedMost), float64(aimEviction)), ms(r.Over), ms(r.OverMost))
}
