package main

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/pause"
	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

// aimCall is how much longer than the bare Docker calls a CRI call may take.
const aimCall = 1.15

// call is one CRI call beside the Docker calls that do the same.
type call struct {
	What        string
	Docker, CRI time.Duration
}

// criResults is what the dockershim alone was measured at.
type criResults struct {
	Calls []call
	// Logs: how fast a container's output is in its CRI log, and what that costs.
	LogMiB        float64
	LogTook       time.Duration // from the container's start to the complete CRI log
	LogDockerTook time.Duration // from its start to the end of `docker logs -f`
	LogCPUPerMiB  time.Duration // of the dockershim
	// Rotated: the same while the log is rotated at every 10 MiB.
	RotatedMiB     float64
	RotatedTook    time.Duration
	RotatedFiles   int
	RotatedMissing int           // lines
	StatsOf        int           // running containers
	StatsCPU       time.Duration // of the dockershim, for one ListContainerStats
	StatsTook      time.Duration
}

// criBench measures the dockershim on its own.
type criBench struct {
	b       *bench
	d       *harness.Dockerd
	r       *harness.Runtime
	dir     string
	n       int
	sandbox string
	config  *cri.PodSandboxConfig
}

func measureCRI(b *bench, d *harness.Dockerd, repeat int) *criResults {
	m := &criBench{b: b, d: d, r: harness.StartShim(b, d)}
	m.dir = filepath.Join(m.r.Dir, "logs")
	if err := os.MkdirAll(m.dir, 0o755); err != nil {
		b.Fatalf("%v", err)
	}
	res := &criResults{}
	m.sandbox, m.config = m.runSandbox()
	bare := m.bareSandbox()

	res.Calls = append(res.Calls, m.byTurns("RunPodSandbox", repeat, func() { m.bareSandbox() }, func() { m.runSandbox() }))
	res.Calls = append(res.Calls, m.byTurns("CreateContainer, StartContainer", repeat, func() { m.bareContainer(bare) }, func() { m.start(m.create(sleeper)) }))
	target, bareTarget := m.create(sleeper), m.bareContainer(bare)
	m.start(target)
	res.Calls = append(res.Calls, m.byTurns("ExecSync", repeat, func() { m.bareExec(bareTarget) }, func() {
		if _, err := m.r.ExecSync(b.ctx, &cri.ExecSyncRequest{ContainerId: target, Cmd: []string{"/bin/true"}, Timeout: 10}); err != nil {
			b.Fatalf("exec: %v", err)
		}
	}))
	res.Calls = append(res.Calls, m.lists(repeat))
	m.logs(res)
	m.rotation(res)
	m.stats(res)
	for _, n := range []int{100, 500} { // the statistics needed the first hundred
		for have := m.count(); have < n; have++ {
			m.create(sleeper)
		}
		res.Calls = append(res.Calls, m.lists(repeat))
	}
	return res
}

// lists compares lists. Between two of the dockershim's passes as much time as
// between two relists, so that each asks Docker anew.
func (m *criBench) lists(repeat int) call {
	return m.byTurns(fmt.Sprintf("ListContainers, %d of them", m.count()), repeat, func() {
		<-time.After(relist)
		m.bareList()
	}, func() {
		<-time.After(relist)
		if _, err := m.r.ListContainers(m.b.ctx, &cri.ListContainersRequest{}); err != nil {
			m.b.Fatalf("list: %v", err)
		}
	}).without(relist)
}

// relist is longer than the dockershim relies on a list.
const relist = 600 * time.Millisecond

func (c call) without(d time.Duration) call { return call{c.What, c.Docker - d, c.CRI - d} }

// byTurns measures both ways of doing the same, one after the other.
func (m *criBench) byTurns(what string, repeat int, docker, shim func()) call {
	m.b.Logf("%s, %d times, by turns with bare Docker ...", what, repeat)
	var dockers, shims []time.Duration
	for range repeat {
		dockers = append(dockers, timed(docker))
		shims = append(shims, timed(shim))
	}
	return call{what, median(dockers), median(shims)}
}

