package main

import (
	"fmt"
	"slices"
	"time"

	v1 "k8s.io/api/core/v1"

	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

// measure takes all measurements of the agent in turn.
func measure(b *bench, d *harness.Dockerd, opt options, r *results) {
	a := harness.StartAgent(b, harness.AgentConfig{Docker: d, Args: []string{"--v", "2"}})
	m := &meter{b: b, d: d, a: a, seen: harness.WatchEvents(a)}
	r.Docker, r.Pods = m.about(), opt.pods
	m.pause = m.pauseImage()

	b.Logf("one pod, %d times, by turns with bare Docker ...", opt.single)
	var floors, agents []time.Duration
	for range opt.single {
		floors = append(floors, floor(b, d, m.pause, 1, 1))
		took, phases := m.one(m.pod())
		agents = append(agents, took)
		r.phases = append(r.phases, phases)
	}
	r.OneFloor, r.OneAgent = median(floors), median(agents)

	b.Logf("one pod with %d volumes, %d times, by turns with one without ...", objectVolumes, opt.single)
	r.OneNoVolumes, r.OneVolumes = m.volumes(opt.single)

	b.Logf("%d pods on bare Docker, to find its best concurrency ...", opt.pods)
	best := time.Duration(1<<63 - 1)
	for _, c := range []int{1, 2, 4, 8, 16} {
		took := floor(b, d, m.pause, opt.pods, c)
		r.Concurrency = append(r.Concurrency, atConcurrency{c, took})
		if took < best {
			best, r.BestConcurrency = took, c
		}
	}
	b.Logf("%d pods, %d times, by turns with bare Docker at concurrency %d ...", opt.pods, opt.batches, r.BestConcurrency)
	floors, agents = nil, nil
	for i := range opt.batches {
		floors = append(floors, floor(b, d, m.pause, opt.pods, r.BestConcurrency))
		took := m.many(opt.pods)
		agents = append(agents, took)
		if i < opt.batches-1 {
			m.clear()
		}
	}
	r.ManyFloor, r.ManyAgent = median(floors), median(agents)

	b.Logf("idle with %d pods for %v ...", opt.pods, opt.idle)
	r.Idle = append(r.Idle, m.idle(opt.pods, opt.idle))
	m.clear()
	if opt.growth {
		for _, n := range []int{10, 100} {
			b.Logf("%d pods, then idle for %v ...", n, opt.idle/2)
			r.Growth = append(r.Growth, growth{n, floor(b, d, m.pause, n, r.BestConcurrency), m.many(n)})
			r.Idle = append(r.Idle, m.idle(n, opt.idle/2))
			m.clear()
		}
		r.Growth = append(r.Growth, growth{opt.pods, r.ManyFloor, r.ManyAgent})
		slices.SortFunc(r.Growth, func(x, y growth) int { return x.Pods - y.Pods })
		slices.SortFunc(r.Idle, func(x, y idle) int { return x.Pods - y.Pods })
	}
}

func daemon(b *bench, which string) *harness.Dockerd {
	switch which {
	case "private":
		return harness.Docker(b)
	case "machine":
		return harness.MachineDocker(b)
	}
	b.Fatalf("-docker: want private or machine, got %q", which)
	return nil
}

// meter measures one agent on one daemon.
type meter struct {
	b     *bench
	d     *harness.Dockerd
	a     *harness.Agent
	seen  *harness.Events
	pause string
	count int
}

// about says which Docker was measured.
func (m *meter) about() string {
	info, err := m.d.Client.Info(m.b.ctx)
	if err != nil {
		m.b.Fatalf("ask Docker about itself: %v", err)
	}
	return fmt.Sprintf("%s, %s, cgroup v%s, %d CPUs, Linux %s", info.ServerVersion, info.Driver, info.CgroupVersion, info.NCPU, info.KernelVersion)
}

// pod is one that ends at once when it is told to and does nothing till then.
func (m *meter) pod() *v1.Pod {
	m.count++
	return harness.Pod(fmt.Sprintf("p%04d", m.count), "", func(p *v1.Pod) {
		none := int64(0)
		p.Spec.TerminationGracePeriodSeconds = &none
		p.Spec.Containers[0].Command = sleeper
	})
}

// pauseImage is the image of the agent's own sandboxes; running one pod also
// warms everything up.
func (m *meter) pauseImage() string {
	p := m.pod()
	m.a.Write("pods.yaml", p)
	m.a.WaitRunning(p.Name)
	running, err := m.a.Running(p.Name)
	if err != nil {
		m.b.Fatalf("%v", err)
	}
	m.clear()
	return running[harness.Sandbox].ImageID
}

// phases split the way of one pod from its manifest to Running, in milliseconds.
type phases struct{ seen, sandbox, container, status time.Duration }

// one measures a single pod and takes it away.
func (m *meter) one(p *v1.Pod) (time.Duration, phases) {
	began := time.Now()
	m.a.Write("pods.yaml", p)
	started := m.seen.Wait(1, "start", p.Name, "c", harness.Patience)[0].At
	m.awaitRunning(1)
	ended := time.Now()
	first := m.seen.Of("create", p.Name, harness.Sandbox)[0].At
	box := m.seen.Of("start", p.Name, harness.Sandbox)[0].At
	m.clear()
	return ended.Sub(began), phases{first.Sub(began), box.Sub(first), started.Sub(box), ended.Sub(started)}
}

// many measures n pods in one manifest and leaves them running.
func (m *meter) many(n int) time.Duration {
	var pods []*v1.Pod
	for range n {
		pods = append(pods, m.pod())
	}
	before := len(m.seen.Of("start", "", "c"))
	began := time.Now()
	m.a.Write("pods.yaml", pods...)
	m.seen.Wait(before+n, "start", "", "c", 5*harness.Patience)
	m.awaitRunning(n)
	return time.Since(began)
}

// awaitRunning is asked only once Docker has started all containers, so that
// asking costs the agent nothing while it works.
func (m *meter) awaitRunning(n int) {
	for end := time.Now().Add(harness.Patience); time.Now().Before(end); time.Sleep(3 * time.Millisecond) {
		list, err := m.a.Pods()
		if err != nil {
			m.b.Fatalf("%v", err)
		}
		running := 0
		for i := range list.Items {
			if list.Items[i].Status.Phase == v1.PodRunning && harness.Ready(&list.Items[i]) {
				running++
			}
		}
		if running == n {
			return
		}
	}
	m.b.Fatalf("the pods do not become Running\n%s", m.a.Explain())
}

// clear takes all pods away and waits until Docker has nothing of them.
func (m *meter) clear() {
	m.a.Remove("pods.yaml")
	harness.Eventually(m.b, "all pods are gone", 5*harness.Patience, func() error {
		own, err := m.a.Containers()
		if err == nil && len(own) > 0 {
			err = fmt.Errorf("%d containers are left", len(own))
		}
		return err
	}, m.a.Explain)
}

// idle watches the agent while nothing happens, once start-up work has settled.
func (m *meter) idle(pods int, over time.Duration) idle {
	time.Sleep(5 * time.Second)
	docker := make(chan float64, 1)
	go func() {
		used, err := harness.Millicores(m.d.PID(), over)
		if m.d.PID() == 0 || err != nil {
			used = -1 // not ours to look at
		}
		docker <- used
	}()
	used, err := harness.Millicores(m.a.PID(), over)
	if err != nil {
		m.b.Fatalf("%v", err)
	}
	rss, err := harness.RSS(m.a.PID())
	if err != nil {
		m.b.Fatalf("%v", err)
	}
	return idle{Pods: pods, Millicores: used, DockerdMillicores: <-docker, RSSMiB: float64(rss) / 1024}
}

func median(d []time.Duration) time.Duration {
	d = slices.Sorted(slices.Values(d))
	if len(d) == 0 {
		return 0
	}
	if n := len(d); n%2 == 0 {
		return (d[n/2-1] + d[n/2]) / 2
	}
	return d[len(d)/2]
}
