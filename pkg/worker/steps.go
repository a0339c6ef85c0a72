package worker

import (
	"context"
	"fmt"
	"maps"

	v1 "k8s.io/api/core/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/runtime"
	"github.com/mini-kubelet/mini-kubelet/pkg/source"
	"github.com/mini-kubelet/mini-kubelet/pkg/status"
)

// sync brings a pod nearer to its spec: status, volumes, then containers.
func (w *Workers) sync(ctx context.Context, st step) outcome {
	observed, err := w.cfg.Cache.GetNewerThan(ctx, st.uid, st.after)
	if err != nil {
		return outcome{err: fmt.Errorf("look at pod %s: %w", st.ref(), err), waiting: st.waiting}
	}
	if st.after.IsZero() && source.IsStatic(st.pod) {
		if old := sameName(w.cfg.Cache.Pods(), st.pod); old != nil {
			return outcome{inTheWay: old}
		}
	}
	s := w.publish(st, observed, st.waiting, false)
	if s.Phase == v1.PodSucceeded || s.Phase == v1.PodFailed {
		return outcome{done: true}
	}
	if err := w.cfg.Volumes.SetUp(ctx, st.pod); err != nil {
		if ctx.Err() == nil {
			w.cfg.Journal.Record(st.pod, "", v1.EventTypeWarning, "FailedMount", err.Error())
		}
		return outcome{err: fmt.Errorf("set up volumes of %s: %w", st.ref(), err), waiting: st.waiting}
	}
	r := w.cfg.Runtime.SyncPod(ctx, st.pod, observed)
	if !maps.Equal(r.Waiting, st.waiting) {
		w.publish(st, observed, r.Waiting, false)
	}
	if r.Err != nil {
		r.Err = fmt.Errorf("sync pod %s: %w", st.ref(), r.Err)
	}
	return outcome{err: r.Err, retryAfter: r.RetryAfter, waiting: r.Waiting}
}

// terminate stops all that runs of a pod and makes sure that nothing does.
func (w *Workers) terminate(ctx context.Context, st step) error {
	observed, err := w.cfg.Cache.GetNewerThan(ctx, st.uid, st.after)
	if err != nil {
		return fmt.Errorf("look at pod %s before stopping it: %w", st.ref(), err)
	}
	w.publish(st, observed, st.waiting, false)
	if left := observed.Pod(); left.Running() {
		if err := w.cfg.Runtime.KillPod(ctx, st.pod, left, st.grace); err != nil {
			return fmt.Errorf("stop pod %s: %w", st.ref(), err)
		}
		observed, err = w.cfg.Cache.GetNewerThan(ctx, st.uid, w.cfg.Clock.Now())
		if err != nil {
			return fmt.Errorf("look at pod %s after stopping it: %w", st.ref(), err)
		}
		if observed.Pod().Running() {
			return fmt.Errorf("stop pod %s: a container still runs", st.ref())
		}
	}
	w.publish(st, observed, st.waiting, true)
	return nil
}

// terminated gives back what a stopped pod no longer needs. Its dead containers
// stay, so that their logs can be read.
func (w *Workers) terminated(ctx context.Context, st step) error {
	if err := w.cfg.Volumes.TearDown(ctx, st.uid); err != nil {
		return fmt.Errorf("tear down volumes of %s: %w", st.ref(), err)
	}
	return nil
}

// remove takes the last traces of a pod off the node.
func (w *Workers) remove(ctx context.Context, st step) error {
	observed, err := w.cfg.Cache.GetNewerThan(ctx, st.uid, st.after)
	if err != nil {
		return fmt.Errorf("look at pod %s before removing it: %w", st.ref(), err)
	}
	if err := w.cfg.Runtime.RemovePod(ctx, observed); err != nil {
		return fmt.Errorf("remove pod %s: %w", st.ref(), err)
	}
	// Wait for PLEG to see it gone: housekeeping would take what is in an older
	// view for an orphan.
	if _, err := w.cfg.Cache.GetNewerThan(ctx, st.uid, w.cfg.Clock.Now()); err != nil {
		return fmt.Errorf("look at pod %s after removing it: %w", st.ref(), err)
	}
	w.cfg.Statuses.Delete(st.uid)
	return nil
}

// publish makes the pod's API status from what was observed and stores it. An
// orphan has none.
func (w *Workers) publish(st step, observed *runtime.PodStatus, waiting map[string]runtime.Waiting, terminal bool) v1.PodStatus {
	if st.pod == nil {
		return v1.PodStatus{}
	}
	old, _ := w.cfg.Statuses.Get(st.uid)
	s := status.Generate(status.Input{
		Pod: st.pod, Observed: observed, Old: old, Waiting: waiting, Terminal: terminal,
		HostIPs: w.cfg.HostIPs(), Started: w.cfg.Started, Ready: w.cfg.Ready, Now: w.cfg.Clock.Now(),
	})
	if st.explain != nil {
		st.explain(&s)
	}
	w.cfg.Statuses.Set(st.pod, s)
	return s
}

// sameName finds a running pod that has this pod's name but not its UID.
func sameName(view []*runtime.Pod, pod *v1.Pod) *runtime.Pod {
	for _, p := range view {
		if p.Name == pod.Name && p.Namespace == pod.Namespace && p.UID != pod.UID && p.Running() {
			return p
		}
	}
	return nil
}