func timed(do func()) time.Duration {
	began := time.Now()
	do()
	return time.Since(began)
}

func (m *criBench) runSandbox() (string, *cri.PodSandboxConfig) {
	m.n++
	uid := fmt.Sprintf("bench-%d", m.n)
	config := &cri.PodSandboxConfig{
		Metadata:     &cri.PodSandboxMetadata{Name: uid, Namespace: "bench", Uid: uid},
		Labels:       map[string]string{"io.kubernetes.pod.uid": uid},
		LogDirectory: m.dir,
		Linux:        &cri.LinuxPodSandboxConfig{SecurityContext: &cri.LinuxSandboxSecurityContext{Seccomp: &cri.SecurityProfile{}}},
	}
	resp, err := m.r.RunPodSandbox(m.b.ctx, &cri.RunPodSandboxRequest{Config: config})
	if err != nil {
		m.b.Fatalf("run sandbox: %v", err)
	}
	m.b.Cleanup(func() {
		_, _ = m.r.RemovePodSandbox(m.b.ctx, &cri.RemovePodSandboxRequest{PodSandboxId: resp.PodSandboxId})
	})
	return resp.PodSandboxId, config
}

func (m *criBench) bareSandbox() string {
	return m.bareStart(&container.Config{Image: pause.Ref}, &container.HostConfig{IpcMode: container.IPCModeShareable, LogConfig: container.LogConfig{Type: "none"}})
}

func (m *criBench) bareContainer(sandbox string) string {
	shared := "container:" + sandbox
	return m.bareStart(&container.Config{Image: harness.Busybox, Entrypoint: sleeper},
		&container.HostConfig{NetworkMode: container.NetworkMode(shared), IpcMode: container.IpcMode(shared)})
}

func (m *criBench) bareStart(config *container.Config, host *container.HostConfig) string {
	c, err := m.d.Client.ContainerCreate(m.b.ctx, config, host, nil, nil, "")
	if err == nil {
		m.b.Cleanup(func() { removeAll(m.b, m.d, []string{c.ID}) })
		err = m.d.Client.ContainerStart(m.b.ctx, c.ID, container.StartOptions{})
	}
	if err != nil {
		m.b.Fatalf("bare Docker: %v", err)
	}
	return c.ID
}

func (m *criBench) bareExec(id string) {
	e, err := m.d.Client.ContainerExecCreate(m.b.ctx, id, container.ExecOptions{Cmd: []string{"/bin/true"}, AttachStdout: true, AttachStderr: true})
	if err != nil {
		m.b.Fatalf("bare Docker: %v", err)
	}
	conn, err := m.d.Client.ContainerExecAttach(m.b.ctx, e.ID, container.ExecAttachOptions{})
	if err != nil {
		m.b.Fatalf("bare Docker: %v", err)
	}
	buf := make([]byte, 512)
	for err == nil {
		_, err = conn.Reader.Read(buf)
	}
	conn.Close()
	if _, err := m.d.Client.ContainerExecInspect(m.b.ctx, e.ID); err != nil {
		m.b.Fatalf("bare Docker: %v", err)
	}
}

func (m *criBench) bareList() {
	args := filters.NewArgs(filters.Arg("label", "io.mini-kubelet.state-dir="+m.r.Shim.StateDir))
	if _, err := m.d.Client.ContainerList(m.b.ctx, container.ListOptions{All: true, Filters: args}); err != nil {
		m.b.Fatalf("bare Docker: %v", err)
	}
}

