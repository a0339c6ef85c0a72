package runtime

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"google.golang.org/grpc/status"
	v1 "k8s.io/api/core/v1"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/klog/v2"

	"github.com/mini-kubelet/mini-kubelet/pkg/criconfig"
)

// Waiting reasons that this package gives, the kubelet's.
const (
	reasonCrashLoop = "CrashLoopBackOff"
	reasonConfig    = "CreateContainerConfigError"
	reasonCreate    = "CreateContainerError"
	reasonRun       = "RunContainerError"
)

// SyncPod brings the pod as near to its spec as one pass can. Containers start one
// after the other, in the order of the spec; one that cannot keeps none of the
// others from starting.
func (m *Manager) SyncPod(ctx context.Context, pod *v1.Pod, observed *PodStatus) SyncResult {
	a := computeActions(pod, observed, verdicts{unhealthy: m.cfg.Unhealthy, started: m.cfg.Started})
	pass := &pass{m: m, pod: pod, observed: observed, sandboxID: a.sandboxID, ips: observed.IPs}
	if a.killPod {
		if err := m.KillPod(ctx, pod, observed.Pod(), nil); err != nil {
			pass.fail(err)
			return pass.result
		}
		if !a.createSandbox {
			return pass.result
		}
	}
	for _, k := range a.kill {
		klog.V(2).InfoS("Stopping container", "pod", klog.KObj(pod), "podUID", pod.UID, "containerName", k.status.Name, "containerID", k.status.ID, "why", k.message)
		if err := m.stopContainer(ctx, pod, k.status.Name, k.status.ID.ID, k.message, gracePeriod(pod, nil)); err != nil {
			pass.fail(err)
			return pass.result
		}
	}
	if len(a.init)+len(a.start)+len(a.ephemeral) == 0 {
		return pass.result
	}
	config, err := criconfig.Sandbox(pod, a.attempt, m.cfg.Node)
	if err == nil && a.createSandbox {
		err = pass.runSandbox(ctx, config, a.attempt)
	}
	if err != nil {
		if ctx.Err() == nil {
			m.cfg.Journal.Record(pod, "", v1.EventTypeWarning, "FailedCreatePodSandBox", "Failed to create pod sandbox: "+text(err))
		}
		pass.fail(fmt.Errorf("create sandbox: %w", err))
		return pass.result
	}
	pass.sandbox = config
	for _, list := range [][]*v1.Container{a.ephemeral, a.init, a.start} {
		for _, c := range list {
			if ctx.Err() != nil {
				pass.fail(context.Cause(ctx))
				return pass.result
			}
			pass.startContainer(ctx, c, a.targets[c.Name])
		}
	}
	return pass.result
}

// pass is one SyncPod on its way.
type pass struct {
	m         *Manager
	pod       *v1.Pod
	observed  *PodStatus
	sandboxID string
	sandbox   *cri.PodSandboxConfig
	ips       []string
	hosts     string // path of the managed /etc/hosts, once it is written
	result    SyncResult
}

func (p *pass) fail(err error) {
	if p.result.Err == nil {
		p.result.Err = err
	}
}

// wait notes why a container was not started. What only waits for a back-off is
// no failure.
func (p *pass) wait(c *v1.Container, w Waiting, retry time.Duration, err error) {
	if p.result.Waiting == nil {
		p.result.Waiting = map[string]Waiting{}
	}
	p.result.Waiting[c.Name] = w
	if retry > 0 && (p.result.RetryAfter == 0 || retry < p.result.RetryAfter) {
		p.result.RetryAfter = retry
	}
	if err != nil {
		p.fail(fmt.Errorf("start container %s: %w", c.Name, err))
	}
}

