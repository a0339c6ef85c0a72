package image

import (
	"context"
	"errors"
	"sync"
	"time"

	"k8s.io/client-go/util/flowcontrol"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/journal"
)

// pulls runs at most one pull of an image with the same credentials at a time and
// gives its result to everyone who waits for it. A pull that nobody waits for any
// more is cancelled.
type pulls struct {
	images  Service
	slots   chan struct{}           // nil: any number at once
	limiter flowcontrol.RateLimiter // nil: any rate
	now     func() time.Time
	far     *Progress

	mu      sync.Mutex
	running map[pullKey]*pull
}

// pullKey tells pulls apart. Credentials are part of it: a pod without any must not
// profit from another pod's.
type pullKey struct{ image, user, server, secret string }

type pull struct {
	done    chan struct{}
	cancel  context.CancelFunc
	waiting int    // guarded by pulls.mu
	first   uint64 // the journal's event of the first who waited

	ref  string
	took time.Duration // without waiting for a slot
	err  error
}

func keyOf(image string, a *cri.AuthConfig) pullKey {
	if a == nil {
		return pullKey{image: image}
	}
	return pullKey{image, a.Username, a.ServerAddress, a.Password + "\x00" + a.Auth + "\x00" + a.IdentityToken + "\x00" + a.RegistryToken}
}

// pull joins or starts a pull and waits for it or for ctx.
func (p *pulls) pull(ctx context.Context, image string, auth *cri.AuthConfig, sandbox *cri.PodSandboxConfig) (ref string, took time.Duration, err error) {
	key := keyOf(image, auth)
	p.mu.Lock()
	one := p.running[key]
	if one == nil {
		one = &pull{done: make(chan struct{}), first: journal.Of(ctx).Seq()}
		var own context.Context
		own, one.cancel = context.WithCancel(context.WithoutCancel(ctx))
		p.running[key] = one
		go p.run(own, key, one, image, auth, sandbox)
	}
	one.waiting++
	p.mu.Unlock()
	defer p.far.wait(one.first, journal.Of(ctx))()
	select {
	case <-one.done:
		return one.ref, one.took, one.err
	case <-ctx.Done():
		p.leave(key, one)
		return "", 0, context.Cause(ctx)
	}
}

// leave cancels a pull when its last waiter leaves, and at once makes room for a
// new pull of the same image.
func (p *pulls) leave(key pullKey, one *pull) {
	p.mu.Lock()
	defer p.mu.Unlock()
	one.waiting--
	if one.waiting == 0 {
		one.cancel()
		if p.running[key] == one {
			delete(p.running, key)
		}
	}
}

func (p *pulls) run(ctx context.Context, key pullKey, one *pull, image string, auth *cri.AuthConfig, sandbox *cri.PodSandboxConfig) {
	one.ref, one.took, one.err = p.do(ctx, image, auth, sandbox)
	p.mu.Lock()
	if p.running[key] == one {
		delete(p.running, key)
	}
	p.mu.Unlock()
	close(one.done)
	one.cancel()
}

func (p *pulls) do(ctx context.Context, image string, auth *cri.AuthConfig, sandbox *cri.PodSandboxConfig) (string, time.Duration, error) {
	if p.slots != nil {
		select {
		case p.slots <- struct{}{}:
			defer func() { <-p.slots }()
		case <-ctx.Done():
			return "", 0, ctx.Err()
		}
	}
	if p.limiter != nil {
		if err := p.limiter.Wait(ctx); err != nil {
			return "", 0, err
		}
	}
	began := p.now()
	resp, err := p.images.PullImage(ctx, &cri.PullImageRequest{Image: &cri.ImageSpec{Image: image}, Auth: auth, SandboxConfig: sandbox})
	if err == nil && resp.GetImageRef() == "" {
		err = errors.New("the runtime pulled the image but gave no reference to it")
	}
	return resp.GetImageRef(), p.now().Sub(began), err
}