func (m *criBench) create(command []string) string {
	m.n++
	name := fmt.Sprintf("c%d", m.n)
	if err := os.MkdirAll(filepath.Join(m.dir, name), 0o755); err != nil {
		m.b.Fatalf("%v", err)
	}
	resp, err := m.r.CreateContainer(m.b.ctx, &cri.CreateContainerRequest{PodSandboxId: m.sandbox, SandboxConfig: m.config, Config: &cri.ContainerConfig{
		Metadata: &cri.ContainerMetadata{Name: name}, Image: &cri.ImageSpec{Image: harness.Busybox}, Command: command, LogPath: name + "/0.log",
		Linux: &cri.LinuxContainerConfig{SecurityContext: &cri.LinuxContainerSecurityContext{
			NamespaceOptions: &cri.NamespaceOption{Pid: cri.NamespaceMode_CONTAINER}, Seccomp: &cri.SecurityProfile{},
		}},
	}})
	if err != nil {
		m.b.Fatalf("create container: %v", err)
	}
	return resp.ContainerId
}

func (m *criBench) start(id string) {
	if _, err := m.r.StartContainer(m.b.ctx, &cri.StartContainerRequest{ContainerId: id}); err != nil {
		m.b.Fatalf("start container: %v", err)
	}
}

// cpu is how much processor time the dockershim has used.
func (m *criBench) cpu() time.Duration {
	used, err := harness.CPUTime(m.r.PID())
	if err != nil {
		m.b.Fatalf("%v", err)
	}
	return used
}

func (m *criBench) count() int {
	list, err := m.r.ListContainers(m.b.ctx, &cri.ListContainersRequest{})
	if err != nil {
		m.b.Fatalf("list: %v", err)
	}
	return len(list.Containers)
}

// logMiB is what the measured container writes, in lines of 100 bytes.
const logMiB = 64

var chatter = []string{"/bin/sh", "-c", fmt.Sprintf("yes %099d | head -c %d", 7, logMiB<<20)}

// logs has the same container write with and without the dockershim.
func (m *criBench) logs(res *criResults) {
	m.b.Logf("%d MiB of log ...", logMiB)
	res.LogMiB = logMiB
	res.LogDockerTook = timed(func() {
		id := m.bareStart(&container.Config{Image: harness.Busybox, Entrypoint: chatter}, &container.HostConfig{})
		out, err := m.d.Client.ContainerLogs(m.b.ctx, id, container.LogsOptions{ShowStdout: true, Follow: true})
		if err != nil {
			m.b.Fatalf("bare Docker: %v", err)
		}
		buf := make([]byte, 1<<16)
		for err == nil {
			_, err = out.Read(buf)
		}
		out.Close()
	})
	before := m.cpu()
	res.LogTook = timed(func() {
		id := m.create(chatter)
		m.start(id)
		harness.Eventually(m.b, "the container has ended", 2*harness.Patience, func() error {
			st, err := m.r.ContainerStatus(m.b.ctx, &cri.ContainerStatusRequest{ContainerId: id})
			if err == nil && st.Status.State != cri.ContainerState_CONTAINER_EXITED {
				err = fmt.Errorf("it is %v", st.Status.State)
			}
			return err
		})
	})
	res.LogCPUPerMiB = (m.cpu() - before) / logMiB
}

// stats reads the statistics of a hundred running containers.
func (m *criBench) stats(res *criResults) {
	running := func() int {
		list, err := m.r.ListContainerStats(m.b.ctx, &cri.ListContainerStatsRequest{})
		if err != nil {
			m.b.Fatalf("stats: %v", err)
		}
		return len(list.Stats)
	}
	const wanted, repeat = 100, 20
	m.b.Logf("statistics of %d running containers ...", wanted)
	for n := running(); n < wanted; n++ {
		m.start(m.create(sleeper))
	}
	res.StatsOf = running()
	before := m.cpu()
	var took []time.Duration
	for range repeat {
		took = append(took, timed(func() { running() }))
	}
	res.StatsCPU, res.StatsTook = (m.cpu()-before)/repeat, median(took)
}
