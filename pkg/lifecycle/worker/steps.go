package worker

import (
	"context"
	"errors"
	"fmt"
	"maps"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/bounds"
	"github.com/mini-kubelet/mini-kubelet/pkg/journal"
	"github.com/mini-kubelet/mini-kubelet/pkg/lifecycle/podstatus"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods/actual"
	"github.com/mini-kubelet/mini-kubelet/pkg/runtime/kuberuntime"
)

// sync brings a pod closer to its spec: status, what it holds of the node, then
// containers.
func (w *Workers) sync(ctx context.Context, st step) outcome {
	observed, err := w.cfg.Cache.GetNewerThan(ctx, st.uid, st.after)
	if err != nil {
		w.unseen(ctx, st, err)
		return outcome{err: fmt.Errorf("look at pod %s: %w", st.ref(), err), waiting: st.waiting, resize: st.resize}
	}
	if st.after.IsZero() && pods.IsStatic(st.pod) {
		if old := sameName(w.cfg.Cache.Pods(), st.pod); old != nil && !w.ofAPI(old.UID) {
			return outcome{inTheWay: old, resize: st.resize}
		}
	}
	w.cfg.Starts.Observed(st.pod, observed)
	w.cfg.Probes.Sync(st.pod, observed, func() v1.PodStatus { return w.lastStatus(st.pod) })
	before := w.lastStatus(st.pod).Phase
	s := w.publish(st, observed, st.waiting, false)
	pod := *st.pod // with its status, which says when it started and what must not start again
	pod.Status = s
	if pods.IsFinished(s.Phase) || kuberuntime.Over(&pod, observed) {
		return w.finished(st, before, s)
	}
	deadline, limited := podstatus.Deadline(st.pod, s.StartTime)
	if !limited {
		return w.converge(ctx, st, observed, &pod)
	}
	// Nothing that takes long, a pull or a hook, may keep the pod beyond its
	// deadline.
	limitedCtx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	o := w.converge(limitedCtx, st, observed, &pod)
	o.deadline = deadline
	if ctx.Err() == nil && limitedCtx.Err() != nil {
		if s = w.publish(st, observed, o.waiting, false); s.Phase == v1.PodFailed {
			return w.finished(st, before, s)
		}
	}
	return o
}

// finished ends the syncing of a pod that has succeeded or failed. An exceeded
// deadline is recorded, unless the pod had failed before.
func (w *Workers) finished(st step, before v1.PodPhase, s v1.PodStatus) outcome {
	if s.Reason == podstatus.DeadlineExceeded && before != v1.PodFailed {
		w.cfg.Journal.Container(st.pod, "").By(st.span).Normal(s.Reason, s.Message)
	}
	return outcome{done: true, resize: st.resize}
}

// converge sets up what the pod holds of the node and lets the runtime do what one pass can.
// pod carries its current status.
func (w *Workers) converge(ctx context.Context, st step, observed *actual.PodStatus, pod *v1.Pod) outcome {
	if w.awaitsNetwork(ctx, st, observed, pod) {
		return outcome{retryAfter: errorBackOff, waiting: st.waiting, resize: st.resize}
	}
	if err := w.setUp(ctx, st); err != nil {
		var r *pods.Rejection
		switch rejected := errors.As(err, &r) && ctx.Err() == nil; {
		case rejected && observed.Pod().Running(): // which is not ended for that
			w.complain(st, r.Reason, r.Message)
		case rejected:
			w.reject(st, r)
			err = nil
		}
		return outcome{err: err, waiting: st.waiting, resize: st.resize}
	}
	r := w.cfg.Runtime.SyncPod(ctx, pod, observed)
	if r.Reset {
		// All containers are gone; start them again at once.
		var err error
		if observed, err = w.cfg.Cache.GetNewerThan(ctx, st.uid, w.cfg.Clock.Now()); err != nil {
			return outcome{err: fmt.Errorf("look at pod %s after removing its containers: %w", st.ref(), err), resize: st.resize}
		}
		st.waiting = nil
		pod.Status = w.publish(st, observed, nil, false)
		r = w.cfg.Runtime.SyncPod(ctx, pod, observed)
	}
	var settled error
	if r.ResizeError == "" {
		settled = w.settle(st)
	}
	before := st.resize
	st.resize = w.resized(st, r, settled)
	if r.Resized {
		if now, err := w.cfg.Cache.Look(ctx, st.uid); err == nil {
			observed = now
		}
	}
	if r.Resized || st.resize != before || !maps.Equal(r.Waiting, st.waiting) {
		w.publish(st, observed, r.Waiting, false)
	}
	if r.Err == nil && settled != nil {
		r.Err = settled
	}
	if r.Err != nil {
		r.Err = fmt.Errorf("sync pod %s: %w", st.ref(), r.Err)
	}
	return outcome{err: r.Err, retryAfter: r.RetryAfter, waiting: r.Waiting, resize: st.resize}
}