func (p *pass) runSandbox(ctx context.Context, config *cri.PodSandboxConfig, attempt uint32) error {
	if attempt > 0 {
		p.m.cfg.Journal.Record(p.pod, "", v1.EventTypeNormal, "SandboxChanged", "Pod sandbox changed, it will be killed and re-created.")
	}
	if err := os.MkdirAll(config.LogDirectory, 0o755); err != nil {
		return fmt.Errorf("make log directory: %w", err)
	}
	r, err := p.m.cfg.CRI.RunPodSandbox(ctx, &cri.RunPodSandboxRequest{Config: config})
	if err != nil {
		return err
	}
	p.sandboxID = r.PodSandboxId
	klog.V(2).InfoS("Sandbox runs", "pod", klog.KObj(p.pod), "podUID", p.pod.UID, "podSandboxID", r.PodSandboxId, "attempt", attempt)
	s, err := p.m.cfg.CRI.PodSandboxStatus(ctx, &cri.PodSandboxStatusRequest{PodSandboxId: r.PodSandboxId})
	if err != nil {
		return fmt.Errorf("inspect new sandbox: %w", err)
	}
	p.ips = sandboxIPs(s.Status)
	return nil
}

// startContainer creates and starts one container, unless it has to wait.
func (p *pass) startContainer(ctx context.Context, c *v1.Container, target string) {
	last := p.observed.Container(c.Name)
	if w, left := p.m.backOff(p.pod, c, last); left > 0 {
		p.m.cfg.Journal.Record(p.pod, c.Name, v1.EventTypeWarning, "BackOff", w.Message)
		p.wait(c, w, left, nil)
		return
	}
	ref, err := p.m.cfg.Images.Ensure(ctx, p.pod, c, p.sandbox)
	if err != nil {
		var after interface{ RetryAfter() time.Duration }
		if errors.As(err, &after) && after.RetryAfter() > 0 {
			p.wait(c, reasonOf(err, "ErrImagePull"), after.RetryAfter(), nil)
			return
		}
		p.wait(c, reasonOf(err, "ErrImagePull"), 0, err)
		return
	}
	config, err := p.containerConfig(ctx, c, last, ref, target)
	if err != nil {
		p.event(ctx, c, v1.EventTypeWarning, "Failed", "Error: "+err.Error())
		p.wait(c, reasonOf(err, reasonConfig), 0, err)
		return
	}
	if last != nil && last.State == StateCreated {
		// Made by a pass that did not get to start it; this one takes its place.
		if _, err := p.m.cfg.CRI.RemoveContainer(ctx, &cri.RemoveContainerRequest{ContainerId: last.ID.ID}); err != nil && !isNotFound(err) {
			p.wait(c, Waiting{reasonCreate, text(err)}, 0, err)
			return
		}
	}
	created, err := p.m.cfg.CRI.CreateContainer(ctx, &cri.CreateContainerRequest{PodSandboxId: p.sandboxID, Config: config, SandboxConfig: p.sandbox})
	if err != nil {
		p.event(ctx, c, v1.EventTypeWarning, "Failed", "Error: "+text(err))
		p.wait(c, Waiting{reasonCreate, text(err)}, 0, err)
		return
	}
	id := created.ContainerId
	p.event(ctx, c, v1.EventTypeNormal, "Created", "Container created")
	p.m.noteRestart(p.pod, c, last)
	if _, err := p.m.cfg.CRI.StartContainer(ctx, &cri.StartContainerRequest{ContainerId: id}); err != nil {
		p.event(ctx, c, v1.EventTypeWarning, "Failed", "Error: "+text(err))
		p.wait(c, Waiting{reasonRun, text(err)}, 0, err)
		return
	}
	p.event(ctx, c, v1.EventTypeNormal, "Started", "Container started")
	klog.V(2).InfoS("Container runs", "pod", klog.KObj(p.pod), "podUID", p.pod.UID, "containerName", c.Name, "containerID", id, "attempt", config.Metadata.Attempt)
	if err := p.m.linkLog(p.pod, c.Name, id, p.sandbox.LogDirectory, config.LogPath); err != nil {
		klog.ErrorS(err, "Could not link the container's log", "pod", klog.KObj(p.pod), "podUID", p.pod.UID, "containerName", c.Name)
	}
}

