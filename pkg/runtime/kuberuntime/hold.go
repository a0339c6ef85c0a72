package kuberuntime

import (
	"context"
	"crypto/sha256"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/pods/actual"
)

// startBackOff is how long a container or a sandbox that could not be made is left
// alone, however often the pod is looked at meanwhile. The kubelet's backOffPeriod.
const startBackOff = 10 * time.Second

// hold is why a container is left alone for a while: it could not be started, or
// waits for its restart. Already reported; not retried or reported again until
// then, unless a different outcome is expected.
type hold struct {
	until   time.Time
	waiting actual.Waiting
	spec    uint64 // specHash of the container when it was held
	// tried is what its configuration was made from; nil if it did not get that
	// far: then no changed object could help.
	tried *trial
}

// trial is one try to configure a container, and its outcome.
type trial struct {
	sandboxID string
	attempt   uint32
	ref       string // of the image
	target    string
	volumes   map[string]*cri.ImageSpec
	made      string // the configuration's digest, or the error
}

// left returns how much longer a container stays held, 0 when it should be tried.
// made returns the outcome that its configuration would have now: a container whose
// ConfigMap now has the missing key is tried at once.
func (h hold) left(now time.Time, spec uint64, sandboxID string, made func(trial) string) time.Duration {
	switch {
	case spec != h.spec:
		return 0
	case h.tried != nil && now.Before(h.until) && (h.tried.sandboxID != sandboxID || made(*h.tried) != h.tried.made):
		return 0
	}
	return max(0, h.until.Sub(now))
}

// outcome identifies the result of a try to configure a container.
func outcome(config *cri.ContainerConfig, err error) string {
	if err != nil {
		return err.Error()
	}
	// A message without unknown fields can always be marshalled.
	wire, _ := proto.MarshalOptions{Deterministic: true}.Marshal(config)
	return fmt.Sprintf("%x", sha256.Sum256(wire))
}

// holds are the held containers, by backOffKey; a sandbox's key has no container
// name. It is not safe for concurrent use.
type holds map[string]hold

func (h holds) forget(uid types.UID) {
	for key := range h {
		if strings.HasPrefix(key, string(uid)+"/") {
			delete(h, key)
		}
	}
}

// holdable reports whether a failure is about what should have been made, and not
// only about a runtime that is away or a pass that was cancelled.
func holdable(ctx context.Context, err error) bool {
	return ctx.Err() == nil && status.Code(err) != codes.Unavailable
}

func (m *Manager) held(key string) (hold, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	h, ok := m.holds[key]
	return h, ok
}

func (m *Manager) hold(key string, h hold) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.holds[key] = h
}

func (m *Manager) release(key string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.holds, key)
}

// held reports whether the container is left alone in this pass.
func (p *pass) held(ctx context.Context, c *v1.Container) bool {
	h, ok := p.m.held(backOffKey(p.pod.UID, c.Name))
	if !ok {
		return false
	}
	left := h.left(p.m.cfg.Clock.Now(), specHash(c), p.sandboxID, func(t trial) string {
		return outcome(p.containerConfig(ctx, c, t))
	})
	if left == 0 {
		return false
	}
	p.wait(c, h.waiting, left, nil)
	return true
}

// leave holds a container that cannot be started now.
func (p *pass) leave(ctx context.Context, c *v1.Container, w actual.Waiting, wait time.Duration, tried *trial) {
	p.m.hold(backOffKey(p.pod.UID, c.Name), hold{until: p.m.cfg.Clock.Now().Add(wait), waiting: w, spec: specHash(c), tried: tried})
	p.noteHold(ctx, c.Name, w, wait)
}

// failed notes that a container could not be started, and holds it until its
// back-off ends.
func (p *pass) failed(ctx context.Context, c *v1.Container, w actual.Waiting, tried *trial, err error) {
	if holdable(ctx, err) {
		p.leave(ctx, c, w, startBackOff, tried)
	}
	p.wait(c, w, 0, err)
}

// NextTry returns when a container of the pod that is held is tried again, or with "" the sandbox; the zero time if it is
// not held. What it lacks may have it tried before. Safe for concurrent use.
func (m *Manager) NextTry(pod types.UID, container string) time.Time {
	h, _ := m.held(backOffKey(pod, container))
	return h.until
}