// awaitsNetwork reports whether the pod needs a sandbox on a network that is not ready, and records
// that. It is asked first, as in the kubelet: nothing is prepared for containers that cannot start.
// Waiting is no failure: the loop wakes the pod when the network is there.
func (w *Workers) awaitsNetwork(ctx context.Context, st step, observed *actual.PodStatus, pod *v1.Pod) bool {
	if w.cfg.Network == nil || !kuberuntime.NeedsNetwork(pod, observed) {
		return false
	}
	err := w.cfg.Network(ctx, st.uid)
	if err != nil && ctx.Err() == nil {
		w.complain(st, "NetworkNotReady", "network is not ready: "+err.Error())
	}
	return err != nil
}

// reject ends a pod that turned out to be unable to start here, as if it had not been admitted.
func (w *Workers) reject(st step, r *pods.Rejection) {
	klog.InfoS("Pod rejected", "pod", klog.KObj(st.pod), "podUID", st.uid, "reason", r.Reason, "message", r.Message)
	cause := w.cfg.Journal.Note(st.span.Within(journal.Event{Kind: journal.Reject, Reason: r.Reason, Err: bounds.Cut(r.Message, maxLogged)}))
	w.cfg.Journal.Container(st.pod, "").By(st.span).Warn(r.Reason, r.Message)
	w.Update(Update{Kind: Kill, Pod: st.pod, Cause: cause, Explain: func(s *v1.PodStatus) {
		s.Phase, s.Reason, s.Message = v1.PodFailed, r.Reason, "Pod was rejected: "+r.Message
	}})
}

// unseen reports that the pod's containers could not be observed.
func (w *Workers) unseen(ctx context.Context, st step, err error) {
	if ctx.Err() == nil {
		w.complain(st, "FailedSync", "error determining status: "+err.Error())
	}
}

// complain records why a pod makes no progress, at most once per back-off however
// often it is looked at.
func (w *Workers) complain(st step, reason, message string) {
	if st.said.isDue(reason+": "+message, w.cfg.Clock.Now()) {
		w.cfg.Journal.Container(st.pod, "").By(st.span).Warn(reason, message)
	}
}

// terminate stops everything of a pod that runs and makes sure that nothing does.
// Until then the pod's readiness is still probed, but no longer its liveness.
func (w *Workers) terminate(ctx context.Context, st step) error {
	w.cfg.Probes.Quiet(st.uid)
	observed, err := w.cfg.Cache.GetNewerThan(ctx, st.uid, st.after)
	if err != nil {
		w.unseen(ctx, st, err)
		return fmt.Errorf("look at pod %s before stopping it: %w", st.ref(), err)
	}
	w.publish(st, observed, st.waiting, false)
	if observed, err = w.stop(ctx, st, observed); err != nil {
		return err
	}
	// Before anybody hears of the end: a pod that takes its place may want its CPUs.
	if err := w.stopped(st); err != nil {
		return err
	}
	w.publish(st, observed, st.waiting, true)
	w.cfg.Probes.Remove(st.uid)
	return nil
}

