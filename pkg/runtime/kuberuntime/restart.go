package kuberuntime

import (
	"fmt"
	"hash/fnv"
	"slices"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods/actual"
)

// Restarts reports whether a container of the pod that ended with this code is
// started again: by its own rules and policy where it has them (KEP-5307), else by
// the pod's. An init container that has succeeded is done whatever the policy.
func Restarts(pod *v1.Pod, c *v1.Container, exitCode int32) bool {
	if pod.DeletionTimestamp != nil {
		return false
	}
	policy := pod.Spec.RestartPolicy
	if c.RestartPolicy != nil {
		if rule(c, exitCode) != nil {
			return true // alone or with all others
		}
		policy = v1.RestartPolicy(*c.RestartPolicy)
	} else if policy == v1.RestartPolicyAlways && pods.IsInit(pod, c.Name) {
		policy = v1.RestartPolicyOnFailure
	}
	switch policy {
	case v1.RestartPolicyNever:
		return false
	case v1.RestartPolicyOnFailure:
		return exitCode != 0
	}
	return true
}

// rule returns the container's first rule for this exit code, nil if there is none.
func rule(c *v1.Container, exitCode int32) *v1.ContainerRestartRule {
	if c.RestartPolicy == nil {
		return nil
	}
	for i := range c.RestartPolicyRules {
		r := &c.RestartPolicyRules[i]
		if r.ExitCodes == nil {
			continue
		}
		in := slices.Contains(r.ExitCodes.Values, exitCode)
		if in == (r.ExitCodes.Operator == v1.ContainerRestartRuleOnExitCodesOpIn) {
			return r
		}
	}
	return nil
}

// RestartsAll reports whether a container of the pod has ended in a way that makes
// all of them start again (KEP-5532): its rule says RestartAllContainers. This stays
// true until that container has been removed, the last of all.
func RestartsAll(pod *v1.Pod, observed *actual.PodStatus) bool {
	if pod.DeletionTimestamp != nil {
		return false
	}
	for _, c := range pods.Containers(pod) {
		if restartsAll(c, observed.Container(c.Name)) {
			return true
		}
	}
	return false
}

func restartsAll(c *v1.Container, s *actual.ContainerStatus) bool {
	if s == nil || s.State != actual.StateExited {
		return false
	}
	r := rule(c, s.ExitCode)
	return r != nil && r.Action == v1.ContainerRestartRuleActionRestartAllContainers
}

// firstBackOff is the wait before the second restart, the kubelet's; each further
// one doubles it up to the configured maximum.
const firstBackOff = 10 * time.Second

// backOffs holds how long crashing containers wait for their next start. It is
// not safe for concurrent use.
type backOffs struct {
	most    time.Duration
	entries map[string]backOff
}

type backOff struct {
	wait    time.Duration // after the container's next end
	started time.Time     // when it was last restarted
	spec    uint64        // see specHash
}

func newBackOffs(most time.Duration) *backOffs {
	return &backOffs{most: most, entries: map[string]backOff{}}
}

// left returns how much longer a container that has ended must wait. A container
// that ran for twice the maximum since its last restart is forgiven.
func (b *backOffs) left(key string, c *v1.Container, ended *actual.ContainerStatus, now time.Time) time.Duration {
	e := b.of(key, c, ended)
	if b.forgiven(e, ended) {
		return 0
	}
	return min(e.wait, max(0, e.wait-now.Sub(ended.FinishedAt))) // it may have ended in the future: the clock was set back
}

// restarted notes that a container that had ended is being started again.
func (b *backOffs) restarted(key string, c *v1.Container, ended *actual.ContainerStatus, now time.Time) {
	e := b.of(key, c, ended)
	switch {
	case b.forgiven(e, ended) || e.wait == 0:
		e.wait = min(firstBackOff, b.most)
	default:
		e.wait = min(2*e.wait, b.most)
	}
	e.started, e.spec = now, specHash(c)
	b.entries[key] = e
}

// current returns the container's present wait, for its message.
func (b *backOffs) current(key string, c *v1.Container, ended *actual.ContainerStatus) time.Duration {
	return b.of(key, c, ended).wait
}

// of returns the container's back-off. Crashes with another image, or other
// resources, say nothing about the container that is wanted now.
func (b *backOffs) of(key string, c *v1.Container, ended *actual.ContainerStatus) backOff {
	e, ok := b.entries[key]
	switch {
	case ok && e.spec == specHash(c):
		return e
	case ok, ended.Hash != 0 && ended.Hash != hashContainer(c):
		return backOff{}
	}
	return b.recalled(ended)
}

// recalled returns what a container's wait must have been when an earlier agent
// restarted it: restarting the agent gives a crashing container no free start.
func (b *backOffs) recalled(ended *actual.ContainerStatus) backOff {
	if ended.RestartCount == 0 {
		return backOff{}
	}
	wait := firstBackOff
	for range min(ended.RestartCount-1, 10) {
		wait = min(2*wait, b.most)
	}
	return backOff{wait: min(wait, b.most), started: ended.StartedAt}
}

func (b *backOffs) forgiven(e backOff, ended *actual.ContainerStatus) bool {
	return !e.started.IsZero() && ended.FinishedAt.Sub(e.started) > 2*b.most
}

func (b *backOffs) forget(uid types.UID) {
	for key := range b.entries {
		if strings.HasPrefix(key, string(uid)+"/") {
			delete(b.entries, key)
		}
	}
}

// specHash identifies what a back-off belongs to: as in the kubelet, a change of the
// image or of the resources ends it.
func specHash(c *v1.Container) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(c.Image + "/" + c.Resources.String()))
	return h.Sum64()
}

func backOffKey(uid types.UID, container string) string { return string(uid) + "/" + container }

// backOff returns how much longer a container that has ended must wait, and the
// kubelet's words for it.
func (m *Manager) backOff(pod *v1.Pod, c *v1.Container, last *actual.ContainerStatus) (actual.Waiting, time.Duration) {
	if last == nil || last.State != actual.StateExited || last.FinishedAt.IsZero() {
		return actual.Waiting{}, 0
	}
	if pods.IsInit(pod, c.Name) && !pods.IsSidecar(c) && last.ExitCode == 0 {
		return actual.Waiting{}, 0 // runs again because of a new sandbox, not because it crashed
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	key := backOffKey(pod.UID, c.Name)
	left := m.backOffs.left(key, c, last, m.cfg.Clock.Now())
	if left == 0 {
		return actual.Waiting{}, 0
	}
	return actual.Waiting{Reason: reasonCrashLoop, Message: fmt.Sprintf("back-off %s restarting failed container=%s pod=%s_%s(%s)",
			m.backOffs.current(key, c, last), c.Name, pod.Name, pod.Namespace, pod.UID)},

		left
}

func (m *Manager) noteRestart(pod *v1.Pod, c *v1.Container, last *actual.ContainerStatus) {
	if last == nil || last.State != actual.StateExited {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.backOffs.restarted(backOffKey(pod.UID, c.Name), c, last, m.cfg.Clock.Now())
}