// containerConfig makes the files that the container needs from the node, and
// its configuration.
func (p *pass) containerConfig(ctx context.Context, c *v1.Container, last *ContainerStatus, ref, target string) (*cri.ContainerConfig, error) {
	in := criconfig.ContainerInput{
		Node: p.m.cfg.Node, PodIPs: p.ips, ImageRef: ref, Volumes: p.m.cfg.Files, RestartCount: attempt(last),
	}
	if needsImageUser(p.pod, c) {
		img, err := p.m.cfg.Images.Image(ctx, ref)
		if err != nil {
			return nil, err
		}
		in.Image = img
	}
	if target != "" {
		if t := p.observed.Container(target); t != nil && t.State == StateRunning {
			in.TargetID = t.ID.ID
		} else {
			return nil, fmt.Errorf("unable to find target container %s", target)
		}
	}
	if p.hosts == "" {
		content, err := p.hostsContent()
		if err != nil {
			return nil, err
		}
		if p.hosts, err = p.m.cfg.Files.HostsFile(p.pod.UID, content); err != nil {
			return nil, err
		}
	}
	in.HostsPath = p.hosts
	if c.TerminationMessagePath != "" {
		path, err := p.m.cfg.Files.TerminationLog(p.pod.UID, c.Name, in.RestartCount)
		if err != nil {
			return nil, err
		}
		in.TerminationLogPath = path
	}
	return criconfig.Container(ctx, p.pod, c, in)
}

func (p *pass) hostsContent() ([]byte, error) {
	var node []byte
	if p.pod.Spec.HostNetwork {
		var err error
		if node, err = os.ReadFile("/etc/hosts"); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("read the node's hosts file: %w", err)
		}
	}
	return criconfig.HostsFile(p.pod, p.ips, p.m.cfg.Node.ClusterDomain, node)
}

// event records what happened, unless the pass was called off: what failed then
// failed because of that.
func (p *pass) event(ctx context.Context, c *v1.Container, kind, reason, message string) {
	if ctx.Err() == nil {
		p.m.cfg.Journal.Record(p.pod, c.Name, kind, reason, message)
	}
}

// attempt is the number of a container's next attempt. One that was created but
// never started does not count.
func attempt(last *ContainerStatus) uint32 {
	switch {
	case last == nil:
		return 0
	case last.State == StateCreated:
		return uint32(last.RestartCount)
	}
	return uint32(last.RestartCount) + 1
}

func needsImageUser(pod *v1.Pod, c *v1.Container) bool {
	if c.SecurityContext != nil && c.SecurityContext.RunAsNonRoot != nil {
		return *c.SecurityContext.RunAsNonRoot
	}
	return pod.Spec.SecurityContext != nil && pod.Spec.SecurityContext.RunAsNonRoot != nil && *pod.Spec.SecurityContext.RunAsNonRoot
}

// backOff tells how much longer a container that has ended must wait, and the
// kubelet's words for it.
func (m *Manager) backOff(pod *v1.Pod, c *v1.Container, last *ContainerStatus) (Waiting, time.Duration) {
	if last == nil || last.State != StateExited || last.FinishedAt.IsZero() {
		return Waiting{}, 0
	}
	if isInit(pod, c.Name) && !IsSidecar(c) && last.ExitCode == 0 {
		return Waiting{}, 0 // runs again for a new sandbox, not for having crashed
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	key := backOffKey(pod.UID, c.Name)
	left := m.backOffs.left(key, last, m.cfg.Clock.Now())
	if left == 0 {
		return Waiting{}, 0
	}
	return Waiting{
		Reason: reasonCrashLoop,
		Message: fmt.Sprintf("back-off %s restarting failed container=%s pod=%s_%s(%s)",
			m.backOffs.current(key, last), c.Name, pod.Name, pod.Namespace, pod.UID),
	}, left
}

func (m *Manager) noteRestart(pod *v1.Pod, c *v1.Container, last *ContainerStatus) {
	if last == nil || last.State != StateExited {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.backOffs.restarted(backOffKey(pod.UID, c.Name), last, m.cfg.Clock.Now())
}

// reasonOf takes the waiting reason from an error that has one.
func reasonOf(err error, otherwise string) Waiting {
	var r interface {
		error
		Reason() string
	}
	if errors.As(err, &r) {
		return Waiting{Reason: r.Reason(), Message: r.Error()}
	}
	return Waiting{Reason: otherwise, Message: text(err)}
}

// text is an error as it is shown to a user, without gRPC's wrapping.
func text(err error) string {
	if s, ok := status.FromError(err); ok {
		return s.Message()
	}
	return err.Error()
}