// stop stops what was observed to run of a pod and returns the pod's status
// afterwards.
func (w *Workers) stop(ctx context.Context, st step, observed *actual.PodStatus) (*actual.PodStatus, error) {
	left := observed.Pod()
	if !left.Running() {
		return observed, nil
	}
	if err := w.cfg.Runtime.KillPod(ctx, st.pod, left, st.grace); err != nil {
		return nil, fmt.Errorf("stop pod %s: %w", st.ref(), err)
	}
	observed, err := w.cfg.Cache.GetNewerThan(ctx, st.uid, w.cfg.Clock.Now())
	if err != nil {
		return nil, fmt.Errorf("look at pod %s after stopping it: %w", st.ref(), err)
	}
	if observed.Pod().Running() {
		return nil, fmt.Errorf("stop pod %s: %w", st.ref(), kuberuntime.ErrRunning)
	}
	return observed, nil
}

// terminated gives back what a stopped pod no longer needs. Its dead containers
// stay, so that their logs can be read.
func (w *Workers) terminated(ctx context.Context, st step) error {
	if err := w.releaseAll(ctx, st); err != nil {
		return err
	}
	if st.pod != nil {
		w.cfg.Statuses.Finish(st.pod)
	}
	return nil
}

// remove removes the last traces of a pod from the node. What runs again by then is
// stopped again: the runtime may have been starting it for an agent that was killed.
func (w *Workers) remove(ctx context.Context, st step) error {
	name := types.NamespacedName{Namespace: st.ref().Namespace, Name: st.ref().Name}
	err := w.cfg.Runtime.RemovePod(ctx, st.uid, name)
	if errors.Is(err, kuberuntime.ErrRunning) {
		var observed *actual.PodStatus
		if observed, err = w.cfg.Cache.GetNewerThan(ctx, st.uid, w.cfg.Clock.Now()); err == nil {
			if _, err = w.stop(ctx, st, observed); err == nil {
				err = w.cfg.Runtime.RemovePod(ctx, st.uid, name)
			}
		}
	}
	if err != nil {
		return fmt.Errorf("remove pod %s: %w", st.ref(), err)
	}
	// Wait for PLEG to see that the pod is gone: housekeeping would take a pod in
	// an older view for an orphan.
	if _, err := w.cfg.Cache.GetNewerThan(ctx, st.uid, w.cfg.Clock.Now()); err != nil {
		return fmt.Errorf("look at pod %s after removing it: %w", st.ref(), err)
	}
	w.cfg.Statuses.Delete(st.uid)
	return nil
}

// publish makes the pod's API status from what was observed and stores it. An
// orphan has none.
func (w *Workers) publish(st step, observed *actual.PodStatus, waiting map[string]actual.Waiting, terminal bool) v1.PodStatus {
	if st.pod == nil {
		return v1.PodStatus{}
	}
	old := w.lastStatus(st.pod)
	s := podstatus.Generate(podstatus.Input{
		Pod: st.pod, Observed: observed, Old: old, Waiting: waiting, Terminal: terminal,
		HostIPs: w.cfg.HostIPs(), Resize: st.resize, Devices: w.cfg.Devices, Started: w.cfg.Probes.Started, Ready: w.cfg.Probes.Ready, Now: w.cfg.Clock.Now(),
	})
	if st.explain != nil {
		st.explain(&s)
	}
	if w.cfg.Statuses.Set(st.pod, s) {
		w.noteStatus(st, old, s)
	}
	w.metrics.started(st.pod, old, s, w.cfg.Clock.Now())
	return s
}

// lastStatus returns what was known of a pod before: our own last status, with what
// others have set at the API server; or the API server's status, if this agent has
// published none yet.
func (w *Workers) lastStatus(pod *v1.Pod) v1.PodStatus {
	own, said := w.cfg.Statuses.Get(pod.UID)
	if w.cfg.Recall == nil {
		return own
	}
	api, ok := w.cfg.Recall(pod)
	switch {
	case !ok:
		return own
	case !said && pods.IsStatic(pod):
		return podstatus.OfMirror(pod, api)
	case !said:
		return api
	}
	return podstatus.WithForeign(pod, own, api)
}

// sameName finds a running pod that has this pod's name but not its UID.
func sameName(view []*actual.Pod, pod *v1.Pod) *actual.Pod {
	for _, p := range view {
		if p.Name == pod.Name && p.Namespace == pod.Namespace && p.UID != pod.UID && p.Running() {
			return p
		}
	}
	return nil
}
