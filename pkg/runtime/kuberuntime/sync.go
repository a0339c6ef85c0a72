package kuberuntime

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc/status"
	v1 "k8s.io/api/core/v1"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/klog/v2"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/bounds"
	"github.com/mini-kubelet/mini-kubelet/pkg/base/crimeta"
	"github.com/mini-kubelet/mini-kubelet/pkg/journal"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods/actual"
	"github.com/mini-kubelet/mini-kubelet/pkg/runtime/criconfig"
)

// Waiting reasons of this package: the kubelet's.
const (
	reasonCrashLoop = "CrashLoopBackOff"
	reasonConfig    = "CreateContainerConfigError"
	reasonCreate    = "CreateContainerError"
	reasonRun       = "RunContainerError"
	reasonPostStart = "PostStartHookError"

	reasonPullBackOff = "ImagePullBackOff"
)

// SyncPod brings the pod as close to its spec as one pass can. Containers start one
// after the other, in the order of the spec; one that cannot start does not keep
// the others from starting.
func (m *Manager) SyncPod(ctx context.Context, pod *v1.Pod, observed *actual.PodStatus) SyncResult {
	v, answers := verdicts{failed: m.cfg.Failed, started: m.cfg.Started, resize: m.resizeTo(pod)}.recorded()
	a := computeActions(pod, observed, v)
	m.cfg.Journal.Decide(ctx, pod.UID, ComputeActions, &decided{pod, observed, answers, a})
	if !a.nothing() {
		m.cfg.Journal.Note(journal.Within(ctx, journal.Event{Kind: journal.Plan, Pod: pod.UID, Detail: a.words()}))
	}
	pass := &pass{m: m, pod: pod, observed: observed, attempt: a.attempt, sandboxID: a.sandboxID, ips: observed.IPs, killed: a.kill}
	if len(a.reset) > 0 {
		if err := m.reset(ctx, pod, a.reset); err != nil {
			pass.fail(err)
			return pass.result
		}
		pass.result.Reset = true
		return pass.result
	}
	stopped := slices.Clone(a.kill)
	for _, s := range a.strays {
		if err := m.stopStray(ctx, pod, s); err != nil {
			pass.fail(err)
			return pass.result
		}
		stopped = append(stopped, killing{status: s})
	}
	for _, k := range a.kill {
		klog.V(2).InfoS("Stopping container", "pod", klog.KObj(pod), "podUID", pod.UID, "containerName", k.status.Name, "containerID", k.status.ID, "why", k.message)
		if err := m.stopContainer(ctx, pod, k.status.Name, k.status.ID.ID, k.message, gracePeriod(pod, k.grace)); err != nil {
			pass.fail(err)
			return pass.result
		}
	}
	if a.killPod {
		if err := m.KillPod(ctx, pod, running(observed.Pod(), stopped), nil); err != nil {
			pass.fail(err)
			return pass.result
		}
		if !a.createSandbox {
			return pass.result
		}
	}
	pass.resize(ctx, a.resize)
	if len(a.init)+len(a.start)+len(a.ephemeral) == 0 {
		return pass.result
	}
	if a.createSandbox && !pass.newSandbox(ctx) {
		return pass.result
	}
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

// running returns what is left of a pod after some of its containers were stopped.
func running(p *actual.Pod, stopped []killing) *actual.Pod {
	p.Containers = slices.DeleteFunc(p.Containers, func(c actual.Container) bool {
		return slices.ContainsFunc(stopped, func(k killing) bool { return k.status.ID.ID == c.ID })
	})
	return p
}

// pass is one SyncPod in progress.
type pass struct {
	m         *Manager
	pod       *v1.Pod
	observed  *actual.PodStatus
	attempt   uint32 // the sandbox's
	sandboxID string
	sandbox   *cri.PodSandboxConfig // once it is needed
	ips       []string
	killed    []killing
	hosts     string            // path of the managed /etc/hosts, once it is written
	images    map[string]pulled // of volumes, by name, once they are needed
	result    SyncResult
}

func (p *pass) fail(err error) {
	if p.result.Err == nil {
		p.result.Err = err
	}
}

// maxWaiting is how long a waiting message may be, in bytes: it may repeat parts of a
// spec at any length. Package podstatus bounds those of all containers together.
const maxWaiting = 4 << 10

// wait notes why a container was not started. Waiting for a back-off is no failure.
func (p *pass) wait(c *v1.Container, w actual.Waiting, retry time.Duration, err error) {
	if p.result.Waiting == nil {
		p.result.Waiting = map[string]actual.Waiting{}
	}
	w.Message = bounds.Cut(w.Message, maxWaiting)
	p.result.Waiting[c.Name] = w
	if retry > 0 && (p.result.RetryAfter == 0 || retry < p.result.RetryAfter) {
		p.result.RetryAfter = retry
	}
	if err != nil {
		p.fail(fmt.Errorf("start container %s: %w", c.Name, err))
	}
}

// newSandbox makes a sandbox for the pod and reports whether there is one.
func (p *pass) newSandbox(ctx context.Context) bool {
	key := backOffKey(p.pod.UID, "")
	if h, ok := p.m.held(key); ok {
		if p.result.RetryAfter = h.left(p.m.cfg.Clock.Now(), h.spec, "", nil); p.result.RetryAfter > 0 {
			return false
		}
	}
	p.m.metrics.pods.Inc()
	err := p.configure()
	if err == nil {
		err = p.runSandbox(ctx)
	}
	if err == nil {
		p.m.release(key)
		return true
	}
	if ctx.Err() == nil {
		reason, message := "FailedCreatePodSandBox", "Failed to create pod sandbox: "+text(err)
		if blind := (sandboxStatusError{}); errors.As(err, &blind) {
			reason, message = "FailedPodSandBoxStatus", "Unable to get pod sandbox status: "+text(blind.error)
		} else {
			p.m.metrics.podErrors.Inc()
		}
		p.m.cfg.Journal.Container(p.pod, "").By(journal.Of(ctx)).Warn(reason, message)
	}
	if holdable(ctx, err) {
		p.m.hold(key, hold{until: p.m.cfg.Clock.Now().Add(startBackOff)})
		p.noteHold(ctx, "", actual.Waiting{Reason: "FailedCreatePodSandBox"}, startBackOff)
	}
	p.fail(fmt.Errorf("create sandbox: %w", err))
	return false
}

// configure makes the sandbox's configuration, once a pass and only if something
// must be created: each time, it reports what is wrong with it, with DNS for
// example.
func (p *pass) configure() (err error) {
	if p.sandbox == nil {
		p.sandbox, err = criconfig.Sandbox(p.pod, p.attempt, p.m.cfg.Node)
	}
	return err
}

func (p *pass) runSandbox(ctx context.Context) error {
	if p.attempt > 0 {
		p.m.cfg.Journal.Container(p.pod, "").By(journal.Of(ctx)).Normal("SandboxChanged", "Pod sandbox changed, it will be killed and re-created.")
	}
	if err := os.MkdirAll(p.sandbox.LogDirectory, 0o755); err != nil {
		return fmt.Errorf("make log directory: %w", err)
	}
	handler, err := p.handler(ctx)
	if err != nil {
		return err
	}
	began := p.m.cfg.Clock.Now()
	r, err := p.m.cfg.CRI.RunPodSandbox(ctx, &cri.RunPodSandboxRequest{Config: p.sandbox, RuntimeHandler: handler})
	p.m.metrics.runSandbox(handler, p.m.cfg.Clock.Since(began), err)
	if err != nil {
		return err
	}
	p.sandboxID = r.PodSandboxId
	klog.V(2).InfoS("Sandbox runs", "pod", klog.KObj(p.pod), "podUID", p.pod.UID, "podSandboxID", r.PodSandboxId, "attempt", p.attempt)
	s, err := p.m.cfg.CRI.PodSandboxStatus(ctx, &cri.PodSandboxStatusRequest{PodSandboxId: r.PodSandboxId})
	if err != nil {
		return sandboxStatusError{err}
	}
	p.ips = p.m.sandboxIPs(s.Status)
	return nil
}

// sandboxStatusError is why nothing is known of a sandbox that was created.
type sandboxStatusError struct{ error }

// Error implements error.
func (e sandboxStatusError) Error() string { return "inspect new sandbox: " + e.error.Error() }

// Unwrap returns the runtime's error.
func (e sandboxStatusError) Unwrap() error { return e.error }

// handler returns the runtime's name for what the pod's class asks for, "" for its
// default.
func (p *pass) handler(ctx context.Context) (string, error) {
	class := p.pod.Spec.RuntimeClassName
	switch {
	case class == nil || *class == "":
		return "", nil
	case p.m.cfg.Handler == nil:
		return "", fmt.Errorf("RuntimeClass %q: this node knows no RuntimeClasses", *class)
	}
	return p.m.cfg.Handler(ctx, *class)
}

// startContainer creates and starts one container, unless it has to wait.
func (p *pass) startContainer(ctx context.Context, c *v1.Container, target string) {
	if p.held(ctx, c) {
		return
	}
	last := p.observed.Container(c.Name)
	ended := last
	if slices.ContainsFunc(p.killed, func(k killing) bool { return k.status == last && k.failed != "" }) {
		// It was just stopped because of its probe: as in the kubelet, its wait goes by the end before
		// that.
		ended = p.observed.LastEnd(c.Name)
	}
	if w, left := p.m.backOff(p.pod, c, ended); left > 0 {
		p.m.cfg.Journal.Container(p.pod, c.Name).By(journal.Of(ctx)).Warn("BackOff",
			fmt.Sprintf("Back-off restarting failed container %s in pod %s_%s(%s)", c.Name, p.pod.Name, p.pod.Namespace, p.pod.UID))
		p.leave(ctx, c, w, left, nil)
		p.wait(c, w, left, nil)
		return
	}
	kind := kindOf(p.pod, c)
	p.m.metrics.containers.WithLabelValues(kind).Inc()
	if err := p.configure(); err != nil {
		p.failure(ctx, c, err.Error())
		p.failed(ctx, c, actual.Waiting{Reason: reasonConfig, Message: text(err)}, nil, err)
		p.m.metrics.failedToStart(ctx, kind, reasonConfig)
		return
	}
	volumes, err := p.imageVolumes(ctx, c)
	if err != nil {
		p.waitForImage(ctx, c, err) // no failure of this container, as the kubelet counts
		return
	}
	p.launch(ctx, c, last, ended, target, volumes)
	w := p.result.Waiting[c.Name]
	p.m.metrics.failedToStart(ctx, kind, w.Reason)
	p.m.metrics.imagesMounted(c, volumes, w.Reason, w.Message)
}

// kindOf is what metrics call the container.
func kindOf(pod *v1.Pod, c *v1.Container) string {
	_, kind := pods.Container(pod, c.Name)
	return kind.Label()
}

// launch creates and starts a container whose sandbox and volumes are there. ended is the end that its
// restart follows, last its newest attempt.
func (p *pass) launch(ctx context.Context, c *v1.Container, last, ended *actual.ContainerStatus, target string, volumes map[string]*cri.ImageSpec) {
	ref, err := p.m.cfg.Images.Ensure(ctx, p.pod, c, p.sandbox)
	if err != nil {
		p.failure(ctx, c, brief(err))
		p.waitForImage(ctx, c, err)
		return
	}
	if err := p.preStart(ctx, c); err != nil {
		p.failure(ctx, c, err.Error())
		p.failed(ctx, c, actual.Waiting{Reason: reasonConfig, Message: text(err)}, nil, err)
		return
	}
	tried := trial{sandboxID: p.sandboxID, attempt: p.nextAttempt(c, last), ref: ref, target: target, volumes: volumes}
	config, err := p.containerConfig(ctx, c, tried)
	tried.made = outcome(config, err)
	if err != nil {
		p.failure(ctx, c, err.Error())
		p.failed(ctx, c, reasonOf(err, reasonConfig), &tried, err)
		return
	}
	if last != nil && last.State == actual.StateCreated {
		// A pass created it but did not get to start it; a new one takes its place. A
		// killed agent's start may still arrive, and a started container is not killed
		// for a new one.
		if _, err := p.m.cfg.CRI.RemoveContainer(crimeta.UnlessRunning(ctx), &cri.RemoveContainerRequest{ContainerId: last.ID.ID}); err != nil && !isNotFound(err) {
			p.wait(c, actual.Waiting{Reason: reasonCreate, Message: text(err)}, 0, err)
			return
		}
	}
	created, err := p.m.cfg.CRI.CreateContainer(ctx, &cri.CreateContainerRequest{PodSandboxId: p.sandboxID, Config: config, SandboxConfig: p.sandbox})
	if err != nil {
		p.failure(ctx, c, text(err))
		p.failed(ctx, c, actual.Waiting{Reason: reasonCreate, Message: text(err)}, &tried, err)
		return
	}
	id := created.ContainerId
	p.normal(ctx, c, "Created", "Container created")
	p.m.noteRestart(p.pod, c, ended)
	if _, err := p.m.cfg.CRI.StartContainer(ctx, &cri.StartContainerRequest{ContainerId: id}); err != nil {
		p.failure(ctx, c, text(err))
		p.failed(ctx, c, actual.Waiting{Reason: reasonRun, Message: text(err)}, &tried, err)
		return
	}
	p.m.release(backOffKey(p.pod.UID, c.Name))
	p.normal(ctx, c, "Started", "Container started")
	klog.V(2).InfoS("Container runs", "pod", klog.KObj(p.pod), "podUID", p.pod.UID, "containerName", c.Name, "containerID", id, "attempt", config.Metadata.Attempt)
	p.keepCPUs(ctx, c, id, config.GetLinux().GetResources().GetCpusetCpus())
	if err := p.m.linkLog(p.pod, c.Name, id, p.sandbox.LogDirectory, config.LogPath); err != nil {
		klog.ErrorS(err, "Could not link the container's log", "pod", klog.KObj(p.pod), "podUID", p.pod.UID, "containerName", c.Name)
	}
	if err := p.postStart(ctx, c, id); err != nil {
		p.wait(c, actual.Waiting{Reason: reasonPostStart, Message: err.Error()}, 0, err)
	}
}

// preStart prepares what a container has of the node.
func (p *pass) preStart(ctx context.Context, c *v1.Container) error {
	if p.m.cfg.PreStart == nil {
		return nil
	}
	return p.m.cfg.PreStart(ctx, p.pod, c)
}

// waitForImage notes that an image is not there, and when to look for it again:
// before the pull's back-off ends, since it may arrive by other means.
func (p *pass) waitForImage(ctx context.Context, c *v1.Container, err error) {
	w := reasonOf(err, "ErrImagePull")
	var after interface{ RetryAfter() time.Duration }
	switch {
	case !errors.As(err, &after) || after.RetryAfter() <= 0:
		p.failed(ctx, c, w, nil, err)
	case w.Reason == reasonPullBackOff:
		p.leave(ctx, c, w, min(after.RetryAfter(), startBackOff), nil)
		p.wait(c, w, min(after.RetryAfter(), startBackOff), nil)
	default:
		p.wait(c, w, min(after.RetryAfter(), startBackOff), nil)
	}
}

// postStart runs the container's hook to its end: nothing else of the pod starts
// meanwhile. A container whose hook fails is stopped, and its restart policy
// decides what follows.
func (p *pass) postStart(ctx context.Context, c *v1.Container, id string) error {
	if c.Lifecycle == nil || c.Lifecycle.PostStart == nil {
		return nil
	}
	err := p.m.hooks.Run(ctx, p.m.hookTarget(p.pod, c, id, p.ips), c.Lifecycle.PostStart)
	if err == nil || ctx.Err() != nil {
		return err
	}
	// The event does not say how: an answer may hold secrets.
	p.warn(ctx, c, "FailedPostStartHook", "PostStartHook failed")
	if stopErr := p.m.stopContainer(ctx, p.pod, c.Name, id, "FailedPostStartHook", gracePeriod(p.pod, nil)); stopErr != nil {
		return errors.Join(err, stopErr)
	}
	return err
}

// containerConfig makes the files that the container needs from the node, and
// its configuration.
func (p *pass) containerConfig(ctx context.Context, c *v1.Container, of trial) (*cri.ContainerConfig, error) {
	in := criconfig.ContainerInput{
		Node: p.m.cfg.Node, PodIPs: p.ips, ImageRef: of.ref, Volumes: p.m.cfg.Files, Objects: p.m.cfg.Objects, RestartCount: of.attempt,
		Images: of.volumes,
	}
	if p.m.cfg.ServiceEnv != nil {
		var err error
		if in.ServiceEnv, err = p.m.cfg.ServiceEnv(ctx, p.pod); err != nil {
			return nil, err
		}
	}
	if needsImageUser(p.pod, c) {
		img, err := p.m.cfg.Images.Image(ctx, of.ref)
		if err != nil {
			return nil, err
		}
		in.Image = img
	}
	if of.target != "" {
		if t := p.observed.Container(of.target); t != nil && t.State == actual.StateRunning {
			in.TargetID = t.ID.ID
		} else {
			return nil, fmt.Errorf("unable to find target container %s", of.target)
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

// normal, warn and failure record what happened to a container, unless the pass was
// cancelled: then that is why it failed.
func (p *pass) normal(ctx context.Context, c *v1.Container, reason, message string) {
	if ctx.Err() == nil {
		p.m.cfg.Journal.Container(p.pod, c.Name).By(journal.Of(ctx)).Normal(reason, message)
	}
}

func (p *pass) warn(ctx context.Context, c *v1.Container, reason, message string) {
	if ctx.Err() == nil {
		p.m.cfg.Journal.Container(p.pod, c.Name).By(journal.Of(ctx)).Warn(reason, message)
	}
}

func (p *pass) failure(ctx context.Context, c *v1.Container, message string) {
	p.warn(ctx, c, "Failed", "Error: "+message)
}

// nextAttempt is attempt, except that for a container whose earlier attempts have
// been removed the logs decide.
func (p *pass) nextAttempt(c *v1.Container, last *actual.ContainerStatus) uint32 {
	if last != nil {
		return attempt(last)
	}
	return logged(filepath.Join(p.sandbox.GetLogDirectory(), c.Name))
}

// logged returns the number after the highest log in the directory; 0 if there is
// none, as in a new pod.
func logged(dir string) (next uint32) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0
	}
	for _, e := range entries {
		number, _, _ := strings.Cut(e.Name(), ".log")
		if n, err := strconv.ParseUint(number, 10, 31); err == nil {
			next = max(next, uint32(n)+1)
		}
	}
	return next
}

// attempt returns the number of a container's next attempt. One that was created
// but never started does not count.
func attempt(last *actual.ContainerStatus) uint32 {
	switch {
	case last == nil:
		return 0
	case last.State == actual.StateCreated:
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

// reasonOf returns the waiting reason of an error, if it has one.
func reasonOf(err error, otherwise string) actual.Waiting {
	var r interface {
		error
		Reason() string
	}
	if errors.As(err, &r) {
		return actual.Waiting{Reason: r.Reason(), Message: r.Error()}
	}
	return actual.Waiting{Reason: otherwise, Message: text(err)}
}

// brief returns an error as the kubelet's events show it: its reason, if it has
// one.
func brief(err error) string { return reasonOf(err, text(err)).Reason }

// text returns an error as a user sees it, without gRPC's wrapping.
func text(err error) string {
	if s, ok := status.FromError(err); ok {
		return s.Message()
	}
	return err.Error()
}
