package criclient

import (
	"context"
	"strings"
	"time"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/bounds"
	"github.com/mini-kubelet/mini-kubelet/pkg/base/crimeta"
	"github.com/mini-kubelet/mini-kubelet/pkg/journal"
	"github.com/mini-kubelet/mini-kubelet/pkg/journal/gate"
)

// note notes that a call begins, and tells the runtime which event it is. A call in a quiet step that changes nothing, a relist for
// example, is noted at its end. What is part of no step is somebody's request to the server.
func (c *calls) note(ctx context.Context, method string, req any) (context.Context, journal.Measured) {
	if c.journal == nil {
		return ctx, journal.Measured{Began: time.Now()}
	}
	if journal.Of(ctx) == nil {
		ctx = journal.In(ctx, c.requests)
	}
	if journal.Of(ctx).Quiet() && !changes(req) {
		return ctx, journal.Measured{Began: time.Now()}
	}
	m := c.journal.Measure(event(ctx, method, req))
	return crimeta.Because(ctx, m.Seq()), m
}

// noteEnd notes how a call has ended, and returns how long it took. In quiet steps equal ends are one event a method.
func (c *calls) noteEnd(ctx context.Context, m journal.Measured, method string, req, reply any, err error) time.Duration {
	took := m.EndWith(err, func(e *journal.Event) {
		if id := made(reply); id != "" && err == nil {
			e.Detail = journal.Text(strings.TrimSpace(about(req) + " " + id))
		}
	})
	switch {
	case m.Span != nil:
	case c.journal == nil:
	default:
		e := journal.Event{Kind: journal.CRI, Name: name(method), Cause: journal.Of(ctx).Series(), Took: took, Quiet: true}
		if err != nil {
			e.Err, e.Detail = bounds.Cut(err.Error(), journal.MaxText), journal.Text(about(req))
		}
		c.quiet.Note(c.journal, e)
	}
	return took
}

// changes reports whether a call changes something at the runtime, or lets somebody do so. Probes run commands too, with ExecSync.
func changes(req any) bool {
	switch req.(type) {
	case *cri.RunPodSandboxRequest, *cri.StopPodSandboxRequest, *cri.RemovePodSandboxRequest, *cri.UpdatePodSandboxResourcesRequest,
		*cri.CreateContainerRequest, *cri.StartContainerRequest, *cri.StopContainerRequest, *cri.RemoveContainerRequest, *cri.UpdateContainerResourcesRequest,
		*cri.ExecRequest, *cri.AttachRequest, *cri.PortForwardRequest, *cri.PullImageRequest, *cri.RemoveImageRequest, *cri.UpdateRuntimeConfigRequest:
		return true
	}
	return false
}

func name(method string) string { return method[strings.LastIndexByte(method, '/')+1:] }

// event is what is noted of a call. Never the request as a whole: environments hold secrets.
func event(ctx context.Context, method string, req any) journal.Event {
	e := journal.Event{Kind: journal.CRI, Name: name(method)}
	if id := about(req); id != "" {
		e.Detail = journal.Text(id)
	}
	return journal.Within(ctx, e)
}

// made returns the ID of what a call has made.
func made(reply any) string {
	switch r := reply.(type) {
	case *cri.CreateContainerResponse:
		return r.GetContainerId()
	case *cri.RunPodSandboxResponse:
		return r.GetPodSandboxId()
	}
	return ""
}

// about returns what a call is about: a container's name before it is made, and then its ID.
func about(req any) string {
	switch r := req.(type) {
	case *cri.CreateContainerRequest:
		return r.GetConfig().GetMetadata().GetName()
	case interface{ GetContainerId() string }:
		return r.GetContainerId()
	case interface{ GetPodSandboxId() string }:
		return r.GetPodSandboxId()
	case interface{ GetImage() *cri.ImageSpec }:
		return r.GetImage().GetImage()
	}
	return ""
}

// pass holds a call of a worker's step at its gate.
func (c *calls) pass(ctx context.Context, method string) error {
	if c.gate == nil {
		return nil
	}
	pod, step := journal.Of(ctx).Owner()
	if step == 0 {
		return nil // what only observes goes on
	}
	if _, limited := ctx.Deadline(); limited {
		return nil // its time runs already: that of a preStop hook is the pod's grace period
	}
	return c.gate.Wait(ctx, gate.Step{Place: gate.CRI, Pod: pod, What: name(method)})
}
